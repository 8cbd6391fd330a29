/* The lower medians of many short rows, and the worse of two directions.
 *
 * Whatever the values, the same comparisons are made, so that many pairs go through them side by side, one in each
 * lane of vectors of 32 bits, and nothing is branched on. The comparisons are those of a sorting network that leave the
 * sample of a fixed rank out of all k at its place. So missing samples become in turn smaller and larger than any
 * other, in an order that leaves the lower median of the present ones at that rank, and a missing one where none is present.
 * Values beyond 32 bits and large k go one pair at a time.
 *
 * The result is made in pairs of tiles on either side of the diagonal, small enough to stay in a processor's cache.
 */
#ifndef MLNET_PINGMATRIX_H
#define MLNET_PINGMATRIX_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define MLNET_AVX2 1
#include <immintrin.h>
#endif
#if defined(__GNUC__) || defined(__clang__)
#define MLNET_INLINE static inline __attribute__((always_inline))
#else
#define MLNET_INLINE static inline
#endif

enum {
    MLNET_TILE = 128,
    MLNET_LANES = 64,
    MLNET_NETWORK_K = 64,    /* the most samples for which a network is faster than a search */
    MLNET_COMPARISONS = 543, /* of merge exchange for that many */
    MLNET_KEEP_LOW = 1,
    MLNET_KEEP_HIGH = 2,
    MLNET_REGISTERS_K = 16 /* the most samples that are sorted in registers */
};

typedef struct {
    uint8_t low, high; /* the places that it compares and puts in order */
    uint8_t keep;      /* which of the two is used later */
} mlnet_comparison;

/* An (n, n, k) array of samples, strides in bytes. */
typedef struct {
    const char *data;
    ptrdiff_t n, k, stride_i, stride_j, stride_k;
} mlnet_samples;

typedef int32_t mlnet_tile[MLNET_TILE][MLNET_TILE];

/* What one thread needs. */
typedef struct {
    size_t comparisons;
    mlnet_comparison network[MLNET_COMPARISONS];
    int32_t lanes[MLNET_NETWORK_K][MLNET_LANES];
    int64_t load[MLNET_REGISTERS_K]; /* -1 for each sample that there is */
    int32_t fill[MLNET_REGISTERS_K]; /* what stands for the others, in the order that loading makes */
    int32_t keep[MLNET_REGISTERS_K]; /* 0 for those, else -1 */
    mlnet_tile there, back;
    int64_t *row; /* room for k */
} mlnet_scratch;

