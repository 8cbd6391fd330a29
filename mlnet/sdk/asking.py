"""What a user wants trained, as the API takes it: the text of the definition, and where its dataset is.

Paths in a definition are relative to its file. The node reads them only below directories that its operator
allows; what it refuses is uploaded.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from mlnet.errors import ConfigError, DataError, TaskError
from mlnet.task import definition as task_definition
from mlnet.task.fields import duration_ms
from mlnet.task.schema import SourceSpec
from mlnet.util import links
from mlnet.v1 import tasks_pb2

Definition = str | os.PathLike[str]
"""The path of a file, or the text of a definition, which has several lines."""


@dataclass(frozen=True)
class LocalDefinition:
    """A task that a user wants carried out.

    Attributes:
        text: the definition.
        features: path of its features on this machine, or a link.
        labels: of its labels, if they have a file of their own.
    """

    text: str
    features: Path | str
    labels: Path | str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """What lies on this machine."""
        return tuple(part for part in (self.features, self.labels) if isinstance(part, Path))

    def by_path(self) -> tasks_pb2.DatasetSource:
        """The dataset where it is."""
        return _joined(_named(self.features), _named(self.labels))

    def by_hash(self, put: dict[Path, str]) -> tasks_pb2.DatasetSource:
        """The dataset as it was uploaded: SHA-256 of each file."""
        return _joined(_named(self.features, put), _named(self.labels, put))


def read(definition: Definition, data: Definition | Sequence[Definition] | None = None) -> LocalDefinition:
    """What a user asks for.

    Args:
        definition: path of its file, or its text.
        data: path or link of the dataset, in place of the definition's own; two for features and labels.

    Raises:
        TaskError: the definition is wrong.
        ConfigError: ``data`` names more than two files.
    """
    if isinstance(definition, str) and "\n" in definition:
        text, base = definition, Path.cwd()
        source = task_definition.load(text).ml.dataset.source
    else:
        file = Path(definition)
        text, base = task_definition.read_text(file), file.parent
        source = task_definition.load_text(text, file).ml.dataset.source
    if data is not None:
        named = [data] if isinstance(data, str | os.PathLike) else list(data)
        if not 1 <= len(named) <= 2:
            raise ConfigError("name one dataset, or two: its features and its labels")
        source, base = SourceSpec(*[str(os.fspath(one)) for one in named]), Path.cwd()
    return LocalDefinition(
        text, _place(source.features, base), None if source.labels is None else _place(source.labels, base)
    )


def waiting_period(text: str) -> float:
    """Seconds of a duration such as ``90s``.

    Raises:
        TaskError: it is none.
    """
    milliseconds = duration_ms(text)
    if milliseconds is None:
        raise TaskError("cluster.waiting-period", f"{text!r} is not a duration", "write it like 90s or 15m")
    return milliseconds / 1000


def uploadable(asked: LocalDefinition) -> tuple[Path, ...]:
    """The files of a dataset, each of which can be put.

    Raises:
        DataError: one cannot.
    """
    for path in asked.files:
        if path.is_dir():
            raise DataError(
                f"dataset {path} is a directory, which cannot be uploaded: start the node with --dataset-root"
                f" {path}, or put the rows into one file"
            )
        if not path.is_file():
            raise DataError(
                f"dataset {path} cannot be reached: there is no such file; paths are relative to"
                " the definition"
            )
    return asked.files


def _place(named: str, base: Path) -> Path | str:
    scheme = links.scheme_of(named)
    if scheme == "file":
        return Path(unquote(links.split(named).path))
    return named if scheme else (base / named).absolute()


def _named(part: Path | str | None, put: dict[Path, str] | None = None) -> tasks_pb2.DatasetSource | None:
    if part is None:
        return None
    if isinstance(part, str):
        return tasks_pb2.DatasetSource(link=part)
    if put is not None:
        return tasks_pb2.DatasetSource(blob_sha256=put[part], name=part.name)
    return tasks_pb2.DatasetSource(path=str(part))


def _joined(
    features: tasks_pb2.DatasetSource | None, labels: tasks_pb2.DatasetSource | None
) -> tasks_pb2.DatasetSource:
    joined = features or tasks_pb2.DatasetSource()
    if labels is not None:
        joined.labels.CopyFrom(labels)
    return joined
