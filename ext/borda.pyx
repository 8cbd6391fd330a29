# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Compiled half of mlnet.kernels.borda, which checks the arguments and describes their meaning."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

cdef enum:
    DIGIT_BITS = 11
    DIGITS = 1 << DIGIT_BITS


cdef struct Key:
    uint64_t distance
    uint32_t peer


cdef struct Tally:
    int64_t points
    int64_t unreachable
    uint64_t total_low   # the sum of distances has 128 bits, so that no input overflows it
    uint64_t total_high


cdef Key *sort_keys(Key *keys, Key *spare, Py_ssize_t count, uint64_t highest) noexcept nogil:
    """Sorts by distance, as many digits as the highest one has; returns keys or spare, where the result is."""
    cdef Py_ssize_t starts[DIGITS]
    cdef Py_ssize_t i, digit, start, size
    cdef int shift = 0
    cdef Key *swap
    while shift < 64 and highest >> shift:
        memset(starts, 0, sizeof(starts))
        for i in range(count):
            starts[(keys[i].distance >> shift) & (DIGITS - 1)] += 1
        start = 0
        for digit in range(DIGITS):
            size = starts[digit]
            starts[digit] = start
            start += size
        for i in range(count):
            digit = (keys[i].distance >> shift) & (DIGITS - 1)
            spare[starts[digit]] = keys[i]
            starts[digit] += 1
        swap = keys
        keys = spare
        spare = swap
        shift += DIGIT_BITS
    return keys


cdef void count_row(
    const int64_t[:, :] matrix, Py_ssize_t row, Key *keys, Key *spare, Tally *tallies
) noexcept nogil:
    """Adds the ballot of one peer to the tallies."""
    cdef Py_ssize_t n = matrix.shape[0]
    cdef Py_ssize_t reachable = 0
    cdef Py_ssize_t j, first, last
    cdef Py_ssize_t unreachable
    cdef uint64_t highest = 0
    cdef int64_t distance
    cdef Key *ranked
    cdef Tally *tally
    for j in range(n):
        distance = matrix[row, j]
        if j == row or distance < 0:
            continue
        keys[reachable].distance = <uint64_t>distance
        keys[reachable].peer = <uint32_t>j
        reachable += 1
        highest |= <uint64_t>distance
        tally = &tallies[j]
        tally.total_low += <uint64_t>distance
        tally.total_high += tally.total_low < <uint64_t>distance
    unreachable = n - 1 - reachable
    if unreachable:
        for j in range(n):
            if j != row and matrix[row, j] < 0:
                tallies[j].points += unreachable - 1
                tallies[j].unreachable += 1
    ranked = sort_keys(keys, spare, reachable, highest)
    first = 0
    while first < reachable:
        last = first + 1
        while last < reachable and ranked[last].distance == ranked[first].distance:
            last += 1
        for j in range(first, last):
            tallies[ranked[j].peer].points += 2 * (n - 1 - last) + (last - first - 1)
        first = last


def rank_by_distance(const int64_t[:, :] matrix):
    """For each column: half-points, rows that cannot reach it, sum of the distances; n is positive."""
    cdef Py_ssize_t n = matrix.shape[0]
    cdef Py_ssize_t row
    cdef Tally *tallies
    cdef Key *keys
    if <uint64_t>n > 0xFFFFFFFF:
        raise ValueError("matrix: more than 2^32 - 1 rows")
    tallies = <Tally *>calloc(n, sizeof(Tally))
    keys = <Key *>malloc(2 * n * sizeof(Key))
    try:
        if tallies is NULL or keys is NULL:
            raise MemoryError
        with nogil:
            for row in range(n):
                count_row(matrix, row, keys, keys + n, tallies)
        return (
            [tallies[row].points for row in range(n)],
            [tallies[row].unreachable for row in range(n)],
            [(<object>tallies[row].total_high << 64) + tallies[row].total_low for row in range(n)],
        )
    finally:
        free(tallies)
        free(keys)


cdef bint count_ballot(
    const int32_t[:, :] ballots, Py_ssize_t number, Py_ssize_t *last_ballot, int64_t *points
) noexcept nogil:
    """Adds a ballot to the points unless it is invalid; last_ballot marks whom it has named."""
    cdef Py_ssize_t candidates = ballots.shape[1]
    cdef Py_ssize_t ranked = 0
    cdef Py_ssize_t place, unranked
    cdef int32_t candidate
    while ranked < candidates and ballots[number, ranked] >= 0:
        candidate = ballots[number, ranked]
        if candidate >= candidates or last_ballot[candidate] == number + 1:
            return False
        last_ballot[candidate] = number + 1
        points[candidate] += 2 * (candidates - 1 - ranked)
        ranked += 1
    for place in range(ranked, candidates):
        if ballots[number, place] >= 0:
            return False
    unranked = candidates - ranked
    if unranked > 1:
        for place in range(candidates):
            if last_ballot[place] != number + 1:
                points[place] += unranked - 1
    return True


def score(const int32_t[:, :] ballots):
    """Half-points of each candidate from (v, c) ballots; v and c are positive."""
    cdef Py_ssize_t candidates = ballots.shape[1]
    cdef Py_ssize_t number = 0
    cdef Py_ssize_t i
    cdef bint valid = True
    cdef int64_t *points = <int64_t *>calloc(candidates, sizeof(int64_t))
    cdef Py_ssize_t *last_ballot = <Py_ssize_t *>calloc(candidates, sizeof(Py_ssize_t))
    try:
        if points is NULL or last_ballot is NULL:
            raise MemoryError
        with nogil:
            for number in range(ballots.shape[0]):
                valid = count_ballot(ballots, number, last_ballot, points)
                if not valid:
                    break
        if not valid:
            raise ValueError(
                f"ballots: ballot {number} must name different candidates from 0 to {candidates - 1}, "
                "then negative numbers only"
            )
        return [points[i] for i in range(candidates)]
    finally:
        free(points)
        free(last_ballot)
