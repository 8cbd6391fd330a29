"""What is wrong with a task definition, collected while it is read, and how it can be mended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from mlnet.errors import TaskError, TaskProblem

MAX_PROBLEMS: Final = 100
"""After so many, reading ends."""


class Enough(Exception):
    """So many problems were found that no more are looked for."""


@dataclass(frozen=True)
class Mend:
    """The only correction that is possible at a place.

    Attributes:
        path: of the entry.
        entries: what to put there: pairs of a key, or SAME, and a value, or KEEP; empty to remove it.
        after: the path of an entry after which this one is missing; empty if the path exists.
    """

    path: str
    entries: tuple[tuple[object, object], ...]
    after: str = ""

    KEEP: ClassVar[object] = object()
    SAME: ClassVar[object] = object()
    NONE: ClassVar[object] = object()

    @property
    def value(self) -> object:
        """That of the only entry."""
        return self.entries[0][1]


class Problems:
    """Takes what is wrong, each problem once.

    Args:
        most: so many are taken; then :class:`Enough` is raised.
        homes: where keys belong, as section by key: those which belong in one section only.
    """

    def __init__(self, most: int = MAX_PROBLEMS, homes: Mapping[str, str] | None = None) -> None:
        self.found: list[tuple[TaskProblem, Mend | None]] = []
        self._most, self._homes = most, homes or {}
        self._noted: set[tuple[str, str]] = set()
        self._unsound: set[str] = set()

    def add(self, path: str, problem: str, fix: str, mend: Mend | None = None) -> None:
        """Note a problem of a path. With a mend, the value counts as known."""
        if mend is None:
            self._unsound.add(path)
        if (path, problem) in self._noted:
            return
        self._noted.add((path, problem))
        self.found.append((TaskProblem(path, problem, fix, certain=mend is not None), mend))
        if len(self.found) >= self._most:
            raise Enough

    def sound(self, path: str) -> bool:
        """Whether the value there is known, however it was spelled."""
        return path not in self._unsound

    def home(self, key: str, path: str) -> str | None:
        """The section where a key belongs, if that is another one."""
        home = self._homes.get(key)
        return home if home != path else None

    def check(self) -> None:
        """Raise what was found as a :class:`TaskError`."""
        if self.found:
            raise TaskError.of([problem for problem, _ in self.found])
