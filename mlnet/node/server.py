"""The driver of a node: runs its state machine against the network, the Redis servers, the trainers and the
disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from mlnet import store
from mlnet.client.meeting import Meeting
from mlnet.client.task_client import TaskClient
from mlnet.driver import journal
from mlnet.driver.book import FileBook
from mlnet.driver.data_dir import State, opened
from mlnet.driver.loop import DriverLoop, Executor
from mlnet.driver.messenger import Wire, WireHandlers
from mlnet.driver.options import ClientOptions, NodeOptions
from mlnet.driver.parties import NodeParty
from mlnet.driver.timers import Timers
from mlnet.errors import ConfigError
from mlnet.net.types import REDIS_PROTOCOL, Target
from mlnet.node import offer
from mlnet.node.ledger import Ledger, Receipt
from mlnet.node.task import NodeTask
from mlnet.protocol.commands import Command, End, RecordReceipt, Report
from mlnet.protocol.events import Event, Received, Restarted, TimerFired
from mlnet.protocol.node import MAX_ENDED, Node
from mlnet.protocol.wire.messages import Message, NewMlTask, Signed
from mlnet.util import clock, files

logger = logging.getLogger(__name__)
FAREWELL_SECONDS = 2.0
"""How long a node that stops waits for the acknowledgement of its last messages. A peer that misses them
learns of the withdrawal from its own deadlines only."""
Observer = Callable[[str, Report | End], None]
"""``(task, report)``: takes what a task's machine reports for people."""
Traffic = Callable[[bool, str, Message], None]
"""``(incoming, peer, message)``: takes each message."""
Notice = Callable[[str], None]
"""``(text)``: takes what the operator should know about this machine or a peer, apart from any task."""


