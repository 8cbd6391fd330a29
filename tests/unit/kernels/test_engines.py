"""The compiled kernels at the edges of their blocks, with the processor's vectors and without them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlnet.kernels import reference


@pytest.mark.parametrize("k", [*range(1, 20), 32, 63, 64, 65, 129])
def test_every_number_of_samples(median_engine: Any, k: int) -> None:
    rng = np.random.default_rng(k)
    for n, lowest, highest in ((9, -20, 100), (9, -1, 2), (13, -300, 2**31 - 1), (2, 2**31 - 3, 2**31 + 3)):
        samples = rng.integers(lowest, highest, (n, n, k))
        padded = np.full((n, n, k + 1), -(2**63))
        padded[..., :k] = samples
        for view in (samples, np.asfortranarray(samples), padded[..., :k]):
            assert median_engine.aggregate(view.data) == reference.aggregate(samples.data)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 15, 64, 65, 127, 128, 129, 135, 136, 300])
def test_every_edge_of_a_tile(median_engine: Any, n: int) -> None:
    samples = np.random.default_rng(n).integers(-2, 50, (n, n, 9))
    samples[:, n // 2, 3:] = -1
    for threads in (1, 3):
        assert median_engine.aggregate(samples.data, threads) == reference.aggregate(samples.data)


def test_a_value_of_more_than_32_bits_among_others(median_engine: Any) -> None:
    samples = np.random.default_rng(5).integers(-2, 2**31, (140, 140, 9))
    samples[3, 139] = 2**31
    samples[139, 3] = 2**62
    samples[10, 11] = -(2**63)
    assert median_engine.aggregate(samples.data) == reference.aggregate(samples.data)


@pytest.mark.parametrize("bits", [0, 1, 9, 10, 11, 20, 21, 30, 53, 58, 59, 60, 61, 62, 63])
def test_distances_of_any_size(borda_engine: Any, bits: int) -> None:
    rng = np.random.default_rng(bits)
    for n in (1, 2, 9, 17):
        matrix = rng.integers(0, 2**bits - 1, (n, n), np.int64, endpoint=True)
        matrix[rng.random((n, n)) < 0.1] = -(2**62)
        for view in (matrix, np.asfortranarray(matrix)):
            assert borda_engine.rank_by_distance(view.data) == reference.rank_by_distance(view.data)


@pytest.mark.parametrize("highest", [1, 2, 20, 300])
def test_ties_anywhere_in_a_row(borda_engine: Any, highest: int) -> None:
    for n in (15, 16, 17, 18, 33, 50, 67):
        matrix = np.random.default_rng(n).integers(-1, highest, (n, n))
        assert borda_engine.rank_by_distance(matrix.data) == reference.rank_by_distance(matrix.data)


def test_rows_of_large_distances_among_others(borda_engine: Any) -> None:
    matrix = np.random.default_rng(11).integers(-1, 1000, (40, 40))
    matrix[::3] = 2**63 - 1 - matrix[::3]
    matrix[7] = 2**58 - 5
    assert borda_engine.rank_by_distance(matrix.data) == reference.rank_by_distance(matrix.data)


def test_elements_that_are_not_aligned(borda_engine: Any) -> None:
    distances = np.random.default_rng(12).integers(-1, 1000, (9, 9))
    shifted = memoryview(b"x" + distances.tobytes())[1:].cast("q", distances.shape)
    assert borda_engine.rank_by_distance(shifted) == reference.rank_by_distance(distances.data)
    ballots = np.stack([np.random.default_rng(seed).permutation(9) for seed in range(5)]).astype(np.int32)
    shifted = memoryview(b"x" + ballots.tobytes())[1:].cast("i", ballots.shape)
    assert borda_engine.score(shifted) == reference.score(ballots.data)


def test_ballots_of_any_length(borda_engine: Any) -> None:
    rng = np.random.default_rng(13)
    for candidates in range(1, 40):
        ballots = np.stack([rng.permutation(candidates) for _ in range(6)]).astype(np.int32)
        for number, ranked in enumerate(rng.integers(0, candidates, 3, endpoint=True)):
            ballots[number, ranked:] = -1
        assert borda_engine.score(ballots.data) == reference.score(ballots.data)


def test_more_points_than_fit_32_bits(borda_engine: Any) -> None:
    candidates, voters = 60_000, 17_900
    ballot = np.random.default_rng(14).permutation(candidates).astype(np.int32)
    assert 2 * voters * (candidates - 1) > 2**31

    points = np.array(borda_engine.score(np.broadcast_to(ballot, (voters, candidates)).data))

    assert (points[ballot] == 2 * voters * np.arange(candidates - 1, -1, -1)).all()
