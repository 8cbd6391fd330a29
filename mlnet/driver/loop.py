"""The loop that every state machine is driven by: event -> journal -> transcript -> commands.

A node, a client, the simulator and the tests differ in who carries a command out and where a step is written
down; the order of the parts, and what is done when the disk fails, is the same for all of them and stands
here.

The order matters: what is not in the journal is not said, since a later process would not know that it was,
and might sign something else in its place. So a party whose journal cannot be written signs nothing from
there on but one last word, which is the same string whoever says it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from mlnet.errors import LocalProtocolError
from mlnet.protocol.commands import Command
from mlnet.protocol.events import Event
from mlnet.protocol.node import Step
from mlnet.util import files
from mlnet.util.wording import TASK_LENGTH

logger = logging.getLogger(__name__)
Handler = Callable[[str, Any], object]
"""Takes (task, command) and begins what the command asks for; an effect ends in another event."""


class Party(Protocol):
    """A node or a client as the loop sees it; see :mod:`mlnet.driver.parties`."""

    def step(self, task: str, event: Event, now: int, clocks: Iterable[int]) -> list[Step]:
        """Take in an event of a task.

        Raises:
            RemoteProtocolError: the event is a message that its sender may not send; the state is unchanged.
        """
        ...

    def restore(self, task: str, events: Iterable[tuple[int, Event]], now: int) -> list[Step]:
        """Bring a task to where a former process left it; the steps that are still due."""
        ...

    def keeps(self, step: Step) -> bool:
        """Whether a step that is not on the disk leaves something there that is worth keeping the journal
        for."""
        ...

    def abandon(self, step: Step, problem: str, *, forgotten: bool) -> Sequence[Command]:
        """What may still be done of a step that is not on the disk.

        Args:
            step: it.
            problem: what the system says of the disk.
            forgotten: whether the journal is gone, so that no later process takes part in the task.
        """
        ...


class Book(Protocol):
    """Where steps are written down; see :mod:`mlnet.driver.book`."""

    def write(self, task: str, now: int, event: Event, commands: Sequence[Command]) -> None:
        """Write a step down, before its commands are carried out.

        Raises:
            OSError: the journal is not written, now or before: nothing that this step signed may be said. A
                transcript that cannot be written ends there; it is not a reason to end the task.
        """
        ...

    def remove(self, task: str) -> bool:
        """Keep the transcript of a task alone. Whether its journal is gone."""
        ...


class Executor:
    """Carries commands out, each by the handler of its type.

    Args:
        whose: for the error's text, such as ``a node``.
        handlers: by type of command.
    """

    def __init__(self, whose: str, handlers: Mapping[type[Command], Handler]) -> None:
        self._whose, self._handlers = whose, handlers

    def __call__(self, task: str, command: Command) -> None:
        """Carry a command of a task out.

        Raises:
            LocalProtocolError: there is no handler: a machine asks for what its driver does not know.
        """
        handler = self._handlers.get(type(command))
        if handler is None:
            raise LocalProtocolError(f"{self._whose} does not know how to carry out {type(command).__name__}")
        handler(task, command)


def no_clocks(_: Event) -> tuple[int, ...]:
    """No clock counts but the one that drives the machine."""
    return ()


class DriverLoop:
    """Drives the machines of one party.

    Args:
        party: its machines.
        book: where its steps are written down.
        execute: carries out a command of a task.
        clock: ms; see :mod:`mlnet.util.clock`.
        clocks: what other clocks show that bear on an event, ms since 1970.
    """

    def __init__(
        self,
        party: Party,
        book: Book,
        execute: Callable[[str, Command], None],
        clock: Callable[[], int],
        clocks: Callable[[Event], Iterable[int]] = no_clocks,
    ) -> None:
        self._party, self._book, self._execute = party, book, execute
        self._clock, self._clocks = clock, clocks

    def dispatch(self, task: str, event: Event) -> list[Step]:
        """Take in an event of a task, and do what follows from it.

        Returns:
            The steps that were taken, for those who look on; empty for an event that nobody has a use for.

        Raises:
            RemoteProtocolError: the event is a message that its sender may not send; nothing was done.
        """
        steps = self.step(task, event)
        for step in steps:
            self.carry_out(step)
        return steps

    def step(self, task: str, event: Event) -> list[Step]:
        """Take in an event of a task, and do nothing of what follows from it; see :meth:`dispatch`."""
        return self._party.step(task, event, self._clock(), self._clocks(event))

    def restore(self, task: str, events: Iterable[tuple[int, Event]]) -> list[Step]:
        """Bring a task back from its journal.

        Args:
            task: its id.
            events: with their times, ms, in order.

        Returns:
            The steps that are still due, for :meth:`carry_out`.
        """
        return self._party.restore(task, events, self._clock())

    def carry_out(self, step: Step) -> None:
        """Write a step down, then carry its commands out."""
        commands: Sequence[Command] = step.commands
        if step.event is not None:
            try:
                self._book.write(step.task, step.now, step.event, commands)
            except OSError as error:
                commands = self._unwritten(step, error)
        for command in commands:
            self._execute(step.task, command)

    def _unwritten(self, step: Step, error: OSError) -> Sequence[Command]:
        """A task of which something is worth keeping stays on the disk as far as it was written; of any other
        the journal goes, since a later process would say what this one can no longer know of."""
        problem = files.why(error)
        logger.error("the journal of task %s cannot be written: %s", step.task[:TASK_LENGTH], problem)
        forgotten = not self._party.keeps(step) and self._book.remove(step.task)
        return self._party.abandon(step, problem, forgotten=forgotten)