class NodeServer:
    """A running node. It is also the client of its operator's tasks, with the same identity on the same wire,
    and never a member of them.

    Attributes:
        node: its state machine.
        client: of its operator's tasks.
        client_state: the directory of that client, below the node's.
        wire: of both.
        listeners: take what the operator should know apart from any task.

    Args:
        options: the operator's.
        state: the node's directory.
        observe: takes reports of tasks.
        traffic: takes every message.
        notice: takes notices to the operator.
    """

    def __init__(
        self, options: NodeOptions, state: State, observe: Observer, traffic: Traffic, notice: Notice
    ) -> None:
        self._options = options
        self._state = state
        self._observe = observe
        self.listeners: list[Notice] = [notice]
        self._ledger = Ledger(state.ledger)
        meeting = Meeting(options.wire.peers, self._tell)
        handlers = WireHandlers(
            self._on_message,
            self._open_tasks,
            self._find_blob,
            self._admit,
            traffic,
            on_peer=meeting.on_peer,
            on_notice=self._tell,
            on_unreachable=meeting.on_unreachable,
        )
        self.wire = Wire(state.identity, handlers, state.runtime / "n", options.wire)
        self.client_state = state.part("client")
        self.client = TaskClient(
            ClientOptions(self.client_state.directory, options.wire, options.deadlines),
            self.client_state,
            self.wire,
            meeting,
            self._tell,
            home=self.client_state.directory / "models",
            may_settle=lambda: not (self.node.members or self.node.pending),
        )
        self.client.expect()
        self.node = Node(self.wire.signer, options.terms, options.deadlines, state.begun(MAX_ENDED))
        self._timers = Timers(lambda task, name: self._dispatch(task, TimerFired(name)))
        self._runs: dict[str, NodeTask] = {}
        self._clients: dict[str, str] = {}
        self._unrecorded: dict[str, Receipt] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._book = FileBook(state, self.peer_id, notes_begun=True)
        execute = Executor(
            "a node",
            {
                **self.wire.handlers,
                **self._timers.handlers,
                **dict.fromkeys(NodeTask.effects, self._begin_effect),
                RecordReceipt: self._record,
                Report: self._show,
                End: self._end,
            },
        )
        self._loop = DriverLoop(NodeParty(self.node), self._book, execute, clock.now, self._clocks)

    @property
    def peer_id(self) -> str:
        """This node's identity."""
        return self._state.identity.peer_id

    @property
    def options(self) -> NodeOptions:
        """The operator's."""
        return self._options

    @property
    def state(self) -> State:
        """The node's directory."""
        return self._state

    @property
    def ledger(self) -> Ledger:
        """Its receipts."""
        return self._ledger

    async def start(self) -> None:
        """Listen, and resume or withdraw from the tasks that a former process has left.

        Raises:
            NoRedisBinary: there is no server for the tasks to come, or it is too old.
            PortInUse: an address to listen on is taken, or all of the ports for Redis servers are.
            StorageError: what a former process has left cannot be read, or what is offered is not there.
        """
        # Checked before anything listens: a node that cannot serve a task must not be found.
        await asyncio.to_thread(store.check_version, store.find_binary(self._options.redis))
        offer.check(self._options)
        await self.wire.start()
        with files.written_to(self._state.tasks, "free some space, or choose another --data-dir"):
            for task in self._state.unfinished():
                self._restore(task)

    async def stop(self) -> None:
        """Withdraw from all tasks and release everything; a model on offer is on offer again after the next
        start."""
        self.node.close()
        for task, member in list(self.node.members.items()):
            if not member.idle:
                self._dispatch(task, Restarted())
        await asyncio.gather(*(run.release() for run in self._runs.values()))
        await self.wire.drain(FAREWELL_SECONDS)
        await asyncio.gather(*self._endings, return_exceptions=True)
        await self.client.close()
        self._timers.close()
        self._book.close_all()
        await self.wire.stop()

    # ----------------------------------------------------------------------------------- from the network

    def _on_message(self, message: Message, _: str) -> bool:
        if not message.task:
            return False
        if self.client.receive(message):
            return True
        known = message.task in self.node.members or message.task in self.node.pending
        self._dispatch(message.task, Received(message))
        return not known and (message.task in self.node.members or message.task in self.node.pending)

    def _open_tasks(self) -> Sequence[Message]:
        return [*self.client.open_tasks(), *self.node.open_tasks(clock.now())]

    def _find_blob(self, peer: str, digest: str) -> Path | None:
        found = self.client.find_blob(peer, digest)
        return found or next(
            (path for run in self._runs.values() if (path := run.find_blob(peer, digest))), None
        )

    def _admit(self, peer: str, protocol: str, preamble: str) -> Target | None:
        task, _, purpose = preamble.partition(" ")
        run = self._runs.get(task)
        if run is None:
            return None
        return run.admit(peer, purpose) if protocol == REDIS_PROTOCOL else run.admit_rank(peer, purpose)

    # ------------------------------------------------------------------------------------------- the machine

    def _dispatch(self, task: str, event: Event) -> None:
        # No task, so no deadline: the clock may jump to the system's (clock.settle).
        if not self.node.members and not self.node.pending and not self.client.busy:
            clock.settle()
        self._loop.dispatch(task, event)

    def _clocks(self, event: Event) -> tuple[int, ...]:
        """What other clocks show, for the events in which the age of a message counts."""
        if not isinstance(event, Received) or not isinstance(event.message.body, NewMlTask):
            return ()
        wall, elapsed, known = clock.wall(), clock.elapsed(), self.wire.clocks
        client = known.of(event.message.sender, elapsed)
        return (wall, known.median(wall, elapsed), *(() if client is None else (client,)))

    def _restore(self, task: str) -> None:
        """Resume a task from its journal, or withdraw from it."""
        events = list(journal.replay(self._state.journal(task), self.wire.signer.verify))
        if events and isinstance(events[0][1], Received):
            self._clients[task] = events[0][1].message.sender
        steps = self._loop.restore(task, events)
        member = self.node.members.get(task)
        if member is None and not steps:
            self._state.discard(task)
            return
        if member is not None and member.result is not None:
            self._run(task).restore_model(member.result.sha256)
        for step in steps:
            self._loop.carry_out(step)

    def _begin_effect(self, task: str, command: Command) -> None:
        self._run(task).carry_out(command)

    def _run(self, task: str) -> NodeTask:
        if task not in self._runs:
            announcement = self.node.members[task].announcement
            self._clients[task] = announcement.sender
            self._runs[task] = NodeTask(
                task,
                announcement.sender,
                self.node.members[task].definition,
                self.wire,
                self._options,
                self._state.task(task),
                lambda: self._state.runtime / task[:8],
                lambda event: self._dispatch(task, event),
            )
        return self._runs[task]

    def _record(self, task: str, command: RecordReceipt) -> None:
        payment = sum(command.split.values())
        evidence = tuple(Signed.of(message.envelope) for message in command.evidence)
        client, now = self._clients[task], clock.wall()
        receipt = Receipt(task, client, command.state, command.amount, payment, command.split, now, evidence)
        if self._written(receipt):
            self._show(task, Report("receipt", {"state": command.state, "amount": command.amount}))

    def _written(self, receipt: Receipt) -> bool:
        """Write a receipt, or keep it for a later attempt; return whether it was written."""
        try:
            self._ledger.record(receipt)
        except (OSError, ConfigError) as error:
            self._unrecorded[receipt.task] = receipt
            logger.error(
                "the receipt of task %s cannot be written: %s; the next start of this node tries again",
                *(receipt.task[:12], error),
            )
            return False
        self._unrecorded.pop(receipt.task, None)
        return True

    def _end(self, task: str, command: End) -> None:
        """Release everything that a task holds. Nothing here needs room on the disk, and a failure does not
        keep the rest from being released."""
        self._timers.clear(task)
        run = self._runs.pop(task, None)
        receipt = self._unrecorded.pop(task, None)
        # If not, the journal stays: the next start makes the receipt again from it.
        owed = receipt is not None and not self._written(receipt)
        self._unrecorded.pop(task, None)
        if not owed and not self._book.remove(task):
            where = self._state.journal(task)
            logger.error("the journal of a task that is over cannot be removed; remove it: %s", where)
        self._book.close(task)
        self._later(self._discard(task, run, keep=owed))
        self._show(task, command)

    async def _discard(self, task: str, run: NodeTask | None, *, keep: bool) -> None:
        if run is not None:
            await run.release()
        if not keep:
            self._state.discard(task)
        self._clients.pop(task, None)

    def _show(self, task: str, report: Report | End) -> None:
        """Show a report to people. A log on a full disk or a closed terminal must not end a task."""
        with contextlib.suppress(OSError, ValueError):
            self._observe(task, report)

    def _tell(self, text: str) -> None:
        """Tell whoever listens what concerns this machine or a peer."""
        for listener in list(self.listeners):
            with contextlib.suppress(OSError, ValueError):
                listener(text)

    def _later(self, job: Coroutine[None, None, None]) -> None:
        ending = asyncio.get_running_loop().create_task(job)
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)


def ignore(*_: object) -> None:
    """An observer that ignores everything."""


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
        with files.written_to(options.data_dir, "free some space, or choose another --data-dir"):
            server = NodeServer(options, state, observe, traffic, notice)
        try:
            await server.start()
            yield server
        finally:
            await server.stop()
