"""TasksService, as callers see it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from mlnet.client import checking
from mlnet.client.request import TaskRequest
from mlnet.client.task_client import split
from mlnet.errors import DataError, Overloaded, TaskError
from mlnet.protocol.wire.messages import MAX_REASON
from mlnet.service.tasks import asking, events, listing, sending
from mlnet.service.tasks.asking import Reader, Rules
from mlnet.service.tasks.feed import Feed
from mlnet.service.tasks.hosted import HostedTask
from mlnet.service.tasks.refused import out_of_range, precondition, unavailable
from mlnet.service.tasks.registry import Registry
from mlnet.status.details import problem_of
from mlnet.task import definition as task_definition
from mlnet.task.definition import TaskDefinition
from mlnet.util import files
from mlnet.v1 import tasks_pb2 as pb
from mlnet.v1 import tasks_pb2_grpc

MAX_WATCHERS = 4096
"""Of all tasks together; each is a call that somebody holds open."""
MAX_DOWNLOADS = 32
"""At the same time; each holds a piece of a model."""
READ_AT_ONCE = 2
"""Datasets that Validate reads at the same time."""
MAX_READS = 16
"""That wait to be read, with those."""
BY_CALLER = "cancelled by the user"


class TasksService(tasks_pb2_grpc.TasksServiceServicer):
    """Answers the calls of TasksService.

    Args:
        registry: the tasks of the node.
        rules: what callers may name on this machine.
    """

    service: str = pb.DESCRIPTOR.services_by_name["TasksService"].full_name

    def __init__(self, registry: Registry, rules: Rules | None = None) -> None:
        self._registry = registry
        self._rules = rules or Rules()
        self._reader = Reader(self._rules)
        self._reads = 0
        self._reading = asyncio.Semaphore(READ_AT_ONCE)
        self._watchers = 0
        self._downloads = 0

    def add_to(self, server: Any) -> None:
        """Have a ``grpc.aio.Server`` answer the calls. Events leave as they lie in the history, once
        serialised for all who watch."""
        tasks_pb2_grpc.add_TasksServiceServicer_to_server(self, _Bare(server))  # type: ignore[no-untyped-call]

    def running(self) -> list[pb.Task]:
        """The tasks that have not ended, without ``result``."""
        return [hosted.brief() for hosted in self._registry.running]

    def close(self) -> None:
        """Read no more definitions."""
        self._reader.close()

    # ------------------------------------------------------------------------------------------ one answer

    async def Validate(self, request: pb.ValidateRequest, context: Any) -> pb.ValidateResponse:  # noqa: N802
        """Check a definition, and on request its dataset."""
        try:
            definition = await self._reader.definition(request.definition)
            facts = list(checking.described(definition))
            response = pb.ValidateResponse(warnings=task_definition.warnings(definition))
            if request.read_dataset:
                facts += await self._read(definition, request, response)
        except TaskError as error:
            return pb.ValidateResponse(problems=map(problem_of, error.errors))
        except DataError as error:
            return pb.ValidateResponse(problems=[pb.Problem(path="ml.dataset", problem=str(error))])
        response.summary.extend(checking.lines(facts))
        return response

    async def _read(
        self, definition: TaskDefinition, request: pb.ValidateRequest, response: pb.ValidateResponse
    ) -> list[checking.Fact]:
        """Read the dataset of a definition, in a directory that is gone afterwards."""
        if self._reads >= MAX_READS:
            raise Overloaded(f"{self._reads} datasets wait to be read already", retry_after=5.0)
        self._reads += 1
        try:
            async with self._reading:
                dataset = request.dataset if request.HasField("dataset") else None
                source = await asyncio.to_thread(self._reader.source, definition, dataset)
                asked = TaskRequest(
                    request.definition,
                    definition,
                    Path("/"),
                    source,
                    private_links=self._rules.private_links,
                )
                fix = "free some space, or choose another --data-dir"
                with files.written_to(self._registry.state.tasks, fix):
                    self._registry.state.tasks.mkdir(mode=0o700, parents=True, exist_ok=True)
                    with tempfile.TemporaryDirectory(
                        prefix="draft-", dir=self._registry.state.tasks
                    ) as directory:
                        read = await split(asked, Path(directory))
        finally:
            self._reads -= 1
        response.warnings.extend(read.warnings)
        response.parameters = task_definition.check_inputs(definition, read.inputs)
        return list(checking.found(definition, read))

    async def Submit(self, request: pb.SubmitRequest, context: Any) -> pb.SubmitResponse:  # noqa: N802
        """Begin a task."""
        asking.check_token(request.idempotency_token)
        hosted = self._registry.known(request.idempotency_token, asking.content(request))
        if hosted is None:
            self._registry.check_room()
            hosted = await self._registry.submit(await self._reader.asked(request))
        return pb.SubmitResponse(task=hosted.message(), warnings=hosted.record.warnings)

    async def Get(self, request: pb.GetRequest, context: Any) -> pb.GetResponse:  # noqa: N802
        """One task."""
        return pb.GetResponse(task=self._registry.find(request.task).message())

    async def List(self, request: pb.ListRequest, context: Any) -> pb.ListResponse:  # noqa: N802
        """A page of tasks."""
        return listing.page(self._registry.ordered, request)

    async def Cancel(self, request: pb.CancelRequest, context: Any) -> pb.CancelResponse:  # noqa: N802
        """Give a task up."""
        hosted = self._registry.find(request.task)
        self._registry.cancel(hosted, request.reason[:MAX_REASON] or BY_CALLER)
        return pb.CancelResponse(task=hosted.message())

    # ----------------------------------------------------------------------------------------- many answers

    async def Watch(self, request: pb.WatchRequest, context: Any) -> None:  # noqa: N802
        """Write the events of a task, as serialised bytes."""
        hosted = self._registry.find(request.task)
        if self._watchers >= MAX_WATCHERS:
            raise Overloaded(f"{self._watchers} watches are open already", retry_after=5.0)
        feed = hosted.watched()
        self._watchers += 1
        try:
            await _show(hosted, feed, request, context)
        finally:
            self._watchers -= 1
            hosted.left(feed)

    async def Download(self, request: pb.DownloadRequest, context: Any) -> AsyncIterator[pb.DownloadResponse]:  # noqa: N802
        """The model of a task, in pieces."""
        record = self._registry.find(request.task).record
        if record.result is None:
            raise precondition("the task has no model yet; watch it until it is completed")
        if record.result.model is None:
            raise precondition(f"the task has no model: {record.result.reason or record.result.state}")
        if self._downloads >= MAX_DOWNLOADS:
            raise Overloaded(f"{self._downloads} downloads are under way already", retry_after=5.0)
        self._downloads += 1
        try:
            async for piece in sending.model(record.result.model, record.model_size, request.offset):
                yield piece
        finally:
            self._downloads -= 1

    async def Transcript(  # noqa: N802
        self, request: pb.TranscriptRequest, context: Any
    ) -> AsyncIterator[pb.TranscriptResponse]:
        """The signed messages of a task."""
        task = self._registry.find(request.task).record.task
        async for lines in sending.transcript(self._registry.state.transcript(task)):
            yield lines


async def _show(hosted: HostedTask, feed: Feed, request: pb.WatchRequest, context: Any) -> None:
    """Write events until the caller has what he wants, or the task is over.

    Raises:
        ServiceError: what he wants is not kept any more, or is not there yet; or the node is being stopped.
    """
    history, cursor, left = feed.history, max(1, request.from_revision), request.max_events
    until = request.until_state or max(events.TERMINAL)
    if cursor > history.last + 1:
        raise out_of_range(
            f"from_revision: the latest event of the task is {history.last}; ask from {history.last + 1} on"
        )
    while True:
        while cursor <= history.last:
            if cursor < history.first:
                raise out_of_range(
                    f"from_revision: event {cursor} is not kept any more; the first one is {history.first}"
                )
            entry = history.at(cursor)
            await context.write(entry.payload)
            cursor += 1
            left -= 1
            if left == 0 or entry.state >= until or entry.state in events.TERMINAL:
                return
        if hosted.ended or hosted.state >= until:
            return
        if feed.ended:
            raise unavailable(
                f"the node is being stopped; watch the task from event {cursor} on when it is back"
            )
        bookmark = await feed.next()
        if bookmark is not None and cursor > history.last:
            await context.write(bookmark)


class _Bare:
    """A server that takes the generated handlers, but for the serialiser of events: they are bytes."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, _: Any) -> None:
        """Handlers come twice, here and by name; the second time they are taken."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Take the handlers of a service."""
        watch = handlers["Watch"]
        handlers["Watch"] = grpc.unary_stream_rpc_method_handler(
            watch.unary_stream, request_deserializer=watch.request_deserializer
        )
        generic = grpc.method_handlers_generic_handler(service, handlers)
        self._server.add_generic_rpc_handlers((generic,))
        self._server.add_registered_method_handlers(service, handlers)
