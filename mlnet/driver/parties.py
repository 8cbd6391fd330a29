"""A node and a client as :class:`~mlnet.driver.loop.DriverLoop` sees them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlnet.protocol.client.machine import Client
from mlnet.protocol.commands import Command, End, Report
from mlnet.protocol.events import Event, Received, Restarted
from mlnet.protocol.node import Node, Step
from mlnet.protocol.phases import ClientPhase

WORKING = frozenset({ClientPhase.TRAINING, ClientPhase.SCORING, ClientPhase.REWARDS})
"""Phases in which the nodes have work for the client that ending the task would waste."""


class Leave(Command, frozen=True):
    """This process ends its part in the task, which does not end by that.

    Attributes:
        problem: why.
        resumable: whether a later process can take the task up; else nobody was told of it.
    """

    problem: str
    resumable: bool


class NodeParty:
    """All tasks of a node.

    Args:
        node: its machine.
    """

    def __init__(self, node: Node) -> None:
        self.node = node

    def step(self, task: str, event: Event, now: int, clocks: Iterable[int] = ()) -> list[Step]:
        """See :meth:`mlnet.protocol.node.Node.step`."""
        return self.node.step(task, event, now, clocks)

    def restore(self, task: str, events: Iterable[tuple[int, Event]], now: int) -> list[Step]:
        """See :meth:`mlnet.protocol.node.Node.restore`."""
        return self.node.restore(task, events, now)

    def keeps(self, step: Step) -> bool:
        """A member whose result has been said serves its model, this process or the next."""
        return step.member is not None and step.member.result_said

    def abandon(self, step: Step, problem: str, *, forgotten: bool) -> list[Command]:
        """See :meth:`mlnet.protocol.node.Node.abandon`. The reason is said freely where the journal is gone,
        else in the words of a restarted node, which may follow."""
        reason = f"the node cannot write to its disk: {problem}" if forgotten else Restarted().reason
        return self.node.abandon(step, reason)


class ClientParty:
    """The one task of a client's machine.

    Args:
        client: the machine.

    Attributes:
        restored: what the machine reported to former processes, which may not have come to show all of it.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.restored: list[Report] = []

    def step(self, task: str, event: Event, now: int, clocks: Iterable[int] = ()) -> list[Step]:
        """Take in an event; none counts once the task has ended."""
        if self.client.ended:
            return []
        return [Step(task, event, now, self.client.step(event, now))]

    def restore(self, task: str, events: Iterable[tuple[int, Event]], now: int) -> list[Step]:
        """Bring the machine to where a former process left it.

        Returns:
            The last step where it ended the task, since nobody knows how much of it was done; else nothing,
            and the next event is :class:`~mlnet.protocol.events.Restarted`.
        """
        commands: list[Command] = []
        for at, event in events:
            commands = self.client.step(event, at)
            self.restored.extend(command for command in commands if isinstance(command, Report))
        return [Step(task, None, now, commands)] if self.client.ended else []

    def keeps(self, step: Step) -> bool:
        """What the nodes train, or have trained, is kept for a later process."""
        done = any(isinstance(one, End) and one.state == "completed" for one in step.commands)
        return done or self.client.phase in WORKING

    def abandon(self, step: Step, problem: str, *, forgotten: bool) -> Sequence[Command]:
        """A task that nodes work on waits for a later process. Any other is cancelled, since they would wait
        for this client; one that was not announced ends unheard."""
        problem = f"the client cannot write to its disk: {problem}"
        if isinstance(step.event, Received) and step.event.message == self.client.announcement:
            return [Leave(problem, resumable=False)]
        if self.keeps(step):
            return [Leave(problem, resumable=True)]
        ends = [one for one in step.commands if isinstance(one, End)]
        ends = ends or [End("failed", problem, "StorageError")]
        return [*self.client.last_word(ends[0].reason or problem), *ends]