MLNET_INLINE ptrdiff_t mlnet_least(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
MLNET_INLINE int32_t mlnet_min(int32_t a, int32_t b) { return a < b ? a : b; }
MLNET_INLINE int32_t mlnet_max(int32_t a, int32_t b) { return a > b ? a : b; }

/* A buffer's elements need not be aligned. */
MLNET_INLINE int64_t mlnet_sample(const char *from) {
    int64_t sample;
    memcpy(&sample, from, sizeof sample);
    return sample;
}

/* Makes the network that brings the rank (k - 1) / 2 of k <= MLNET_NETWORK_K values to its place: Batcher's merge
 * exchange (D. E. Knuth, The Art of Computer Programming, volume 3, algorithm 5.2.2M) less what does not lead there. */
static void mlnet_network_make(mlnet_scratch *scratch, ptrdiff_t k) {
    mlnet_comparison *all = scratch->network;
    uint8_t used[MLNET_NETWORK_K] = {0};
    size_t count = 0;
    ptrdiff_t top = 1;
    while (2 * top < k) top *= 2;
    for (ptrdiff_t p = top; p > 0; p /= 2) {
        ptrdiff_t q = top, r = 0, d = p;
        for (;;) {
            for (ptrdiff_t i = 0; i + d < k; i++)
                if ((i & p) == r) {
                    all[count].low = (uint8_t)i;
                    all[count++].high = (uint8_t)(i + d);
                }
            if (q == p) break;
            d = q - p;
            q /= 2;
            r = p;
        }
    }
    used[(k - 1) / 2] = 1;
    for (size_t step = count; step-- > 0;) {
        mlnet_comparison *it = &all[step];
        it->keep = (uint8_t)((used[it->low] ? MLNET_KEEP_LOW : 0) | (used[it->high] ? MLNET_KEEP_HIGH : 0));
        if (it->keep) used[it->low] = used[it->high] = 1;
    }
    scratch->comparisons = 0;
    for (size_t step = 0; step < count; step++)
        if (all[step].keep) all[scratch->comparisons++] = all[step];
}

MLNET_INLINE void mlnet_network_run(mlnet_scratch *scratch) {
    for (size_t step = 0; step < scratch->comparisons; step++) {
        const mlnet_comparison it = scratch->network[step];
        int32_t *low = scratch->lanes[it.low], *high = scratch->lanes[it.high];
        switch (it.keep) {
            case MLNET_KEEP_LOW:
                for (int lane = 0; lane < MLNET_LANES; lane++) low[lane] = mlnet_min(low[lane], high[lane]);
                break;
            case MLNET_KEEP_HIGH:
                for (int lane = 0; lane < MLNET_LANES; lane++) high[lane] = mlnet_max(low[lane], high[lane]);
                break;
            default:
                for (int lane = 0; lane < MLNET_LANES; lane++) {
                    const int32_t a = low[lane], b = high[lane];
                    low[lane] = mlnet_min(a, b);
                    high[lane] = mlnet_max(a, b);
                }
        }
    }
}

/* Puts missing samples (-1) on either side in turn, the odd one where the lower median needs it. */
MLNET_INLINE void mlnet_place_missing(mlnet_scratch *scratch, ptrdiff_t k) {
    int32_t larger[MLNET_LANES];
    for (int lane = 0; lane < MLNET_LANES; lane++) larger[lane] = k % 2 ? 0 : -1;
    for (ptrdiff_t place = 0; place < k; place++)
        for (int lane = 0; lane < MLNET_LANES; lane++) {
            const int32_t sample = scratch->lanes[place][lane], missing = sample < 0 ? -1 : 0;
            scratch->lanes[place][lane] = missing & larger[lane] ? INT32_MAX : sample;
            larger[lane] ^= missing;
        }
}

/* The medians of `count` <= MLNET_LANES pairs of one row; 0 if a sample does not fit 32 bits. */
MLNET_INLINE int mlnet_lanes_inline(const mlnet_samples *samples, const char *from, ptrdiff_t count,
                                    mlnet_scratch *scratch, int32_t *medians) {
    const ptrdiff_t k = samples->k;
    int missing = 0, wide = 0;
    for (ptrdiff_t lane = 0; lane < count; lane++)
        for (ptrdiff_t place = 0; place < k; place++) {
            const int64_t sample = mlnet_sample(from + lane * samples->stride_j + place * samples->stride_k);
            missing |= sample < 0;
            wide |= sample > INT32_MAX;
            scratch->lanes[place][lane] = sample < 0 ? -1 : (int32_t)sample;
        }
    if (wide) return 0;
    if (missing) mlnet_place_missing(scratch, k);
    mlnet_network_run(scratch);
    memcpy(medians, scratch->lanes[(k - 1) / 2], (size_t)count * sizeof *medians);
    return 1;
}

static int mlnet_lanes_portable(const mlnet_samples *samples, const char *from, ptrdiff_t count,
                                mlnet_scratch *scratch, int32_t *medians) {
    return mlnet_lanes_inline(samples, from, count, scratch, medians);
}

#ifdef MLNET_AVX2
#include "pingmatrix_avx2.h"

static int mlnet_use_avx2 = 0;
#endif

/* Takes the fastest code for this processor or the portable code; to be called before any other function, and not while
 * a thread aggregates. Returns the name of what it took. */
static const char *mlnet_median_select(int portable) {
#ifdef MLNET_AVX2
    mlnet_use_avx2 = !portable && __builtin_cpu_supports("avx2");
    if (mlnet_use_avx2) return "avx2";
#else
    (void)portable;
#endif
    return "portable";
}

static int mlnet_lanes(const mlnet_samples *samples, const char *from, ptrdiff_t count, mlnet_scratch *scratch,
                       int32_t *medians) {
#ifdef MLNET_AVX2
    if (mlnet_use_avx2) return mlnet_lanes_avx2(samples, from, count, scratch, medians);
#endif
    return mlnet_lanes_portable(samples, from, count, scratch, medians);
}

/* The value of a rank among `count` > 0 values: bisects their range, in 63 passes at most whatever they are. */
MLNET_INLINE int64_t mlnet_select(const int64_t *values, ptrdiff_t count, ptrdiff_t rank) {
    int64_t low = values[0], high = values[0];
    for (ptrdiff_t i = 1; i < count; i++) {
        low = values[i] < low ? values[i] : low;
        high = values[i] > high ? values[i] : high;
    }
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        int64_t below = 0;
        for (ptrdiff_t i = 0; i < count; i++) below += values[i] <= middle;
        if (below > rank)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* The median of one pair, whatever its samples; -1 if there is none. */
MLNET_INLINE int64_t mlnet_median(const mlnet_samples *samples, ptrdiff_t i, ptrdiff_t j, int64_t *row) {
    const char *from = samples->data + i * samples->stride_i + j * samples->stride_j;
    ptrdiff_t count = 0;
    for (ptrdiff_t place = 0; place < samples->k; place++) {
        row[count] = mlnet_sample(from + place * samples->stride_k);
        count += row[count] >= 0;
    }
    return count ? mlnet_select(row, count, (count - 1) / 2) : -1;
}

/* The medians from the peers [i, i_end) to the peers [j, j_end), one tile at most; 0 if they need another way. */
static int mlnet_medians(const mlnet_samples *samples, ptrdiff_t i, ptrdiff_t i_end, ptrdiff_t j, ptrdiff_t j_end,
                         mlnet_scratch *scratch, int32_t (*medians)[MLNET_TILE]) {
    const ptrdiff_t width = j_end - j;
    if (samples->k > MLNET_NETWORK_K) return 0;
    for (; i < i_end; i++, medians++) {
        const char *from = samples->data + i * samples->stride_i + j * samples->stride_j;
#ifdef MLNET_AVX2
        if (mlnet_use_avx2 && width >= 8 && samples->k <= MLNET_REGISTERS_K && samples->stride_k == sizeof(int64_t)) {
            if (!mlnet_registers_avx2(samples, from, width, scratch, *medians)) return 0;
            continue;
        }
#endif
        for (ptrdiff_t b = 0; b < width; b += MLNET_LANES) {
            const ptrdiff_t count = mlnet_least(MLNET_LANES, width - b);
            if (!mlnet_lanes(samples, from + b * samples->stride_j, count, scratch, *medians + b)) return 0;
        }
    }
    return 1;
}

/* Writes the worse of both directions into the tile of the result at `upper` and its mirror image at `lower`. */
static void mlnet_combine(int32_t (*there)[MLNET_TILE], int32_t (*back)[MLNET_TILE], ptrdiff_t height, ptrdiff_t width,
                          int64_t *upper, int64_t *lower, ptrdiff_t n) {
    for (ptrdiff_t a = 0; a < height; a += 8)
        for (ptrdiff_t b = there == back ? a : 0; b < width; b += 8) {
#ifdef MLNET_AVX2
            if (mlnet_use_avx2 && a + 8 <= height && b + 8 <= width) {
                mlnet_combine_avx2(&there[a][b], &back[b][a], upper + a * n + b, lower + b * n + a, n);
                continue;
            }
#endif
            for (ptrdiff_t i = a; i < mlnet_least(a + 8, height); i++)
                for (ptrdiff_t j = b; j < mlnet_least(b + 8, width); j++)
                    upper[i * n + j] = lower[j * n + i] =
                        (there[i][j] | back[j][i]) < 0 ? -1 : mlnet_max(there[i][j], back[j][i]);
        }
}

/* Finishes two tiles of the result: the rows from i and the columns from j >= i on, and the other way round. */
static void mlnet_tiles(const mlnet_samples *samples, ptrdiff_t i, ptrdiff_t j, mlnet_scratch *scratch, int64_t *out) {
    const ptrdiff_t n = samples->n, i_end = mlnet_least(n, i + MLNET_TILE), j_end = mlnet_least(n, j + MLNET_TILE);
    int32_t (*back)[MLNET_TILE] = i == j ? scratch->there : scratch->back;
    if (mlnet_medians(samples, i, i_end, j, j_end, scratch, scratch->there) &&
        (i == j || mlnet_medians(samples, j, j_end, i, i_end, scratch, back))) {
        mlnet_combine(scratch->there, back, i_end - i, j_end - j, out + i * n + j, out + j * n + i, n);
    } else {
        for (ptrdiff_t a = i; a < i_end; a++)
            for (ptrdiff_t b = i == j ? a : j; b < j_end; b++) {
                const int64_t there = mlnet_median(samples, a, b, scratch->row);
                const int64_t back_again = mlnet_median(samples, b, a, scratch->row);
                const int64_t worse = there > back_again ? there : back_again;
                out[a * n + b] = out[b * n + a] = (there | back_again) < 0 ? -1 : worse;
            }
    }
    if (i == j)
        for (; i < i_end; i++) out[i * n + i] = 0;
}

/* Makes what depends on k only. */
static void mlnet_prepare(mlnet_scratch *scratch, ptrdiff_t k) {
    if (k <= MLNET_NETWORK_K) mlnet_network_make(scratch, k);
#ifdef MLNET_AVX2
    if (k <= MLNET_REGISTERS_K) mlnet_registers_prepare(scratch, k);
#endif
}

#endif /* MLNET_PINGMATRIX_H */
