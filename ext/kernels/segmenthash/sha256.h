/* SHA-256 (FIPS 180-4) and the Merkle tree of RFC 6962 over leaves of 1 MiB.
 *
 * On x86-64 processors with SHA instructions, found at run time, three full leaves are hashed at once: each round of
 * a stream waits for the round before, and three keep the unit busy. Elsewhere the code is portable.
 */
#ifndef MLNET_SHA256_H
#define MLNET_SHA256_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define MLNET_SHA_NI 1
#include <cpuid.h>
#include <immintrin.h>
#endif

enum { MLNET_LEAF_SIZE = 1 << 20, MLNET_BLOCK = 64, MLNET_HASH = 32, MLNET_STREAMS = 3 };

static const uint32_t mlnet_sha256_initial[8] = {0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au,
                                                 0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u};

static const uint32_t mlnet_sha256_k[64] = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u, 0xab1c5ed5u,
    0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu, 0x9bdc06a7u, 0xc19bf174u,
    0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu, 0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau,
    0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u, 0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u,
    0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu, 0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u,
    0xa2bfe8a1u, 0xa81a664bu, 0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u,
    0x19a4c116u, 0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u, 0xc67178f2u};

static inline uint32_t mlnet_rotr(uint32_t x, int n) { return (x >> n) | (x << (32 - n)); }

static inline uint32_t mlnet_load_be32(const uint8_t *p) {
    return ((uint32_t)p[0] << 24) | ((uint32_t)p[1] << 16) | ((uint32_t)p[2] << 8) | (uint32_t)p[3];
}

static inline void mlnet_store_be32(uint8_t *p, uint32_t x) {
    p[0] = (uint8_t)(x >> 24);
    p[1] = (uint8_t)(x >> 16);
    p[2] = (uint8_t)(x >> 8);
    p[3] = (uint8_t)x;
}

static void mlnet_compress_portable(uint32_t state[8], const uint8_t *data, size_t blocks) {
    uint32_t w[16];
    for (; blocks > 0; blocks--, data += MLNET_BLOCK) {
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int t = 0; t < 64; t++) {
            if (t < 16) {
                w[t] = mlnet_load_be32(data + 4 * t);
            } else {
                uint32_t w15 = w[(t + 1) & 15], w2 = w[(t + 14) & 15];
                w[t & 15] += (mlnet_rotr(w15, 7) ^ mlnet_rotr(w15, 18) ^ (w15 >> 3)) + w[(t + 9) & 15] +
                             (mlnet_rotr(w2, 17) ^ mlnet_rotr(w2, 19) ^ (w2 >> 10));
            }
            uint32_t t1 = h + (mlnet_rotr(e, 6) ^ mlnet_rotr(e, 11) ^ mlnet_rotr(e, 25)) + ((e & f) ^ (~e & g)) +
                          mlnet_sha256_k[t] + w[t & 15];
            uint32_t t2 =
                (mlnet_rotr(a, 2) ^ mlnet_rotr(a, 13) ^ mlnet_rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g;
            g = f;
            f = e;
            e = d + t1;
            d = c;
            c = b;
            b = a;
            a = t1 + t2;
        }
        state[0] += a;
        state[1] += b;
        state[2] += c;
        state[3] += d;
        state[4] += e;
        state[5] += f;
        state[6] += g;
        state[7] += h;
    }
}

#ifdef MLNET_SHA_NI

#define MLNET_TARGET __attribute__((target("sha,sse4.1,ssse3")))

/* The instructions keep the state as ABEF and CDGH. */
MLNET_TARGET static inline void mlnet_ni_load(const uint32_t state[8], __m128i *abef, __m128i *cdgh) {
    __m128i cdab = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)&state[0]), 0xB1);
    __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)&state[4]), 0x1B);
    *abef = _mm_alignr_epi8(cdab, efgh, 8);
    *cdgh = _mm_blend_epi16(efgh, cdab, 0xF0);
}

