"""The driver of a node: runs its state machine against the network, the Redis servers, the trainers and the
disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from mlnet import clock, journal, store
from mlnet.errors import ConfigError, MlnetError
from mlnet.ledger import Ledger, Receipt
from mlnet.net.interface import REDIS_PROTOCOL, Target
from mlnet.options import NodeOptions
from mlnet.protocol.commands import (
    CancelTimer,
    Command,
    End,
    Record,
    Report,
    SetTimer,
    speaks,
)
from mlnet.protocol.events import Event, Received, Restarted, TimerFired
from mlnet.protocol.messages import Message, NewMlTask, Signed
from mlnet.protocol.node import MAX_ENDED, Node, Step
from mlnet.state import State, opened
from mlnet.taskrun import TaskRun
from mlnet.timers import Timers
from mlnet.transcript import Transcript
from mlnet.wire import Wire, WireHandlers

logger = logging.getLogger(__name__)
FAREWELL_SECONDS = 2.0
"""How long a node that stops waits for its last words to be acknowledged."""
Observer = Callable[[str, Report | End], None]
"""Takes what a task's machine wants people to see: (task, report)."""
Traffic = Callable[[bool, str, Message], None]
"""Takes each message: (incoming, peer, message)."""
Notice = Callable[[str], None]
"""Takes what the operator should know of this machine or of a peer, beside any task."""


