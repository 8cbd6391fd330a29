"""A dataset in memory, the bounds on one, and its features as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlnet.errors import DataError

FloatArray: TypeAlias = NDArray[np.float32]
AnyArray: TypeAlias = NDArray[np.generic]


@dataclass(frozen=True)
class DatasetLimits:
    """The most that a dataset may take, so that a few bytes of input cannot ask for all memory.

    Attributes:
        source_bytes: size of a source file as it lies on the disk or crosses the network.
        table_bytes: size of an array, decompressed, in bytes.
        rows: rows of a dataset.
        columns: features of a row.
        line_bytes: one line of a CSV file.
    """

    source_bytes: int = 8 << 30
    table_bytes: int = 8 << 30
    rows: int = 1 << 30
    columns: int = 1 << 22
    line_bytes: int = 16 << 20


@dataclass(frozen=True)
class Table:
    """Rows of a dataset.

    Attributes:
        features: float32 (rows, inputs), all finite.
        labels: int64 (rows,) class numbers, or float32 (rows, outputs) targets of a regression.
    """

    features: FloatArray
    labels: NDArray[np.int64] | FloatArray


def check_shape(what: str, shape: tuple[int, ...], item_bytes: int, limits: DatasetLimits) -> None:
    """Refuse an array by its declared shape, before any memory is taken for it.

    Raises:
        DataError: it has too many rows, columns or bytes.
    """
    rows = shape[0] if shape else 0
    columns = 1
    for length in shape[1:]:
        columns *= length
    if rows < 0 or columns < 0 or rows > limits.rows or columns > limits.columns:
        raise DataError(
            f"{what}: {rows} rows of {columns} values are more than {limits.rows} rows of"
            f" {limits.columns} values;"
            " use a smaller dataset"
        )
    if rows * columns * item_bytes > limits.table_bytes:
        raise DataError(
            f"{what}: {rows} x {columns} values take more than {limits.table_bytes} bytes; use a smaller"
            " dataset"
        )


def as_features(what: str, values: AnyArray) -> FloatArray:
    """Values of any numeric type and at least two dimensions as finite float32 (rows, inputs).

    Raises:
        DataError: they are not numbers, not a table, or not finite.
    """
    if values.dtype.kind not in "biuf":
        raise DataError(f"{what}: features of type {values.dtype} are not numbers; save them as float32")
    if values.ndim == 1:
        raise DataError(
            f"{what}: features have the shape {values.shape}; it must be (rows, values of a row): of"
            " one value a"
            " row, save features.reshape(-1, 1)"
        )
    if values.ndim < 2 or 0 in values.shape[:1] + values.shape[2:]:
        raise DataError(f"{what}: features have the shape {values.shape}; it must be (rows, values of a row)")
    with np.errstate(over="ignore"):
        flat = np.require(values.reshape(len(values), -1), dtype=np.float32, requirements=["C", "W"])
    if not np.isfinite(flat).all() and np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(flat).all(axis=1)))
        largest = float(np.finfo(np.float32).max)
        raise DataError(
            f"{what}: features[{row}] holds a number beyond {largest:.1e}, the largest of 32 bits;"
            " scale it down"
        )
    require_finite(what, "features", flat)
    return flat


def require_finite(what: str, name: str, values: FloatArray) -> None:
    """Raise DataError that names the first row with a NaN or an infinity."""
    finite = np.isfinite(values)
    if not finite.all():
        row = int(np.argmin(finite.reshape(len(values), -1).all(axis=1)))
        raise DataError(
            f"{what}: {name}[{row}] holds a NaN or an infinity: a missing value? Fill it in, or remove the"
            " row"
        )
