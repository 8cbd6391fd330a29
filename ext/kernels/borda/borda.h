/* Borda counts: of the ballots that rows of distances are, and of ballots that name candidates.
 *
 * A row of distances is sorted as integers that hold a distance above a peer's number, by radix. A ballot is turned
 * into what each candidate gets from it, so that adding it up and finding a candidate that it names twice go through
 * vectors.
 */
#ifndef MLNET_BORDA_H
#define MLNET_BORDA_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define MLNET_AVX2 1
#endif
#if defined(__GNUC__) || defined(__clang__)
#define MLNET_INLINE static inline __attribute__((always_inline))
#else
#define MLNET_INLINE static inline
#endif

enum { MLNET_DIGIT_BITS = 10, MLNET_DIGITS = 1 << MLNET_DIGIT_BITS };

#ifdef MLNET_AVX2
static int mlnet_use_avx2 = 0;
#endif

/* Takes the fastest code for this processor or the portable code; to be called before any other function, and not while
 * a thread counts. Returns the name of what it took. */
static const char *mlnet_borda_select(int portable) {
#ifdef MLNET_AVX2
    mlnet_use_avx2 = !portable && __builtin_cpu_supports("avx2");
    if (mlnet_use_avx2) return "avx2";
#else
    (void)portable;
#endif
    return "portable";
}

/* A row as an array: itself, or a copy where its elements of `size` bytes lie apart or are not aligned. */
MLNET_INLINE const void *mlnet_row(const char *from, ptrdiff_t stride, ptrdiff_t count, size_t size, void *copy) {
    if (stride == (ptrdiff_t)size && (uintptr_t)from % size == 0) return from;
    for (ptrdiff_t i = 0; i < count; i++) memcpy((char *)copy + (size_t)i * size, from + i * stride, size);
    return copy;
}

typedef struct {
    uint64_t distance;
    uint32_t peer;
} mlnet_pair;

/* The counts of n peers, and what counting needs. */
typedef struct {
    ptrdiff_t n;
    int peer_bits;
    int64_t *points, *unreachable;
    uint64_t *total;                /* of rows that cannot make it overflow */
    uint64_t *wide_low, *wide_high; /* of the others, in 128 bits */
    int64_t *copy;
    uint64_t *keys, *spare;
    mlnet_pair *pairs;
    uint32_t starts[2][MLNET_DIGITS];
} mlnet_ranking;

/* Adds a row to the totals unless it is wide. Returns its distances or-ed, and in `any` all its elements. */
MLNET_INLINE uint64_t mlnet_add_row_inline(mlnet_ranking *it, const int64_t *restrict row, int64_t *any) {
    uint64_t *restrict total = it->total, bits = 0;
    int64_t all = 0;
    for (ptrdiff_t j = 0; j < it->n; j++) {
        bits |= row[j] < 0 ? 0 : (uint64_t)row[j];
        all |= row[j];
    }
    *any = all;
    if (bits >> (63 - it->peer_bits)) return bits;
    for (ptrdiff_t j = 0; j < it->n; j++) total[j] += row[j] < 0 ? 0 : (uint64_t)row[j];
    return bits;
}

/* Leaves the keys of the reachable peers in order in it->keys and gives them the points of their places; how many? */
static ptrdiff_t mlnet_sort_row(mlnet_ranking *it, const int64_t *row, ptrdiff_t peer, uint64_t distance_bits) {
    uint32_t *starts = it->starts[0], *next = it->starts[1];
    const uint64_t peers = ((uint64_t)1 << it->peer_bits) - 1;
    uint64_t *keys = it->keys, *spare = it->spare;
    ptrdiff_t count = 0;
    int shift = it->peer_bits;
    memset(starts, 0, sizeof it->starts[0]);
    for (ptrdiff_t j = 0; j < it->n; j++) {
        const uint64_t distance = (uint64_t)row[j];
        if (row[j] < 0 || j == peer) continue;
        keys[count++] = distance << it->peer_bits | (uint64_t)j;
        starts[distance % MLNET_DIGITS]++;
    }
    for (;;) {
        const uint64_t digits_used = distance_bits < MLNET_DIGITS ? distance_bits + 1 : MLNET_DIGITS;
        uint32_t start = 0;
        for (uint64_t digit = 0; digit < digits_used; digit++) {
            const uint32_t size = starts[digit];
            starts[digit] = start;
            start += size;
        }
        distance_bits >>= MLNET_DIGIT_BITS;
        if (!distance_bits) break;
        memset(next, 0, sizeof it->starts[0]);
        for (ptrdiff_t i = 0; i < count; i++) {
            const uint64_t key = keys[i], digits = key >> shift;
            spare[starts[digits % MLNET_DIGITS]++] = key;
            next[(digits >> MLNET_DIGIT_BITS) % MLNET_DIGITS]++;
        }
        uint64_t *const sorted = spare;
        uint32_t *const counts = next;
        spare = keys, keys = sorted;
        next = starts, starts = counts;
        shift += MLNET_DIGIT_BITS;
    }
    for (ptrdiff_t i = 0; i < count; i++) {
        const uint64_t key = keys[i];
        const uint32_t place = starts[(key >> shift) % MLNET_DIGITS]++;
        spare[place] = key;
        it->points[key & peers] += 2 * (it->n - 2 - (ptrdiff_t)place);
    }
    it->keys = spare, it->spare = keys;
    return count;
}

