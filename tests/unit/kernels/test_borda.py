from __future__ import annotations

import numpy as np
import pytest

from mlnet.kernels import borda

pytestmark = pytest.mark.usefixtures("kernels")


def test_the_nearest_peer_wins() -> None:
    # Peer 1 is the middle of a line: each end is nearer to it than to the other end.
    ranking = borda.rank_by_distance([[0, 10, 20], [10, 0, 10], [20, 10, 0]])

    assert ranking == borda.Ranking(points=[1, 4, 1], order=[1, 0, 2])


def test_unreachable_is_last_and_shared() -> None:
    ranking = borda.rank_by_distance([[0, 5, -1, -1], [5, 0, -1, -1], [-1, -1, 0, 1], [3, 2, 1, 0]])

    # Row 0: peer 1 gets 4, the two unreachable ones 1 each; row 3 has no tie.
    assert ranking.points == [4 + 1 + 0, 4 + 1 + 2, 1 + 1 + 4, 1 + 1 + 4]
    assert ranking.order == [1, 2, 3, 0]


def test_every_ballot_hands_out_the_same_number_of_points() -> None:
    rng = np.random.default_rng(1)
    for n in (1, 2, 3, 10, 70):
        points, _ = borda.rank_by_distance(rng.integers(-2, 4, (n, n)))
        assert sum(points) == n * (n - 1) * (n - 2)


def test_equal_points_go_to_the_smaller_total_distance() -> None:
    # With two peers nobody gets points; what 1 is away from 0 is smaller than the other way round.
    assert borda.rank_by_distance([[0, 3], [7, 0]]).order == [1, 0]


def test_an_unreachable_peer_counts_as_farther_than_any_sum() -> None:
    assert borda.rank_by_distance([[0, -1], [2**63 - 1, 0]]).order == [0, 1]


def test_totals_do_not_overflow() -> None:
    # All of a row is equal, so all points are; the totals lie on both sides of 2^64.
    far = 2**63 - 1
    matrix = [[distance] * 5 for distance in (0, 2, far, far, 1)]

    assert borda.rank_by_distance(matrix).order == [2, 3, 1, 4, 0]


def test_what_is_still_equal_goes_by_key() -> None:
    matrix = [[0, 4, 4], [4, 0, 4], [4, 4, 0]]

    assert borda.rank_by_distance(matrix).order == [0, 1, 2]
    assert borda.rank_by_distance(matrix, keys=["c", "a", "b"]).order == [1, 2, 0]
    assert borda.rank_by_distance(matrix, keys=["b", "a", "a"]).order == [1, 2, 0]


def test_the_diagonal_does_not_matter() -> None:
    matrix = np.random.default_rng(2).integers(-1, 9, (6, 6))
    expected = borda.rank_by_distance(matrix)
    np.fill_diagonal(matrix, [-1, 0, 5, 2**62, -(2**62), 1])

    assert borda.rank_by_distance(matrix) == expected


def test_no_peers_and_one_peer() -> None:
    assert borda.rank_by_distance([]) == borda.Ranking([], [])
    assert borda.rank_by_distance(np.empty((0, 0), np.int64)) == borda.Ranking([], [])
    assert borda.rank_by_distance([[0]]) == borda.Ranking([0], [0])


def test_matrices_of_any_strides_and_read_only() -> None:
    base = np.random.default_rng(3).integers(-1, 2**40, (8, 16))
    view = base[::-1, ::-2]
    expected = borda.rank_by_distance(view.tolist())
    frozen = view.copy()
    frozen.flags.writeable = False

    assert borda.rank_by_distance(view) == expected
    assert borda.rank_by_distance(np.asfortranarray(view)) == expected
    assert borda.rank_by_distance(frozen) == expected


