"""Robust, symmetric distances between peers, from the ping times that each of them measured."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlnet.kernels import IMPLEMENTATION
from mlnet.kernels._threads import THREADS
from mlnet.kernels._views import integers

if TYPE_CHECKING:
    from mlnet.kernels._views import AnyBuffer

if IMPLEMENTATION == "compiled":
    from mlnet.kernels import _pingmatrix as _impl
else:
    from mlnet.kernels import reference as _impl  # type: ignore[no-redef]

__all__ = ["aggregate"]

_THREADED_SAMPLES = 1 << 18  # takes longer than it takes to start a thread


def aggregate(
    samples: AnyBuffer | Sequence[Sequence[Sequence[int]]], *, threads: int = THREADS
) -> memoryview[Any]:
    """Reduce the samples of each pair of peers to one distance.

    The distance is the lower median of the samples that are present, in the worse of the two directions: an
    outlier does not move it, and neither end can make a link look better than the other end measured it. The
    lower median is one of the samples, so no rounding is involved on which implementations could differ.

    Example:
        >>> aggregate([[[0], [120]], [[90], [0]]]).tolist()
        [[0, 120], [120, 0]]

    Args:
        samples: int64, shape (n, n, k), n > 0; ``samples[i][j]`` are the ping times from peer i to peer j in
            microseconds, a negative one is missing. A buffer in native byte order of any strides (it is not
            copied), or sequences nested three deep. What stands on the diagonal does not matter.
        threads: how many may share the work of a large array; by default one a core.

    Returns:
        int64, shape (n, n): microseconds, symmetric; -1 (unreachable) when either direction has no sample;
        0 on the diagonal. Index it as ``distances[i, j]`` or take ``distances.tolist()``.

    Raises:
        TypeError: the samples are not int64.
        ValueError: they are not of shape (n, n, k), or there are no peers.
    """
    shape, view = integers("samples", samples, "q", 3)
    n = shape[0]
    if n == 0 or shape[1] != n:
        raise ValueError(f"samples: must have shape (n, n, k) with n > 0, not {shape}")
    # When a shape contains a zero, the view cannot be used (see integers).
    if shape[2] == 0:
        distances = memoryview(array("q", [0 if i == j else -1 for i in range(n) for j in range(n)]))
    else:
        large = n * n * shape[2] >= _THREADED_SAMPLES
        distances = memoryview(_impl.aggregate(view, threads if large else 1))
    return distances.cast("B").cast("q", (n, n))
