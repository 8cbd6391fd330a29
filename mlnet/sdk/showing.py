"""Shows the events of a task on a terminal or in a notebook, for programs that do not look at them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mlnet.sdk import reports
from mlnet.sdk.display import Display
from mlnet.sdk.events import Bookmark, Notice, PhaseEntered, TaskEvent
from mlnet.sdk.records import TaskInfo
from mlnet.sdk.result import FinishedTask
from mlnet.sdk.transfers import Moved
from mlnet.util import files
from mlnet.util.wording import TASK_LENGTH, clean


class Shown:
    """Events on a display.

    Args:
        display: it, which is open.
    """

    def __init__(self, display: Display) -> None:
        self._display = display
        self._waiting = ""
        self._doing = ""

    def now(self) -> str:
        """What the task waits for."""
        if self._doing:
            return self._doing
        return f"waits for {clean(self._waiting)}" if self._waiting else "cuts the dataset into segments"

    def moved(self, what: str) -> Moved:
        """Takes how far a file is that goes to the node or comes from it."""

        def move(there: int, size: int) -> None:
            self._doing = f"{what}: {files.mib(there)} of {files.mib(size)}" if there < size else ""

        return move

    def notice(self, text: str) -> None:
        """A line of this program's own."""
        self._display.say(text, "yellow")

    def began(self, info: TaskInfo) -> None:
        """The task has an id."""
        self._waiting = info.waiting
        names = "a node is named by the end of its peer id"
        self._display.begin(f"Task {info.id[:TASK_LENGTH]}", f"{info.name}; {names}" if info.name else names)

    def event(self, event: TaskEvent | Bookmark) -> None:
        """Something happened, or nothing for a while."""
        if isinstance(event, Bookmark | PhaseEntered):
            self._waiting = event.waiting
        if isinstance(event, Notice):
            self.notice(event.text)
        elif isinstance(event, TaskEvent):
            for report in reports.of(event):
                self._display.report(report)
        self._display.refresh()

    def ended(self, outcome: FinishedTask) -> None:
        """The end."""
        self._display.result(outcome.document())


@contextmanager
def shown() -> Iterator[Shown | None]:
    """A display for a while; None where nobody would see it."""
    if not _is_seen():
        yield None
        return
    with Display() as display:
        showing = Shown(display)
        with display.following(showing.now):
            yield showing


def _is_seen() -> bool:
    """Whether somebody sits at a terminal, or at a notebook."""
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    shell = sys.modules.get("IPython")
    found = shell.get_ipython() if shell is not None else None
    return found is not None and hasattr(found, "kernel")