static int mlnet_by_distance(const void *a, const void *b) {
    const uint64_t x = ((const mlnet_pair *)a)->distance, y = ((const mlnet_pair *)b)->distance;
    return (x > y) - (x < y);
}

/* The same where a distance and a peer may not fit a key: keys hold a number for each distance. Adds to the totals. */
static ptrdiff_t mlnet_sort_wide_row(mlnet_ranking *it, const int64_t *row, ptrdiff_t peer) {
    ptrdiff_t count = 0;
    uint64_t number = 0;
    for (ptrdiff_t j = 0; j < it->n; j++) {
        const uint64_t distance = (uint64_t)row[j];
        if (row[j] < 0 || j == peer) continue;
        it->wide_low[j] += distance;
        it->wide_high[j] += it->wide_low[j] < distance;
        it->pairs[count].distance = distance;
        it->pairs[count++].peer = (uint32_t)j;
    }
    qsort(it->pairs, (size_t)count, sizeof *it->pairs, mlnet_by_distance);
    for (ptrdiff_t i = 0; i < count; i++) {
        number += i > 0 && it->pairs[i].distance != it->pairs[i - 1].distance;
        it->keys[i] = number << it->peer_bits | it->pairs[i].peer;
        it->points[it->pairs[i].peer] += 2 * (it->n - 2 - i);
    }
    return count;
}

/* Lets those at equal distances share: each had two points for every one behind it. */
MLNET_INLINE void mlnet_share_ties_inline(mlnet_ranking *it, ptrdiff_t count) {
    enum { BLOCK = 16 };
    const uint64_t limit = (uint64_t)1 << it->peer_bits;
    const uint64_t *keys = it->keys;
    for (ptrdiff_t i = 0; i + 1 < count;) {
        if (i + BLOCK < count) {
            int64_t ties = 0;
            for (int j = 0; j < BLOCK; j++) ties |= (keys[i + j] ^ keys[i + j + 1]) < limit;
            if (!ties) {
                i += BLOCK;
                continue;
            }
        }
        for (const ptrdiff_t end = i + BLOCK; i < end && i + 1 < count; i++) {
            const ptrdiff_t first = i;
            while (i + 1 < count && (keys[i] ^ keys[i + 1]) < limit) i++;
            for (ptrdiff_t place = first; place <= i && i > first; place++)
                it->points[keys[place] & (limit - 1)] += 2 * place - first - i;
        }
    }
}

#ifdef MLNET_AVX2
__attribute__((target("avx2"))) static uint64_t mlnet_add_row_avx2(mlnet_ranking *it, const int64_t *row,
                                                                   int64_t *any) {
    return mlnet_add_row_inline(it, row, any);
}

__attribute__((target("avx2"))) static void mlnet_share_ties_avx2(mlnet_ranking *it, ptrdiff_t count) {
    mlnet_share_ties_inline(it, count);
}
#endif

static uint64_t mlnet_add_row(mlnet_ranking *it, const int64_t *row, int64_t *any) {
#ifdef MLNET_AVX2
    if (mlnet_use_avx2) return mlnet_add_row_avx2(it, row, any);
#endif
    return mlnet_add_row_inline(it, row, any);
}

static void mlnet_share_ties(mlnet_ranking *it, ptrdiff_t count) {
#ifdef MLNET_AVX2
    if (mlnet_use_avx2) {
        mlnet_share_ties_avx2(it, count);
        return;
    }
#endif
    mlnet_share_ties_inline(it, count);
}

