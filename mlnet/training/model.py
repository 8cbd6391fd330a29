"""Models: built from a definition's layers, saved as safetensors, loaded for inference."""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.numpy import save
from torch import Tensor, nn

from mlnet.data import schema
from mlnet.data.modelfile import SCHEMA_KEY
from mlnet.data.schema import Schema
from mlnet.data.segments import MAX_HEADER_BYTES, opened, read_tensors
from mlnet.data.table import DatasetLimits
from mlnet.errors import DataError
from mlnet.task.layers.dense import LEAKY_SLOPE
from mlnet.task.schema import Initializer, Kaiming, Normal, Uniform, Xavier, Zeros
from mlnet.training import architecture
from mlnet.training.architecture import Architecture

_METADATA_KEY = "mlnet"
# The schema is JSON within JSON, in which a character may take six bytes.
_DELIVERED_HEADER = MAX_HEADER_BYTES + 6 * schema.MAX_BYTES


class Model(nn.Module):
    """A multilayer perceptron.

    Called with float32 (rows, inputs), it returns float32 (rows, outputs). For a classifier these are the
    scores before the softmax, which the loss CrossEntropy contains; :meth:`probabilities` applies it.

    Args:
        architecture: its layers.
        device: ``meta`` makes the layers without memory for their values.
    """

    def __init__(self, architecture: Architecture, device: str = "cpu") -> None:
        super().__init__()
        self.architecture = architecture
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        width = architecture.inputs
        last = len(architecture.layers) - 1
        for index, layer in enumerate(architecture.layers):
            scores = index == last and architecture.classifier
            for suffix, module in layer.modules(nn, width, device, scores=scores):
                layers[f"{index}{suffix}"] = module
            width = layer.width(width)
        self.layers = nn.Sequential(layers)

    def forward(self, features: Tensor) -> Tensor:
        """Scores of the classes, or values of a regression."""
        outputs: Tensor = self.layers(features)
        return outputs

    def probabilities(self, features: Tensor) -> Tensor:
        """Probability of each class, float32 (rows, outputs); only of a classifier."""
        return torch.softmax(self(features), dim=1)

    def describe(self) -> dict[str, object]:
        """Inputs, outputs, layers, loss and number of parameters."""
        description: dict[str, object] = architecture.describe(self.architecture)
        return description


def build(description: Architecture, initializer: Initializer, seed: bytes) -> Model:
    """A new model with its first weights, the same for every holder of the seed; biases are zero.

    Args:
        description: its layers, whose number of parameters the caller has checked.
        initializer: how the weights begin.
        seed: at least 8 bytes.
    """
    model = Model(description)
    # A generator of its own: the first weights must not depend on what else has drawn numbers.
    generator = torch.Generator().manual_seed(int.from_bytes(seed[:8], "big") >> 1)
    for layer in model.layers:
        if isinstance(layer, nn.Linear):
            _initialize(layer.weight, initializer, generator)
            nn.init.zeros_(layer.bias)
    return model


def _initialize(weight: Tensor, initializer: Initializer, generator: torch.Generator) -> None:
    match initializer.parameters:
        case Xavier(gain=gain):
            nn.init.xavier_uniform_(weight, gain, generator)
        case Kaiming(mode=mode, nonlinearity=nonlinearity):
            nn.init.kaiming_uniform_(weight, LEAKY_SLOPE, mode, nonlinearity, generator)
        case Normal(mean=mean, std=std):
            nn.init.normal_(weight, mean, std, generator)
        case Uniform(low=low, high=high):
            nn.init.uniform_(weight, low, high, generator)
        case Zeros():
            nn.init.zeros_(weight)


def save_model(model: Model, path: Path) -> None:
    """Write a model file; equal models give equal bytes. The file appears complete or not at all.

    Raises:
        DataError: it cannot be written.
    """
    tensors = {name: value.detach().contiguous().numpy() for name, value in model.state_dict().items()}
    # One entry only: safetensors keeps the metadata in a hash map, so several entries would have no fixed
    # order, and equal models different bytes.
    content = save(tensors, {_METADATA_KEY: model.architecture.to_json()})
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        part = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"model {path} cannot be written: {error.strerror}; free some space") from error


def read_architecture(path: Path, header_bytes: int = MAX_HEADER_BYTES) -> Architecture:
    """The description in a model file.

    Args:
        path: the file.
        header_bytes: the largest header.

    Raises:
        DataError: the file cannot be read or has none.
    """
    with opened(path, header_bytes) as file:
        metadata = file.metadata() or {}
    return architecture.from_json(metadata.get(_METADATA_KEY, ""), path)


def read_schema(path: str | os.PathLike[str]) -> Schema | None:
    """The description of the training's dataset in a model file that its user got; None in one that members
    keep.

    Raises:
        DataError: the file cannot be read, or contradicts itself.
    """
    path = Path(path)
    with opened(path, _DELIVERED_HEADER) as file:
        text = (file.metadata() or {}).get(SCHEMA_KEY)
    if text is None:
        return None
    found = schema.from_json(text, path)
    model = read_architecture(path, _DELIVERED_HEADER)
    if found.inputs != model.inputs or (found.classes and len(found.classes) != model.outputs):
        raise DataError(f"{path}: its description of the dataset is not that of the model; get it again")
    return found


def load_model(path: str | os.PathLike[str], expected: Architecture | None = None) -> Model:
    """Load a model for inference, from a file that need not be trusted.

    Nothing in the file is executed (safetensors, not pickle), and every shape is checked against the
    description before memory is allocated.

    Args:
        path: a file that :func:`save_model` wrote.
        expected: the architecture that it must have; None for any.

    Returns:
        The model in evaluation mode.

    Raises:
        DataError: it is not such a file, or not the expected model, or holds values that are not finite.
    """
    path = Path(path)
    # The client adds the dataset's description for its user, so that header may be longer.
    header_bytes = _DELIVERED_HEADER if expected is None else MAX_HEADER_BYTES
    description = read_architecture(path, header_bytes)
    if expected is not None and description != expected:
        raise DataError(f"model {path} is not the one that the task's definition describes; it is refused")
    shapes = dict(description.tensor_shapes())
    arrays = read_tensors(
        path, {name: ("F32", shape) for name, shape in shapes.items()}, DatasetLimits(), header_bytes
    )
    # No memory for first weights: assign=True puts the file's own arrays in their place.
    model = Model(description, device="meta")
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, assign=True)
    if not all(torch.isfinite(value).all() for value in model.state_dict().values()):
        raise DataError(f"model {path} holds values that are not finite; it is refused")
    return model.eval()
