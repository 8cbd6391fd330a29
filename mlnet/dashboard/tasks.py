"""What the page shows of tasks, and does with them: check, submit, list, follow, cancel, download, audit."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mlnet.dashboard.answers import BadRequest, answer, read
from mlnet.dashboard.auditing import Auditor
from mlnet.dashboard.files import Download, Uploads, model_pieces, transcript_pieces
from mlnet.dashboard.streams import Streams, frames, last_seen
from mlnet.sdk.asking import waiting_period
from mlnet.sdk.connection import NodeConnection
from mlnet.sdk.plain import to_plain
from mlnet.sdk.records import TaskState
from mlnet.v1 import tasks_pb2

PAGE = 50
SUBMIT_SECONDS = 600.0
"""The node fetches and cuts the dataset before it answers."""
STATES = frozenset(TaskState) - {TaskState.UNKNOWN}


class DatasetBody(msgspec.Struct, forbid_unknown_fields=True):
    """Where the dataset comes from: one of path, link and blob; its labels too, if they have a file."""

    path: str = ""
    link: str = ""
    blob_sha256: str = ""
    name: str = ""
    labels: DatasetBody | None = None

    def source(self) -> tasks_pb2.DatasetSource:
        """The same for the API.

        Raises:
            BadRequest: not exactly one is named, or labels have labels.
        """
        given = {name: getattr(self, name) for name in ("path", "link", "blob_sha256") if getattr(self, name)}
        if len(given) != 1:
            raise BadRequest("name the dataset: its path, its link, or the file to upload")
        source = tasks_pb2.DatasetSource(**given, name=self.name)
        if self.labels is not None:
            if self.labels.labels is not None:
                raise BadRequest("a dataset has one file of labels")
            source.labels.CopyFrom(self.labels.source())
        return source


class DefinitionBody(msgspec.Struct, forbid_unknown_fields=True):
    """A definition to check."""

    definition: str


class TaskBody(msgspec.Struct, forbid_unknown_fields=True):
    """A task to submit."""

    definition: str
    dataset: DatasetBody | None = None
    waiting_period: str = ""
    allowed_nodes: tuple[str, ...] = ()
    idempotency_token: str = ""

    def request(self) -> tasks_pb2.SubmitRequest:
        """The same for the API.

        Raises:
            BadRequest: the dataset is none.
            TaskError: the waiting period is none.
        """
        request = tasks_pb2.SubmitRequest(
            definition=self.definition,
            allowed_nodes=self.allowed_nodes,
            idempotency_token=self.idempotency_token,
        )
        if self.dataset is not None:
            request.dataset.CopyFrom(self.dataset.source())
        if self.waiting_period:
            request.waiting_period.FromMilliseconds(round(1000 * waiting_period(self.waiting_period)))
        return request


class CancelBody(msgspec.Struct, forbid_unknown_fields=True):
    """Why a task is given up."""

    reason: str = ""


class TaskRoutes:
    """The routes below ``/api`` that ask TasksService and BlobsService.

    Args:
        connection: to the node.
        streams: counts those that follow tasks.
    """

    def __init__(self, connection: NodeConnection, streams: Streams) -> None:
        self._connection, self._streams = connection, streams
        self._auditor, self._uploads = Auditor(connection), Uploads(connection)
        one = "/api/tasks/{task}"
        self.routes = [
            Route("/api/validate", self.validate, methods=["POST"]),
            Route("/api/blobs", self._uploads.put, methods=["POST"]),
            Route("/api/tasks", self.list, methods=["GET"]),
            Route("/api/tasks", self.submit, methods=["POST"]),
            Route(one, self.get),
            Route(f"{one}/events", self.events),
            Route(f"{one}/cancel", self.cancel, methods=["POST"]),
            Route(f"{one}/audit", self.audit),
            Route(f"{one}/model", self.model, methods=["POST"]),
            Route(f"{one}/transcript", self.transcript, methods=["POST"]),
        ]

    async def validate(self, request: Request) -> Response:
        """What is wrong with a definition, or what was understood."""
        asked = await read(request, DefinitionBody)
        check = tasks_pb2.ValidateRequest(definition=asked.definition)
        return answer(to_plain(await self._connection.call(self._connection.tasks.Validate, check)))

    async def submit(self, request: Request) -> Response:
        """Have a task carried out."""
        asked = (await read(request, TaskBody)).request()
        made = await self._connection.call(self._connection.tasks.Submit, asked, SUBMIT_SECONDS)
        return answer(to_plain(made), HTTPStatus.CREATED)

    async def list(self, request: Request) -> Response:
        """A page of tasks, the latest first."""
        named = request.query_params.get("state", "")
        if named and named not in STATES:
            raise BadRequest(f"there is no state {named[:40]!r} of tasks")
        asked = tasks_pb2.ListRequest(
            page_size=PAGE,
            page_token=request.query_params.get("page_token", ""),
            states=[f"TASK_STATE_{named.upper()}"] if named else [],
        )
        return answer(to_plain(await self._connection.call(self._connection.tasks.List, asked)))

    async def get(self, request: Request) -> Response:
        """One task."""
        return answer({"task": await self._task(request)})

    async def events(self, request: Request) -> Response:
        """What happens in a task, as it happens; 204, which ends an EventSource, when all of it was seen."""
        after = last_seen(request.headers.get("last-event-id"))
        task = await self._task(request)
        if TaskState(task["state"]).ended and after >= task["revision"]:
            return Response(status_code=HTTPStatus.NO_CONTENT)
        return self._streams.response(frames(self._connection, task["id"], after))

    async def cancel(self, request: Request) -> Response:
        """Give a task up."""
        asked = tasks_pb2.CancelRequest(
            task=request.path_params["task"], reason=(await read(request, CancelBody)).reason
        )
        return answer(to_plain(await self._connection.call(self._connection.tasks.Cancel, asked)))

    async def audit(self, request: Request) -> Response:
        """What follows from the task's signed messages, and who signed what does not."""
        return await self._auditor.audit((await self._task(request))["id"])

    async def model(self, request: Request) -> Response:
        """The model of a completed task."""
        task = await self._task(request)
        pieces = model_pieces(self._connection, task["id"])
        size = task.get("result", {}).get("model_size", 0)
        return await Download.begun(pieces, f"mlnet-{task['id'][:12]}.safetensors", size)

    async def transcript(self, request: Request) -> Response:
        """The signed messages of a task."""
        task = await self._task(request)
        pieces = transcript_pieces(self._connection, task["id"])
        return await Download.begun(pieces, f"{task['id']}.jsonl")

    async def _task(self, request: Request) -> dict[str, Any]:
        asked = tasks_pb2.GetRequest(task=request.path_params["task"])
        found = await self._connection.call(self._connection.tasks.Get, asked)
        return to_plain(found.task)
