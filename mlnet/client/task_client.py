"""A client on the network, for any number of tasks; it runs on a wire that it is given, be it its own
(:func:`mlnet.client.connecting.connected`) or a node's (:mod:`mlnet.node.server`)::

async with mlnet.connected(ClientOptions(data_dir, WireOptions(peers=(address,)))) as client:
    result = await (await client.submit(Path("client-task-definition.yaml"))).result()
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec

from mlnet import data
from mlnet.client import outputs, request
from mlnet.client.meeting import Meeting, Notice
from mlnet.client.request import TaskRequest
from mlnet.client.stored import STORED, Stored, find_unfinished, read_stored, write_stored
from mlnet.client.submission import Observer, Submission, ignore
from mlnet.driver import journal
from mlnet.driver.data_dir import State
from mlnet.driver.messenger import Wire
from mlnet.driver.options import ClientOptions
from mlnet.driver.peer_clocks import TOLERANCE_MS
from mlnet.errors import ConfigError, MlnetError, StorageError
from mlnet.protocol.client.machine import Client
from mlnet.protocol.client.rivals import Rivals
from mlnet.protocol.client.state import OfferedDataset
from mlnet.protocol.decisions.answering import estimate
from mlnet.protocol.wire.messages import Message, NewMlTask
from mlnet.task import definition as task_definition
from mlnet.task.definition import TaskDefinition
from mlnet.util import clock, files
from mlnet.util.wording import duration

PARAMETER_BYTES = 4
MODEL_HEADER_BYTES = 64 << 10
Kept = Callable[[Submission], None]
"""Takes a task that has its id and is kept on the disk, before anybody else is told of it. What it raises
gives the task up."""


class TaskClient:
    """A client on the network, for any number of tasks.

    Its identity is never a member of its tasks: the wire drops what this identity has signed itself, and so a
    node never hears the announcements that it makes as a client.

    Args:
        options: of the user.
        state: the client's directory.
        wire: the client's, or that of the node whose client this is. Whoever made it hands its messages to
            :meth:`receive` and starts and stops it.
        meeting: is told of the peers that the wire meets.
        notice: takes a line of text for people.
        home: where models go for which no directory is named.
        may_settle: whether the clock may jump to the system's as far as others who use it are concerned.
    """

    def __init__(
        self,
        options: ClientOptions,
        state: State,
        wire: Wire,
        meeting: Meeting,
        notice: Notice,
        *,
        home: Path = Path(),
        may_settle: Callable[[], bool] = lambda: True,
    ) -> None:
        self._options = options
        self._state = state
        self._notice = notice
        self._home = home
        self._may_settle = may_settle
        self._submissions: dict[str, Submission] = {}
        self._left: set[str] = set()
        self._rivals_over: asyncio.TimerHandle | None = None
        self._rivals = Rivals(state.identity.peer_id)
        self.wire = wire
        self.meeting = meeting

    @property
    def peer_id(self) -> str:
        """The client's identity."""
        return self._state.identity.peer_id

    @property
    def busy(self) -> bool:
        """Whether a task is under way, whose deadlines hang on the clock."""
        return bool(self._submissions)

    def expect(self) -> None:
        """Have messages of the tasks that a former process has left sent again, until each is taken up
        (:meth:`resume`) or given up (:meth:`forget`), which has to be soon."""
        self._left = set(self._state.unfinished())

    async def meet(self, seconds: float = 0.0) -> None:
        """See :meth:`mlnet.client.meeting.Meeting.wait`."""
        await self.meeting.wait(self.wire.network.connected_peers(), seconds)

    def doing(self) -> str:
        """What is under way before a task is announced, for people."""
        if left := self.meeting.left:
            return f"waits for a peer to answer; {duration(left)} left"
        return "cuts the dataset into segments"

    async def close(self) -> None:
        """End this process's part in all tasks; those that are under way can be resumed later."""
        if self._rivals_over is not None:
            self._rivals_over.cancel()
        for submission in self._submissions.values():
            await submission.close()

    async def submit(
        self,
        task: Path | TaskRequest,
        *,
        output: Path | None = None,
        waiting_period: str | None = None,
        created: int | None = None,
        observe: Observer = ignore,
        kept: Kept = ignore,
        warn: Notice | None = None,
        meets: bool = True,
    ) -> Submission:
        """Announce a task, once one of the peers given answers: it is waited for as long as for nodes.

        Args:
            task: what to do, or the file with its definition, to which paths in it are relative.
            output: directory for the model and the result; ``mlnet-TASK`` in the current directory by
                default.
            waiting_period: in place of the definition's ``cluster.waiting-period``, for a file.
            created: ms since 1970, in place of now by the clocks of most peers, if this machine's is off.
            observe: takes reports for people.
            warn: takes what might not be meant in the dataset; by default the client's notices do.
            kept: is told of the task when a later process could take it up.
            meets: waits for a peer; else the task is announced to whoever is there, and to those who come.

        Raises:
            TaskError: the definition is wrong.
            DataError: the dataset is.
            ConfigError: ``output`` is no place for a model.
            StorageError: it cannot be written, or there is no room for the segments or the model.
            PeerUnreachable: nobody is there to hear of the task.
        """
        asked = task if isinstance(task, TaskRequest) else request.read(task, waiting_period)
        draft = name = f"draft-{secrets.token_hex(8)}"
        folder = outputs.absolute(output or self._home / f"mlnet-{draft}")
        self._check_output(folder)
        try:
            dataset = await self._prepare(draft, asked, folder, warn)
            if meets:
                await self.meet(asked.definition.cluster.waiting_period_ms / 1000)
            announcement = self._sealed(asked, created)
            name = announcement.task
            folder = folder if output else outputs.absolute(self._home / f"mlnet-{name[:12]}")
            stored = self._keep(draft, name, dataset, folder, asked)
            submission = self._submission(announcement, asked.definition, stored, observe)
            kept(submission)
            submission.announce()
        except (MlnetError, asyncio.CancelledError):
            self._submissions.pop(name, None)
            self._state.discard(draft)
            self._state.discard(name)
            raise
        self._share_with_others()
        return submission

    def _sealed(self, asked: TaskRequest, created: int | None) -> Message:
        """The announcement, which names the task: made when it is sent, since nodes look at its age."""
        created = self._network_time() if created is None else created
        peers = estimate(len(self.wire.network.known_peers()), asked.definition.cluster.max_nodes)
        body = NewMlTask(asked.text, self.wire.addresses(), created, peers)
        return self.wire.signer.sign(body, sent=created)

    async def _prepare(
        self, draft: str, asked: TaskRequest, folder: Path, warn: Notice | None
    ) -> data.Dataset:
        """Cut the dataset, into a directory that has the task's name later; make sure that there is room for
        the model, here and where the user wants it."""
        with files.written_to(self._state.task(draft), "free some space, or choose another --data-dir"):
            directory = self._state.prepared(draft)
        dataset = await split(asked, directory)
        for warning in dataset.warnings:
            warn(warning) if warn is not None else self._notice(f"warning: {warning}")
        size = asked.definition.ml.model.parameter_count(dataset.inputs) * PARAMETER_BYTES
        with files.written_to(directory, "free some space, or choose another --data-dir"):
            size += MODEL_HEADER_BYTES
            files.require_room(directory, size, "the model takes", "choose another --data-dir")
            outputs.check(folder, private=self._state.directory, size=size)
        return dataset

    def _keep(self, draft: str, task: str, dataset: data.Dataset, folder: Path, asked: TaskRequest) -> Stored:
        """Keep what a later process needs to take the task up."""
        stored = Stored(
            dataset.segments,
            tuple(path.name for path in dataset.files),
            dataset.inputs,
            dataset.outputs,
            str(folder),
            self._options.wire.peers,
            dataset.schema,
            None if asked.allowed is None else tuple(sorted(asked.allowed)),
        )
        directory = self._state.task(task)
        with files.written_to(directory, "free some space, or choose another --data-dir"):
            self._state.rename(draft, task)
            write_stored(directory, stored)
        return stored

    def _check_output(self, folder: Path, task: str = "") -> None:
        """Also against the other tasks of this client."""
        outputs.check(folder, private=self._state.directory, task=task)
        for other in self._state.unfinished():
            stored = read_stored(self._state, other) if other != task else None
            if stored is not None and Path(stored.output) == folder:
                raise ConfigError(
                    f"the model of task {other[:12]} goes to {folder}; choose another directory with --output"
                )

    async def resume(
        self, task: str, *, output: Path | None = None, observe: Observer = ignore
    ) -> Submission:
        """Take up a task that a former process has left.

        Args:
            task: its id, or the unique beginning of it.
            output: directory for the model and the result, in place of the one that was chosen first.
            observe: takes reports for people.

        Raises:
            ConfigError: there is no such task, what was left of it is damaged, or the model cannot go there.
            StorageError: the output directory cannot be written.
        """
        found = find_unfinished(self._state, task)
        directory = self._state.task(found)
        events = list(journal.replay(self._state.journal(found), self.wire.signer.verify))
        stored = read_stored(self._state, found)
        try:
            announcement = events[0][1].message  # type: ignore[attr-defined]
        except (IndexError, AttributeError) as error:
            raise _damaged(directory, "its journal does not begin with the announcement") from error
        if stored is None:
            raise _damaged(directory, f"{STORED} is missing or damaged")
        folder = outputs.absolute(output or Path(stored.output))
        self._check_output(folder, found)
        if output is not None:
            stored = msgspec.structs.replace(stored, output=str(folder))
            with files.written_to(directory, "free some space"):
                write_stored(directory, stored)
        definition = task_definition.load(announcement.body.definition)
        submission = self._submission(announcement, definition, stored, observe)
        submission.take_up(events)
        self._left.discard(found)
        return submission

    def _submission(
        self,
        announcement: Message,
        definition: TaskDefinition,
        stored: Stored,
        observe: Observer,
    ) -> Submission:
        dataset = OfferedDataset(stored.segments, stored.inputs, stored.outputs)
        machine = Client(
            self.wire.signer,
            announcement,
            definition,
            self._options.deadlines,
            dataset,
            self._options.allowed if stored.allowed is None else frozenset(stored.allowed),
        )
        directory = self._state.task(announcement.task)
        files = {
            part.root: directory / name for part, name in zip(stored.segments, stored.files, strict=True)
        }
        submission = Submission(
            machine, self.wire, self._state, files, Path(stored.output), stored.schema, observe
        )
        self._submissions[announcement.task] = submission
        return submission

    def forget(self, task: str) -> None:
        """A task is over: what comes of it from now on is not for this client."""
        self._submissions.pop(task, None)
        self._left.discard(task)

    # ------------------------------------------------------------------------------------- from the network

    def receive(self, message: Message) -> bool:
        """Take in a message; whether it is of a task of this client.

        Raises:
            RemoteProtocolError: its sender may not send it.
            StorageError: it cannot be kept, or its task is not taken up yet, and so must come again.
        """
        submission = self._submissions.get(message.task)
        if submission is not None:
            submission.receive(message)
            return True
        if message.task in self._left:
            raise StorageError(f"task {message.task[:12]} is not taken up again yet")
        if self._rivals.heard(message, clock.now()):
            self._share_with_others()
        return False

    def open_tasks(self) -> list[Message]:
        """Announcements that a newcomer may still answer."""
        return [s.machine.announcement for s in self._submissions.values() if s.gathering]

    def find_blob(self, peer: str, digest: str) -> Path | None:
        """A training segment, for a member of its task."""
        return next((path for s in self._submissions.values() if (path := s.find_blob(peer, digest))), None)

    def _network_time(self) -> int:
        """What most clocks show: nodes go by them, and answer a client whose own is off all the same."""
        if not self._submissions and self._may_settle():
            clock.settle()
        wall = clock.wall()
        median = self.wire.clocks.median(wall, clock.elapsed())
        return median if abs(median - wall) > TOLERANCE_MS else wall

    def _share_with_others(self) -> None:
        """Let the tasks that gather know how many other clients do; once more when that may have changed."""
        if self._rivals_over is not None:
            self._rivals_over.cancel()
            self._rivals_over = None
        now = clock.now()
        others = self._rivals.count(now)
        for submission in self._submissions.values():
            submission.share_with(others)
        if until := self._rivals.next_end():
            delay = max(0.0, (until - now) / 1000)
            loop = asyncio.get_running_loop()
            self._rivals_over = loop.call_later(delay + 0.1, self._share_with_others)


async def split(asked: TaskRequest, directory: Path) -> data.Dataset:
    """The dataset in segments. Cancelled, it still waits for the thread, which writes to the directory.

    Raises:
        MlnetError: see :func:`mlnet.data.split`.
    """
    cutting = asyncio.to_thread(
        data.split, asked.as_read, asked.base, directory, private_links=asked.private_links
    )
    splitting = asyncio.create_task(cutting)
    try:
        return await asyncio.shield(splitting)
    except asyncio.CancelledError:
        await asyncio.gather(splitting, return_exceptions=True)
        raise


def _damaged(directory: Path, what: str) -> ConfigError:
    return ConfigError(
        f"the task in {directory} cannot be resumed: {what}; remove that directory to give the task up"
    )
