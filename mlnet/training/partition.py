"""Which rows each rank trains, in which step. All members compute the same, in integers: a difference in
rounding would be a dispute about rewards.

The training segments, joined in the voted order, are N rows. Of w ranks, rank r holds the rows from ``N * r
// w`` to ``N * (r + 1) // w``: its shard. The last rows of each shard validate, the rest, m_r of them, train;
M is the sum of all m_r. An epoch has S = ceil(M / batch size) steps. Before step s rank r has taken ``floor(s
* m_r / S + r / w)`` rows of its own order of the epoch, and after the last step all m_r. The r / w makes the
ranks round up at different steps: where all m_r are equal, the steps have ``floor(s * M / S)`` rows before
step s by Hermite's identity, so no step exceeds the batch size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate


@dataclass(frozen=True)
class Shard:
    """The rows of one rank, as positions in the joined training segments.

    Attributes:
        start: first row.
        trained: how many rows train, from ``start`` on.
        validated: how many rows, after those, validate.
    """

    start: int
    trained: int
    validated: int

    @property
    def stop(self) -> int:
        """The position after its last row."""
        return self.start + self.trained + self.validated


@dataclass(frozen=True)
class Part:
    """A run of rows within one segment.

    Attributes:
        segment: index of the segment.
        start: first row within the segment.
        stop: the row after the last.
    """

    segment: int
    start: int
    stop: int


def cut(rows: int, world: int, validation: float) -> tuple[Shard, ...]:
    """The shard of every rank.

    Example:
        >>> cut(10, 3, 0.25)[0]
        Shard(start=0, trained=2, validated=1)

    Args:
        rows: all rows of the training segments.
        world: number of ranks.
        validation: share of each shard that validates, 0 to below 1. A share above 0 of two rows or more is
            at least one row, and at least one row trains.

    Returns:
        By rank.
    """
    # The decimal as it was written: 0.29 of 100 rows are 29, and int(100 * 0.29) is 28.
    share = Fraction(repr(validation))
    shards = []
    for rank in range(world):
        start, stop = rows * rank // world, rows * (rank + 1) // world
        size = stop - start
        validated = min(max(int(size * share), 1), size - 1) if share and size > 1 else 0
        shards.append(Shard(start, size - validated, validated))
    return tuple(shards)


def steps(shards: Sequence[Shard], batch_size: int) -> int:
    """Steps of an epoch: all training rows divided by the global batch size, rounded up.

    Example:
        >>> steps(cut(10, 3, 0.0), 4)
        3
    """
    return -(-sum(shard.trained for shard in shards) // batch_size)


def batch(shards: Sequence[Shard], rank: int, step: int, steps_per_epoch: int) -> tuple[int, int]:
    """The rows that a step takes, as positions in the rank's order of the epoch: the first, and the one after
    the last.

    Example:
        >>> [batch(cut(10, 3, 0.0), 0, step, 3) for step in range(3)]
        [(0, 1), (1, 2), (2, 3)]
    """
    world, trained = len(shards), shards[rank].trained
    start, stop = (
        (each * trained * world + rank * steps_per_epoch) // (steps_per_epoch * world)
        for each in (step, step + 1)
    )
    return start, stop


def batch_rows(shards: Sequence[Shard], step: int, steps_per_epoch: int) -> int:
    """Rows of a step over all ranks. It may be 0 if the batch size is not larger than the number of ranks."""
    taken = (batch(shards, rank, step, steps_per_epoch) for rank in range(len(shards)))
    return sum(stop - start for start, stop in taken)


def parts(segment_rows: Sequence[int], start: int, stop: int) -> tuple[Part, ...]:
    """The segments in which rows of the joined segments lie.

    Example:
        >>> parts([4, 4], 2, 6)
        (Part(segment=0, start=2, stop=4), Part(segment=1, start=0, stop=2))

    Args:
        segment_rows: rows of each training segment, in voted order.
        start: first row of the joined segments.
        stop: the row after the last.

    Returns:
        The runs of rows in order; their segments are those that the holder of these rows has to fetch.
    """
    ends = list(accumulate(segment_rows))
    found = []
    for index, (rows, end) in enumerate(zip(segment_rows, ends, strict=True)):
        first, last = max(start, end - rows), min(stop, end)
        if first < last:
            found.append(Part(index, first - (end - rows), last - (end - rows)))
    return tuple(found)


def segments_of(segment_rows: Sequence[int], rank: int, world: int) -> tuple[int, ...]:
    """Indices of the segments that a rank has to fetch; none for a rank without rows."""
    rows = sum(segment_rows)
    return tuple(
        part.segment for part in parts(segment_rows, rows * rank // world, rows * (rank + 1) // world)
    )


def rows_trained(segment_rows: Sequence[int], world: int, validation: float, epochs: int) -> tuple[int, ...]:
    """What each rank contributes: its training rows times the epochs. By rank."""
    return tuple(shard.trained * epochs for shard in cut(sum(segment_rows), world, validation))


def seed(context: str, *path: int | str) -> bytes:
    """Derive 32 bytes from the task's seed for one purpose, such as the order of an epoch on a rank."""
    return hashlib.sha256("/".join((context, *map(str, path))).encode()).digest()
