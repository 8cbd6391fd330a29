"""The tasks of this node as client, from the call that submits one until it is the oldest of too many."""

from __future__ import annotations

import asyncio
import logging
import shutil
from bisect import bisect_left, insort
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlnet.client import outputs
from mlnet.client.result import Result
from mlnet.client.submission import Submission
from mlnet.client.task_client import TaskClient
from mlnet.driver.data_dir import State
from mlnet.errors import MlnetError, Overloaded, ServiceError, StorageError
from mlnet.protocol.commands import Report
from mlnet.service.tasks import listing
from mlnet.service.tasks.asking import Asked
from mlnet.service.tasks.hosted import HostedTask
from mlnet.service.tasks.records import Records, TaskRecord
from mlnet.service.tasks.refused import precondition
from mlnet.util import clock, files

logger = logging.getLogger(__name__)
RETRY_SECONDS = 60.0
"""After which a task is taken up again that had to stop, for want of room on the disk."""


@dataclass(frozen=True)
class TaskBounds:
    """How much a node carries as client.

    Attributes:
        running: tasks under way at the same time.
        kept: tasks in all; the oldest of those that have ended are dropped.
        kept_bytes: of them, with the models in the node's data directory; likewise.
    """

    running: int = 16
    kept: int = 1000
    kept_bytes: int = 10 << 30


