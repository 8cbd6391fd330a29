/* What the ways to a median share: a thread's memory, and who calls whom.
 *
 *   tiles.c    the result, tile by tile, and the choice between the ways
 *   network.c  64 pairs at a time through a sorting network, portable or compiled for AVX2
 *   avx2.c     eight pairs at a time in registers, for up to 16 samples that lie one after the other
 *
 * Whatever the values, the same comparisons are made, so that many pairs go through them side by side, one in each
 * lane of vectors of 32 bits, and nothing is branched on. The comparisons are those of a sorting network that leave
 * the sample of a fixed rank out of all k at its place. So missing samples become in turn smaller and larger than any
 * other, in an order that leaves the lower median of the present ones at that rank, and a missing one where none is
 * present. Values beyond 32 bits and large k go one pair at a time. */
#ifndef MLNET_PINGMATRIX_INTERNAL_H
#define MLNET_PINGMATRIX_INTERNAL_H

#include <string.h>

#include "../compiler.h"
#include "pingmatrix.h"

enum {
    MLNET_LANES = 64,
    MLNET_NETWORK_K = 64,    /* the most samples for which a network is faster than a search */
    MLNET_COMPARISONS = 543, /* of merge exchange for that many */
    MLNET_KEEP_LOW = 1,
    MLNET_KEEP_HIGH = 2,
    MLNET_REGISTERS_K = 16 /* the most samples that are sorted in registers: two eights, of sixteen registers */
};

typedef struct {
    uint8_t low, high; /* the places that it compares and puts in order */
    uint8_t keep;      /* which of the two is used later */
} mlnet_comparison;

typedef int32_t mlnet_tile[MLNET_TILE][MLNET_TILE];

struct mlnet_scratch {
    size_t comparisons;
    mlnet_comparison network[MLNET_COMPARISONS];
    int32_t lanes[MLNET_NETWORK_K][MLNET_LANES];
    int64_t load[MLNET_REGISTERS_K]; /* -1 for each sample that there is */
    int32_t fill[MLNET_REGISTERS_K]; /* what stands for the others, in the order that loading makes */
    int32_t keep[MLNET_REGISTERS_K]; /* 0 for those, else -1 */
    mlnet_tile there, back;
    int64_t *row; /* room for k */
};

MLNET_INLINE ptrdiff_t mlnet_least(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
MLNET_INLINE int32_t mlnet_min(int32_t a, int32_t b) { return a < b ? a : b; }
MLNET_INLINE int32_t mlnet_max(int32_t a, int32_t b) { return a > b ? a : b; }

/* A buffer's elements need not be aligned. */
MLNET_INLINE int64_t mlnet_sample(const char *from) {
    int64_t sample;
    memcpy(&sample, from, sizeof sample);
    return sample;
}

/* ------------------------------------------------------------------ network.c */

/* Prepares for rows of k <= MLNET_NETWORK_K samples. */
void mlnet_network_make(mlnet_scratch *scratch, ptrdiff_t k);
/* The medians of `count` <= MLNET_LANES pairs of one row; 0 if a sample does not fit 32 bits. */
int mlnet_lanes(const mlnet_samples *samples, const char *from, ptrdiff_t count, mlnet_scratch *scratch,
                int32_t *medians);

/* ------------------------------------------------------------------ avx2.c */

#ifdef MLNET_X86_64
/* Prepares for rows of k <= MLNET_REGISTERS_K samples. */
void mlnet_registers_prepare(mlnet_scratch *scratch, ptrdiff_t k);
/* The medians of `count` >= 8 pairs of one row; 0 if a sample does not fit 32 bits. */
int mlnet_registers_avx2(const mlnet_samples *samples, const char *from, ptrdiff_t count,
                         const mlnet_scratch *scratch, int32_t *medians);
/* The worse of both directions of eight peers and eight others, at their places in rows of n. */
void mlnet_combine_avx2(const int32_t *there, const int32_t *back, int64_t *upper, int64_t *lower, ptrdiff_t n);
#endif

#endif
