from __future__ import annotations

import ctypes
from array import array
from typing import Any, cast

import numpy as np
import pytest

from mlnet.kernels import pingmatrix

pytestmark = pytest.mark.usefixtures("kernels")


def two_peers(there: list[int], back: list[int]) -> list[list[list[int]]]:
    own = [77] * len(there)
    return [[own, there], [back, own]]


def table(samples: Any) -> list[list[int]]:
    return cast("list[list[int]]", pingmatrix.aggregate(samples).tolist())


def test_a_distance_is_the_lower_median_of_the_worse_direction() -> None:
    distances = pingmatrix.aggregate(two_peers([9, 1, 5, 3], [2, 4, 4, 100]))

    assert [[distances[i, j] for j in range(2)] for i in range(2)] == [[0, 4], [4, 0]]
    assert (distances.format, distances.shape) == ("q", (2, 2))


def test_missing_samples_do_not_count() -> None:
    assert table(two_peers([-1, 8, -5], [6, -1, 7])) == [[0, 8], [8, 0]]


@pytest.mark.parametrize(("there", "back"), [([-1, -1], [3, 3]), ([3, 3], [-1, -9]), ([-1, -1], [-1, -1])])
def test_a_direction_without_samples_is_unreachable(there: list[int], back: list[int]) -> None:
    assert table(two_peers(there, back)) == [[0, -1], [-1, 0]]


def test_no_samples_at_all() -> None:
    assert table([[[], []], [[], []]]) == [[0, -1], [-1, 0]]
    assert table(np.empty((2, 2, 0), np.int64)) == [[0, -1], [-1, 0]]


def test_one_peer_is_at_distance_zero_of_itself() -> None:
    assert table([[[5, 6]]]) == [[0]]


def test_the_whole_range_of_int64() -> None:
    largest, smallest = 2**63 - 1, -(2**63)
    assert table(two_peers([largest], [0])) == [[0, largest], [largest, 0]]
    assert table(two_peers([smallest], [0])) == [[0, -1], [-1, 0]]


def by_numpy(samples: np.ndarray[Any, Any]) -> list[list[int]]:
    largest = np.iinfo(np.int64).max
    counts = (samples >= 0).sum(axis=2)
    ordered = np.sort(np.where(samples < 0, largest, samples), axis=2)
    medians = np.take_along_axis(ordered, np.maximum(counts[..., None] - 1, 0) // 2, axis=2)[..., 0]
    medians[counts == 0] = -1
    expected = np.where(np.minimum(medians, medians.T) < 0, -1, np.maximum(medians, medians.T))
    np.fill_diagonal(expected, 0)
    return cast("list[list[int]]", expected.tolist())


def test_many_samples_of_a_pair() -> None:
    samples = np.random.default_rng(7).integers(-3, 1000, (4, 4, 101))
    assert table(samples) == by_numpy(samples)


def test_enough_samples_for_several_threads() -> None:
    samples = np.random.default_rng(6).integers(-2, 10**6, (200, 200, 9))
    assert samples.size > pingmatrix._THREADED_SAMPLES
    assert table(samples) == by_numpy(samples)


@pytest.mark.parametrize("n", [511, 512, 513, 700])
def test_a_result_of_several_megabytes(median_engine: Any, n: int) -> None:
    samples = np.random.default_rng(n).integers(-1, 10**6, (n, n, 3))
    for threads in (1, 2):
        distances = np.reshape(median_engine.aggregate(samples.data, threads), (n, n))
        assert (distances == np.array(by_numpy(samples))).all()


def test_elements_that_are_not_aligned() -> None:
    samples = np.random.default_rng(10).integers(-2, 50, (9, 9, 9))
    shifted = memoryview(b"x" + samples.tobytes())[1:].cast("q", samples.shape)
    assert table(shifted) == by_numpy(samples)


def test_any_strides_and_read_only_buffers() -> None:
    base = np.random.default_rng(8).integers(-2, 50, (6, 12, 10))
    view = base[::-1, ::2, 1::3]
    expected = table(view.tolist())
    frozen = view.copy()
    frozen.flags.writeable = False
    broadcast = np.broadcast_to(np.arange(3), (2, 2, 3))

    assert table(view) == expected
    assert table(np.asfortranarray(view)) == expected
    assert table(frozen) == expected
    assert table(memoryview(bytes(frozen)).cast("q", frozen.shape)) == expected
    assert table(broadcast) == [[0, 1], [1, 0]]


def test_the_input_is_left_alone() -> None:
    samples = np.random.default_rng(9).integers(-2, 50, (3, 3, 5))
    before = samples.copy()
    pingmatrix.aggregate(samples)
    assert (samples == before).all()


@pytest.mark.parametrize(
    "dtype", ["int32", "uint64", "float64", "bool", "complex128", ">i8", "object", "M8[us]"]
)
def test_other_element_types_are_refused(dtype: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        pingmatrix.aggregate(np.zeros((2, 2, 3), dtype))


@pytest.mark.parametrize(
    "shape", [(), (4,), (2, 2), (2, 3, 1), (3, 2, 1), (0, 0, 3), (0, 1, 1), (2, 2, 1, 1)]
)
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="samples: must have"):
        pingmatrix.aggregate(np.zeros(shape, np.int64))


@pytest.mark.parametrize(
    ("samples", "error"),
    [
        (None, TypeError),
        (5, TypeError),
        ("abc", TypeError),
        (b"abc", TypeError),
        ([1, 2], TypeError),
        ([["a", "b"], ["c", "d"]], TypeError),
        ([[[1.5]]], TypeError),
        ([[["1"]]], TypeError),
        ([[[None]]], TypeError),
        ({0: 1}, TypeError),
        ([], ValueError),
        ([[], []], ValueError),
        ([[[1], [1]], [[1]]], ValueError),
        ([[[1], [1, 2]], [[1], [1]]], ValueError),
        ([[[2**63]]], ValueError),
        (array("q", [1, 2]), ValueError),
        ((ctypes.c_int32 * 4)(), TypeError),
    ],
)
def test_anything_else_is_refused(samples: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^samples: "):
        pingmatrix.aggregate(samples)  # type: ignore[arg-type]
