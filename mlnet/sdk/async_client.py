"""The client for programs with an event loop.

::

    async with mlnet.AsyncClient() as client:
        result = await client.train("task.yaml", on_event=print)
        model = await result.model()
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import grpc
from google.protobuf.duration_pb2 import Duration

from mlnet.errors import PeerUnreachable, ServiceError
from mlnet.sdk import transfers
from mlnet.sdk.connection import NodeConnection
from mlnet.sdk.events import Bookmark, TaskEvent
from mlnet.sdk.plain import to, to_plain
from mlnet.sdk.records import NodeStatus, PeerInfo, PingResult, TaskInfo, TaskState, ValidationReport
from mlnet.sdk.result import AsyncResult
from mlnet.sdk.target import Target, find
from mlnet.sdk.transfers import Moved
from mlnet.sdk.watching import TaskWatch
from mlnet.v1 import node_pb2, tasks_pb2

if TYPE_CHECKING:
    from mlnet.sdk import asking  # which loads what a definition may hold

logger = logging.getLogger("mlnet")
PATIENCE = 60.0
"""Seconds for which a node that went away is waited for."""
SUBMIT_SECONDS = 3600.0
"""For a node to cut a dataset."""
RETRY_SECONDS = 0.5
PING_SECONDS = 15.0
"""For one ping, with the time to dial."""
PAGE = 200
Notice = Callable[[str], object]
OnEvent = Callable[[TaskEvent], object]


def log(text: str) -> None:
    """Write a line for people to the log."""
    logger.warning("%s", text)


def unmoved(there: int, size: int) -> None:
    """Nobody wants to know how far a file is."""


class AsyncTask:
    """A task of a node.

    Args:
        client: that knows it.
        info: as it was when the node was asked.
        warnings: what might not be meant in its dataset.
    """

    def __init__(self, client: AsyncClient, info: TaskInfo, warnings: Sequence[str] = ()) -> None:
        self._client = client
        self.info = info
        self.warnings = tuple(warnings)

    @property
    def id(self) -> str:
        """64 hexadecimal digits."""
        return self.info.id

    def __repr__(self) -> str:
        return f"<task {self.id[:12]}, {self.info.state}>"

    async def refresh(self) -> TaskInfo:
        """Ask the node how the task is now."""
        self.info = await self._client.get(self.id)
        return self.info

    def watch(
        self, from_revision: int = 1, *, until: TaskState | None = None
    ) -> AsyncGenerator[TaskEvent, None]:
        """Its events; see :meth:`AsyncClient.watch`."""
        return self._client.watch(self.id, from_revision, until=until)

    async def cancel(self, reason: str = "") -> None:
        """Give it up; see :meth:`AsyncClient.cancel`."""
        self.info = await self._client.cancel(self.id, reason)

    async def result(self) -> AsyncResult:
        """Wait for the end; see :meth:`AsyncClient.result`."""
        done = await self._client.result(self.id)
        self.info = done.info
        return done


class AsyncClient:
    """A client of one node. Use it as a context, or call :meth:`close`.

    Every failure is a :class:`mlnet.MlnetError` of the kind that the node raised, with its attributes.

    Args:
        address: ``HOST:PORT`` of a node's API, or the path of its socket or data directory. By default that
            of MLNET_NODE, else the socket of the node that runs on this machine.
        socket: path of a node's socket or data directory, in place of ``address``.
        token: what ``start --api`` has written to ``api.token``. By default that of MLNET_TOKEN.
        ca: file with the certificates to trust, PEM. Connections to other machines are always TLS.
        patience: seconds for which a node that went away is waited for.
        notice: takes lines of text for people: waits, uploads. By default they are logged.

    Raises:
        ConfigError: the address is none.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        socket: str | os.PathLike[str] | None = None,
        token: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        patience: float = PATIENCE,
        notice: Notice = log,
    ) -> None:
        self._connection = NodeConnection(find(address, socket=socket, token=token, ca=ca))
        self._patience, self._notice = patience, notice
        self._inner: AbstractAsyncContextManager[Path] | None = None

    @classmethod
    def embedded(
        cls,
        peers: Sequence[str] = (),
        *,
        data_dir: str | os.PathLike[str] | None = None,
        deadline_factor: float = 1.0,
        listen: Sequence[str] = (),
        notice: Notice = log,
    ) -> AsyncClient:
        """A client without a node: this process joins the network itself, for as long as the context lasts.

        It has the same surface. A task that has not ended when the context does is taken up by the next one
        with the same ``data_dir``.

        Args:
            peers: addresses of nodes, as their ``mlnet-node start`` prints them.
            data_dir: for identity, journals and tasks; ``~/.local/share/mlnet/embedded`` by default. One
                process at a time uses it.
            deadline_factor: by which all deadlines of the protocol are multiplied.
            listen: multiaddrs to listen on; a free port of all interfaces by default.
            notice: see the class.
        """
        from mlnet.sdk.embedded import Embedded

        client = cls.__new__(cls)
        client._patience, client._notice = PATIENCE, notice
        client._connection = NodeConnection(Target(socket=Path("embedded")))
        client._inner = Embedded(peers, data_dir, deadline_factor, listen, notice)
        return client

    async def __aenter__(self) -> AsyncClient:
        if self._inner is not None:
            self._connection = NodeConnection(Target(socket=await self._inner.__aenter__()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all calls. Tasks of a node go on."""
        await self._connection.close()
        if self._inner is not None:
            await self._inner.__aexit__(None, None, None)
            self._inner = None

    # ---------------------------------------------------------------------------------------------- tasks

    async def train(
        self,
        definition: asking.Definition,
        *,
        data: asking.Definition | Sequence[asking.Definition] | None = None,
        waiting_period: str | None = None,
        allowed_nodes: Iterable[str] = (),
        output: str | os.PathLike[str] | None = None,
        on_event: OnEvent | None = None,
    ) -> AsyncResult:
        """Have a model trained; wait for the end. For arguments and errors see :meth:`submit`.

        Args:
            definition: see there.
            data: see there.
            waiting_period: see there.
            allowed_nodes: see there.
            output: see there.
            on_event: takes each event as it happens, on the event loop.

        Returns:
            The result, also of a task that failed: ``result.error`` is None if it did not.
        """
        task = await self.submit(
            definition,
            data=data,
            waiting_period=waiting_period,
            allowed_nodes=allowed_nodes,
            output=output,
        )
        async with aclosing(self._watch(task.id, 1, None)) as events:
            async for event in events:
                if on_event is not None and isinstance(event, TaskEvent):
                    on_event(event)
        return await task.result()

    async def submit(
        self,
        definition: asking.Definition,
        *,
        data: asking.Definition | Sequence[asking.Definition] | None = None,
        waiting_period: str | None = None,
        allowed_nodes: Iterable[str] = (),
        output: str | os.PathLike[str] | None = None,
        idempotency_token: str = "",
        moved: Moved = unmoved,
    ) -> AsyncTask:
        """Hand a task to the node. It goes on when this program ends.

        A dataset on this machine that the node may not read there is uploaded.

        Args:
            definition: path of a task definition, or its text.
            data: path or link of the dataset, in place of the definition's; two for features and labels.
            waiting_period: in place of the definition's ``cluster.waiting-period``, such as ``90s``.
            allowed_nodes: peer ids of the nodes that may take part; all by default.
            output: directory on the node's machine for model and result.json; by default the node keeps them.
            idempotency_token: a second call with the same one and the same content returns the same task.
            moved: takes how far an upload is, in bytes, and the bytes in all.

        Raises:
            TaskError: the definition is wrong.
            DataError: the dataset is.
            ServiceError: the node refuses the task.
            PeerUnreachable: there is no node.
        """
        from mlnet.sdk import asking

        asked = await asyncio.to_thread(asking.read, definition, data)
        request = tasks_pb2.SubmitRequest(
            definition=asked.text,
            allowed_nodes=allowed_nodes,
            output=os.fspath(output) if output is not None else "",
            idempotency_token=idempotency_token or secrets.token_hex(16),
        )
        if waiting_period is not None:
            period = Duration()
            period.FromMilliseconds(round(1000 * asking.waiting_period(waiting_period)))
            request.waiting_period.CopyFrom(period)
        await self._connection.ready()
        answer = await self._submit(asked, request, moved)
        for warning in answer.warnings:
            self._notice(f"warning: {warning}")
        return AsyncTask(self, to(TaskInfo, to_plain(answer.task)), answer.warnings)

    async def _submit(
        self, asked: asking.LocalDefinition, request: tasks_pb2.SubmitRequest, moved: Moved
    ) -> tasks_pb2.SubmitResponse:
        """Submit with the dataset where it is, or uploaded where the node may not read it there."""
        from mlnet.sdk import asking

        elsewhere = bool(self._connection.target.address)
        if not (elsewhere and any(path.exists() for path in asked.files)):
            request.dataset.CopyFrom(asked.by_path())
            try:
                return await self._submit_once(request)
            except ServiceError as error:
                if error.status != "PERMISSION_DENIED" or not asked.files:
                    raise
        put: dict[Path, str] = {}
        for path in await asyncio.to_thread(asking.uploadable, asked):
            self._notice(f"{path} is uploaded: the node does not read datasets there")
            put[path] = await transfers.upload(self._connection, path, self._patience, moved)
        request.dataset.CopyFrom(asked.by_hash(put))
        return await self._submit_once(request)

    async def _submit_once(self, request: tasks_pb2.SubmitRequest) -> tasks_pb2.SubmitResponse:
        """Submit; again after a broken connection, which the token makes harmless."""
        until = asyncio.get_running_loop().time() + self._patience
        while True:
            try:
                return await self._connection.call(
                    self._connection.tasks.Submit, request, seconds=SUBMIT_SECONDS
                )
            except PeerUnreachable as error:
                try:
                    async with asyncio.timeout_at(until):
                        await asyncio.sleep(RETRY_SECONDS)
                        await self._connection.again()
                except TimeoutError:
                    raise error from None

    async def task(self, task: str) -> AsyncTask:
        """A task of the node.

        Args:
            task: its id, or a unique beginning of it, of at least 4 digits.

        Raises:
            NotFound: there is none.
        """
        return AsyncTask(self, await self.get(task))

    async def get(self, task: str) -> TaskInfo:
        """How a task is now; see :meth:`task`."""
        answer = await self._connection.call(self._connection.tasks.Get, tasks_pb2.GetRequest(task=task))
        return to(TaskInfo, to_plain(answer.task))

    async def tasks(self, states: Iterable[TaskState] = (), *, limit: int | None = None) -> list[TaskInfo]:
        """The tasks of the node, the latest first.

        Args:
            states: only those in one of these.
            limit: how many at most; None for all.
        """
        found: list[TaskInfo] = []
        names = [f"TASK_STATE_{state.upper()}" for state in states]
        token = ""
        while True:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            request = tasks_pb2.ListRequest(page_size=size, page_token=token, states=names)
            answer = await self._connection.call(self._connection.tasks.List, request)
            found += [to(TaskInfo, to_plain(task)) for task in answer.tasks]
            token = answer.next_page_token
            if not token or (limit is not None and len(found) >= limit):
                return found

    async def watch(
        self, task: str, from_revision: int = 1, *, until: TaskState | None = None
    ) -> AsyncGenerator[TaskEvent, None]:
        """The events of a task, from the first one to its end. After a broken connection they go on where
        they were: none is missing, none comes twice.

        Args:
            task: its id, or a unique beginning of it.
            from_revision: the first event that is wanted.
            until: ends at this state, if the task does not end before.

        Raises:
            ServiceError: there is no such task, or it keeps those events no longer.
            PeerUnreachable: the node was away for longer than ``patience``.
        """
        async with aclosing(self._watch(task, from_revision, until)) as events:
            async for event in events:
                if isinstance(event, TaskEvent):
                    yield event

    async def follow(
        self, task: str, from_revision: int = 1, *, until: TaskState | None = None
    ) -> AsyncGenerator[TaskEvent | Bookmark, None]:
        """The same with a :class:`~mlnet.sdk.events.Bookmark` after each ten seconds without an event."""
        async with aclosing(self._watch(task, from_revision, until)) as events:
            async for event in events:
                yield event

    def _watch(
        self, task: str, from_revision: int, until: TaskState | None
    ) -> AsyncGenerator[TaskEvent | Bookmark, None]:
        watch = TaskWatch(self._connection, task, from_revision, until, self._patience, self._notice)
        return watch.events()

    async def cancel(self, task: str, reason: str = "") -> TaskInfo:
        """Give a task up; the nodes are told. Has no effect on one that has ended.

        Raises:
            ServiceError: it is too late, or there is no such task.
        """
        request = tasks_pb2.CancelRequest(task=task, reason=reason)
        answer = await self._connection.call(self._connection.tasks.Cancel, request)
        return to(TaskInfo, to_plain(answer.task))

    async def result(self, task: str) -> AsyncResult:
        """Wait for the end of a task.

        Returns:
            The result, also of a task that failed.
        """
        info = await self.get(task)
        if not info.state.ended:
            async with aclosing(self._watch(info.id, info.revision + 1, None)) as events:
                async for _ in events:
                    pass
            info = await self.get(info.id)
        return AsyncResult(info, self.download)

    async def download(self, task: str, path: str | os.PathLike[str], *, moved: Moved = unmoved) -> Path:
        """Fetch the model of a completed task; what is there of it already is not fetched again.

        Args:
            task: its id, or a unique beginning of it.
            path: of the file.
            moved: takes how far it is, in bytes, and the bytes in all.

        Raises:
            ServiceError: the task has no model.
            HashMismatch: what came is not what the node promised.
            StorageError: it cannot be written.
        """
        place = Path(path)
        await transfers.download(self._connection, task, place, self._patience, moved)
        return place

    async def transcript(self, task: str) -> AsyncGenerator[bytes, None]:
        """The signed messages of a task, in pieces of whole lines, as ``mlnet-node replay`` reads them."""
        request = tasks_pb2.TranscriptRequest(task=task)
        try:
            async with aclosing(
                self._connection.stream(self._connection.tasks.Transcript, request, transfers.IDLE_SECONDS)
            ) as pieces:
                async for piece in pieces:
                    yield piece.lines
        except (grpc.RpcError, TimeoutError) as failure:
            raise self._connection.error(failure) from None

    async def validate(
        self,
        definition: asking.Definition,
        *,
        data: asking.Definition | Sequence[asking.Definition] | None = None,
        read_dataset: bool = False,
    ) -> ValidationReport:
        """Have the node check a definition.

        Args:
            definition: path of a task definition, or its text.
            data: path or link of the dataset, in place of the definition's.
            read_dataset: whether the node reads the dataset, too, below a directory that its operator allows.

        Raises:
            TaskError: the definition is wrong; then the node is not asked.
        """
        from mlnet.sdk import asking

        asked = await asyncio.to_thread(asking.read, definition, data)
        request = tasks_pb2.ValidateRequest(
            definition=asked.text, dataset=asked.by_path(), read_dataset=read_dataset
        )
        answer = await self._connection.call(self._connection.tasks.Validate, request, seconds=SUBMIT_SECONDS)
        return to(ValidationReport, to_plain(answer))

    # --------------------------------------------------------------------------------------------- the node

    async def status(self) -> NodeStatus:
        """Who the node is, where it listens, and what it does."""
        answer = await self._connection.call(self._connection.node.Status, node_pb2.StatusRequest())
        return to(NodeStatus, to_plain(answer))

    async def peers(self, *, connected_only: bool = False) -> list[PeerInfo]:
        """The peers that the node knows, by id."""
        request = node_pb2.PeersRequest(connected_only=connected_only)
        answer = await self._connection.call(self._connection.node.Peers, request)
        return [to(PeerInfo, to_plain(peer)) for peer in answer.peers]

    async def ping(self, peer: str, count: int = 1) -> PingResult:
        """Have the node measure the time to a peer and back.

        Args:
            peer: its peer id, a beginning or end of it that no other known peer has, or a full multiaddr.
            count: how often, 1 to 100.

        Raises:
            PeerUnreachable: the peer does not answer.
        """
        request = node_pb2.PingRequest(peer=peer, count=count)
        answer = await self._connection.call(
            self._connection.node.Ping, request, seconds=PING_SECONDS * max(1, count)
        )
        return to(PingResult, to_plain(answer))
