# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Compiled half of mlnet.kernels.pingmatrix, which checks the arguments and describes their meaning."""

from cpython cimport array
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, qsort

import array

cdef Py_ssize_t INSERTION_LIMIT = 32


cdef int ascending(const void *a, const void *b) noexcept nogil:
    cdef int64_t x = (<const int64_t *>a)[0]
    cdef int64_t y = (<const int64_t *>b)[0]
    return (x > y) - (x < y)


cdef int64_t lower_median(
    const int64_t[:, :, :] samples, Py_ssize_t i, Py_ssize_t j, int64_t *scratch
) noexcept nogil:
    """The lower median of the samples from i to j, -1 if there is none; scratch has room for all."""
    cdef Py_ssize_t count = 0
    cdef Py_ssize_t place, k
    cdef int64_t sample
    if samples.shape[2] <= INSERTION_LIMIT:
        for k in range(samples.shape[2]):
            sample = samples[i, j, k]
            if sample >= 0:
                place = count
                while place > 0 and scratch[place - 1] > sample:
                    scratch[place] = scratch[place - 1]
                    place -= 1
                scratch[place] = sample
                count += 1
    else:
        for k in range(samples.shape[2]):
            sample = samples[i, j, k]
            if sample >= 0:
                scratch[count] = sample
                count += 1
        qsort(scratch, count, sizeof(int64_t), ascending)
    return scratch[(count - 1) // 2] if count > 0 else -1


def aggregate(const int64_t[:, :, :] samples):
    """The aggregated matrix of (n, n, k) samples, flat; n and k are positive."""
    cdef Py_ssize_t n = samples.shape[0]
    cdef Py_ssize_t i, j
    cdef int64_t there, back, worse
    cdef array.array result = array.clone(array.array("q"), n * n, zero=True)
    cdef int64_t *out = <int64_t *>result.data.as_longlongs
    cdef int64_t *scratch = <int64_t *>malloc(samples.shape[2] * sizeof(int64_t))
    if scratch is NULL:
        raise MemoryError
    with nogil:
        for i in range(n):
            for j in range(n):
                if i != j:
                    out[i * n + j] = lower_median(samples, i, j, scratch)
        for i in range(n):
            for j in range(i):
                there, back = out[i * n + j], out[j * n + i]
                if there < 0 or back < 0:
                    worse = -1
                else:
                    worse = max(there, back)
                out[i * n + j] = worse
                out[j * n + i] = worse
    free(scratch)
    return result
