"""What a user wants to have trained: the text of a definition and what it says, read and checked once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from mlnet.task import definition as task_definition
from mlnet.task.schema import SourceSpec, TaskDefinition
from mlnet.util import yaml_writer


@dataclass(frozen=True)
class TaskRequest:
    """A task that can be announced.

    Attributes:
        text: the definition, as it is announced.
        definition: what it says.
        base: directory to which the paths of its dataset are relative.
        source: where the dataset is, in place of what the definition says; None for that.
        allowed: peer ids of the nodes that may take part; None for those that the client's options allow.
        private_links: whether the dataset may lie at an address that is not of the public Internet.
    """

    text: str
    definition: TaskDefinition
    base: Path
    source: SourceSpec | None = None
    allowed: frozenset[str] | None = None
    private_links: bool = True

    @property
    def as_read(self) -> TaskDefinition:
        """The definition with the dataset that is read. Nobody but this machine is told of it."""
        if self.source is None:
            return self.definition
        ml = self.definition.ml
        dataset = msgspec.structs.replace(ml.dataset, source=self.source)
        return msgspec.structs.replace(self.definition, ml=msgspec.structs.replace(ml, dataset=dataset))


def read(file: Path, waiting_period: str | None = None) -> TaskRequest:
    """What a file asks for.

    Args:
        file: the task definition; paths in it are relative to it.
        waiting_period: in place of the definition's ``cluster.waiting-period``.

    Raises:
        TaskError: it cannot be read, or is wrong.
    """
    text = task_definition.read_text(file)
    return written(text, task_definition.load_text(text, file), file.parent, waiting_period)


def written(
    text: str, definition: TaskDefinition, base: Path, waiting_period: str | None = None
) -> TaskRequest:
    """What a text asks for that was read already; see :func:`read`.

    Raises:
        TaskError: the waiting period is wrong.
    """
    if waiting_period is None:
        return TaskRequest(text, definition, base)
    plain = task_definition.to_plain(definition)
    plain.setdefault("cluster", {})["waiting-period"] = waiting_period
    return TaskRequest(yaml_writer.dump_block(plain), task_definition.from_plain(plain), base)