MLNET_TARGET static inline void mlnet_ni_store(uint32_t state[8], __m128i abef, __m128i cdgh) {
    __m128i feba = _mm_shuffle_epi32(abef, 0x1B);
    __m128i dchg = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128((__m128i *)(void *)&state[0], _mm_blend_epi16(feba, dchg, 0xF0));
    _mm_storeu_si128((__m128i *)(void *)&state[4], _mm_alignr_epi8(dchg, feba, 8));
}

MLNET_TARGET static inline __m128i mlnet_ni_words(const uint8_t *data, int quarter) {
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    return _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(data + 16 * quarter)), swap);
}

/* Rounds 4i to 4i + 3 of one stream: abef and cdgh are its state, m its ring of sixteen schedule words. The conditions
 * are constants. */
#define MLNET_NI_ROUNDS(i, abef, cdgh, m, data)                                                           \
    do {                                                                                                  \
        if ((i) < 4) m[(i)&3] = mlnet_ni_words(data, (i)&3);                                              \
        __m128i wk = _mm_add_epi32(                                                                       \
            m[(i)&3], _mm_loadu_si128((const __m128i *)(const void *)&mlnet_sha256_k[4 * (i)]));          \
        cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);                                                     \
        if ((i) >= 3 && (i) < 15)                                                                         \
            m[((i) + 1) & 3] = _mm_sha256msg2_epu32(                                                      \
                _mm_add_epi32(m[((i) + 1) & 3], _mm_alignr_epi8(m[(i)&3], m[((i) + 3) & 3], 4)), m[(i)&3]); \
        abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0E));                            \
        if ((i) >= 1 && (i) < 13) m[((i) + 3) & 3] = _mm_sha256msg1_epu32(m[((i) + 3) & 3], m[(i)&3]);    \
    } while (0)

#define MLNET_NI_ALL(ROUNDS) \
    ROUNDS(0);               \
    ROUNDS(1);               \
    ROUNDS(2);               \
    ROUNDS(3);               \
    ROUNDS(4);               \
    ROUNDS(5);               \
    ROUNDS(6);               \
    ROUNDS(7);               \
    ROUNDS(8);               \
    ROUNDS(9);               \
    ROUNDS(10);              \
    ROUNDS(11);              \
    ROUNDS(12);              \
    ROUNDS(13);              \
    ROUNDS(14);              \
    ROUNDS(15)

MLNET_TARGET static void mlnet_compress_ni(uint32_t state[8], const uint8_t *data, size_t blocks) {
    __m128i abef, cdgh, m[4];
    mlnet_ni_load(state, &abef, &cdgh);
    for (; blocks > 0; blocks--, data += MLNET_BLOCK) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
#define MLNET_ONE(i) MLNET_NI_ROUNDS(i, abef, cdgh, m, data)
        MLNET_NI_ALL(MLNET_ONE);
#undef MLNET_ONE
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    mlnet_ni_store(state, abef, cdgh);
}

/* Three independent streams of the same length, interleaved. The instructions of AVX save moves between registers, of
 * which there are too few for a fourth. */
