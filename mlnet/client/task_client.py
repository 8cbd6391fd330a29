"""The driver of a client, and the public way to have a model trained from Python::

async with mlnet.connected(ClientOptions(data_dir, WireOptions(peers=(address,)))) as client:
    result = await (await client.submit(Path("client-task-definition.yaml"))).result()
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from mlnet import data
from mlnet.client import outputs
from mlnet.client.stored import STORED, Stored, find_unfinished, read_stored, write_stored
from mlnet.client.submission import Observer, Submission, ignore
from mlnet.driver import journal
from mlnet.driver.data_dir import State, opened
from mlnet.driver.messenger import Wire, WireHandlers
from mlnet.driver.options import ClientOptions
from mlnet.driver.peer_clocks import TOLERANCE_MS
from mlnet.errors import ConfigError, MlnetError, PeerUnreachable
from mlnet.protocol.client.machine import Client
from mlnet.protocol.client.rivals import Rivals
from mlnet.protocol.client.state import OfferedDataset
from mlnet.protocol.decisions.answering import estimate
from mlnet.protocol.wire.messages import Message, NewMlTask
from mlnet.task import definition as task_definition
from mlnet.util import clock, files, yaml_writer
from mlnet.util.wording import duration

CONNECT_SECONDS = 15.0
"""How long a client waits at least for the first of the peers that it was given."""
PARAMETER_BYTES = 4
MODEL_HEADER_BYTES = 64 << 10
Traffic = Callable[[bool, str, Message], None]
Notice = Callable[[str], None]
"""Takes what the user should know of this machine or of a peer, beside any task."""


class TaskClient:
    """A client on the network, for any number of tasks.

    Args:
        options: of the user.
        state: the client's directory.
        traffic: takes (incoming, peer, message) for people.
        notice: takes a line of text for people.
        waits: for the first peer, when it starts.
    """

    def __init__(
        self, options: ClientOptions, state: State, traffic: Traffic, notice: Notice, *, waits: bool = True
    ) -> None:
        self._options = options
        self._waits = waits
        self._state = state
        self._submissions: dict[str, Submission] = {}
        self._peered = asyncio.Event()
        handlers = WireHandlers(
            self._on_message,
            self._open_tasks,
            self._find_blob,
            _admit_nobody,
            traffic,
            self._on_peer,
            notice,
            self._on_unreachable,
        )
        self._notice = notice
        self._unreachable: dict[str, str] = {}
        self._rivals_over: asyncio.TimerHandle | None = None
        self._meeting_until = 0
        self.wire = Wire(state.identity, handlers, state.runtime / "n", options.wire)
        self._rivals = Rivals(self.wire.signer.peer_id)

    @property
    def peer_id(self) -> str:
        """The client's identity."""
        return self._state.identity.peer_id

    async def start(self) -> None:
        """Listen, and wait for the first peer.

        Raises:
            PeerUnreachable: none of the peers given answered.
        """
        await self.wire.start()
        if self._waits:
            await self.meet()

    async def meet(self, seconds: float = 0.0) -> None:
        """Wait for a peer, if any were given.

        Args:
            seconds: how long, and for :data:`CONNECT_SECONDS` at least.

        Raises:
            PeerUnreachable: none of them answered.
        """
        peers = self._options.wire.peers
        if not peers or self.wire.network.connected_peers():
            return
        seconds = max(CONNECT_SECONDS, seconds)
        self._peered.clear()
        self._meeting_until = clock.now() + int(1000 * seconds)
        if self._unreachable:
            self._notice(f"waits for a peer to answer, for at most {duration(seconds)}")
        try:
            async with asyncio.timeout(seconds):
                await self._peered.wait()
        except TimeoutError:
            reasons = "; ".join(self._unreachable.values()) or f"nothing came from {', '.join(peers)}"
            raise PeerUnreachable(
                f"no peer answered within {duration(seconds)} ({reasons}); is a node running there?"
            ) from None
        finally:
            self._meeting_until = 0

    def doing(self) -> str:
        """What is under way before a task is announced, for people."""
        if left := self._meeting_until and self._meeting_until - clock.now():
            return f"waits for a peer to answer; {duration(left / 1000)} left"
        return "cuts the dataset into segments"

    async def stop(self) -> None:
        """Leave the network; tasks that are under way can be resumed later."""
        if self._rivals_over is not None:
            self._rivals_over.cancel()
        for submission in self._submissions.values():
            await submission.close()
        await self.wire.stop()

    async def submit(
        self,
        file: Path,
        *,
        output: Path | None = None,
        waiting_period: str | None = None,
        created: int | None = None,
        observe: Observer = ignore,
    ) -> Submission:
        """Announce a task, once one of the peers given answers: it is waited for as long as for nodes.

        Args:
            file: the task definition; paths in it are relative to it.
            output: directory for the model and the result; ``mlnet-TASK`` in the current directory by
                default.
            waiting_period: in place of the definition's ``cluster.waiting-period``.
            created: ms since 1970, in place of now by the clocks of most peers, if this machine's is off.
            observe: takes reports for people.

        Raises:
            TaskError: the definition is wrong.
            DataError: the dataset is.
            ConfigError: ``output`` is no place for a model.
            StorageError: it cannot be written, or there is no room for the segments or the model.
            PeerUnreachable: nobody is there to hear of the task.
        """
        text = read_definition(file, waiting_period)
        definition = task_definition.load(text)
        draft = task = f"draft-{secrets.token_hex(8)}"
        folder = outputs.absolute(output or Path(f"mlnet-{draft}"))
        self._check_output(folder)
        try:
            dataset = await self._prepare(draft, definition, file.parent, folder)
            await self.meet(definition.cluster.waiting_period_ms / 1000)
            announcement = self._sealed(text, definition, created)
            task = announcement.task
            folder = folder if output else outputs.absolute(Path(f"mlnet-{task[:12]}"))
            stored = self._keep(draft, task, dataset, folder)
            submission = self._submission(announcement, definition, stored, observe)
            submission.announce()
        except (MlnetError, asyncio.CancelledError):
            self._submissions.pop(task, None)
            self._state.discard(draft)
            self._state.discard(task)
            raise
        self._share_with_others()
        return submission

    def _sealed(self, text: str, definition: task_definition.TaskDefinition, created: int | None) -> Message:
        """The announcement, which names the task: made when it is sent, since nodes look at its age."""
        created = self._network_time() if created is None else created
        peers = estimate(len(self.wire.network.known_peers()), definition.cluster.max_nodes)
        body = NewMlTask(text, self.wire.addresses(), created, peers)
        return self.wire.signer.sign(body, sent=created)

    async def _prepare(
        self, draft: str, definition: task_definition.TaskDefinition, base: Path, folder: Path
    ) -> data.Dataset:
        """Cut the dataset, into a directory that has the task's name later; make sure that there is room for
        the model, here and where the user wants it."""
        with files.written_to(self._state.task(draft), "free some space, or choose another --data-dir"):
            directory = self._state.prepared(draft)
        dataset = await _split(definition, base, directory)
        for warning in dataset.warnings:
            self._notice(f"warning: {warning}")
        size = definition.ml.model.parameter_count(dataset.inputs) * PARAMETER_BYTES + MODEL_HEADER_BYTES
        with files.written_to(directory, "free some space, or choose another --data-dir"):
            files.require_room(directory, size, "the model takes", "choose another --data-dir")
            outputs.check(folder, private=self._state.directory, size=size)
        return dataset

    def _keep(self, draft: str, task: str, dataset: data.Dataset, folder: Path) -> Stored:
        """Keep what a later process needs to take the task up."""
        stored = Stored(
            dataset.segments,
            tuple(path.name for path in dataset.files),
            dataset.inputs,
            dataset.outputs,
            str(folder),
            self._options.wire.peers,
            dataset.schema,
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
        return submission

    def _submission(
        self,
        announcement: Message,
        definition: task_definition.TaskDefinition,
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
            self._options.allowed,
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

    # ------------------------------------------------------------------------------------------- from the
    # network

    def _on_peer(self, _: str) -> None:
        self._peered.set()

    def _on_unreachable(self, peer: str, why: str) -> None:
        self._unreachable[peer] = why
        left = self._meeting_until and max(0, self._meeting_until - clock.now())
        bound = f" for at most {duration(left / 1000)}" if left else ""
        self._notice(f"peer {peer} does not answer: {why}; trying on{bound}")

    def _network_time(self) -> int:
        """What most clocks show: nodes go by them, and answer a client whose own is off all the same."""
        if not self._submissions:
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

    def _on_message(self, message: Message, _: str) -> bool:
        submission = self._submissions.get(message.task)
        if submission is None:
            if self._rivals.heard(message, clock.now()):
                self._share_with_others()
            return False
        submission.receive(message)
        return True

    def _open_tasks(self) -> list[Message]:
        return [s.machine.announcement for s in self._submissions.values() if s.gathering]

    def _find_blob(self, peer: str, digest: str) -> Path | None:
        return next((path for s in self._submissions.values() if (path := s.find_blob(peer, digest))), None)


@asynccontextmanager
async def connected(
    options: ClientOptions,
    traffic: Traffic = lambda incoming, peer, message: None,
    notice: Notice = lambda text: None,
    *,
    resume: str | None = None,
    waits: bool = True,
) -> AsyncIterator[TaskClient]:
    """Be a client on the network for as long as the context lasts.

    Args:
        options: of the user.
        traffic: takes (incoming, peer, message) for people.
        notice: takes a line of text for people.
        resume: beginning of the id of a task that is to be taken up: its peers are dialled where none are
            given, and not waited for, since a model that is here already can be delivered without them.
        waits: for the first peer at once, and not only in :meth:`TaskClient.submit`.

    Raises:
        ConfigError: the data directory, or an address to listen on, cannot be used.
        PeerUnreachable: none of the peers given answered.
    """
    with opened(options.data_dir) as state:
        if resume is not None and not options.wire.peers:
            stored = read_stored(state, find_unfinished(state, resume))
            wire = replace(options.wire, peers=stored.peers if stored is not None else ())
            options = replace(options, wire=wire)
        client = TaskClient(options, state, traffic, notice, waits=waits and resume is None)
        try:
            await client.start()
            yield client
        finally:
            await client.stop()


def read_definition(file: Path, waiting_period: str | None = None) -> str:
    """The text of a definition, with its waiting period replaced if one is given.

    Raises:
        TaskError: it cannot be read, or is wrong.
    """
    text = task_definition.read_text(file)
    definition = task_definition.load_text(text, file)
    if waiting_period is None:
        return text
    plain = task_definition.to_plain(definition)
    plain.setdefault("cluster", {})["waiting-period"] = waiting_period
    task_definition.from_plain(plain)
    return yaml_writer.dump_block(plain)


async def _split(definition: task_definition.TaskDefinition, base: Path, directory: Path) -> data.Dataset:
    """The dataset in segments. Cancelled, it still waits for the thread, which writes to the directory."""
    splitting = asyncio.create_task(asyncio.to_thread(data.split, definition, base, directory))
    try:
        return await asyncio.shield(splitting)
    except asyncio.CancelledError:
        await asyncio.gather(splitting, return_exceptions=True)
        raise


def _damaged(directory: Path, what: str) -> ConfigError:
    return ConfigError(
        f"the task in {directory} cannot be resumed: {what}; remove that directory to give the task up"
    )


def _admit_nobody(*_: str) -> None:
    return None
