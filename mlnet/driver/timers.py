"""Deadlines of the state machines on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mlnet.driver.loop import Handler
from mlnet.protocol.commands import CancelTimer, Command, SetTimer
from mlnet.util import clock

MAX_NAP_SECONDS = 10.0
"""A loop's clock stops while the machine is suspended; what came due is seen so long after it wakes."""


class Timers:
    """Named timers of tasks.

    Args:
        fire: called with (task, name) when one is due.
    """

    def __init__(self, fire: Callable[[str, str], None]) -> None:
        self._fire = fire
        self._handles: dict[tuple[str, str], asyncio.TimerHandle] = {}

    @property
    def handlers(self) -> dict[type[Command], Handler]:
        """Of the commands that are carried out here."""
        return {
            SetTimer: lambda task, command: self.set(task, command.name, command.at),
            CancelTimer: lambda task, command: self.cancel(task, command.name),
        }

    def set(self, task: str, name: str, at: int) -> None:
        """Have a timer fire at a time (ms since 1970), in place of the one of the same name."""
        self.cancel(task, name)
        delay = min(max(0, at - clock.now()) / 1000, MAX_NAP_SECONDS)
        self._handles[task, name] = asyncio.get_running_loop().call_later(delay, self._due, task, name, at)

    def _due(self, task: str, name: str, at: int) -> None:
        if clock.now() < at:
            self.set(task, name, at)  # a nap is over, or the loop's clock runs ahead of ours
            return
        del self._handles[task, name]
        self._fire(task, name)

    def cancel(self, task: str, name: str) -> None:
        """Forget a timer."""
        handle = self._handles.pop((task, name), None)
        if handle is not None:
            handle.cancel()

    def clear(self, task: str) -> None:
        """Forget all timers of a task."""
        for owner, name in list(self._handles):
            if owner == task:
                self.cancel(owner, name)

    def close(self) -> None:
        """Forget all timers."""
        for task, name in list(self._handles):
            self.cancel(task, name)
