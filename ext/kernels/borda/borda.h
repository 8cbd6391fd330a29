/* Borda counts: of the ballots that rows of distances are, and of ballots that name candidates.
 *
 * All points are half-points: two for every candidate that a ballot ranks lower, one for every other of the same
 * rank. They are integers, so that every machine gets the same sum in whatever order. */
#ifndef MLNET_BORDA_H
#define MLNET_BORDA_H

#include <stddef.h>
#include <stdint.h>

/* Takes the fastest code for this processor, or the portable code; to be called before any other function, and not
 * while a thread counts. Returns the name of what it took. */
const char *mlnet_borda_select(int portable);

/* ------------------------------------------------------------------ rows of distances (ranking.c) */

/* Digits of the radix sort. Of 10 bits: both tables of counts (8 KiB) fit the L1 cache, and the distances of a LAN or
 * WAN in microseconds (below 2^20) take two passes. */
enum { MLNET_DIGIT_BITS = 10, MLNET_DIGITS = 1 << MLNET_DIGIT_BITS };

typedef struct {
    uint64_t distance;
    uint32_t peer;
} mlnet_pair;

/* The counts of n peers, and what counting needs. Every array has n elements, zero at first. */
typedef struct {
    ptrdiff_t n;
    int peer_bits;                  /* that hold a peer's number, 0 to n - 1 */
    int64_t *points, *unreachable;
    uint64_t *total;                /* of distances in rows that cannot make it overflow */
    uint64_t *wide_low, *wide_high; /* of the others, in 128 bits */
    int64_t *copy;
    uint64_t *keys, *spare;
    mlnet_pair *pairs;
    uint32_t starts[2][MLNET_DIGITS];
} mlnet_ranking;

/* Adds the ballots of all n peers, `row_stride` bytes apart: each peer's distances to all, negative where it reaches
 * nobody, `stride` bytes apart. */
void mlnet_rank_rows(mlnet_ranking *it, const char *first, ptrdiff_t row_stride, ptrdiff_t stride);

/* ------------------------------------------------------------------ ballots (counting.c) */

/* 2 * c half-points of a ballot must fit 31 bits. */
enum { MLNET_MOST_CANDIDATES = 1 << 29 };

/* The points of c <= MLNET_MOST_CANDIDATES candidates, and what counting needs. Every array has c elements. */
typedef struct {
    ptrdiff_t c;
    int64_t *points; /* zero at first, as is `recent` */
    int32_t *recent; /* points that are not in `points` yet */
    int32_t *copy;
    int32_t *gains; /* what each candidate gets from one ballot; -1 for all between two ballots */
    ptrdiff_t room; /* how many ballots `recent` can take */
} mlnet_count;

/* Adds `ballots` of c candidates' numbers in the order of preference, then negative numbers, `row_stride` bytes apart
 * and the numbers `stride`. Returns how many came before the first that is not valid; then the points are of no use. */
ptrdiff_t mlnet_count_ballots(mlnet_count *it, const char *first, ptrdiff_t ballots, ptrdiff_t row_stride,
                              ptrdiff_t stride);

#endif
