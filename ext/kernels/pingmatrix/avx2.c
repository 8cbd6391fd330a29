/* Medians of up to 16 samples that lie one after the other, of eight pairs at a time, in registers of AVX2. Samples
 * beyond k get values on either side, so that the rank to look for is always the same. */
#include "internal.h"

#ifdef MLNET_X86_64
#include <immintrin.h>

#define MLNET_AVX2_INLINE MLNET_TARGET("avx2") MLNET_INLINE

MLNET_AVX2_INLINE void mlnet_order(__m256i *a, __m256i *b) {
    const __m256i low = _mm256_min_epi32(*a, *b);
    *b = _mm256_max_epi32(*a, *b);
    *a = low;
}

/* Puts the eight vectors in order, lane by lane, in 19 comparisons (Knuth, volume 3, section 5.3.4). */
MLNET_AVX2_INLINE void mlnet_sort8(__m256i r[8]) {
    mlnet_order(r + 0, r + 2), mlnet_order(r + 1, r + 3), mlnet_order(r + 4, r + 6), mlnet_order(r + 5, r + 7);
    mlnet_order(r + 0, r + 4), mlnet_order(r + 1, r + 5), mlnet_order(r + 2, r + 6), mlnet_order(r + 3, r + 7);
    mlnet_order(r + 0, r + 1), mlnet_order(r + 2, r + 3), mlnet_order(r + 4, r + 5), mlnet_order(r + 6, r + 7);
    mlnet_order(r + 2, r + 4), mlnet_order(r + 3, r + 5);
    mlnet_order(r + 1, r + 4), mlnet_order(r + 3, r + 6);
    mlnet_order(r + 1, r + 2), mlnet_order(r + 3, r + 4), mlnet_order(r + 5, r + 6);
}

