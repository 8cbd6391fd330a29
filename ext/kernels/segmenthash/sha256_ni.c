/* SHA-256 by the SHA instructions of x86-64 processors (Intel SDM, volume 2, SHA256RNDS2, SHA256MSG1 and SHA256MSG2),
 * found at run time. */
#include "internal.h"

#ifdef MLNET_X86_64
#include <cpuid.h>
#include <immintrin.h>

#define MLNET_NI MLNET_TARGET("sha,sse4.1,ssse3")

/* The instructions keep the state as ABEF and CDGH. */
MLNET_NI static inline void mlnet_ni_load(const uint32_t state[8], __m128i *abef, __m128i *cdgh) {
    __m128i cdab = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)&state[0]), 0xB1);
    __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)&state[4]), 0x1B);
    *abef = _mm_alignr_epi8(cdab, efgh, 8);
    *cdgh = _mm_blend_epi16(efgh, cdab, 0xF0);
}

MLNET_NI static inline void mlnet_ni_store(uint32_t state[8], __m128i abef, __m128i cdgh) {
    __m128i feba = _mm_shuffle_epi32(abef, 0x1B);
    __m128i dchg = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128((__m128i *)(void *)&state[0], _mm_blend_epi16(feba, dchg, 0xF0));
    _mm_storeu_si128((__m128i *)(void *)&state[4], _mm_alignr_epi8(dchg, feba, 8));
}

MLNET_NI static inline __m128i mlnet_ni_words(const uint8_t *data, int quarter) {
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    return _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(data + 16 * quarter)), swap);
}

/* Rounds 4i to 4i + 3 of one stream: abef and cdgh are its state, m its ring of sixteen schedule words. The
 * conditions are constants. */
#define MLNET_NI_ROUNDS(i, abef, cdgh, m, data)                                                           \
    do {                                                                                                  \
        if ((i) < 4) m[(i)&3] = mlnet_ni_words(data, (i)&3);                                              \
        __m128i wk = _mm_add_epi32(                                                                       \
            m[(i)&3], _mm_load_si128((const __m128i *)(const void *)&mlnet_sha256_k[4 * (i)]));           \
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

MLNET_NI void mlnet_compress_ni(uint32_t state[8], const uint8_t *data, size_t blocks) {
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

/* Three independent streams of the same length, interleaved: each round of a stream waits for the round before, and
 * three keep the unit busy. The instructions of AVX save moves between registers, of which there are too few for a
 * fourth. */
MLNET_TARGET("sha,avx") void mlnet_compress_ni_three(uint32_t state[MLNET_STREAMS][8],
                                                     const uint8_t *const start[MLNET_STREAMS], size_t blocks) {
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

/* By CPUID (leaf 7, EBX, bit 29), because not every compiler's __builtin_cpu_supports knows "sha". SSE
 * registers need no help from the operating system; for AVX, which does, mlnet_sha256_select asks the builtin. */
int mlnet_detect_ni(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1)) return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & (1u << 29)) != 0;
}

#endif
