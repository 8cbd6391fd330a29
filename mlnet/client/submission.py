"""One task from its client's side: drives the state machine against the network and the disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import msgspec

from mlnet import data, store
from mlnet.client import outputs
from mlnet.client.result import Accuracy, ModelFile, Result
from mlnet.client.scoring import Scorer
from mlnet.data.modelfile import MODEL
from mlnet.driver.book import FileBook
from mlnet.driver.data_dir import State
from mlnet.driver.directories import default_data_dir
from mlnet.driver.loop import DriverLoop, Executor
from mlnet.driver.messenger import Wire
from mlnet.driver.parties import WORKING, ClientParty, Leave
from mlnet.driver.timers import Timers
from mlnet.errors import MlnetError, RemoteProtocolError, StorageError, StoreError, TransportError
from mlnet.net.types import REDIS_PROTOCOL
from mlnet.protocol.client.machine import Client
from mlnet.protocol.commands import End, FetchModel, FollowProgress, PublishSegments, Report
from mlnet.protocol.events import (
    CancelRequested,
    Event,
    ModelRefused,
    ModelScored,
    OthersWait,
    Received,
    Restarted,
    StopWaiting,
    TimerFired,
    TrainingProgressed,
)
from mlnet.protocol.phases import ClientPhase
from mlnet.protocol.wire.messages import Message
from mlnet.util import clock, files
from mlnet.util.wording import TASK_LENGTH

logger = logging.getLogger(__name__)
FAREWELL_SECONDS = 5.0
"""How long a client waits for its last words to be acknowledged."""
FOLLOW_AGAIN_SECONDS = 2.0
"""Pause before the progress is read again from the other server, after one was lost."""
Observer = Callable[[Report], None]


def ignore(_: object) -> None:
    """An observer that does not look."""


class Submission:
    """A task under way.

    Args:
        machine: the client's state machine.
        wire: the client's.
        state: the client's directory.
        segments: by hash.
        folder: for the model and the result; see :mod:`mlnet.client.outputs`.
        schema: of the dataset, for the user's model; None where a former version has begun the task.
        observe: takes reports for people.
    """

    def __init__(
        self,
        machine: Client,
        wire: Wire,
        state: State,
        segments: Mapping[str, Path],
        folder: Path,
        schema: data.Schema | None,
        observe: Observer,
    ) -> None:
        self.machine = machine
        self.task = machine.task
        self.output = folder
        self._wire = wire
        self._state = state
        self._files = segments
        self._schema = schema
        self._observe = observe
        self._book = FileBook(state, machine.me, notes_begun=False)
        self._timers = Timers(lambda _, name: self._dispatch(TimerFired(name)))
        self._published: frozenset[str] = frozenset()
        self._readers: frozenset[str] = frozenset()
        self._jobs: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._entered = {"gathering": clock.now()}
        self._seconds: dict[str, float] = {}
        self._phase = machine.phase
        self._scorer = Scorer(wire, state.task(machine.task), machine.definition)
        self._execute = Executor(
            "a client",
            {
                **wire.handlers,
                **self._timers.handlers,
                PublishSegments: self._publish,
                FollowProgress: self._begin_following,
                FetchModel: lambda _, command: self._start(self._fetch_model(command)),
                Report: lambda _, command: self._show(command),
                End: self._end,
                Leave: self._end_part,
            },
        )
        self._party = ClientParty(machine)
        self._loop = DriverLoop(self._party, self._book, self._execute, clock.now)

    @property
    def gathering(self) -> bool:
        """Whether nodes may still answer."""
        return self.machine.phase is ClientPhase.GATHERING

    @property
    def training(self) -> bool:
        """Whether the nodes are at work, so that giving up now would waste it."""
        return self.machine.phase in WORKING

    @property
    def resume_command(self) -> str:
        """What takes the task up again in a later process."""
        words = ["mlnet-node", "submit", "--resume", self.task[:TASK_LENGTH]]
        if self._state.directory != default_data_dir("client"):
            words += ["--data-dir", str(self._state.directory)]
        return shlex.join(words)

    def announce(self) -> None:
        """Give the task to the network.

        Raises:
            StorageError: the journal cannot be begun; nobody was told.
        """
        self._dispatch(Received(self.machine.announcement))
        self._raise_if_left()

    @property
    def restored(self) -> Sequence[Report]:
        """What the machine reported to former processes, in order, after :meth:`take_up`."""
        return self._party.restored

    def take_up(self, events: Iterable[tuple[int, Event]]) -> None:
        """Bring the machine to where a former process left it."""
        steps = self._loop.restore(self.task, events)
        self._phase = self.machine.phase
        for step in steps:
            self._loop.carry_out(step)
        self._dispatch(Restarted())

    def close_enrolment(self) -> None:
        """End the waiting period now."""
        self._dispatch(StopWaiting())

    def share_with(self, others: int) -> None:
        """So many other clients gather nodes."""
        if self.gathering and others != self.machine.others:
            self._dispatch(OthersWait(others))

    def cancel(self, reason: str = "cancelled by the user") -> None:
        """Give the task up."""
        self._dispatch(CancelRequested(reason))

    def receive(self, message: Message) -> None:
        """Take in a message of the task.

        Raises:
            RemoteProtocolError: its sender may not send it.
            StorageError: it cannot be kept, and so must come again.
        """
        self._dispatch(Received(message))
        self._raise_if_left()

    def _raise_if_left(self) -> None:
        if self._ended.done() and (error := self._ended.exception()) is not None:
            raise error

    def find_blob(self, peer: str, digest: str) -> Path | None:
        """A training segment, for a member."""
        return self._files.get(digest) if peer in self._readers and digest in self._published else None

    async def result(self) -> Result:
        """Wait for the end; the model and the result lie in ``output`` then, and nothing elsewhere.

        Where ``output`` cannot be written the model stays in the data directory: the result's ``code`` is
        ``StorageError``, and its ``reason`` says where the model is and how to get it.

        Raises:
            StorageError: this process cannot go on; the task can be taken up by a later one.
        """
        try:
            result = await self.delivered()
        finally:
            if self._ended.done():
                await self._wire.drain(FAREWELL_SECONDS)
        if result.is_delivered:
            self.forget()
        return result

    async def delivered(self) -> Result:
        """Wait for the end, and until the model and the result lie in ``output``. All that a later process
        needs to come to the same is kept until :meth:`forget` is called. For errors see :meth:`result`."""
        end = await asyncio.shield(self._ended)
        await self._stop_jobs()
        self._timers.close()
        result = self._document(end)
        if end.code == "TooFewNodes" and (off := self._wire.clocks.own(clock.wall(), clock.elapsed())):
            result = msgspec.structs.replace(result, reason=f"{result.reason}; {off}")
        if end.state == "completed":
            model, private = self._state.task(self.task) / MODEL, self._state.directory
            try:
                result = await asyncio.to_thread(
                    outputs.deliver, self.output, model, result, self._schema, private=private
                )
            except (OSError, MlnetError) as error:
                self._book.close_all()
                return outputs.undelivered(result, model, error, self.resume_command)
        return result

    def forget(self) -> None:
        """Keep the transcript of the task alone."""
        if not self._book.remove(self.task):
            where = self._state.journal(self.task)
            logger.error("the journal of a task that is over cannot be removed; remove it: %s", where)
        self._state.discard(self.task)

    @property
    def resumable(self) -> bool:
        """Whether a later process can take the task up."""
        return self._state.journal(self.task).exists()

    async def close(self) -> None:
        """Stop; a task that has not ended can be resumed."""
        await self._stop_jobs()
        self._timers.close()
        self._book.close_all()

    # ------------------------------------------------------------------------------------------- the machine

    def _dispatch(self, event: Event) -> None:
        if self._ended.done():
            return
        try:
            steps = self._loop.dispatch(self.task, event)
        except RemoteProtocolError:
            raise
        except Exception as error:
            logger.error("internal error in task %s", self.task[:12], exc_info=error)
            self._leave(error)
            return
        for step in steps:
            self._note_phase(step.now)

    def _end(self, _: str, command: End) -> None:
        if not self._ended.done():
            self._ended.set_result(command)

    def _end_part(self, _: str, command: Leave) -> None:
        if command.resumable:
            self._suspend(command.problem)
        else:
            fix = "free some space, or choose another --data-dir"
            self._leave(StorageError(f"{command.problem}; the task was not announced; {fix}"))

    def _suspend(self, problem: str) -> None:
        """End this process's part, and not the task; unless what a later one needs is gone."""
        if not self.resumable:
            for command in self.machine.last_word(problem):
                self._execute(self.task, command)
            self._leave(StorageError(f"{problem}; the task is given up: its files were removed"))
            return
        self._leave(StorageError(f"{problem}; the task can be taken up again: {self.resume_command}"))

    def _leave(self, error: Exception) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)
            self._ended.exception()  # it is raised by whoever waits for the end, if somebody does

    def _note_phase(self, now: int) -> None:
        if self.machine.phase is self._phase:
            return
        name = self._phase.value
        self._seconds[name] = self._seconds.get(name, 0.0) + (now - self._entered.get(name, now)) / 1000
        self._phase = self.machine.phase
        self._entered[self._phase.value] = now
        self._show(Report("phase", {"phase": self._phase.value, "waiting": str(self.machine.waiting)}))

    def _publish(self, _: str, command: PublishSegments) -> None:
        self._published, self._readers = frozenset(command.hashes), frozenset(command.members)

    def _begin_following(self, _: str, command: FollowProgress) -> None:
        self._scorer.load()
        self._start(self._follow(command))

    def _show(self, report: Report) -> None:
        """Show people something. A log on a full disk, or a terminal that is gone, ends no task."""
        with contextlib.suppress(OSError, ValueError):
            self._observe(report)

    def _start(self, job: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._job_done)

    def _job_done(self, job: asyncio.Task[None]) -> None:
        """An effect that breaks ends this process's part, and not the task."""
        self._jobs.discard(job)
        if job.cancelled() or (error := job.exception()) is None:
            return
        if isinstance(error, OSError):
            self._suspend(files.why(error))
        elif isinstance(error, MlnetError):
            self._suspend(str(error))
        else:
            self._leave(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    async def _stop_jobs(self) -> None:
        jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        await self._scorer.stop()

    # ------------------------------------------------------------------------------------------- effects

    async def _follow(self, command: FollowProgress) -> None:
        """Read the progress from the master's Redis, or its replica's, as long as the task lasts."""
        for peer in cycle((command.master, command.slave)):
            with contextlib.suppress(StoreError, TransportError):
                await self._follow_at(peer, command.attempt)
            await asyncio.sleep(FOLLOW_AGAIN_SECONDS)

    async def _follow_at(self, peer: str, attempt: int) -> None:
        path = await self._wire.network.forward(peer, REDIS_PROTOCOL, f"{self.task} progress")
        try:
            async for progress in store.ProgressLog.follow(path, self.task, attempt):
                self._show(Report("progress", progress.as_dict()))
                self._dispatch(TrainingProgressed(attempt))
        finally:
            await self._wire.network.unforward(path)

    async def _fetch_model(self, command: FetchModel) -> None:
        event: Event
        try:
            path = await self._scorer.fetch(command)
            scored = await self._scorer.score(path, [self._files[digest] for digest in command.held_out])
            event = ModelScored(scored.metrics, scored.accuracy, str(self.output / MODEL))
        except StorageError:
            raise  # the model is as good as it was: it is this machine that has no room for it
        except MlnetError as error:
            event = ModelRefused(str(error))
        self._dispatch(event)

    def _document(self, end: End) -> Result:
        machine = self.machine
        decided = machine.attempted.decision().ready if machine.bound else None
        scored, completed = machine.scored, machine.winner
        done = end.state == "completed"
        return Result(
            task=self.task,
            state=end.state,
            reason=end.reason,
            code=end.code,
            nodes=decided.nodes if decided else (),
            committee=decided.committee if decided else (),
            master=decided.master if decided else "",
            slave=decided.slave if decided else "",
            segments=machine.order,
            held_out=machine.held_out,
            accuracy=Accuracy(
                machine.completed.accuracy if completed else None, scored.accuracy if scored else None
            ),
            metrics=scored.metrics if scored else {},
            payment=machine.definition.payment_micro if done else 0,
            rewards=machine.split if done else {},
            model=ModelFile(str(self.output / MODEL), attested := machine.completed.model.sha256, attested)
            if scored and done
            else None,
            seconds={name: round(seconds, 3) for name, seconds in self._seconds.items()},
        )