class NodeServer:
    """A running node.

    Args:
        options: of the operator.
        state: the node's directory.
        observe: for people.
        traffic: likewise.
        notice: likewise.
    """

    def __init__(
        self, options: NodeOptions, state: State, observe: Observer, traffic: Traffic, notice: Notice
    ) -> None:
        self._options = options
        self._state = state
        self._observe = observe
        self._ledger = Ledger(state.ledger)
        handlers = WireHandlers(
            self._on_message,
            self._open_tasks,
            self._find_blob,
            self._admit,
            traffic,
            on_notice=notice,
            on_unreachable=lambda peer, why: notice(f"peer {peer} does not answer: {why}; trying on"),
        )
        self.wire = Wire(state.identity, handlers, state.runtime / "n", options.wire)
        self.node = Node(self.wire.seal, options.terms, options.deadlines, state.buried(MAX_ENDED))
        self._timers = Timers(lambda task, name: self._dispatch(task, TimerFired(name)))
        self._runs: dict[str, TaskRun] = {}
        self._clients: dict[str, str] = {}
        self._journals: dict[str, journal.Journal] = {}
        self._transcripts: dict[str, Transcript] = {}
        self._endings: set[asyncio.Task[None]] = set()

    @property
    def peer_id(self) -> str:
        """This node's identity."""
        return self._state.identity.peer_id

    async def start(self) -> None:
        """Listen, and take up what a former process has left.

        Raises:
            NoRedisBinary: there is no server for the tasks to come.
            PortInUse: an address to listen on is taken.
        """
        store.find_binary(self._options.redis)
        await self.wire.start()
        for task in self._state.unfinished():
            self._restore(task)

    async def stop(self) -> None:
        """Withdraw from all tasks and release everything; a model on offer is on offer again after the next
        start."""
        self.node.close()
        for task, member in list(self.node.members.items()):
            if not member.idle:
                self._dispatch(task, Restarted())
        for run in list(self._runs.values()):
            await run.release()
        await self.wire.drain(FAREWELL_SECONDS)
        await asyncio.gather(*self._endings, return_exceptions=True)
        self._timers.close()
        for book in self._journals.values():
            book.close()
        for transcript in self._transcripts.values():
            transcript.close()
        await self.wire.stop()

    # ------------------------------------------------------------------------------------------- from the
    # network

    def _on_message(self, message: Message, _: str) -> bool:
        if not message.task:
            return False
        known = message.task in self.node.members or message.task in self.node.pending
        self._dispatch(message.task, Received(message))
        return not known and (message.task in self.node.members or message.task in self.node.pending)

    def _open_tasks(self) -> Sequence[Message]:
        return self.node.open_tasks(clock.now())

    def _find_blob(self, peer: str, digest: str) -> Path | None:
        return next((path for run in self._runs.values() if (path := run.find_blob(peer, digest))), None)

    def _admit(self, peer: str, protocol: str, preamble: str) -> Target | None:
        task, _, purpose = preamble.partition(" ")
        run = self._runs.get(task)
        if run is None:
            return None
        return run.admit(peer, purpose) if protocol == REDIS_PROTOCOL else run.admit_rank(peer, purpose)

    # ------------------------------------------------------------------------------------------- the machine

    def _dispatch(self, task: str, event: Event) -> None:
        if not self.node.members and not self.node.pending:
            clock.settle()
        for step in self.node.step(task, event, clock.now(), self._clocks(event)):
            self._carry_out(step)

    def _clocks(self, event: Event) -> tuple[int, ...]:
        """What other clocks show than the one that drives the machines, where an age depends on it."""
        if not isinstance(event, Received) or not isinstance(event.message.body, NewMlTask):
            return ()
        wall, elapsed, known = clock.wall(), clock.elapsed(), self.wire.clocks
        client = known.of(event.message.sender, elapsed)
        return (wall, known.median(wall, elapsed), *(() if client is None else (client,)))

    def _carry_out(self, step: Step) -> None:
        if step.event is not None and not self._written(step, step.event):
            return
        for command in step.commands:
            self._do(step.task, command)

    def _written(self, step: Step, event: Event) -> bool:
        """Write a step down; a task without its journal is over, since what is not on disk is not sent."""
        try:
            self._transcript(step.task).step(event, step.commands)
        except (OSError, MlnetError) as error:
            logger.error("the transcript of task %s is not written: %s", step.task[:12], error)
        try:
            self._journal(step.task).append(step.now, event, durable=speaks(step.commands))
        except OSError as error:
            logger.error("the journal of task %s cannot be written: %s", step.task[:12], error)
            self.node.members.pop(step.task, None)
            self._end(step.task, End("failed", f"the journal cannot be written: {error}", "ConfigError"))
            return False
        return True

    def _journal(self, task: str) -> journal.Journal:
        if task not in self._journals:
            self._journals[task] = journal.Journal(self._state.journal(task))
        return self._journals[task]

    def _transcript(self, task: str) -> Transcript:
        if task not in self._transcripts:
            self._transcripts[task] = Transcript(self._state.transcript(task), self.peer_id, task)
        return self._transcripts[task]

    def _do(self, task: str, command: Command) -> None:
        if self.wire.carry(command):
            return
        match command:
            case SetTimer():
                self._timers.set(task, command.name, command.at)
            case CancelTimer():
                self._timers.cancel(task, command.name)
            case Record():
                self._record(task, command)
            case Report():
                self._observe(task, command)
            case End():
                self._end(task, command)
            case _:
                self._run(task).carry_out(command)

    def _restore(self, task: str) -> None:
        """Resume a task from its journal, or withdraw from it."""
        events = list(journal.replay(self._state.journal(task), self.wire.seal.open))
        if events and isinstance(events[0][1], Received):
            self._clients[task] = events[0][1].message.sender
        steps = self.node.restore(task, events, clock.now())
        member = self.node.members.get(task)
        if member is None and not steps:
            self._state.discard(task)
            return
        if member is not None and member.result is not None:
            self._run(task).restore_model(member.result.sha256)
        for step in steps:
            self._carry_out(step)

    def _run(self, task: str) -> TaskRun:
        if task not in self._runs:
            announcement = self.node.members[task].announcement
            self._clients[task] = announcement.sender
            self._runs[task] = TaskRun(
                task,
                announcement.sender,
                self.node.members[task].definition,
                self.wire,
                self._options,
                self._state.task(task),
                self._state.runtime / task[:8],
                lambda event: self._dispatch(task, event),
            )
        return self._runs[task]

    def _record(self, task: str, command: Record) -> None:
        payment = sum(command.split.values())
        evidence = tuple(Signed.of(message.envelope) for message in command.evidence)
        client, now = self._clients[task], clock.wall()
        receipt = Receipt(task, client, command.state, command.amount, payment, command.split, now, evidence)
        try:
            self._ledger.record(receipt)
        except (OSError, ConfigError) as error:
            logger.error("the receipt of task %s is not written: %s", task[:12], error)
        self._observe(task, Report("receipt", {"state": command.state, "amount": command.amount}))

    def _end(self, task: str, command: End) -> None:
        self._observe(task, command)
        self._timers.clear(task)
        self._state.bury(task)
        if task in self._transcripts:
            self._transcripts.pop(task).close()
        book = self._journals.pop(task, None)
        if book is not None:
            book.remove()
        self._later(self._discard(task, self._runs.pop(task, None)))

    async def _discard(self, task: str, run: TaskRun | None) -> None:
        if run is not None:
            await run.release()
        self._state.discard(task)
        self._clients.pop(task, None)

    def _later(self, job: Coroutine[None, None, None]) -> None:
        ending = asyncio.get_running_loop().create_task(job)
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)


def ignore(*_: object) -> None:
    """An observer that does not look."""


@asynccontextmanager
async def running(
    options: NodeOptions,
    observe: Observer = ignore,
    traffic: Traffic = ignore,
    notice: Notice = ignore,
) -> AsyncIterator[NodeServer]:
    """Run a node for as long as the context lasts.

    Args:
        options: of the operator.
        observe: takes (task, report) for people.
        traffic: takes (incoming, peer, message) for people.
        notice: takes a line of text for people.

    Raises:
        ConfigError: the data directory, or an address to listen on, cannot be used.
    """
    with opened(options.data_dir) as state:
        server = NodeServer(options, state, observe, traffic, notice)
        try:
            await server.start()
            yield server
        finally:
            await server.stop()