/* Adds the ballot of one peer, its distances to all. */
static void mlnet_rank_row(mlnet_ranking *it, const char *from, ptrdiff_t stride, ptrdiff_t peer) {
    const int64_t *row = (const int64_t *)mlnet_row(from, stride, it->n, sizeof *row, it->copy);
    ptrdiff_t count;
    int64_t any;
    const uint64_t bits = mlnet_add_row(it, row, &any);
    if (bits >> (63 - it->peer_bits)) {
        count = mlnet_sort_wide_row(it, row, peer);
    } else {
        it->total[peer] -= row[peer] < 0 ? 0 : (uint64_t)row[peer];
        count = mlnet_sort_row(it, row, peer, bits);
    }
    mlnet_share_ties(it, count);
    if (any >= 0) return;
    const ptrdiff_t unreachable = it->n - 1 - count;
    for (ptrdiff_t j = 0; j < it->n; j++) {
        const int64_t lost = row[j] < 0 && j != peer;
        it->unreachable[j] += lost;
        it->points[j] += lost * (unreachable - 1);
    }
}

/* The points of c <= MLNET_MOST_CANDIDATES candidates, and what counting needs. */
typedef struct {
    ptrdiff_t c;
    int64_t *points;
    int32_t *recent; /* points that are not in `points` yet */
    int32_t *copy;
    int32_t *gains; /* what each candidate gets from one ballot; -1 for all between two ballots */
    ptrdiff_t room; /* how many ballots `recent` can take */
} mlnet_count;

enum { MLNET_MOST_CANDIDATES = 1 << 29 };

static void mlnet_count_flush(mlnet_count *it) {
    for (ptrdiff_t j = 0; j < it->c; j++) {
        it->points[j] += it->recent[j];
        it->recent[j] = 0;
    }
    it->room = INT32_MAX / (2 * it->c);
}

/* How many candidates a ballot ranks before its negative numbers; -1 if one of them does not exist, or comes later. */
MLNET_INLINE ptrdiff_t mlnet_ranked(const mlnet_count *it, const int32_t *row) {
    uint32_t largest = 0;
    for (ptrdiff_t j = 0; j < it->c; j++) largest = (uint32_t)row[j] > largest ? (uint32_t)row[j] : largest;
    if ((ptrdiff_t)largest < it->c) return it->c;
    ptrdiff_t ranked = 0;
    while (ranked < it->c && row[ranked] >= 0)
        if (row[ranked++] >= it->c) return -1;
    for (ptrdiff_t j = ranked; j < it->c; j++)
        if (row[j] >= 0) return -1;
    return ranked;
}

/* Adds one ballot; 0 if it is not valid. */
MLNET_INLINE int mlnet_count_inline(mlnet_count *it, const char *from, ptrdiff_t stride) {
    const int32_t *restrict row = (const int32_t *)mlnet_row(from, stride, it->c, sizeof *row, it->copy);
    const ptrdiff_t ranked = mlnet_ranked(it, row);
    const int32_t others = (int32_t)(it->c - ranked - 1);
    int32_t *restrict gains = it->gains, *restrict recent = it->recent, unranked = 0;
    if (ranked < 0) return 0;
    if (it->room-- == 0) mlnet_count_flush(it), it->room--;
    int32_t gain = (int32_t)(2 * it->c - 2);
    ptrdiff_t place = 0;
    for (; place + 4 <= ranked; place += 4, gain -= 8) {
        gains[row[place]] = gain;
        gains[row[place + 1]] = gain - 2;
        gains[row[place + 2]] = gain - 4;
        gains[row[place + 3]] = gain - 6;
    }
    for (; place < ranked; place++, gain -= 2) gains[row[place]] = gain;
    for (ptrdiff_t j = 0; j < it->c; j++) {
        const int32_t missing = gains[j] < 0 ? -1 : 0;
        recent[j] += missing ? others : gains[j];
        unranked -= missing;
        gains[j] = -1;
    }
    return unranked == others + 1; /* else it names one twice */
}

#ifdef MLNET_AVX2
__attribute__((target("avx2"))) static int mlnet_count_avx2(mlnet_count *it, const char *from, ptrdiff_t stride) {
    return mlnet_count_inline(it, from, stride);
}
#endif

static int mlnet_count_ballot(mlnet_count *it, const char *from, ptrdiff_t stride) {
#ifdef MLNET_AVX2
    if (mlnet_use_avx2) return mlnet_count_avx2(it, from, stride);
#endif
    return mlnet_count_inline(it, from, stride);
}

#endif /* MLNET_BORDA_H */
