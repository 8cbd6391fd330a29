"""The pure twin of the compiled kernels: the plainest code that says what they compute.

Its arguments are the validated ones that :mod:`mlnet.kernels.pingmatrix`, :mod:`~mlnet.kernels.borda` and
:mod:`~mlnet.kernels.segmenthash` pass; those modules are the interface and describe the meaning.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from typing import cast

LEAF_SIZE = 1 << 20
"""Bytes of a leaf; only the last one of a segment may be shorter. Part of every segment's identity, so
another value means another protocol. A download is verified in pieces of this size, and 32 bytes are kept for
each."""


def aggregate(samples: memoryview, threads: int = 1) -> array[int]:
    """The aggregated matrix of (n, n, k) samples, flat; n and k are positive."""
    rows = cast(list[list[list[int]]], samples.tolist())
    n = len(rows)
    result = array("q", bytes(8 * n * n))
    for i in range(n):
        for j in range(n):
            if i != j:
                there, back = _lower_median(rows[i][j]), _lower_median(rows[j][i])
                result[i * n + j] = -1 if there < 0 or back < 0 else max(there, back)
    return result


def _lower_median(samples: list[int]) -> int:
    present = sorted(sample for sample in samples if sample >= 0)
    return present[(len(present) - 1) // 2] if present else -1


def rank_by_distance(matrix: memoryview) -> tuple[list[int], list[int], list[int]]:
    """For each column: half-points, rows that cannot reach it, sum of the distances; n is positive."""
    rows = cast(list[list[int]], matrix.tolist())
    n = len(rows)
    points, unreachable, total = [0] * n, [0] * n, [0] * n
    for i, row in enumerate(rows):
        others = [row[j] for j in range(n) if j != i]
        for j in range(n):
            if j == i:
                continue
            distance = row[j]
            if distance < 0:
                worse, ties = 0, sum(other < 0 for other in others) - 1
                unreachable[j] += 1
            else:
                worse = sum(other < 0 or other > distance for other in others)
                ties = others.count(distance) - 1
                total[j] += distance
            points[j] += 2 * worse + ties
    return points, unreachable, total


def score(ballots: memoryview) -> list[int]:
    """Half-points of each candidate from (v, c) ballots; v and c are positive."""
    rows = cast(list[list[int]], ballots.tolist())
    candidates = len(rows[0])
    points = [0] * candidates
    for number, row in enumerate(rows):
        ranked = [candidate for candidate in row if candidate >= 0]
        unranked = set(range(candidates)) - set(ranked)
        if row[: len(ranked)] != ranked or len(ranked) + len(unranked) != candidates:
            raise ValueError(
                f"ballots: ballot {number} must name different candidates from 0 to {candidates - 1}, "
                "then negative numbers only"
            )
        for place, candidate in enumerate(ranked):
            points[candidate] += 2 * (candidates - 1 - place)
        for candidate in unranked:
            points[candidate] += len(unranked) - 1
    return points


def leaf_hashes(data: memoryview) -> bytes:
    """The RFC 6962 hashes of the leaves of ``data``, 32 bytes each, joined."""
    hashes = bytearray()
    for start in range(0, len(data), LEAF_SIZE):
        leaf = hashlib.sha256(b"\0")
        leaf.update(data[start : start + LEAF_SIZE])
        hashes += leaf.digest()
    return bytes(hashes)


def file_leaf_hashes(file: int, start: int, size: int, mapped: bool) -> bytes:
    """The same for a part of a file that starts with a leaf; whether it may be mapped does not matter."""
    hashes = bytearray()
    for place in range(start, start + size, LEAF_SIZE):
        leaf = hashlib.sha256(b"\0")
        end = min(place + LEAF_SIZE, start + size)
        while place < end:
            if not (piece := os.pread(file, end - place, place)):
                raise EOFError
            leaf.update(piece)
            place += len(piece)
        hashes += leaf.digest()
    return bytes(hashes)


def root(hashes: memoryview) -> bytes:
    """MTH of RFC 6962, section 2.1, over joined leaf hashes."""
    count = len(hashes) // 32
    if count == 0:
        return hashlib.sha256(b"").digest()
    if count == 1:
        return bytes(hashes)
    split = 1 << (count - 1).bit_length() - 1
    left, right = root(hashes[: 32 * split]), root(hashes[32 * split :])
    return hashlib.sha256(b"\1" + left + right).digest()
