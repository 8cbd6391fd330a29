/* Medians of 64 pairs at a time, by a sorting network over lanes in memory: compilers make vectors of the loops. */
#include <string.h>

#include "internal.h"

/* Makes the network that brings the rank (k - 1) / 2 of k <= MLNET_NETWORK_K values to its place: Batcher's merge
 * exchange (D. E. Knuth, The Art of Computer Programming, volume 3, algorithm 5.2.2M) less what does not lead there. */
void mlnet_network_make(mlnet_scratch *scratch, ptrdiff_t k) {
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

/* The body of mlnet_lanes. Samples come in any layout; each lane is gathered first. */
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

#ifdef MLNET_X86_64
MLNET_TARGET("avx2") static int mlnet_lanes_avx2(const mlnet_samples *samples, const char *from, ptrdiff_t count,
                                                 mlnet_scratch *scratch, int32_t *medians) {
    return mlnet_lanes_inline(samples, from, count, scratch, medians);
}
#endif

int mlnet_lanes(const mlnet_samples *samples, const char *from, ptrdiff_t count, mlnet_scratch *scratch,
                int32_t *medians) {
#ifdef MLNET_X86_64
    if (mlnet_use_avx2) return mlnet_lanes_avx2(samples, from, count, scratch, medians);
#endif
    return mlnet_lanes_inline(samples, from, count, scratch, medians);
}
