/* The result in tiles, by the fastest way to a median that processor, layout and values allow. */
#include <stdlib.h>

#include "internal.h"

#ifdef MLNET_X86_64
int mlnet_use_avx2 = 0;
#endif

const char *mlnet_median_select(int portable) { return mlnet_choose_avx2(portable); }

/* Makes what depends on k only. */
mlnet_scratch *mlnet_scratch_new(ptrdiff_t k) {
    mlnet_scratch *scratch = calloc(1, sizeof *scratch);
    if (!scratch) return NULL;
    if (!(scratch->row = malloc((size_t)k * sizeof *scratch->row))) {
        free(scratch);
        return NULL;
    }
    if (k <= MLNET_NETWORK_K) mlnet_network_make(scratch, k);
#ifdef MLNET_X86_64
    if (k <= MLNET_REGISTERS_K) mlnet_registers_prepare(scratch, k);
#endif
    return scratch;
}

void mlnet_scratch_free(mlnet_scratch *scratch) {
    if (scratch) free(scratch->row);
    free(scratch);
}

/* The value of a rank among `count` > 0 values: bisects their range, in 63 passes at most whatever they are. A
 * selection by pivots could be driven to quadratic time by the peer that chose the samples. */
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
#ifdef MLNET_X86_64
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
#ifdef MLNET_X86_64
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

void mlnet_tiles(const mlnet_samples *samples, ptrdiff_t i, ptrdiff_t j, mlnet_scratch *scratch, int64_t *out) {
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