__attribute__((target("sha,avx"))) static void mlnet_compress_ni_three(uint32_t state[MLNET_STREAMS][8],
                                                                       const uint8_t *const start[MLNET_STREAMS],
                                                                       size_t blocks) {
    __m128i abef[MLNET_STREAMS], cdgh[MLNET_STREAMS], m[MLNET_STREAMS][4];
    const uint8_t *data[MLNET_STREAMS];
    for (int i = 0; i < MLNET_STREAMS; i++) {
        mlnet_ni_load(state[i], &abef[i], &cdgh[i]);
        data[i] = start[i];
    }
    for (; blocks > 0; blocks--) {
        __m128i abef_before[MLNET_STREAMS], cdgh_before[MLNET_STREAMS];
        for (int i = 0; i < MLNET_STREAMS; i++) {
            abef_before[i] = abef[i];
            cdgh_before[i] = cdgh[i];
        }
#define MLNET_THREE(i)                                    \
    MLNET_NI_ROUNDS(i, abef[0], cdgh[0], m[0], data[0]);  \
    MLNET_NI_ROUNDS(i, abef[1], cdgh[1], m[1], data[1]);  \
    MLNET_NI_ROUNDS(i, abef[2], cdgh[2], m[2], data[2])
        MLNET_NI_ALL(MLNET_THREE);
#undef MLNET_THREE
        for (int i = 0; i < MLNET_STREAMS; i++) {
            abef[i] = _mm_add_epi32(abef[i], abef_before[i]);
            cdgh[i] = _mm_add_epi32(cdgh[i], cdgh_before[i]);
            data[i] += MLNET_BLOCK;
        }
    }
    for (int i = 0; i < MLNET_STREAMS; i++) mlnet_ni_store(state[i], abef[i], cdgh[i]);
}

static int mlnet_detect_ni(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1)) return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & (1u << 29)) != 0;
}

static int mlnet_use_ni = 0, mlnet_use_three = 0;
#endif /* MLNET_SHA_NI */

/* Takes the fastest code for this processor or the portable code; to be called before any other function, and not
 * while a thread is hashing. Returns the name of what it took. */
static const char *mlnet_sha256_select(int portable) {
#ifdef MLNET_SHA_NI
    mlnet_use_ni = !portable && mlnet_detect_ni();
    mlnet_use_three = mlnet_use_ni && __builtin_cpu_supports("avx");
    if (mlnet_use_ni) return "sha-ni";
#else
    (void)portable;
#endif
    return "portable";
}

static void mlnet_compress(uint32_t state[8], const uint8_t *data, size_t blocks) {
#ifdef MLNET_SHA_NI
    if (mlnet_use_ni) {
        mlnet_compress_ni(state, data, blocks);
        return;
    }
#endif
    mlnet_compress_portable(state, data, blocks);
}

/* Appends the padding to the last bytes of a message of `total` bytes, fewer than a block, and writes the hash. */
static void mlnet_finish(uint32_t state[8], const uint8_t *tail, size_t size, uint64_t total, uint8_t *hash) {
    uint8_t last[2 * MLNET_BLOCK] = {0};
    size_t blocks = size < MLNET_BLOCK - 8 ? 1 : 2;
    if (size > 0) memcpy(last, tail, size);
    last[size] = 0x80;
    mlnet_store_be32(last + blocks * MLNET_BLOCK - 8, (uint32_t)(total >> 29));
    mlnet_store_be32(last + blocks * MLNET_BLOCK - 4, (uint32_t)(total << 3));
    mlnet_compress(state, last, blocks);
    for (int i = 0; i < 8; i++) mlnet_store_be32(hash + 4 * i, state[i]);
}

/* SHA-256 of one prefix byte and the data. */
static void mlnet_prefixed(uint8_t prefix, const uint8_t *data, size_t size, uint8_t *hash) {
    uint32_t state[8];
    uint8_t first[MLNET_BLOCK] = {prefix};
    memcpy(state, mlnet_sha256_initial, sizeof state);
    if (size < MLNET_BLOCK - 1) {
        if (size > 0) memcpy(first + 1, data, size);
        mlnet_finish(state, first, size + 1, size + 1, hash);
        return;
    }
    memcpy(first + 1, data, MLNET_BLOCK - 1);
    mlnet_compress(state, first, 1);
    size_t blocks = (size + 1) / MLNET_BLOCK - 1;
    mlnet_compress(state, data + MLNET_BLOCK - 1, blocks);
    size_t done = MLNET_BLOCK - 1 + blocks * MLNET_BLOCK;
    mlnet_finish(state, data + done, size - done, (uint64_t)size + 1, hash);
}

