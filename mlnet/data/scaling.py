"""Scaling of features, the same in training and afterwards, whatever the format of the file.

Features that are unsigned bytes are pixels, 0 to 255, and are divided by 255; bytes that are all 0 or 1 are
flags and stay as they are. ``ml.dataset.scale`` says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mlnet.data.schema import PIXEL, Kind, Schema
from mlnet.data.table import AnyArray, FloatArray
from mlnet.errors import DataError
from mlnet.task.schema import Scale

_BRIGHT = 200
"""A largest value from here to 255 is that of pixels. Lower ones may as well be ages or percentages."""


def stored(values: AnyArray) -> Kind:
    """How features stand in their file, by their type; numbers that are all whole are integers."""
    if values.dtype == np.uint8:
        return "bytes"
    if values.dtype.kind in "biu":
        return "integers"
    if values.dtype.kind == "f" and bool((np.floor(values) == values).all()):
        return "integers"
    return "numbers"


def kind(values: AnyArray) -> Kind:
    """The same for training, where nothing above 0 and 1 shows what larger values would mean."""
    found = stored(values)
    return found if found == "numbers" or bool(values.max(initial=0) > 1) else "numbers"


def scaled(values: FloatArray, kind: Kind, scale: Scale) -> tuple[FloatArray, int]:
    """Features for training, and by what they were divided: 255 or 1."""
    pixels = scale == "1/255" or (scale == "auto" and kind == "bytes")
    return (values / np.float32(PIXEL), PIXEL) if pixels else (values, 1)


def notes(values: FloatArray, kind: Kind, divisor: int) -> Iterator[str]:
    """What people should know of the scaling of their features."""
    if divisor == PIXEL:
        yield f"{'unsigned bytes' if kind == 'bytes' else 'the features'} are scaled by 1/255"
    elif kind == "integers" and values.min() >= 0 and _BRIGHT <= values.max() <= PIXEL:
        yield "the features look like pixels of 0 to 255; ml.dataset.scale: 1/255 makes them 0 to 1"


def scaled_alike(
    path: Path, values: FloatArray, found: Kind, schema: Schema | None, *, table: bool
) -> FloatArray:
    """New features, scaled as those were on which a model was trained.

    Args:
        path: for error messages.
        values: as they stand in the file.
        found: how they stand there.
        schema: of the training; None if the model does not know it.
        table: they come from a file of the training's format.

    Raises:
        DataError: it is not certain how.
    """
    bright = float(values.max(initial=0)) > 1
    if schema is None or (schema.divisor == 1 and schema.kind == "numbers"):
        if found == "bytes" and bright:
            trained = (
                "does not say how its features were scaled"
                if schema is None
                else ("was trained on numbers that mlnet did not scale")
            )
            raise DataError(
                f"{path} holds unsigned bytes, and the model {trained}; save the rows as the training's were"
            )
        return values
    if schema.divisor == 1:
        return values
    if (table and (schema.format == "CSV" or found == schema.kind)) or found == "bytes":
        return values / np.float32(PIXEL)
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if found == "integers" and bright and low >= 0 and high <= PIXEL:
        return values / np.float32(PIXEL)
    if low >= 0 and high <= 1:
        return values
    raise DataError(
        f"{path} holds features from {low:g} to {high:g}, and the model was trained on pixels that were 0"
        " to 255 and scaled to 0 to 1; save the rows as the training's were"
    )
