"""A node's API whose one task goes on while it is watched, for tests of what shows a task as it happens."""
# ruff: noqa: N802 - the names of methods are those of the service

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from support.api_double import TASK, Double, served, socket_path

from mlnet.v1 import node_pb2, tasks_pb2


@dataclass
class ApiNode(Double):
    """A node to whose task things happen.

    Attributes:
        socket: where it listens.
        name: of the task.
        waiting: what the task waits for, as bookmarks say.
        transcript: bytes of the task's transcript.
        bookmark: seconds of silence after which a watch shows a bookmark.
        listed: the requests that came.
        cancelled: likewise.
        watching: how many watch.
        stopping: all watches end.
    """

    events: list[tasks_pb2.Event] = field(default_factory=list)
    socket: Path = Path()
    name: str = "digits.npz"
    waiting: str = "votes of 2 members"
    transcript: bytes = b""
    bookmark: float = 10.0
    listed: list[tasks_pb2.ListRequest] = field(default_factory=list)
    cancelled: list[tasks_pb2.CancelRequest] = field(default_factory=list)
    watching: int = 0
    stopping: bool = False
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def happen(self, state: int = tasks_pb2.TASK_STATE_GATHERING, **event: Any) -> None:
        """Add an event to the task, which tells those who watch."""
        named = tasks_pb2.TaskState.Name(tasks_pb2.TaskState.ValueType(state))
        made = tasks_pb2.Event(task=TASK, revision=len(self.events) + 1, state=named, **event)
        made.time.GetCurrentTime()
        async with self.news:
            self.events.append(made)
            self.news.notify_all()

    async def say(self, text: str) -> None:
        """Add an event of words."""
        await self.happen(notice=tasks_pb2.Notice(text=text))

    async def break_off(self) -> None:
        """End all watches as a node that stops does."""
        async with self.news:
            self.stopping = True
            self.news.notify_all()
            await self.news.wait_for(lambda: self.watching == 0)
            self.stopping = False

    async def watched_by(self, count: int) -> None:
        """Wait until so many watch."""
        async with asyncio.timeout(10), self.news:
            await self.news.wait_for(lambda: self.watching == count)

    def task(self) -> tasks_pb2.Task:
        """As it is after the latest event."""
        if self.events:
            task = super().task()
        else:
            task = tasks_pb2.Task(id=TASK, state=tasks_pb2.TASK_STATE_GATHERING)
            task.created_at.FromMilliseconds(1_767_225_600_000)
        task.name, task.waiting = self.name, self.waiting
        return task

    async def Validate(self, request: tasks_pb2.ValidateRequest, context: Any) -> tasks_pb2.ValidateResponse:
        if "wrong" not in request.definition:
            return tasks_pb2.ValidateResponse(summary=["dataset    digits.npz"])
        problem = tasks_pb2.Problem(path="ml.model", problem="it is wrong", fix="write MLP", line=2, column=3)
        return tasks_pb2.ValidateResponse(problems=[problem])

    async def List(self, request: tasks_pb2.ListRequest, context: Any) -> tasks_pb2.ListResponse:
        self.listed.append(request)
        task = self.task()
        fits = not request.states or task.state in request.states
        return tasks_pb2.ListResponse(tasks=[task] if fits else [])

    async def Cancel(self, request: tasks_pb2.CancelRequest, context: Any) -> tasks_pb2.CancelResponse:
        self.cancelled.append(request)
        return await super().Cancel(request, context)

    async def Watch(
        self, request: tasks_pb2.WatchRequest, context: Any
    ) -> AsyncIterator[tasks_pb2.WatchResponse]:
        self.watched.append(request)
        seen = max(1, request.from_revision) - 1
        if seen > len(self.events):
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, "the task has not come that far")
        await self._count(1)
        try:
            while not (seen and self.events[seen - 1].HasField("ended")):
                if seen < len(self.events):
                    yield tasks_pb2.WatchResponse(event=self.events[seen])
                    seen += 1
                elif not await self._more_than(seen):
                    bookmark = tasks_pb2.Bookmark(revision=seen, waiting=self.waiting)
                    yield tasks_pb2.WatchResponse(bookmark=bookmark)
                if self.stopping:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the node is being stopped")
        finally:
            await self._count(-1)

    async def Transcript(
        self, request: tasks_pb2.TranscriptRequest, context: Any
    ) -> AsyncIterator[tasks_pb2.TranscriptResponse]:
        yield tasks_pb2.TranscriptResponse(lines=self.transcript)

    async def Ledger(self, request: node_pb2.LedgerRequest, context: Any) -> node_pb2.LedgerResponse:
        return node_pb2.LedgerResponse(settled_micro=12_500_000)

    async def Limits(self, request: node_pb2.LimitsRequest, context: Any) -> node_pb2.LimitsResponse:
        return node_pb2.LimitsResponse(limits=[node_pb2.Limit(name="connections", most=64, used=2)])

    async def _more_than(self, count: int) -> bool:
        """Wait for another event than the first so many, or the end; False when a bookmark is due."""
        try:
            async with asyncio.timeout(self.bookmark), self.news:
                await self.news.wait_for(lambda: self.stopping or len(self.events) > count)
        except TimeoutError:
            return False
        return True

    async def _count(self, change: int) -> None:
        async with self.news:
            self.watching += change
            self.news.notify_all()


@asynccontextmanager
async def api_node() -> AsyncIterator[ApiNode]:
    """An API without a node behind it."""
    with contextmanager(socket_path)() as socket:
        node = ApiNode(socket=socket)
        async with served(node, f"unix:{socket}"):
            yield node
