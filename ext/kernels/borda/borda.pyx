# cython: language_level=3, autotestdict=False
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Compiled half of mlnet.kernels.borda, which checks the arguments and describes their meaning."""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef extern from "borda.h" nogil:
    enum:
        MLNET_MOST_CANDIDATES
    ctypedef struct mlnet_pair:
        pass
    ctypedef struct mlnet_ranking:
        Py_ssize_t n
        int peer_bits
        int64_t *points
        int64_t *unreachable
        uint64_t *total
        uint64_t *wide_low
        uint64_t *wide_high
        int64_t *copy
        uint64_t *keys
        uint64_t *spare
        mlnet_pair *pairs
    ctypedef struct mlnet_count:
        Py_ssize_t c
        int64_t *points
        int32_t *recent
        int32_t *copy
        int32_t *gains
    const char *mlnet_borda_select(bint portable)
    void mlnet_rank_rows(mlnet_ranking *ranking, const char *first, Py_ssize_t row_stride, Py_ssize_t stride)
    Py_ssize_t mlnet_count_ballots(
        mlnet_count *count, const char *first, Py_ssize_t ballots, Py_ssize_t row_stride, Py_ssize_t stride
    )

ENGINE = mlnet_borda_select(False).decode()
"""Which code this processor runs: ``avx2`` or ``portable``."""


def select_engine(bint portable):
    """Takes the portable code or the fastest one, to compare them; not while another thread counts."""
    global ENGINE
    ENGINE = mlnet_borda_select(portable).decode()


cdef void *room(Py_ssize_t count, size_t size) except NULL:
    """Zeroed memory for the caller to free."""
    cdef void *memory = calloc(count, size)
    if memory is NULL:
        raise MemoryError
    return memory


def rank_by_distance(const int64_t[:, :] matrix):
    """For each column: half-points, rows that cannot reach it, sum of the distances; n is positive."""
    cdef Py_ssize_t n = matrix.shape[0]
    cdef Py_ssize_t i
    cdef const char *first = <const char *>&matrix[0, 0]
    cdef Py_ssize_t row_stride = matrix.strides[0]
    cdef Py_ssize_t stride = matrix.strides[1]
    cdef mlnet_ranking *ranking
    if <uint64_t>n > 0xFFFFFFFF:
        raise ValueError("matrix: more than 2^32 - 1 rows")
    ranking = <mlnet_ranking *>room(1, sizeof(mlnet_ranking))
    try:
        ranking.n = n
        ranking.peer_bits = (n - 1).bit_length()
        ranking.points = <int64_t *>room(n, sizeof(int64_t))
        ranking.unreachable = <int64_t *>room(n, sizeof(int64_t))
        ranking.total = <uint64_t *>room(n, sizeof(uint64_t))
        ranking.wide_low = <uint64_t *>room(n, sizeof(uint64_t))
        ranking.wide_high = <uint64_t *>room(n, sizeof(uint64_t))
        ranking.copy = <int64_t *>room(n, sizeof(int64_t))
        ranking.keys = <uint64_t *>room(n, sizeof(uint64_t))
        ranking.spare = <uint64_t *>room(n, sizeof(uint64_t))
        ranking.pairs = <mlnet_pair *>room(n, sizeof(mlnet_pair))
        with nogil:
            mlnet_rank_rows(ranking, first, row_stride, stride)
        return (
            [ranking.points[i] for i in range(n)],
            [ranking.unreachable[i] for i in range(n)],
            [
                (<object>ranking.wide_high[i] << 64) + ranking.wide_low[i] + <object>ranking.total[i]
                for i in range(n)
            ],
        )
    finally:
        free(ranking.points)
        free(ranking.unreachable)
        free(ranking.total)
        free(ranking.wide_low)
        free(ranking.wide_high)
        free(ranking.copy)
        free(ranking.keys)
        free(ranking.spare)
        free(ranking.pairs)
        free(ranking)


def score(const int32_t[:, :] ballots):
    """Half-points of each candidate from (v, c) ballots; v and c are positive."""
    cdef Py_ssize_t c = ballots.shape[1]
    cdef Py_ssize_t valid, i
    cdef const char *first = <const char *>&ballots[0, 0]
    cdef Py_ssize_t row_stride = ballots.strides[0]
    cdef Py_ssize_t stride = ballots.strides[1]
    cdef mlnet_count *count
    if c > MLNET_MOST_CANDIDATES:
        raise ValueError(f"ballots: more than {MLNET_MOST_CANDIDATES} candidates")
    count = <mlnet_count *>room(1, sizeof(mlnet_count))
    try:
        count.c = c
        count.points = <int64_t *>room(c, sizeof(int64_t))
        count.recent = <int32_t *>room(c, sizeof(int32_t))
        count.copy = <int32_t *>room(c, sizeof(int32_t))
        count.gains = <int32_t *>room(c, sizeof(int32_t))
        memset(count.gains, 0xFF, c * sizeof(int32_t))
        with nogil:
            valid = mlnet_count_ballots(count, first, ballots.shape[0], row_stride, stride)
        if valid < ballots.shape[0]:
            raise ValueError(
                f"ballots: ballot {valid} must name different candidates from 0 to {c - 1}, "
                "then negative numbers only"
            )
        return [count.points[i] for i in range(c)]
    finally:
        free(count.points)
        free(count.recent)
        free(count.copy)
        free(count.gains)
        free(count)
