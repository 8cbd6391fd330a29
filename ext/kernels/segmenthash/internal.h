/* SHA-256 as merkle.c uses it, and what its portable and its native half share. */
#ifndef MLNET_SEGMENTHASH_INTERNAL_H
#define MLNET_SEGMENTHASH_INTERNAL_H

#include "../compiler.h"
#include "segmenthash.h"

/* MLNET_STREAMS leaves are hashed at once: see sha256_ni.c. */
enum { MLNET_BLOCK = 64, MLNET_STREAMS = 3 };

/* FIPS 180-4, sections 5.3.3 and 4.2.2. The constants are loaded four at a time. */
extern const uint32_t mlnet_sha256_initial[8];
extern _Alignas(16) const uint32_t mlnet_sha256_k[64];

/* Continues a hash by whole blocks. */
void mlnet_compress(uint32_t state[8], const uint8_t *data, size_t blocks);

/* Appends the padding to the last bytes of a message of `total` bytes, fewer than a block, and writes the hash. */
void mlnet_finish(uint32_t state[8], const uint8_t *tail, size_t size, uint64_t total, uint8_t *hash);

#ifdef MLNET_X86_64
/* Which of the functions below this processor runs and mlnet_sha256_select allows. */
extern int mlnet_use_ni, mlnet_use_three;
int mlnet_detect_ni(void);
void mlnet_compress_ni(uint32_t state[8], const uint8_t *data, size_t blocks);
void mlnet_compress_ni_three(uint32_t state[MLNET_STREAMS][8], const uint8_t *const start[MLNET_STREAMS],
                             size_t blocks);
#endif

#endif
