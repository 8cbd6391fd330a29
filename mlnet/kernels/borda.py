"""The Borda count, in integers.

A candidate gets one point for each candidate that a voter places below it and half a point for each that
the voter places level with it, so every voter hands out the same number of points whatever the ties. Points
are counted in halves: two for a candidate below, one for a level one. Those whom a partial ballot does not
name are level with one another below those whom it names.

The count: J.-C. de Borda, "Memoire sur les elections au scrutin", 1781. Halves for ties and the average for
unnamed candidates: M. Dummett, "Principles of Electoral Reform", 1997. N. Narodytska and T. Walsh, "The
Computational Impact of Partial Votes on Strategic Voting", ECAI 2014, name the latter rule "average score".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mlnet.kernels import IMPLEMENTATION
from mlnet.kernels._views import integers

if TYPE_CHECKING:
    from mlnet.kernels._views import AnyBuffer

if IMPLEMENTATION == "compiled":
    from mlnet.kernels import _borda as _impl
else:
    from mlnet.kernels import reference as _impl  # type: ignore[no-redef]

__all__ = ["Ranking", "order", "rank_by_distance", "score"]


class Ranking(NamedTuple):
    """The outcome of a count.

    Attributes:
        points: half-points of each candidate, by its index.
        order: the indices of all candidates, the winner first.
    """

    points: list[int]
    order: list[int]


def rank_by_distance(
    matrix: AnyBuffer | Sequence[Sequence[int]], keys: Sequence[Any] | None = None
) -> Ranking:
    """Rank peers by how near they are to the others: each row is the ballot of one peer over all others.

    A nearer peer stands above a farther one, equal distances are level, and those that cannot be reached
    are level with one another at the end. Equal points are ordered by total distance from the others, to
    which one that is unreachable adds more than any that are not, then by key.

    Args:
        matrix: int64, shape (n, n), such as :func:`mlnet.kernels.pingmatrix.aggregate` returns: the distance
            from each row's peer to each column's, negative for unreachable. The diagonal is ignored. A buffer
            in native byte order of any strides (it is not copied), or nested sequences.
        keys: one comparable value a peer, which decides what is still equal; by default its index.

    Raises:
        TypeError: the matrix is not int64.
        ValueError: it is not square, or the number of keys is not that of the rows.
    """
    shape, view = integers("matrix", matrix, "q", 2)
    n = shape[0]
    if n != 0 and shape[1] != n:
        raise ValueError(f"matrix: must be square, not of shape {shape}")
    ranks = _key_ranks(n, keys)
    if n == 0:
        return Ranking([], [])
    points, unreachable, total = _impl.rank_by_distance(view)
    # Negated, so that one ascending sort does the whole order.
    falling = [-count for count in points]
    ranked = sorted(zip(falling, unreachable, total, ranks, range(n), strict=True))
    return Ranking(points, [peer for *_, peer in ranked])


def score(ballots: AnyBuffer | Sequence[Sequence[int]]) -> list[int]:
    """Count ballots.

    Example:
        >>> score([[0, 1, 2], [0, 2, 1], [2, -1, -1]])
        [9, 3, 6]

    Args:
        ballots: int32, shape (v, c): each row the indices, 0 to c - 1, of the candidates in one voter's
            order, the best first; a partial ballot ends in negative numbers. A buffer in native byte order
            of any strides (it is not copied), or nested sequences.

    Returns:
        Half-points of each of the c candidates.

    Raises:
        TypeError: the ballots are not int32.
        ValueError: not two-dimensional, or a ballot names a candidate twice, one that does not exist, or
            one after a negative number.
    """
    shape, view = integers("ballots", ballots, "i", 2)
    return _impl.score(view) if all(shape) else [0] * shape[1]


def order(points: Sequence[int], keys: Sequence[Any] | None = None) -> list[int]:
    """The indices of all candidates by falling points; equal points by rising key, which is the index by
    default.

    Example:
        >>> order([4, 9, 4]), order([4, 9, 4], keys="bca")
        ([1, 0, 2], [1, 2, 0])

    Raises:
        ValueError: the number of keys is not that of the points.
    """
    ranks = _key_ranks(len(points), keys)
    return sorted(range(len(points)), key=lambda candidate: (-points[candidate], ranks[candidate]))


def _key_ranks(n: int, keys: Sequence[Any] | None) -> Sequence[int]:
    """The place of each candidate by (key, index)."""
    if keys is None:
        return range(n)
    if len(keys) != n:
        raise ValueError(f"keys: {n} are needed, not {len(keys)}")
    ranks = [0] * n
    for rank, candidate in enumerate(sorted(range(n), key=lambda candidate: keys[candidate])):
        ranks[candidate] = rank
    return ranks
