# cython: language_level=3, autotestdict=False, auto_pickle=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Compiled half of mlnet.kernels.pingmatrix, which checks the arguments and describes their meaning."""

import contextlib
import mmap
from concurrent.futures import ThreadPoolExecutor

from libc.stdint cimport int64_t

cdef extern from "pingmatrix.h" nogil:
    enum:
        MLNET_TILE
    ctypedef struct mlnet_samples:
        const char *data
        Py_ssize_t n, k, stride_i, stride_j, stride_k
    ctypedef struct mlnet_scratch:
        pass
    const char *mlnet_median_select(bint portable)
    mlnet_scratch *mlnet_scratch_new(Py_ssize_t k)
    void mlnet_scratch_free(mlnet_scratch *scratch)
    void mlnet_tiles(
        const mlnet_samples *samples, Py_ssize_t i, Py_ssize_t j, mlnet_scratch *scratch, int64_t *out
    )

# The size of a large page on x86-64 and, with pages of 4 KiB, on ARM.
cdef Py_ssize_t LARGE = 1 << 21

ENGINE = mlnet_median_select(False).decode()
"""Which code this processor runs: ``avx2`` or ``portable``."""


def select_engine(bint portable):
    """Takes the portable code or the fastest one, to compare them; not while another thread aggregates."""
    global ENGINE
    ENGINE = mlnet_median_select(portable).decode()


cdef object memory(Py_ssize_t size):
    """A writable memoryview of bytes.

    Large ones ask for large pages, because getting a small page from the kernel takes longer than filling it.
    """
    if size < LARGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return memoryview(bytearray(size))
    pages = mmap.mmap(-1, (size + LARGE - 1) // LARGE * LARGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # it is only advice
        pages.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(pages)[:size]


cdef class _Job:
    """One call of aggregate, to whose result several threads may each add tiles."""

    cdef const int64_t[:, :, :] samples
    cdef mlnet_samples layout
    cdef object result
    cdef int64_t[::1] distances
    cdef object tiles

    def __cinit__(self, const int64_t[:, :, :] samples):
        cdef Py_ssize_t n = samples.shape[0]
        self.samples = samples
        self.layout.data = <const char *>&samples[0, 0, 0]
        self.layout.n = n
        self.layout.k = samples.shape[2]
        self.layout.stride_i = samples.strides[0]
        self.layout.stride_j = samples.strides[1]
        self.layout.stride_k = samples.strides[2]
        self.result = memory(n * n * sizeof(int64_t)).cast("q")
        self.distances = self.result
        starts = range(0, n, MLNET_TILE)
        # Threads share the iterator; taking the next tile from it is atomic under the GIL.
        self.tiles = iter([(i, j) for i in starts for j in starts if i <= j])

    def work(self):
        """Finishes tiles until none is left."""
        cdef int64_t *out = &self.distances[0]
        cdef Py_ssize_t i, j
        cdef mlnet_scratch *scratch = mlnet_scratch_new(self.layout.k)
        if scratch is NULL:
            raise MemoryError
        try:
            for i, j in self.tiles:
                with nogil:
                    mlnet_tiles(&self.layout, i, j, scratch, out)
        finally:
            mlnet_scratch_free(scratch)


def aggregate(const int64_t[:, :, :] samples, Py_ssize_t threads=1):
    """The aggregated matrix of (n, n, k) samples, flat; n and k are positive."""
    cdef _Job job = _Job(samples)
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            for future in [pool.submit(job.work) for _ in range(threads)]:
                future.result()
    else:
        job.work()
    return job.result
