"""The far side of the API for tests of its clients: a server on a socket that does what the test says."""
# ruff: noqa: N802 - the names of methods are those of the service

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_status import rpc_status

from mlnet.errors import MlnetError, NotFound, ServiceError
from mlnet.status.details import status_of
from mlnet.v1 import (
    blobs_pb2,
    blobs_pb2_grpc,
    node_pb2,
    node_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
)

TASK = "ab12" * 16
PEER = "12D3KooWPRvhsWVsLj8XPC4wndRzoGeqAMbBRSNUfYdAtvJD9wro"


def course(length: int, state: tasks_pb2.TaskState = tasks_pb2.TASK_STATE_COMPLETED) -> list[tasks_pb2.Event]:
    """So many events of a task, the last of which is its end."""
    events = [
        tasks_pb2.Event(
            revision=number,
            task=TASK,
            state=tasks_pb2.TASK_STATE_TRAINING,
            notice=tasks_pb2.Notice(text=f"{number}"),
        )
        for number in range(1, length + 1)
    ]
    events[-1].state = state
    events[-1].ended.state = state
    for event in events:
        event.time.FromMilliseconds(1_767_225_600_000 + event.revision)
    return events


@dataclass
class Break:
    """How a stream ends before its time.

    Attributes:
        after: so many answers.
        code: with this status; None for OK.
        back: the next stream begins so many events too early.
    """

    after: int
    code: grpc.StatusCode | None = grpc.StatusCode.UNAVAILABLE
    back: int = 0