/* Makes lane i of vector j of lane j of vector i. */
MLNET_AVX2_INLINE void mlnet_transpose8(__m256i r[8]) {
    __m256i s[8], t[8];
    for (int i = 0; i < 8; i += 2) {
        s[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        s[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            t[i + 2 * j] = _mm256_unpacklo_epi64(s[i + j], s[i + j + 2]);
            t[i + 2 * j + 1] = _mm256_unpackhi_epi64(s[i + j], s[i + j + 2]);
        }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2x128_si256(t[i], t[i + 4], 0x20);
        r[i + 4] = _mm256_permute2x128_si256(t[i], t[i + 4], 0x31);
    }
}

void mlnet_registers_prepare(mlnet_scratch *scratch, ptrdiff_t k) {
    /* What mlnet_halves makes of the order of eight samples. */
    static const uint8_t order[8] = {0, 1, 4, 5, 2, 3, 6, 7};
    const ptrdiff_t room = k <= 8 ? 8 : 16;
    ptrdiff_t lower = (room - 1) / 2 - (k - 1) / 2;
    for (int place = 0; place < MLNET_REGISTERS_K; place++) {
        const int there = (place & 8) + order[place & 7] < k;
        scratch->load[place] = place < k ? -1 : 0;
        scratch->keep[place] = there ? -1 : 0;
        scratch->fill[place] = there ? 0 : lower-- > 0 ? -1 : INT32_MAX;
    }
}

/* Eight samples of one pair: their lower halves, or their upper ones. */
MLNET_AVX2_INLINE __m256i mlnet_halves(__m256i a, __m256i b, int upper) {
    const __m256 x = _mm256_castsi256_ps(a), y = _mm256_castsi256_ps(b);
    return _mm256_castps_si256(upper ? _mm256_shuffle_ps(x, y, 0xDD) : _mm256_shuffle_ps(x, y, 0x88));
}

MLNET_AVX2_INLINE __m256i mlnet_load(const char *from, const int64_t *mask) {
    return _mm256_maskload_epi64((const long long *)(const void *)from,
                                 _mm256_loadu_si256((const __m256i *)(const void *)mask));
}

/* Sorts the samples `first` to `first` + 7 of eight pairs into r. `larger` says on which side the next missing sample
 * of each pair goes. Returns what is not zero if a sample does not fit 32 bits. */
MLNET_AVX2_INLINE __m256i mlnet_eight(const mlnet_samples *samples, const char *from, int first,
                                      const mlnet_scratch *scratch, __m256i *larger, __m256i r[8]) {
    const int64_t *mask = scratch->load + first;
    __m256i any = _mm256_setzero_si256(), wide = _mm256_setzero_si256();
    from += 8 * first;
    for (int i = 0; i < 8; i++) {
        const char *pair = from + i * samples->stride_j;
        const __m256i a = mlnet_load(pair, mask), b = mlnet_load(pair + 32, mask + 4);
        /* The row after this one, while this one is worked on. */
        _mm_prefetch(pair + samples->stride_i, _MM_HINT_T1);
        any = _mm256_or_si256(any, _mm256_or_si256(a, b));
        r[i] = mlnet_halves(a, b, 0);
    }
    const int plain = _mm256_testz_si256(any, _mm256_set1_epi64x(-((int64_t)1 << 31)));
    if (!plain)
        for (int i = 0; i < 8; i++) {
            const char *pair = from + i * samples->stride_j;
            const __m256i high = mlnet_halves(mlnet_load(pair, mask), mlnet_load(pair + 32, mask + 4), 1);
            const __m256i missing = _mm256_srai_epi32(high, 31);
            const __m256i beyond = _mm256_or_si256(high, _mm256_srli_epi32(r[i], 31));
            wide = _mm256_or_si256(wide, _mm256_andnot_si256(missing, beyond));
            r[i] = _mm256_or_si256(r[i], missing);
        }
    mlnet_transpose8(r);
    if (!plain)
        for (int i = 0; i < 8; i++) {
            const __m256i missing = _mm256_srai_epi32(r[i], 31), up = _mm256_and_si256(missing, *larger);
            r[i] = _mm256_blendv_epi8(r[i], _mm256_set1_epi32(INT32_MAX), up);
            *larger = _mm256_xor_si256(*larger, missing);
        }
    for (int i = 0; i < 8; i++) {
        const __m256i keep = _mm256_set1_epi32(scratch->keep[first + i]);
        r[i] = _mm256_or_si256(_mm256_and_si256(r[i], keep), _mm256_set1_epi32(scratch->fill[first + i]));
    }
    mlnet_sort8(r);
    return wide;
}

MLNET_TARGET("avx2") int mlnet_registers_avx2(const mlnet_samples *samples, const char *from, ptrdiff_t count,
                                              const mlnet_scratch *scratch, int32_t *medians) {
    __m256i wide = _mm256_setzero_si256();
    for (ptrdiff_t next = 0; next < count; next += 8) {
        const ptrdiff_t lane = mlnet_least(next, count - 8); /* the last eight may overlap those before */
        const char *pair = from + lane * samples->stride_j;
        __m256i larger = _mm256_set1_epi32(samples->k % 2 ? 0 : -1), median, a[8], b[8];
        wide = _mm256_or_si256(wide, mlnet_eight(samples, pair, 0, scratch, &larger, a));
        if (samples->k <= 8) {
            median = a[3];
        } else {
            /* The eighth of two sorted eights is the largest of the smaller ones, paired in opposite order. */
            wide = _mm256_or_si256(wide, mlnet_eight(samples, pair, 8, scratch, &larger, b));
            median = _mm256_min_epi32(a[0], b[7]);
            for (int i = 1; i < 8; i++) median = _mm256_max_epi32(median, _mm256_min_epi32(a[i], b[7 - i]));
        }
        _mm256_storeu_si256((__m256i *)(void *)(medians + lane), median);
    }
    return _mm256_testz_si256(wide, wide);
}

MLNET_AVX2_INLINE void mlnet_store8(int64_t *out, __m256i values) {
    _mm256_storeu_si256((__m256i *)(void *)out, _mm256_cvtepi32_epi64(_mm256_castsi256_si128(values)));
    _mm256_storeu_si256((__m256i *)(void *)(out + 4), _mm256_cvtepi32_epi64(_mm256_extracti128_si256(values, 1)));
}

MLNET_TARGET("avx2") void mlnet_combine_avx2(const int32_t *there, const int32_t *back, int64_t *upper, int64_t *lower,
                                             ptrdiff_t n) {
    __m256i r[8];
    for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_si256((const __m256i *)(const void *)(back + i * MLNET_TILE));
    mlnet_transpose8(r);
    for (int i = 0; i < 8; i++) {
        const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(there + i * MLNET_TILE));
        const __m256i unreachable = _mm256_srai_epi32(_mm256_or_si256(x, r[i]), 31);
        r[i] = _mm256_or_si256(_mm256_max_epi32(x, r[i]), unreachable);
        mlnet_store8(upper + i * n, r[i]);
    }
    mlnet_transpose8(r);
    for (int i = 0; i < 8; i++) mlnet_store8(lower + i * n, r[i]);
}

#endif