@pytest.mark.parametrize(
    ("matrix", "error"),
    [
        (np.zeros((2, 3), np.int64), ValueError),
        (np.zeros((2, 0), np.int64), ValueError),
        (np.zeros(4, np.int64), ValueError),
        (np.zeros((2, 2, 2), np.int64), ValueError),
        (np.zeros((2, 2), np.int32), TypeError),
        (np.zeros((2, 2)), TypeError),
        (np.zeros((2, 2), ">i8"), TypeError),
        ([[1, 2], [3]], ValueError),
        ([1, 2], TypeError),
        ([["a", "b"], [1, 2]], TypeError),
        ([[0, 2**63], [0, 0]], ValueError),
        (None, TypeError),
        ("ab", TypeError),
    ],
)
def test_other_matrices_are_refused(matrix: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^matrix: "):
        borda.rank_by_distance(matrix)  # type: ignore[arg-type]


def test_the_number_of_keys_must_fit() -> None:
    with pytest.raises(ValueError, match="keys: 2 are needed, not 1"):
        borda.rank_by_distance([[0, 1], [1, 0]], keys=["a"])
    with pytest.raises(ValueError, match="keys: 2 are needed, not 3"):
        borda.order([1, 2], keys="abc")


def test_full_ballots() -> None:
    assert borda.score([[0, 1, 2], [0, 2, 1], [1, 0, 2]]) == [4 + 4 + 2, 2 + 0 + 4, 0 + 2 + 0]


def test_the_unnamed_share_the_last_places_of_a_partial_ballot() -> None:
    assert borda.score([[2, -1, -1, -1]]) == [2, 2, 6, 2]
    assert borda.score([[2, 0, -1, -7]]) == [4, 1, 6, 1]
    assert borda.score([[2, 0, 1, -1]]) == [4, 2, 6, 0]
    assert borda.score([[-1, -1]]) == [1, 1]


def test_no_ballots_and_no_candidates() -> None:
    assert borda.score([]) == []
    assert borda.score([[], []]) == []
    assert borda.score(np.empty((0, 3), np.int32)) == [0, 0, 0]
    assert borda.score(np.empty((3, 0), np.int32)) == []


def test_ballots_of_any_strides_and_read_only() -> None:
    rng = np.random.default_rng(4)
    base = np.stack([rng.permutation(7) for _ in range(20)]).astype(np.int32)
    view = base[::3, ::-1]
    expected = borda.score(view.tolist())
    frozen = view.copy()
    frozen.flags.writeable = False

    assert borda.score(view) == expected
    assert borda.score(np.asfortranarray(view)) == expected
    assert borda.score(frozen) == expected


@pytest.mark.parametrize(
    "ballot", [[0, 0, 1], [0, 1, 3], [0, -1, 1], [-1, 0, 1], [2**31 - 1, 0, 1], [1, 2, 1], [0, 3, -1]]
)
def test_invalid_ballots_are_refused_by_number(ballot: list[int]) -> None:
    with pytest.raises(ValueError, match="ballot 1 must name different candidates from 0 to 2"):
        borda.score([[0, 1, 2], ballot])


@pytest.mark.parametrize(
    ("ballots", "error"),
    [
        (np.zeros((1, 1), np.int64), TypeError),
        (np.zeros((1, 1), ">i4"), TypeError),
        (np.zeros((1, 1), np.float32), TypeError),
        (np.zeros(3, np.int32), ValueError),
        ([[0, 1], [0]], ValueError),
        ([[2**31]], ValueError),
        ([0, 1], TypeError),
        ([[0.0]], TypeError),
        (None, TypeError),
        ("01", TypeError),
    ],
)
def test_other_ballots_are_refused(ballots: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^ballots: "):
        borda.score(ballots)  # type: ignore[arg-type]


def test_order_is_by_points_then_key() -> None:
    assert borda.order([1, 5, 3, 5]) == [1, 3, 2, 0]
    assert borda.order([1, 5, 3, 5], keys=["d", "c", "b", "a"]) == [3, 1, 2, 0]
    assert borda.order([]) == []
