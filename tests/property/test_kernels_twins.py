"""The compiled kernels and their pure twins say the same, bit for bit."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlnet.kernels import reference, segmenthash

INT64 = st.integers(-(2**63), 2**63 - 1)
# Few different values, so that ties are common, beside all there are.
DISTANCES = st.one_of(st.integers(-2, 3), st.integers(-1, 3_000_000), INT64)


def compiled(name: str) -> Any:
    return pytest.importorskip(
        f"mlnet.kernels._{name}", reason="the kernels are not compiled here", exc_type=ImportError
    )


@st.composite
def strided(draw: st.DrawFn, values: np.ndarray[Any, Any]) -> memoryview:
    """The same values, laid out in another order, backwards or with gaps."""
    layout: Literal["C", "F"] = draw(st.sampled_from(["C", "F"]))
    steps = tuple(draw(st.sampled_from([1, 2, -1, -3])) for _ in values.shape)
    room = np.zeros(
        [size * abs(step) for size, step in zip(values.shape, steps, strict=True)], values.dtype, layout
    )
    view = room[tuple(slice(None, None, step) for step in steps)]
    view[...] = values
    view.flags.writeable = draw(st.booleans())
    return view.data


@given(st.data(), st.integers(1, 4), st.sampled_from([1, 2, 3, 9, 32, 33, 40]))
@settings(max_examples=60)
def test_pingmatrix(data: st.DataObject, n: int, k: int) -> None:
    values = data.draw(st.lists(DISTANCES, min_size=n * n * k, max_size=n * n * k))
    samples = data.draw(strided(np.array(values, np.int64).reshape(n, n, k)))

    result = compiled("pingmatrix").aggregate(samples)

    assert result == reference.aggregate(samples)
    matrix = np.array(result).reshape(n, n)
    assert (matrix == matrix.T).all()
    assert (np.diagonal(matrix) == 0).all()
    assert (matrix >= -1).all()


@given(st.data(), st.integers(1, 12))
def test_borda_by_distance(data: st.DataObject, n: int) -> None:
    values = data.draw(st.lists(DISTANCES, min_size=n * n, max_size=n * n))
    matrix = data.draw(strided(np.array(values, np.int64).reshape(n, n)))

    points, unreachable, total = compiled("borda").rank_by_distance(matrix)

    assert (points, unreachable, total) == reference.rank_by_distance(matrix)
    assert sum(points) == n * (n - 1) * (n - 2)


@given(st.integers(13, 120), st.integers(0, 2**32 - 1), st.integers(1, 63))
@settings(max_examples=15)
def test_borda_by_distance_at_size(n: int, seed: int, bits: int) -> None:
    matrix = np.random.default_rng(seed).integers(-(2**bits) // 8, 2**bits, (n, n), np.int64).data
    assert compiled("borda").rank_by_distance(matrix) == reference.rank_by_distance(matrix)


@st.composite
def ballots(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    candidates = draw(st.integers(1, 9))
    rows = []
    for _ in range(draw(st.integers(1, 8))):
        ranked = draw(st.permutations(range(candidates)))[: draw(st.integers(0, candidates))]
        rows.append([*ranked, *[draw(st.integers(-(2**31), -1))] * (candidates - len(ranked))])
    return np.array(rows, np.int32)


@given(st.data(), ballots())
def test_borda_by_ballots(data: st.DataObject, values: np.ndarray[Any, Any]) -> None:
    view = data.draw(strided(values))
    voters, candidates = values.shape

    points = compiled("borda").score(view)

    assert points == reference.score(view)
    assert sum(points) == voters * candidates * (candidates - 1)


@given(st.lists(st.lists(st.integers(-2, 4), min_size=4, max_size=4), min_size=1, max_size=3))
def test_borda_refuses_the_same_ballots(rows: list[list[int]]) -> None:
    view = np.array(rows, np.int32).data
    outcomes = []
    for kernel in (compiled("borda"), reference):
        try:
            outcomes.append(kernel.score(view))
        except ValueError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


@given(st.binary(max_size=5000))
def test_leaf_hashes_of_short_data(data: bytes) -> None:
    assert compiled("segmenthash").leaf_hashes(memoryview(data)) == reference.leaf_hashes(memoryview(data))


@given(st.integers(0, 3 * segmenthash.LEAF_SIZE), st.integers(0, 64))
@settings(max_examples=20)
def test_leaf_hashes_of_long_data(size: int, offset: int) -> None:
    data = memoryview(np.random.default_rng(size).bytes(size + offset))[offset:]
    assert compiled("segmenthash").leaf_hashes(data) == reference.leaf_hashes(data)


@given(st.integers(0, 400), st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_roots(count: int, seed: int) -> None:
    hashes = memoryview(np.random.default_rng(seed).bytes(32 * count))
    assert compiled("segmenthash").root(hashes) == reference.root(hashes)


@given(st.integers(1, 70), st.data())
def test_every_proof_verifies(count: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, count - 1))
    leaf = b"last" if index == count - 1 else bytes(segmenthash.LEAF_SIZE)
    hashes = [bytes([place]) * 32 for place in range(count)]
    hashes[index] = segmenthash.leaf_hashes(leaf)[0]
    path, root = segmenthash.proof(hashes, index), segmenthash.root(hashes)

    assert segmenthash.verify_leaf(root, index, leaf, path, count)
    other = data.draw(st.integers(0, 2 * count).filter(lambda place: place != index))
    assert not segmenthash.verify_leaf(root, other, leaf, path, count)


@given(
    st.binary(max_size=40),
    st.integers(-(2**70), 2**70),
    st.binary(max_size=100),
    st.lists(st.binary(max_size=40), max_size=70),
    st.integers(-(2**70), 2**70),
)
def test_a_made_up_proof_is_false_and_never_an_error(
    root: bytes, index: int, leaf: bytes, path: list[bytes], count: int
) -> None:
    assert segmenthash.verify_leaf(root, index, leaf, path, count) is False