@dataclass
class Double(
    tasks_pb2_grpc.TasksServiceServicer,
    blobs_pb2_grpc.BlobsServiceServicer,
    node_pb2_grpc.NodeServiceServicer,
):
    """A node that does as it is told.

    Attributes:
        events: of its one task.
        breaks: of the next streams, in order.
        model: of the task.
        damaged: so many pieces of it arrive damaged.
        promised: its hash, in place of the true one.
        refuses: what Submit raises, once for each.
        submitted: the requests that came.
        watched: likewise.
        blobs: what was put, by SHA-256.
        tokens: the metadata of the calls.
    """

    events: list[tasks_pb2.Event] = field(default_factory=lambda: course(5))
    breaks: list[Break] = field(default_factory=list)
    model: bytes = b""
    damaged: int = 0
    promised: str = ""
    refuses: list[MlnetError] = field(default_factory=list)
    submitted: list[tasks_pb2.SubmitRequest] = field(default_factory=list)
    watched: list[tasks_pb2.WatchRequest] = field(default_factory=list)
    downloads: list[int] = field(default_factory=list)
    puts: list[int] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)

    def task(self) -> tasks_pb2.Task:
        last = self.events[-1]
        task = tasks_pb2.Task(
            id=TASK,
            state=last.state,
            phase="training",
            name="digits.npz",
            revision=last.revision,
            output="/models/ab12",
            waiting="" if last.HasField("ended") else "the votes of cycle 1",
            members=[PEER],
        )
        task.created_at.FromMilliseconds(1_767_225_600_000)
        if not last.HasField("ended"):
            task.progress.epoch, task.progress.epochs, task.progress.step, task.progress.steps = 2, 8, 30, 120
            task.progress.loss = 0.25
        if last.HasField("ended"):
            task.ended_at.FromMilliseconds(1_767_225_660_000)
            task.reason, task.code = last.ended.reason, last.ended.code
        if self.model:
            task.result.model_size = len(self.model)
            task.result.model_sha256 = hashlib.sha256(self.model).hexdigest()
            task.result.held_out_accuracy = 0.875
        return task

    async def Get(self, request: tasks_pb2.GetRequest, context: Any) -> tasks_pb2.GetResponse:
        self.tokens += [str(value) for key, value in context.invocation_metadata() if key == "authorization"]
        if not TASK.startswith(request.task):
            await _refuse(context, NotFound(f"this node has no task whose id begins with {request.task}"))
        return tasks_pb2.GetResponse(task=self.task())

    async def List(self, request: tasks_pb2.ListRequest, context: Any) -> tasks_pb2.ListResponse:
        first = int(request.page_token or 0)
        tasks = [tasks_pb2.Task(id=f"{number:064x}", state=self.events[-1].state) for number in range(450)]
        page = tasks[first : first + request.page_size]
        end = first + len(page)
        return tasks_pb2.ListResponse(tasks=page, next_page_token=str(end) if end < len(tasks) else "")

    async def Submit(self, request: tasks_pb2.SubmitRequest, context: Any) -> tasks_pb2.SubmitResponse:
        self.submitted.append(request)
        if self.refuses:
            await _refuse(context, self.refuses.pop(0))
        return tasks_pb2.SubmitResponse(task=self.task(), warnings=["a column looks like a date"])

    async def Cancel(self, request: tasks_pb2.CancelRequest, context: Any) -> tasks_pb2.CancelResponse:
        return tasks_pb2.CancelResponse(task=self.task())

    async def Watch(
        self, request: tasks_pb2.WatchRequest, context: Any
    ) -> AsyncIterator[tasks_pb2.WatchResponse]:
        self.watched.append(request)
        broken = self.breaks.pop(0) if self.breaks else None
        start = max(1, request.from_revision) - (broken.back if broken else 0)
        wanted = [event for event in self.events if event.revision >= start]
        for number, event in enumerate(wanted):
            if broken is not None and number == broken.after:
                break
            yield tasks_pb2.WatchResponse(event=event)
            if request.until_state and event.state >= request.until_state:
                return
        if broken is not None and broken.code is not None:
            await context.abort(broken.code, "the node is being stopped")
        if broken is None and not self.events[-1].HasField("ended"):
            await asyncio.Event().wait()  # until the caller hangs up

    async def Download(
        self, request: tasks_pb2.DownloadRequest, context: Any
    ) -> AsyncIterator[tasks_pb2.DownloadResponse]:
        self.downloads.append(request.offset)
        if not self.model:
            await _refuse(context, ServiceError("the task has no model yet", status="FAILED_PRECONDITION"))
        broken = self.breaks.pop(0) if self.breaks else None
        for number, offset in enumerate(range(request.offset, len(self.model), 1000)):
            if broken is not None and number == broken.after:
                await context.abort(broken.code, "gone")
            data = self.model[offset : offset + 1000]
            piece = tasks_pb2.DownloadResponse(data=data, offset=offset, sha256=hashlib.sha256(data).digest())
            if self.damaged:
                self.damaged -= 1
                piece.data = b"x" * len(data)
            if offset == request.offset:
                piece.size = len(self.model)
                piece.file_sha256 = self.promised or hashlib.sha256(self.model).hexdigest()
            yield piece

    async def Transcript(
        self, request: tasks_pb2.TranscriptRequest, context: Any
    ) -> AsyncIterator[tasks_pb2.TranscriptResponse]:
        for number in range(3):
            yield tasks_pb2.TranscriptResponse(lines=b'{"line": %d}\n' % number)

    async def Stat(self, request: blobs_pb2.StatRequest, context: Any) -> blobs_pb2.StatResponse:
        stored = self.blobs.get(request.sha256, b"")
        complete = hashlib.sha256(stored).hexdigest() == request.sha256
        return blobs_pb2.StatResponse(stored=len(stored), complete=complete)

    async def Put(
        self, requests: AsyncIterator[blobs_pb2.BlobsServicePutRequest], context: Any
    ) -> blobs_pb2.BlobsServicePutResponse:
        broken = self.breaks.pop(0) if self.breaks else None
        sha256, number = "", 0
        async for request in requests:
            sha256 = sha256 or request.sha256
            if not number:
                self.puts.append(request.offset)
            if broken is not None and number == broken.after:
                await context.abort(broken.code, "gone")
            self.blobs[sha256] = self.blobs.get(sha256, b"")[: request.offset] + request.data
            number += 1
        return blobs_pb2.BlobsServicePutResponse(size=len(self.blobs[sha256]))

    async def Status(self, request: node_pb2.StatusRequest, context: Any) -> node_pb2.StatusResponse:
        answer = node_pb2.StatusResponse(
            peer=PEER, version="0.2", addresses=[f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER}"], connected_peers=2
        )
        answer.most_memberships, answer.memory, answer.threads, answer.disk = 1, 1 << 30, 2, 10 << 30
        answer.memberships.add(task=TASK, client=PEER, phase="training", waiting="the model")
        answer.tasks.add().CopyFrom(self.task())
        return answer

    async def Peers(self, request: node_pb2.PeersRequest, context: Any) -> node_pb2.PeersResponse:
        answer = node_pb2.PeersResponse()
        near = answer.peers.add(id=PEER, addresses=["/ip4/192.0.2.7/tcp/4001"], connected=True)
        near.round_trip.FromMicroseconds(1500)
        near.clock_offset.FromMilliseconds(-2000)
        if not request.connected_only:
            answer.peers.add(id=PEER[:-1] + "x")
        return answer

    async def Ping(self, request: node_pb2.PingRequest, context: Any) -> node_pb2.PingResponse:
        answer = node_pb2.PingResponse(peer=PEER)
        for number in range(max(1, request.count)):
            answer.round_trips.add().FromMicroseconds(1000 * (number + 1))
        return answer


async def _refuse(context: Any, error: MlnetError) -> None:
    status: Any = rpc_status.to_status(status_of(error))
    await context.abort(status.code, status.details, status.trailing_metadata)


def socket_path() -> Iterator[Path]:
    """A path for a socket, short enough; for fixtures."""
    with tempfile.TemporaryDirectory(prefix="mlnet-api-") as directory:
        yield Path(directory) / "api.sock"


@asynccontextmanager
async def served(double: Double, address: str) -> AsyncIterator[int]:
    """Serve a node at an address of grpc; its port, if it is one of TCP."""
    server = grpc.aio.server()
    tasks_pb2_grpc.add_TasksServiceServicer_to_server(double, server)  # type: ignore[no-untyped-call]
    blobs_pb2_grpc.add_BlobsServiceServicer_to_server(double, server)  # type: ignore[no-untyped-call]
    node_pb2_grpc.add_NodeServiceServicer_to_server(double, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@contextmanager
def in_thread(double: Double, place: Path) -> Iterator[None]:
    """The node in a thread of its own: the blocking client blocks this one."""
    loop, started, over = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with served(double, f"unix:{place}"):
            started.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    loop.set_exception_handler(lambda loop, context: None)  # grpc.aio with two loops, see loop_thread
    thread.start()
    started.wait(10)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()
