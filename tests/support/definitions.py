"""For tests of task definitions: the example, to be changed by the paths of its keys."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from mlnet.task import definition as task_definition
from mlnet.task.schema import TaskDefinition
from mlnet.util import yaml12

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "client-task-definition.yaml"
PACKAGED = ROOT / "mlnet" / "examples" / "client-task-definition.yaml"


@dataclasses.dataclass
class Draft:
    """The example in plain values, to be changed by the path of a key."""

    plain: Any

    @classmethod
    def example(cls) -> Draft:
        """The example as it is."""
        return cls(yaml12.load(EXAMPLE.read_text()))

    def set(self, path: str, value: object) -> Draft:
        """The same definition with another value; the rest of the path exists."""
        *parents, last = path.split(".")
        self._at(parents)[_step(last)] = value
        return self

    def drop(self, path: str) -> Draft:
        *parents, last = path.split(".")
        del self._at(parents)[_step(last)]
        return self

    def read(self) -> TaskDefinition:
        return task_definition.from_plain(self.plain)

    def _at(self, parents: list[str]) -> Any:
        place = self.plain
        for step in parents:
            place = place[_step(step)]
        return place


def _step(text: str) -> str | int:
    return int(text) if text.isdigit() else text
