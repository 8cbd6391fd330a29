"""The events of a task from a node that may go away meanwhile: no gap, no repetition, and an end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import grpc

from mlnet.errors import MlnetError, PeerUnreachable, RemoteProtocolError, ServiceError
from mlnet.sdk.connection import PASSING, NodeConnection
from mlnet.sdk.events import Bookmark, TaskEnded, TaskEvent, from_proto
from mlnet.sdk.plain import to, to_plain
from mlnet.sdk.records import TaskInfo, TaskState
from mlnet.util.wording import TASK_LENGTH, duration
from mlnet.v1 import tasks_pb2

IDLE_SECONDS = 30.0
"""Without an event or a bookmark, which comes after 10 s, a stream counts as broken."""
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
_ORDER: list[TaskState] = [state for state in TaskState if state is not TaskState.UNKNOWN]


class TaskWatch:
    """One walk through the events of a task.

    Args:
        connection: to the node.
        task: its id, or a unique beginning of it.
        from_revision: the first event that is wanted, from 1.
        until: the state at which the walk ends, if the task does not end before.
        patience: seconds for which a node that went away is waited for.
        notice: takes a line of text for people.
    """

    def __init__(
        self,
        connection: NodeConnection,
        task: str,
        from_revision: int,
        until: TaskState | None,
        patience: float,
        notice: Callable[[str], object],
    ) -> None:
        self._connection, self._task, self._until = connection, task, until
        self._next = max(1, from_revision)
        self._patience, self._notice = patience, notice
        self._over = False
        self._deadline: float | None = None
        self._pause = FIRST_PAUSE

    async def events(self) -> AsyncGenerator[TaskEvent | Bookmark, None]:
        """All that comes, until the end.

        Raises:
            ServiceError: the node refuses it: it has no such task, or keeps those events no longer.
            PeerUnreachable: the node was away for too long.
            RemoteProtocolError: it leaves events out.
        """
        while True:
            failure: MlnetError | None = None
            try:
                method = self._connection.tasks.Watch
                async with aclosing(
                    self._connection.stream(method, self._request(), IDLE_SECONDS)
                ) as answers:
                    async for answer in answers:
                        if (content := self._taken(answer)) is not None:
                            yield content
                        if self._over:
                            return
                if await self._is_past():
                    return
            except grpc.aio.AioRpcError as error:
                failure = self._connection.error(error)
                if error.code() not in PASSING or not self._connection.met:
                    raise failure from None
            except TimeoutError as error:
                failure = self._connection.error(error)
            except PeerUnreachable as error:
                failure = error
            await self._wait(failure)

    def _request(self) -> tasks_pb2.WatchRequest:
        return tasks_pb2.WatchRequest(
            task=self._task,
            from_revision=self._next,
            until_state=f"TASK_STATE_{self._until.upper()}" if self._until else None,
        )

    def _taken(self, answer: tasks_pb2.WatchResponse) -> TaskEvent | Bookmark | None:
        """What is new in an answer.

        Raises:
            RemoteProtocolError: an event is missing.
        """
        self._deadline, self._pause = None, FIRST_PAUSE
        if answer.HasField("bookmark"):
            return Bookmark(revision=answer.bookmark.revision, waiting=answer.bookmark.waiting)
        event = from_proto(answer.event)
        if event.revision < self._next:
            return None  # it was shown before
        if event.revision > self._next:
            raise RemoteProtocolError(
                f"the node left out the events of task {self._task[:TASK_LENGTH]} from {self._next} to"
                f" {event.revision - 1}"
            )
        self._next += 1
        self._task = event.task or self._task
        self._over = isinstance(event, TaskEnded) or self._reached(event.state)
        return event

    def _reached(self, state: TaskState) -> bool:
        if self._until is None or state is TaskState.UNKNOWN:
            return False
        return _ORDER.index(state) >= _ORDER.index(self._until)

    async def _is_past(self) -> bool:
        """Whether a stream that ended without an error has shown all: a node that is stopped ends it, too."""
        answer = await self._connection.call(
            self._connection.tasks.Get, tasks_pb2.GetRequest(task=self._task)
        )
        task = to(TaskInfo, to_plain(answer.task))
        return task.revision < self._next and (task.state.ended or self._reached(task.state))

    async def _wait(self, failure: MlnetError | None) -> None:
        """Until the node is there again.

        Raises:
            PeerUnreachable: it is not in time.
        """
        now = asyncio.get_running_loop().time()
        if self._deadline is None:
            self._deadline = now + self._patience
            self._notice(
                f"node {self._connection.target} went away ({failure or 'it ended the stream'});"
                f" waiting for it for at most {duration(self._patience)}"
            )
        pause = self._pause * random.uniform(0.5, 1.0)  # noqa: S311 - so that not all come at once
        if isinstance(failure, ServiceError) and failure.retry_after is not None:
            pause = max(pause, failure.retry_after)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        try:
            async with asyncio.timeout_at(self._deadline):
                await asyncio.sleep(pause)
                await self._connection.again()
        except TimeoutError:
            raise PeerUnreachable(
                f"node {self._connection.target} has been away for {duration(self._patience)};"
                f" the task may go on there: watch it again from event {self._next}",
                str(failure or "it ended the stream"),
            ) from None
