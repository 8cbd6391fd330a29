/* Borda counts of ballots that name candidates.
 *
 * A ballot is turned into what each candidate gains from it, so that adding it up and finding a candidate that it
 * names twice go through vectors: the order of a ballot would scatter the additions. */
#include "internal.h"

/* `recent` has 32 bits, twice as many to a vector; it is added to `points` before it could overflow. */
static void mlnet_count_flush(mlnet_count *it) {
    for (ptrdiff_t j = 0; j < it->c; j++) {
        it->points[j] += it->recent[j];
        it->recent[j] = 0;
    }
    it->room = INT32_MAX / (2 * it->c);
}

/* How many candidates a ballot ranks before its negative numbers; -1 if one of them does not exist, or comes after a
 * negative number. Unsigned, a negative number is larger than any candidate: one comparison finds both. */
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

/* Adds one ballot; 0 if it is not valid. Every candidate is given what it gains, by its number; whoever was not named
 * shares the rest. If one was named twice, another is missing, and more are without a gain than the ballot left out. */
MLNET_INLINE int mlnet_count_one(mlnet_count *it, const char *from, ptrdiff_t stride) {
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
    return unranked == others + 1; /* else it names a candidate twice */
}

MLNET_INLINE ptrdiff_t mlnet_count_all(mlnet_count *it, const char *first, ptrdiff_t ballots, ptrdiff_t row_stride,
                                       ptrdiff_t stride) {
    ptrdiff_t number = 0;
    while (number < ballots && mlnet_count_one(it, first + number * row_stride, stride)) number++;
    mlnet_count_flush(it);
    return number;
}

#ifdef MLNET_X86_64
MLNET_TARGET("avx2") static ptrdiff_t mlnet_count_avx2(mlnet_count *it, const char *first, ptrdiff_t ballots,
                                                       ptrdiff_t row_stride, ptrdiff_t stride) {
    return mlnet_count_all(it, first, ballots, row_stride, stride);
}
#endif

ptrdiff_t mlnet_count_ballots(mlnet_count *it, const char *first, ptrdiff_t ballots, ptrdiff_t row_stride,
                              ptrdiff_t stride) {
#ifdef MLNET_X86_64
    if (mlnet_use_avx2) return mlnet_count_avx2(it, first, ballots, row_stride, stride);
#endif
    return mlnet_count_all(it, first, ballots, row_stride, stride);
}
