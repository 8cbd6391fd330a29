"""A node: which tasks it takes, and its part in each of them.

Every step of a member is returned as a :class:`Step`, so that a driver can write the event down before it
carries the commands out, and replay it after a crash.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from mlnet.errors import RemoteProtocolError, TaskError
from mlnet.protocol.commands import Command, End, Report, Send, SetTimer, speaks
from mlnet.protocol.deadlines import Deadlines
from mlnet.protocol.decisions.answering import EIGHTHS, eighth
from mlnet.protocol.events import Event, Received, Restarted, TimerFired
from mlnet.protocol.machine import Signer
from mlnet.protocol.member.machine import Member, Occupied
from mlnet.protocol.wire.messages import Message, NewMlTask, Resources, TaskFailedBody
from mlnet.task import definition as task_definition
from mlnet.task.schema import TaskDefinition
from mlnet.util.wording import TASK_LENGTH

MAX_PENDING = 256
"""Tasks that a busy node keeps in case it is free in time. Each holds a definition of up to 64 KiB."""
MAX_PENDING_OF_CLIENT = 8
"""Of one client, so that no client can fill the list alone."""
MAX_ENDED = 8192
"""Ended tasks that a node remembers and does not answer again. An announcement is fresh for its waiting
period and :data:`CLOCK_SKEW`: a node forgets one too early only when it ends more tasks than this in that
time."""
CLOCK_SKEW = 300_000
"""ms, beside the waiting period, by which a task's date may be off by the clock that fits it best. Machines
with a time service are within a second of one another; five minutes is the tolerance of Kerberos as well."""

ANSWER = "answer"
"""Timer of a task that is not answered yet."""
CLOSING = frozenset({"CANCEL_TASK", "TASK_FAILED", "CLUSTER_MEMBERS"})
"""Types by which a client ends the waiting for those who have not answered."""


class Terms(msgspec.Struct, frozen=True):
    """What an operator lets tasks have.

    Attributes:
        resources: offered to a task.
        tasks: at once.
        max_parameters: of a model.
        least_payment: micro-units.
        clients: peer ids whose tasks are taken; empty for all.
    """

    resources: Resources
    tasks: int = 1
    max_parameters: int = 100_000_000
    least_payment: int = 0
    clients: frozenset[str] = frozenset()


class Step(NamedTuple):
    """What is to be done for a task, and the event to write down first; None where no member took one in."""

    task: str
    event: Event | None
    now: int
    commands: list[Command]
    member: Member | None = None


class Pending(NamedTuple):
    """A task that this node has heard of and not answered, and when it may."""

    message: Message
    definition: TaskDefinition
    since: int
    until: int


class Node:
    """All of a node's tasks.

    Args:
        signer: signs as this node.
        terms: of the operator.
        deadlines: see :class:`~mlnet.protocol.deadlines.Deadlines`.
        ended: ids of tasks that a former process has ended: it has signed its words of them.

    Attributes:
        declined: tasks that got a word of why they are not answered, and that word's code: it is said once.
    """

    def __init__(self, signer: Signer, terms: Terms, deadlines: Deadlines, ended: Iterable[str] = ()) -> None:
        self.signer = signer
        self.terms = terms
        self.deadlines = deadlines
        self.members: dict[str, Member] = {}
        self.closing = False
        self.pending: OrderedDict[str, Pending] = OrderedDict()
        self.ended: OrderedDict[str, None] = OrderedDict.fromkeys(ended)
        self.declined: OrderedDict[tuple[str, str], None] = OrderedDict()

    @property
    def busy(self) -> bool:
        """Whether every place for a task is taken."""
        return self.closing or sum(not member.idle for member in self.members.values()) >= self.terms.tasks

    def occupied(self, now: int) -> Occupied:
        """For how long from now on no place for a task is free, as far as this node can tell."""
        tasks = [member.occupied(now) for member in self.members.values() if not member.idle]
        return min((task for task in tasks if task.ms), default=tasks[0] if tasks else Occupied())

    def open_tasks(self, now: int) -> list[Message]:
        """Announcements that a newcomer may still answer."""
        known = [pending.message for pending in self.pending.values() if now < pending.until]
        joined = [m.announcement for m in self.members.values() if m.attempt == 0 and not m.idle]
        return known + joined

    def step(self, task: str, event: Event, now: int, clocks: Iterable[int] = ()) -> list[Step]:
        """Take in an event of a task; one of a task that this node has no part in is ignored.

        Args:
            task: its id.
            event: what happened.
            now: ms.
            clocks: what other clocks show now, ms since 1970, by any of which an announcement may be fresh:
                that of the system, most of the peers', the client's.

        Raises:
            RemoteProtocolError: the event is a message that its sender may not send; the state is unchanged.
        """
        steps: list[Step] = []
        if task in self.members:
            steps.append(self._step(task, event, now))
        elif isinstance(event, Received) and isinstance(event.message.body, NewMlTask):
            steps.extend(self._heard(event.message, event.message.body, now, clocks))
        elif isinstance(event, Received) and event.message.type in CLOSING:
            pending = self.pending.get(task)
            if pending is not None and pending.message.sender == event.message.sender:
                del self.pending[task]
                self._end(task)
        steps.extend(self._take_pending(now))
        if task in self.pending and isinstance(event, TimerFired):
            steps.extend(self._busy(self.pending[task], now))
            steps.append(Step(task, None, now, [SetTimer(ANSWER, self.pending[task].until)]))
        return steps

    def restore(self, task: str, events: Iterable[tuple[int, Event]], now: int) -> list[Step]:
        """Bring a task back from its journal and tell it that the process was restarted.

        Args:
            task: its id.
            events: those that :attr:`Step.event` named, with their times, in order.
            now: ms.

        Returns:
            The last step, with the timers and words that are still due. A member that had ended does once
            more what its last event led to, since nobody knows how much of it was done.
        """
        commands: list[Command] = []
        for at, event in events:
            if task not in self.members:
                if not isinstance(event, Received):
                    return []
                self.members[task] = self._member(
                    event.message, task_definition.load_heard(_text(event.message))
                )
            commands = self.members[task].step(event, at)
        if task not in self.members:
            return []
        if self.members[task].ended:
            del self.members[task]
            self._end(task)
            return [Step(task, None, now, commands)]
        return [self._step(task, Restarted(), now)]

    def abandon(self, step: Step, reason: str) -> list[Command]:
        """What may be done of a step whose event could not be written down: nothing that it signed is said.

        A member whose result has been said goes on in silence, since others need its model. Any other is out,
        and so says with a last word to whoever may wait for it.

        Args:
            step: it.
            reason: for the others; see :meth:`~mlnet.protocol.member.machine.Member.last_word`.
        """
        member = step.member
        if member is None:
            return [command for command in step.commands if not speaks([command])]
        silent = [command for command in step.commands if not member.speaks_anew(command)]
        if member.result_said and not member.speaks_anew(*step.commands):
            return silent
        over = member.ended
        if not over:
            del self.members[step.task]
            self._end(step.task)
            silent = [command for command in silent if isinstance(command, Report)]
            silent.append(End("failed", reason, "StorageError"))
        return [*member.last_word(reason, step.commands), *silent]

    def refusal(self, client: str, definition: TaskDefinition) -> str:
        """Why this node does not take a task; empty when it does."""
        terms, needs = self.terms, definition.cluster.requirements
        if terms.clients and client not in terms.clients:
            return "this node's operator does not take tasks of this client"
        if definition.payment_micro < terms.least_payment:
            return f"pays less than this node's least payment of {terms.least_payment} micro-units"
        if definition.ml.model.parameter_count(1) > terms.max_parameters:
            return f"the model has more than the {terms.max_parameters} parameters that this node allows"
        if needs.memory_bytes > terms.resources.memory << 20:
            return f"needs {needs.memory} of memory, this node offers {terms.resources.memory} MiB"
        if needs.cpus > terms.resources.cpus:
            return f"needs {needs.cpus} processors, this node offers {terms.resources.cpus}"
        return ""

    def close(self) -> None:
        """Take no further task."""
        self.closing = True
        self.pending.clear()

    # ------------------------------------------------------------------------------------------------- inside

    def _heard(self, message: Message, body: NewMlTask, now: int, clocks: Iterable[int]) -> list[Step]:
        known = message.task in self.pending or message.task in self.ended
        if known or message.sender == self.signer.peer_id:
            return []
        if self.closing:
            stopping = "this node is being stopped and takes no further task"
            return self._decline(message, TaskFailedBody(stopping, "NodeLost"), now)
        try:
            definition = task_definition.load_heard(body.definition)
        except TaskError as error:
            raise RemoteProtocolError(
                f"the definition of task {message.task[:TASK_LENGTH]} is not valid: {error}"
            ) from error
        waiting = definition.cluster.waiting_period_ms
        age = min((clock - body.created for clock in (now, *clocks)), key=abs)
        if abs(age) > waiting + CLOCK_SKEW:
            return self._decline(message, TaskFailedBody(_misdated(age), "ConfigError"), now)
        reason = self.refusal(message.sender, definition)
        if reason:
            self._end(message.task)
            return self._decline(message, TaskFailedBody(reason, "ConfigError"), now)
        of_client = sum(pending.message.sender == message.sender for pending in self.pending.values())
        if len(self.pending) >= MAX_PENDING or of_client >= MAX_PENDING_OF_CLIENT:
            whose = "of this client" if of_client >= MAX_PENDING_OF_CLIENT else "in all"
            full = f"too many tasks wait for this node already ({whose})"
            return self._decline(message, self._no_place(full, now), now)
        return self._keep(message, body, definition, now)

    def _keep(self, message: Message, body: NewMlTask, definition: TaskDefinition, now: int) -> list[Step]:
        """Let a task wait until it is this node's turn to answer and a place is free."""
        waiting = definition.cluster.waiting_period_ms
        turn = eighth(
            message.task, self.signer.peer_id, wanted=definition.cluster.max_nodes, network=body.peers
        )
        until = now + waiting
        since = until if turn is None else now + turn * waiting // EIGHTHS
        self.pending[message.task] = pending = Pending(message, definition, since, until)
        if since > now:
            timer: list[Command] = [SetTimer(ANSWER, since)]
            if turn is None:
                most = definition.cluster.max_nodes
                timer.insert(
                    0, _unanswered(f"not drawn: the task takes at most {most} of about {body.peers} nodes")
                )
            return [Step(message.task, None, now, timer)]
        if not self.busy:
            return []
        return [*self._busy(pending, now), Step(message.task, None, now, [SetTimer(ANSWER, until)])]

    def _busy(self, pending: Pending, now: int) -> list[Step]:
        occupied, tasks = self.occupied(now), self.terms.tasks
        taken = "another task" if tasks == 1 else f"{tasks} other tasks"
        unknown = "" if occupied.ms else "; it does not know yet for how long"
        words = f"busy with {taken} (it takes {tasks} at a time: --tasks){occupied.stage}{unknown}"
        return self._decline(pending.message, self._no_place(words, now), now)

    def _no_place(self, reason: str, now: int) -> TaskFailedBody:
        occupied = self.occupied(now)
        return TaskFailedBody(reason, "TooFewNodes", occupied.ms, occupied.at_most)

    def _decline(self, message: Message, reason: TaskFailedBody, now: int) -> list[Step]:
        """Say why there is no answer: to the operator, and to the client if it is a neighbour, since notes
        from all would be a storm.

        No journal has it: dated like the task, it does not change the order of what the journal has.
        """
        said = (message.task, reason.code)
        if said in self.declined:
            return []
        self.declined[said] = None
        while len(self.declined) > MAX_ENDED:
            self.declined.popitem(last=False)
        assert isinstance(message.body, NewMlTask)
        note = self.signer.sign(reason, task=message.task, attempt=0, sent=message.body.created)
        send = Send((message.sender,), note, now + self.deadlines.grace, neighbours_only=True)
        return [Step(message.task, None, now, [send, _unanswered(reason.reason, reason)])]

    def _take_pending(self, now: int) -> list[Step]:
        steps: list[Step] = []
        for task, pending in list(self.pending.items()):
            if now >= pending.until:
                del self.pending[task]
                self._end(task)
                if self.busy and pending.since < pending.until:
                    words = "its waiting period ended before this node was free"
                    steps.append(Step(task, None, now, [_unanswered(words)]))
            elif now >= pending.since and not self.busy:
                del self.pending[task]
                self.members[task] = self._member(pending.message, pending.definition)
                steps.append(self._step(task, Received(pending.message), now))
        return steps

    def _member(self, message: Message, definition: TaskDefinition) -> Member:
        return Member(self.signer, message, definition, self.deadlines, self.terms.resources)

    def _step(self, task: str, event: Event, now: int) -> Step:
        member = self.members[task]
        commands = member.step(event, now)
        if member.ended:
            del self.members[task]
            self._end(task)
        return Step(task, event if member.heard or commands else None, now, commands, member)

    def _end(self, task: str) -> None:
        self.ended[task] = None
        while len(self.ended) > MAX_ENDED:
            self.ended.popitem(last=False)


def _unanswered(reason: str, word: TaskFailedBody | None = None) -> Report:
    busy, at_most = (word.busy, word.at_most) if word is not None else (0, False)
    return Report("unanswered", {"reason": reason, "busy": busy, "at_most": at_most})


def _misdated(age: int) -> str:
    """What an announcement's age (ms), by the clock that fits it best, says of somebody's clock."""
    minutes = abs(age) // 60_000
    length = f"{minutes} min" if minutes < 600 else f"{round(minutes / 60)} h"
    off = f"dated {length} {'ago' if age > 0 else 'ahead'} by this node's clock and by its peers'"
    return (
        f"the announcement is {off}: the client's clock is off, or this node's"
        + (", or it is an old one" if age > 0 else "")
        + "; have both clocks set by NTP"
    )


def _text(message: Message) -> str:
    assert isinstance(message.body, NewMlTask)
    return message.body.definition
