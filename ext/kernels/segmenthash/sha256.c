/* SHA-256 (FIPS 180-4): the portable code, and the choice between it and the processor's instructions. */
#include <string.h>

#include "internal.h"

const uint32_t mlnet_sha256_initial[8] = {0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au,
                                          0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u};

_Alignas(16) const uint32_t mlnet_sha256_k[64] = {
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

/* FIPS 180-4, section 6.2.2, with a message schedule of sixteen words that goes round. */
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

#ifdef MLNET_X86_64
int mlnet_use_ni = 0, mlnet_use_three = 0;
#endif

const char *mlnet_sha256_select(int portable) {
#ifdef MLNET_X86_64
    mlnet_use_ni = !portable && mlnet_detect_ni();
    mlnet_use_three = mlnet_use_ni && __builtin_cpu_supports("avx");
    if (mlnet_use_ni) return "sha-ni";
#else
    (void)portable;
#endif
    return "portable";
}

void mlnet_compress(uint32_t state[8], const uint8_t *data, size_t blocks) {
#ifdef MLNET_X86_64
    if (mlnet_use_ni) {
        mlnet_compress_ni(state, data, blocks);
        return;
    }
#endif
    mlnet_compress_portable(state, data, blocks);
}

/* FIPS 180-4, section 5.1.1: a one bit, zeros, and the length in bits. */
void mlnet_finish(uint32_t state[8], const uint8_t *tail, size_t size, uint64_t total, uint8_t *hash) {
    uint8_t last[2 * MLNET_BLOCK] = {0};
    size_t blocks = size < MLNET_BLOCK - 8 ? 1 : 2;
    if (size > 0) memcpy(last, tail, size);
    last[size] = 0x80;
    mlnet_store_be32(last + blocks * MLNET_BLOCK - 8, (uint32_t)(total >> 29));
    mlnet_store_be32(last + blocks * MLNET_BLOCK - 4, (uint32_t)(total << 3));
    mlnet_compress(state, last, blocks);
    for (int i = 0; i < 8; i++) mlnet_store_be32(hash + 4 * i, state[i]);
}
