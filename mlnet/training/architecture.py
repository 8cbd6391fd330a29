"""A model as data: its layers, and from those the shape of every tensor.

Without torch: a model's size is known, and a file from the network is checked, before anything is allocated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mlnet.errors import DataError, TrainingError
from mlnet.task import layers
from mlnet.task.layers import AnyLayer, DenseLayer
from mlnet.task.layers.dense import Width
from mlnet.task.schema import MAX_PARAMETERS, Loss, TaskDefinition

MAX_LAYERS = 256

# The end of a description of format 1, which did not say how the data was scaled.
_EARLIER = re.compile(r'"format":1}$')


class Architecture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The description that a model file carries.

    Attributes:
        inputs: features of a row.
        layers: first to last; the last Dense layer's nodes are the model's outputs.
        loss: the loss that it was trained with; CrossEntropy makes it a classifier.
        format: version of this description.
    """

    inputs: Width
    layers: Annotated[tuple[AnyLayer, ...], Meta(min_length=1, max_length=MAX_LAYERS)]
    loss: Loss
    format: Literal[2] = 2

    @property
    def dense(self) -> list[DenseLayer]:
        """The Dense layers."""
        return [layer for layer in self.layers if isinstance(layer, DenseLayer)]

    @property
    def outputs(self) -> int:
        """Nodes of the last Dense layer."""
        return self.dense[-1].nodes

    @property
    def classifier(self) -> bool:
        """Whether the outputs are scores of classes."""
        return self.loss == "CrossEntropy"

    def tensor_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of each parameter, in the order of the layers."""
        return layers.shapes(self.layers, self.inputs)

    @property
    def parameters(self) -> int:
        """Number of trainable values."""
        return layers.parameter_count(self.layers, self.inputs)

    def require_parameters(self, limit: int = MAX_PARAMETERS) -> None:
        """Refuse a model that is too large.

        Raises:
            TrainingError: it has more parameters than ``limit``.
        """
        if self.parameters > limit:
            raise TrainingError(
                f"the model has {self.parameters} parameters, more than this node's limit of {limit};"
                " use fewer nodes in its layers or raise the limit"
            )

    def to_json(self) -> str:
        """The description as a model file carries it; equal architectures give equal texts."""
        return msgspec.json.encode(self).decode()


def of_definition(definition: TaskDefinition, inputs: int) -> Architecture:
    """The model that a definition describes, for rows of ``inputs`` features."""
    model = definition.ml.model
    return Architecture(inputs, tuple(unit.layer for unit in model.hidden_units), model.loss)


def from_json(text: str, path: object) -> Architecture:
    """The description in a model file; ``path`` is for the error message.

    Raises:
        DataError: it is not a valid description.
    """
    try:
        architecture = msgspec.json.decode(text, type=Architecture)
    except (msgspec.DecodeError, UnicodeError) as error:
        if _EARLIER.search(text):
            raise DataError(
                f"{path} was written by an earlier version of mlnet, and does not say how its data was"
                " scaled; train it again"
            ) from error
        raise DataError(f"{path} has no valid description of its model: {error}; get it again") from error
    if not architecture.dense:
        raise DataError(f"{path} describes a model without a Dense layer; get it again")
    return architecture


def describe(architecture: Architecture) -> dict[str, object]:
    """A model's layers, outputs and number of parameters, for people."""
    description: dict[str, object] = msgspec.to_builtins(architecture)
    return description | {"outputs": architecture.outputs, "parameters": architecture.parameters}
