/* Borda counts of rows of distances: each row is a ballot that ranks the nearest peer first.
 *
 * A row is sorted as integers that hold a distance above a peer's number, by radix: in time that depends neither on
 * the order nor on the values, of which a hostile peer chooses its own. */
#include <stdlib.h>

#include "internal.h"

#ifdef MLNET_X86_64
int mlnet_use_avx2 = 0;
#endif

const char *mlnet_borda_select(int portable) { return mlnet_choose_avx2(portable); }

/* Adds a row to the totals unless it is wide. Returns its distances or-ed, and in `any` all its elements: their
 * highest bits say whether a distance and a peer fit one key, how many digits there are, and whether anybody cannot
 * be reached. A row is wide if one of its distances does not leave `peer_bits` and the sign free; n rows of others
 * cannot overflow a total. */
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

/* Leaves the keys of the reachable peers in order in it->keys and gives them the points of their places; returns how
 * many there are. A key is a distance above a peer's number, so that equal distances are sorted by peer: the peers
 * come in that order, and every pass of the radix sort keeps it. Each pass counts the next digit too, and the last
 * one gives points as it goes. */
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

/* The same where a distance and a peer may not fit a key: keys hold a running number of distances instead. Adds to
 * the wide totals. No honest row is like that, so qsort will do: it is O(n log n) for whatever a peer claims. */
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

/* Lets those at equal distances share: each got two points for everyone behind it, and is due one for each at its own
 * distance. Ties are rare, so that blocks without any are passed over at one look. */
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

#ifdef MLNET_X86_64
MLNET_TARGET("avx2") static uint64_t mlnet_add_row_avx2(mlnet_ranking *it, const int64_t *row,
                                                                   int64_t *any) {
    return mlnet_add_row_inline(it, row, any);
}

MLNET_TARGET("avx2") static void mlnet_share_ties_avx2(mlnet_ranking *it, ptrdiff_t count) {
    mlnet_share_ties_inline(it, count);
}
#endif

static uint64_t mlnet_add_row(mlnet_ranking *it, const int64_t *row, int64_t *any) {
#ifdef MLNET_X86_64
    if (mlnet_use_avx2) return mlnet_add_row_avx2(it, row, any);
#endif
    return mlnet_add_row_inline(it, row, any);
}

static void mlnet_share_ties(mlnet_ranking *it, ptrdiff_t count) {
#ifdef MLNET_X86_64
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

void mlnet_rank_rows(mlnet_ranking *it, const char *first, ptrdiff_t row_stride, ptrdiff_t stride) {
    for (ptrdiff_t peer = 0; peer < it->n; peer++) mlnet_rank_row(it, first + peer * row_stride, stride, peer);
}