#ifdef MLNET_SHA_NI
/* The hashes of two or three full leaves, one after the other in memory. */
static void mlnet_leaves_at_once(const uint8_t *data, int count, uint8_t *hashes) {
    enum { BLOCKS = MLNET_LEAF_SIZE / MLNET_BLOCK - 1, DONE = MLNET_BLOCK - 1 + BLOCKS * MLNET_BLOCK };
    uint32_t state[MLNET_STREAMS][8];
    uint8_t prefixed[MLNET_STREAMS][MLNET_BLOCK] = {{0}, {0}, {0}};
    const uint8_t *first[MLNET_STREAMS], *rest[MLNET_STREAMS];
    for (int i = 0; i < MLNET_STREAMS; i++) {
        /* Of two leaves, the second goes twice: that takes less time than one after the other. */
        const uint8_t *leaf = data + (size_t)(i < count ? i : count - 1) * MLNET_LEAF_SIZE;
        memcpy(state[i], mlnet_sha256_initial, sizeof state[i]);
        memcpy(prefixed[i] + 1, leaf, MLNET_BLOCK - 1);
        first[i] = prefixed[i];
        rest[i] = leaf + MLNET_BLOCK - 1;
    }
    mlnet_compress_ni_three(state, first, 1);
    mlnet_compress_ni_three(state, rest, BLOCKS);
    for (int i = 0; i < count; i++)
        mlnet_finish(state[i], data + (size_t)i * MLNET_LEAF_SIZE + DONE, MLNET_LEAF_SIZE - DONE, MLNET_LEAF_SIZE + 1,
                     hashes + i * MLNET_HASH);
}
#endif

/* The hashes of the leaves of `size` > 0 bytes; the last leaf may be short. */
static void mlnet_leaf_hashes(const uint8_t *data, size_t size, uint8_t *hashes) {
#ifdef MLNET_SHA_NI
    while (mlnet_use_three && size >= 2 * (size_t)MLNET_LEAF_SIZE) {
        const int count = size >= 3 * (size_t)MLNET_LEAF_SIZE ? 3 : 2;
        mlnet_leaves_at_once(data, count, hashes);
        data += (size_t)count * MLNET_LEAF_SIZE;
        size -= (size_t)count * MLNET_LEAF_SIZE;
        hashes += count * MLNET_HASH;
    }
#endif
    while (size > 0) {
        size_t leaf = size < MLNET_LEAF_SIZE ? size : MLNET_LEAF_SIZE;
        mlnet_prefixed(0x00, data, leaf, hashes);
        data += leaf;
        size -= leaf;
        hashes += MLNET_HASH;
    }
}

/* MTH of RFC 6962, section 2.1, over `count` leaf hashes: the perfect subtrees that the bits of the count stand for
 * are merged as they fill, and the rest from the right. */
static void mlnet_tree_root(const uint8_t *hashes, size_t count, uint8_t *root) {
    uint8_t stack[8 * sizeof(size_t) + 1][MLNET_HASH];
    uint8_t children[2 * MLNET_HASH];
    size_t depth = 0;
    for (size_t leaf = 0; leaf < count; leaf++) {
        memcpy(stack[depth++], hashes + leaf * MLNET_HASH, MLNET_HASH);
        int last = leaf + 1 == count;
        for (size_t filled = leaf + 1; depth > 1 && (last || !(filled & 1)); filled >>= 1) {
            memcpy(children, stack[depth - 2], MLNET_HASH);
            memcpy(children + MLNET_HASH, stack[depth - 1], MLNET_HASH);
            mlnet_prefixed(0x01, children, sizeof children, stack[depth - 2]);
            depth--;
        }
    }
    if (count > 0) {
        memcpy(root, stack[0], MLNET_HASH);
    } else {
        uint32_t state[8];
        memcpy(state, mlnet_sha256_initial, sizeof state);
        mlnet_finish(state, NULL, 0, 0, root);
    }
}

#endif /* MLNET_SHA256_H */