class Registry:
    """All tasks of this node as client.

    Args:
        client: of the node.
        state: the directory of that client.
        bounds: see :class:`TaskBounds`.
    """

    def __init__(self, client: TaskClient, state: State, bounds: TaskBounds | None = None) -> None:
        self.bounds = bounds or TaskBounds()
        self.state = state
        self._client = client
        self._records = Records(state.directory / "kept")
        self._models = state.directory / "models"
        self._tasks: dict[str, HostedTask] = {}
        self._ordered: list[HostedTask] = []
        self._tokens: dict[str, HostedTask] = {}
        self._beginning: dict[str, tuple[str, asyncio.Task[HostedTask]]] = {}
        self._sizes: dict[str, int] = {}
        self._preparing = 0
        self._jobs: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Take up what a former process has left. The client's wire is up.

        Raises:
            StorageError: the records cannot be read.
        """
        with files.written_to(self.state.directory, "check the disk"):
            records = sorted(self._records.load(), key=lambda record: record.key)
        for record in records:
            hosted = HostedTask(record, self._records)
            self._add(hosted)
            if record.ended:
                self._forget(record.task)
            else:
                self._start(self._take_up(hosted))
        for task in set(self.state.unfinished()) - set(self._tasks):
            logger.error("task %s has no record and is left alone: %s", task[:12], self.state.task(task))
        self._trim()

    async def stop(self) -> None:
        """End this process's part in all tasks; the next one takes them up."""
        beginning = [task for _, task in self._beginning.values()]
        for job in (*self._jobs, *beginning):
            job.cancel()
        await asyncio.gather(*self._jobs, *beginning, return_exceptions=True)
        for hosted in self._ordered:
            if hosted.submission is not None:
                await hosted.submission.close()
            hosted.close()

    @property
    def ordered(self) -> list[HostedTask]:
        """All, by the time at which they were submitted. Not to be changed."""
        return self._ordered

    @property
    def running(self) -> list[HostedTask]:
        """Those that have not ended."""
        return [hosted for hosted in self._ordered if not hosted.ended]

    def find(self, task: str) -> HostedTask:
        """The task whose id begins so.

        Raises:
            ServiceError: there is none, or more than one, or that is no beginning of an id.
        """
        return listing.find(self._tasks, task)

    def notice(self, text: str) -> None:
        """Show the tasks under way something that this machine's operator is told."""
        for hosted in self.running:
            hosted.notice(text)

    # ------------------------------------------------------------------------------------------------- submit

    def known(self, token: str, content: str) -> HostedTask | None:
        """The task that was submitted with a token before.

        Raises:
            ServiceError: it was, with other content.
        """
        if not token or (hosted := self._tokens.get(token)) is None:
            return None
        if hosted.record.content != content:
            raise _taken(f"task {hosted.record.task[:12]}")
        return hosted

    def check_room(self) -> None:
        """Refuse a task too many."""
        carried = len(self.running) + self._preparing
        if carried >= self.bounds.running:
            raise Overloaded(
                f"this node carries {carried} tasks, as many as it may; wait until one has ended",
                retry_after=30.0,
            )

    async def submit(self, asked: Asked) -> HostedTask:
        """Begin a task; with a token it goes on when the caller is gone, and is begun once.

        Raises:
            ServiceError: the token was used with other content, or there are too many tasks.
            MlnetError: see :meth:`mlnet.client.task_client.TaskClient.submit`.
        """
        if (hosted := self.known(asked.token, asked.content)) is not None:
            return hosted
        if not asked.token:
            return await self._begin(asked)
        content, beginning = self._beginning.get(asked.token, (asked.content, None))
        if content != asked.content:
            raise _taken("a task that is being begun")
        if beginning is None:
            beginning = asyncio.get_running_loop().create_task(self._begin(asked))
            self._beginning[asked.token] = (content, beginning)
            beginning.add_done_callback(lambda done: self._begun(asked.token, done))
        return await asyncio.shield(beginning)

    def _begun(self, token: str, done: asyncio.Task[HostedTask]) -> None:
        del self._beginning[token]
        if not done.cancelled():
            done.exception()  # whoever still waits for it has got it

    async def _begin(self, asked: Asked) -> HostedTask:
        self.check_room()
        self._preparing += 1
        made: list[HostedTask] = []
        warnings: list[str] = []

        def observe(report: Report) -> None:
            made[0].observe(report)

        def kept(submission: Submission) -> None:
            record = TaskRecord(
                submission.task,
                clock.wall(),
                asked.name,
                str(submission.output),
                asked.token,
                asked.content,
                tuple(warnings),
            )
            made.append(HostedTask(record, self._records))
            self._records.begin(record, asked.request.text)

        try:
            submission = await self._client.submit(
                asked.request,
                output=asked.output,
                observe=observe,
                kept=kept,
                warn=warnings.append,
                meets=False,
            )
        except BaseException:
            if made:
                self._records.drop(made[0].record.task)
            raise
        finally:
            self._preparing -= 1
        (hosted,) = made
        self._add(hosted)
        hosted.begin(submission)
        self._start(self._carry(hosted, submission))
        self._trim()
        return hosted

    # ------------------------------------------------------------------------------------ take up, carry, end

    async def _take_up(self, hosted: HostedTask) -> None:
        """Go on with a task that a former process, or this one, had to leave."""
        task = hosted.record.task
        try:
            hosted.expect()
            submission = await self._resumed(hosted)
        except MlnetError as error:
            if not self.state.journal(task).exists() and not hosted.revision:
                self._drop(hosted)  # a crash came between its record and its journal: nobody heard of it
                return
            logger.error("task %s cannot be taken up: %s", task[:12], error)
            if isinstance(error, StorageError) and self.state.journal(task).exists():
                self._try_again(hosted, error)
                return
            failed = Result(task=task, state="failed", reason=str(error), code=type(error).__name__)
            self._end(hosted, failed)
            return
        hosted.taken_up(submission)
        await self._carry(hosted, submission)

    async def _resumed(self, hosted: HostedTask) -> Submission:
        task = hosted.record.task
        try:
            return await self._client.resume(task, observe=hosted.observe)
        except MlnetError as error:
            # Its output may be full, or somebody else's by now. The model can be had from here all the same.
            if not self.state.journal(task).exists():
                raise
            output = self._models / f"mlnet-{task[:12]}"
            submission = await self._client.resume(task, output=output, observe=hosted.observe)
            logger.warning("task %s: %s; its model will be kept in %s", task[:12], error, output)
            return submission

    async def _carry(self, hosted: HostedTask, submission: Submission) -> None:
        """Wait for the end of a task, and keep what it ended in."""
        task = hosted.record.task
        try:
            result = await submission.delivered()
            if not result.is_delivered:
                result = await asyncio.to_thread(outputs.rescue, result, [self._models])
                if result.model is None:
                    raise StorageError(result.reason)
            size = await asyncio.to_thread(_size, result)
            self._end(hosted, result, size)
        except StorageError as error:
            await submission.close()
            if not submission.resumable:
                self._end(hosted, Result(task, "failed", str(error), type(error).__name__))
                return
            self._try_again(hosted, error)
        except Exception as error:  # a fault of ours ends this task, and no other one
            logger.error("internal error in task %s", task[:12], exc_info=error)
            await submission.close()
            self._end(hosted, Result(task, "failed", f"internal error: {error!r}", "MlnetError"))

    def _try_again(self, hosted: HostedTask, error: StorageError) -> None:
        """The task waits on the disk until there is room on it again, of which nobody tells."""

        async def later() -> None:
            await asyncio.sleep(RETRY_SECONDS)
            await self._take_up(hosted)

        hosted.stall(f"{error}; the node tries again in {RETRY_SECONDS:.0f} s")
        self._start(later())

    def cancel(self, hosted: HostedTask, reason: str) -> None:
        """Give a task up; nothing happens to one that has ended.

        Raises:
            ServiceError: it is too late, or too early.
        """
        if hosted.ended:
            return
        if hosted.submission is None:
            raise ServiceError(hosted.waiting(), status="UNAVAILABLE", retry_after=RETRY_SECONDS)
        hosted.submission.cancel(reason)
        if not hosted.submission.machine.ended:
            raise precondition(
                "it is too late to cancel the task: its model is trained, and about to be here"
            )

    def _end(self, hosted: HostedTask, result: Result, model_size: int = 0) -> None:
        """Keep the end first, then forget what a later process would need to come to it.

        Raises:
            StorageError: it cannot be kept.
        """
        hosted.end(result, model_size)
        self._forget(hosted.record.task)
        self._trim()

    def _forget(self, task: str) -> None:
        self._client.forget(task)
        if not files.remove(self.state.journal(task)):
            logger.error("the journal of a task that is over cannot be removed: %s", self.state.journal(task))
        self.state.discard(task)

    # ------------------------------------------------------------------------------------------------- bounds

    def _trim(self) -> None:
        """Drop the oldest tasks that have ended, with their models, while too much is kept. What lies in
        directories of the user is his."""
        ended = [hosted for hosted in self._ordered if hosted.ended]
        sizes = {hosted.record.task: self._size_of(hosted) for hosted in ended}
        total, number = sum(sizes.values()), len(self._ordered)
        for hosted in ended[:-1]:  # what has ended last is there to be fetched, however large it is
            if number <= self.bounds.kept and total <= self.bounds.kept_bytes:
                return
            total -= sizes[hosted.record.task]
            number -= 1
            self._drop(hosted)

    def _size_of(self, hosted: HostedTask) -> int:
        """Bytes that are kept of a task that has ended."""
        task = hosted.record.task
        if task not in self._sizes:
            model = hosted.record.model_size if self._own_model(hosted) else 0
            self._sizes[task] = self._records.size(task) + model
        return self._sizes[task]

    def _own_model(self, hosted: HostedTask) -> Path | None:
        """The directory of its model, if that lies in the node's data directory."""
        result = hosted.record.result
        if result is None or result.model is None:
            return None
        directory = Path(result.model.path).parent
        return directory if directory.parent == self._models else None

    def _drop(self, hosted: HostedTask) -> None:
        task = hosted.record.task
        if (directory := self._own_model(hosted)) is not None:
            shutil.rmtree(directory, ignore_errors=True)
        hosted.close()
        self._records.drop(task)
        self._client.forget(task)
        self._tasks.pop(task, None)
        self._sizes.pop(task, None)
        del self._ordered[bisect_left(self._ordered, hosted.record.key, key=_key)]
        if self._tokens.get(hosted.record.token) is hosted:
            del self._tokens[hosted.record.token]

    def _add(self, hosted: HostedTask) -> None:
        self._tasks[hosted.record.task] = hosted
        insort(self._ordered, hosted, key=_key)
        if hosted.record.token:
            self._tokens[hosted.record.token] = hosted

    def _start(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._over)

    def _over(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            logger.error(
                "a task can be neither carried nor ended; the next start takes it up", exc_info=error
            )


def _key(hosted: HostedTask) -> tuple[int, str]:
    return hosted.record.key


def _size(result: Result) -> int:
    try:
        return Path(result.model.path).stat().st_size if result.model is not None else 0
    except OSError:
        return 0


def _taken(by: str) -> ServiceError:
    return ServiceError(
        f"idempotency_token: was used for {by} with other content; choose another one",
        status="ALREADY_EXISTS",
    )
