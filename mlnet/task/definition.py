"""The task definition: what a client asks the network for.

It is a YAML mapping of at most 64 KiB, read by the 1.2 core schema (``1e-3`` is a number, ``no`` a text).
Every key is honoured or refused; an error is a :class:`~mlnet.errors.TaskError` with the key's path, such as
``ml.model.hidden-units[2].nodes`` (positions count from 0), what stands there, and what to write instead. The
structs and their meaning are in :mod:`mlnet.task.schema`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from mlnet.errors import TaskError, TaskProblem
from mlnet.task import diagnosis, parser
from mlnet.task.schema import MAX_PARAMETERS, TaskDefinition, Zeros
from mlnet.util import yaml12

__all__ = [
    "MAX_BYTES",
    "TaskDefinition",
    "check_inputs",
    "decode",
    "from_plain",
    "load",
    "load_file",
    "load_heard",
    "load_text",
    "read_bytes",
    "read_text",
    "to_plain",
    "warnings",
]

MAX_BYTES = yaml12.MAX_BYTES
"""Of a definition's text."""
_MAGIC = {
    b"\x1f\x8b": "a gzip file",
    b"PK\x03\x04": "a ZIP or NPZ file",
    b"\x93NUMPY": "an NPY file",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF file",
}


def load(text: str, *, diagnose: bool = True) -> TaskDefinition:
    """Read and check a definition.

    Args:
        text: the definition.
        diagnose: report every error of a wrong one, with lines. Without it only the first error is looked
            for, at little cost: for texts of others, who need not be helped.

    Raises:
        TaskError: it is not YAML, or breaks the schema.
    """
    try:
        return diagnosis.read(text)
    except (yaml12.YamlError, TaskError) as error:
        if diagnose and (errors := diagnosis.diagnose(text).errors):
            raise TaskError.of(errors) from None
        if isinstance(error, TaskError):
            raise
        problem = error.problem if error.path else f"not accepted as YAML: {error.problem}"
        first = TaskProblem(error.path, problem, "", error.line, error.column)
        raise TaskError.of([first]) from None


@lru_cache(maxsize=64)
def load_heard(text: str) -> TaskDefinition:
    """Read and check a definition of somebody else's, whom nothing more than the first error is told. It
    comes more than once: a node that is a client, too, takes each announcement in twice.

    Raises:
        TaskError: see :func:`load`.
    """
    return load(text, diagnose=False)


def load_file(path: Path) -> TaskDefinition:
    """Read and check the definition in a file.

    Raises:
        TaskError: the file cannot be read, is not UTF-8 text, or breaks the schema.
    """
    return load_text(read_text(path), path)


def load_text(text: str, path: Path) -> TaskDefinition:
    """Check the definition that was read from a file; errors name it.

    Raises:
        TaskError: it is not YAML, or breaks the schema.
    """
    try:
        return load(text)
    except TaskError as error:
        raise TaskError.of(error.errors, str(path)) from None


def read_text(path: Path) -> str:
    """The text of a definition's file, as :func:`load` takes it.

    Raises:
        TaskError: the file cannot be read, or is not UTF-8 text.
    """
    return decode(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """The content of a definition's file.

    Raises:
        TaskError: the file cannot be read, or is too long.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise TaskError("", f"{path} cannot be read: {error.strerror}", "check the path") from None
    kind = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
    if kind:
        fix = "name the YAML file of the definition, which says where its data is"
        raise TaskError("", f"{path} is {kind}, not a task definition", fix)
    if len(data) > MAX_BYTES:
        fix = "a definition names its data, it does not hold it"
        raise TaskError("", f"{path} is longer than {MAX_BYTES} bytes", fix)
    return data


_PACKED = (b"PK\3\4", b"\x1f\x8b", b"\x7fELF", b"%PDF", b"\x93NUMPY", b"\x80\x04", b"\x89")
_START = 1024
"""Bytes in which a file of zero bytes, such as a model or an array, shows that it is no text."""


def decode(data: bytes, path: Path, *, any_utf: bool = False) -> str:
    """The text in the bytes of a file.

    Args:
        data: the bytes.
        path: of the file, for errors.
        any_utf: take UTF-16 with a byte order mark, too.

    Raises:
        TaskError: they are not UTF-8 text.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            text = data.decode("utf-16")
        except UnicodeDecodeError:
            text = ""
        if any_utf and text:
            return text
        problem = TaskProblem("", "the file is UTF-16 text", "save it as UTF-8", certain=bool(text))
        raise TaskError.of([problem], str(path))
    if data.startswith(_PACKED) or data[:_START].rstrip(b"\0").count(b"\0") > 1:
        raise TaskError.of([TaskProblem("", "the file is no text", "name the definition itself")], str(path))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = TaskProblem("", f"not UTF-8 text at byte {error.start}", "save the file as UTF-8", line)
        raise TaskError.of([problem], str(path)) from None


def from_plain(plain: object) -> TaskDefinition:
    """The definition in plain values: those of its YAML, or of :func:`to_plain`.

    Raises:
        TaskError: it breaks the schema.
    """
    return parser.read(plain)


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
