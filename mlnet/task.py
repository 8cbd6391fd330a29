"""The task definition: what a client asks the network for.

It is a YAML mapping of at most 64 KiB, read by the 1.2 core schema (``1e-3`` is a number, ``no`` a text).
Every key is honoured or refused; an error is a :class:`~mlnet.errors.TaskError` with the key's path, such as
``ml.model.hidden-units[2].nodes`` (positions count from 0), what stands there, and what to write instead. The
structs and their meaning are in :mod:`mlnet.task_schema`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from mlnet import task_reading, yaml12
from mlnet.errors import TaskError
from mlnet.task_schema import (
    MAX_PARAMETERS,
    Cluster,
    Dataset,
    Dense,
    Dropout,
    Model,
    Optimizer,
    TaskDefinition,
    Zeros,
)

__all__ = [
    "MAX_BYTES",
    "Cluster",
    "Dataset",
    "Dense",
    "Dropout",
    "Model",
    "Optimizer",
    "TaskDefinition",
    "check_inputs",
    "from_plain",
    "load",
    "load_file",
    "to_plain",
    "warnings",
]

MAX_BYTES = 65_536
"""Of a definition's text."""
_MAX_ITEMS = 4096


def load(text: str) -> TaskDefinition:
    """Read and check a definition.

    Raises:
        TaskError: it is not YAML, or breaks the schema.
    """
    try:
        plain = yaml12.load(
            text.removeprefix("\ufeff"), max_bytes=MAX_BYTES, max_items=_MAX_ITEMS, nonfinite=True
        )
    except yaml12.YamlError as error:
        problem = str(error) if error.path else f"not accepted as YAML: {error}"
        raise TaskError(error.path, problem) from None
    return from_plain(plain)


def load_file(path: Path) -> TaskDefinition:
    """Read and check the definition in a file.

    Raises:
        TaskError: the file cannot be read, is not UTF-8 text, or breaks the schema.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise TaskError("", f"{path} cannot be read: {error.strerror}", "check the path") from None
    if len(data) > MAX_BYTES:
        raise TaskError(
            "", f"{path} is longer than {MAX_BYTES} bytes", "a definition names its data, it does not hold it"
        )
    try:
        return load(data.decode())
    except UnicodeDecodeError as error:
        raise TaskError("", f"{path} is not UTF-8 text at byte {error.start}", "save it as UTF-8") from None


def from_plain(plain: object) -> TaskDefinition:
    """The definition in plain values: those of its YAML, or of :func:`to_plain`.

    Raises:
        TaskError: it breaks the schema.
    """
    return task_reading.read(plain)


def to_plain(definition: TaskDefinition) -> dict[str, Any]:
    """The definition in plain values, by the keys of the YAML; they can be written as JSON or YAML."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(definition))
    return plain


def check_inputs(definition: TaskDefinition, inputs: int) -> int:
    """The number of the model's parameters for rows of that many features.

    Raises:
        TaskError: there are too many.
    """
    count = definition.ml.model.parameter_count(inputs)
    if count > MAX_PARAMETERS:
        raise TaskError(
            "ml.model.hidden-units",
            f"the model has {count} parameters",
            f"use fewer nodes: at most {MAX_PARAMETERS} are accepted",
        )
    return count


def warnings(definition: TaskDefinition) -> list[str]:
    """What is accepted and may still not be what its author wants; each with its path."""
    found = []
    cluster, ml = definition.cluster, definition.ml
    if cluster.max_committee_size < (wanted := 2 * cluster.min_committee_size - 1):
        found.append(
            "cluster.max-committee-size: a vote that would leave fewer than min-committee-size removes"
            f" nobody, so seats may be filled by order instead; with {wanted} or more a vote can decide"
        )
    if isinstance(ml.optimizer.initializer.parameters, Zeros) and len(ml.model.dense) > 1:
        found.append("ml.optimizer.initializer.name: with Zeros, all nodes of a hidden layer stay equal")
    if ml.dataset.sha256 is None:
        found.append("ml.dataset.sha256: without it, nobody notices a dataset that has changed")
    if not definition.payment_micro:
        found.append("payment.best-model-payment-amount: nodes that want a payment will not answer")
    return found
