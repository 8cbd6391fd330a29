"""The types of layers, a file each, and what each has to say: :mod:`mlnet.task.layers.base`.

A new type is a file here with a :class:`Unit` and a :class:`Layer`, and an entry of :data:`UNITS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from math import prod
from operator import or_
from typing import TYPE_CHECKING

from mlnet.task.layers.base import Layer, Unit
from mlnet.task.layers.dense import Dense, DenseLayer
from mlnet.task.layers.dropout import Dropout, DropoutLayer

__all__ = ["UNITS", "AnyLayer", "AnyUnit", "Dense", "DenseLayer", "Dropout", "DropoutLayer", "Layer", "Unit"]

UNITS: dict[type[Unit], type[Layer]] = {
    Dense: DenseLayer,
    Dropout: DropoutLayer,
}
"""What a task definition has, and what a model file has of it."""

if TYPE_CHECKING:
    AnyUnit = Unit
    AnyLayer = Layer
else:  # what msgspec reads
    AnyUnit = reduce(or_, UNITS)
    AnyLayer = reduce(or_, UNITS.values())


def name_of(unit: type[Unit]) -> str:
    """The ``type`` of a layer, for people."""
    return str(unit.__struct_config__.tag)


def shapes(layers: Iterable[Layer], inputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of each parameter of a model, in the order of its layers."""
    width = inputs
    for index, layer in enumerate(layers):
        for name, shape in layer.shapes(width):
            yield f"layers.{index}.{name}", shape
        width = layer.width(width)


def parameter_count(layers: Iterable[Layer], inputs: int) -> int:
    """Number of trainable values of a model for rows of ``inputs`` features."""
    return sum(prod(shape) for _, shape in shapes(layers, inputs))
