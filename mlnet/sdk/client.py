"""The client for programs without an event loop, scripts and notebooks.

::

    with mlnet.Client() as client:
        model = client.train("task.yaml").model()
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from mlnet.sdk.async_client import PATIENCE, AsyncClient, AsyncTask, Notice, OnEvent, log, unmoved
from mlnet.sdk.events import Bookmark, TaskEvent
from mlnet.sdk.loop_thread import LoopThread, shared
from mlnet.sdk.records import NodeStatus, PeerInfo, PingResult, TaskInfo, TaskState, ValidationReport
from mlnet.sdk.result import Result
from mlnet.sdk.transfers import Moved

if TYPE_CHECKING:
    from mlnet.sdk import asking


class Task:
    """A task of a node.

    Args:
        client: that knows it.
        info: as it was when the node was asked.
        warnings: what might not be meant in its dataset.
    """

    def __init__(self, client: Client, info: TaskInfo, warnings: Sequence[str] = ()) -> None:
        self._client = client
        self.info = info
        self.warnings = tuple(warnings)

    @property
    def id(self) -> str:
        """64 hexadecimal digits."""
        return self.info.id

    def __repr__(self) -> str:
        return f"<task {self.id[:12]}, {self.info.state}>"

    def refresh(self) -> TaskInfo:
        """Ask the node how the task is now."""
        self.info = self._client.get(self.id)
        return self.info

    def watch(self, from_revision: int = 1, *, until: TaskState | None = None) -> Iterator[TaskEvent]:
        """Its events; see :meth:`Client.watch`."""
        return self._client.watch(self.id, from_revision, until=until)

    def cancel(self, reason: str = "") -> None:
        """Give it up; see :meth:`Client.cancel`."""
        self.info = self._client.cancel(self.id, reason)

    def result(self) -> Result:
        """Wait for the end; see :meth:`Client.result`."""
        done = self._client.result(self.id)
        self.info = done.info
        return done


class Client:
    """A client of one node. Use it as a context, or call :meth:`close`.

    It blocks the thread that calls it and needs no event loop; one that runs there does not disturb it. For
    arguments see :class:`~mlnet.sdk.async_client.AsyncClient`, which has the same methods.
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
        self._open(
            AsyncClient(address, socket=socket, token=token, ca=ca, patience=patience, notice=self._say),
            notice,
        )

    @classmethod
    def embedded(
        cls,
        peers: Sequence[str] = (),
        *,
        data_dir: str | os.PathLike[str] | None = None,
        deadline_factor: float = 1.0,
        listen: Sequence[str] = (),
        notice: Notice = log,
    ) -> Client:
        """A client without a node; see :meth:`mlnet.sdk.async_client.AsyncClient.embedded`. It joins at
        once."""
        client = cls.__new__(cls)
        inner = AsyncClient.embedded(
            peers,
            data_dir=data_dir,
            deadline_factor=deadline_factor,
            listen=listen,
            notice=client._say,
        )
        client._open(inner, notice)
        client._loop.run(inner.__aenter__())
        return client

    def _open(self, client: AsyncClient, notice: Notice) -> None:
        self._client, self._notice = client, notice
        self._shown: Notice | None = None
        self._loop: LoopThread = shared()

    def _say(self, text: str) -> None:
        """Show a line: where a display is drawn, in it."""
        (self._shown or self._notice)(text)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all calls. Tasks of a node go on."""
        self._loop.run(self._client.close())

    # ---------------------------------------------------------------------------------------------- tasks

    def train(
        self,
        definition: asking.Definition,
        *,
        data: asking.Definition | Sequence[asking.Definition] | None = None,
        waiting_period: str | None = None,
        allowed_nodes: Iterable[str] = (),
        output: str | os.PathLike[str] | None = None,
        on_event: OnEvent | None = None,
    ) -> Result:
        """Have a model trained; wait for the end. For arguments and errors see :meth:`submit`.

        Interrupted by Ctrl-C, the task goes on at the node.

        Args:
            definition: see there.
            data: see there.
            waiting_period: see there.
            allowed_nodes: see there.
            output: see there.
            on_event: takes each event as it happens, in this thread. By default they are displayed, if
                standard error is a terminal or this is a notebook.

        Returns:
            The result, also of a task that failed: ``result.error`` is None if it did not.
        """
        from mlnet.sdk import showing

        with showing.shown() if on_event is None else nullcontext() as display:
            if display is not None:
                self._shown = display.notice
            try:
                task = self.submit(
                    definition,
                    data=data,
                    waiting_period=waiting_period,
                    allowed_nodes=allowed_nodes,
                    output=output,
                )
                if display is not None:
                    display.began(task.info)
                for event in self.follow(task.id):
                    if display is not None:
                        display.event(event)
                    elif on_event is not None and isinstance(event, TaskEvent):
                        on_event(event)
                result = task.result()
                if display is not None:
                    display.ended(result)
            finally:
                self._shown = None
        return result

    def submit(
        self,
        definition: asking.Definition,
        *,
        data: asking.Definition | Sequence[asking.Definition] | None = None,
        waiting_period: str | None = None,
        allowed_nodes: Iterable[str] = (),
        output: str | os.PathLike[str] | None = None,
        idempotency_token: str = "",
    ) -> Task:
        """Hand a task to the node; see :meth:`mlnet.sdk.async_client.AsyncClient.submit`."""
        task: AsyncTask = self._loop.run(
            self._client.submit(
                definition,
                data=data,
                waiting_period=waiting_period,
                allowed_nodes=allowed_nodes,
                output=output,
                idempotency_token=idempotency_token,
            )
        )
        return Task(self, task.info, task.warnings)

    def task(self, task: str) -> Task:
        """A task of the node, by its id or a unique beginning of it."""
        return Task(self, self.get(task))

    def get(self, task: str) -> TaskInfo:
        """How a task is now."""
        return self._loop.run(self._client.get(task))

    def tasks(self, states: Iterable[TaskState] = (), *, limit: int | None = None) -> list[TaskInfo]:
        """The tasks of the node, the latest first; see :meth:`mlnet.sdk.async_client.AsyncClient.tasks`."""
        return self._loop.run(self._client.tasks(states, limit=limit))

    def watch(
        self, task: str, from_revision: int = 1, *, until: TaskState | None = None
    ) -> Iterator[TaskEvent]:
        """The events of a task to its end; see :meth:`mlnet.sdk.async_client.AsyncClient.watch`."""
        return self._loop.iterate(self._client.watch(task, from_revision, until=until))

    def follow(
        self, task: str, from_revision: int = 1, *, until: TaskState | None = None
    ) -> Iterator[TaskEvent | Bookmark]:
        """The same with bookmarks; see :meth:`mlnet.sdk.async_client.AsyncClient.follow`."""
        return self._loop.iterate(self._client.follow(task, from_revision, until=until))

    def cancel(self, task: str, reason: str = "") -> TaskInfo:
        """Give a task up; see :meth:`mlnet.sdk.async_client.AsyncClient.cancel`."""
        return self._loop.run(self._client.cancel(task, reason))

    def result(self, task: str) -> Result:
        """Wait for the end of a task."""
        return Result(self._loop.run(self._client.result(task)).info, self.download)

    def download(self, task: str, path: str | os.PathLike[str], *, moved: Moved = unmoved) -> Path:
        """Fetch the model of a task; see :meth:`mlnet.sdk.async_client.AsyncClient.download`."""
        return self._loop.run(self._client.download(task, path, moved=moved))

    def transcript(self, task: str) -> Iterator[bytes]:
        """The signed messages of a task, in pieces of whole lines."""
        return self._loop.iterate(self._client.transcript(task))

    def validate(
        self,
        definition: asking.Definition,
        *,
        data: asking.Definition | Sequence[asking.Definition] | None = None,
        read_dataset: bool = False,
    ) -> ValidationReport:
        """Have the node check a definition; see :meth:`mlnet.sdk.async_client.AsyncClient.validate`."""
        return self._loop.run(self._client.validate(definition, data=data, read_dataset=read_dataset))

    # --------------------------------------------------------------------------------------------- the node

    def status(self) -> NodeStatus:
        """Who the node is, where it listens, and what it does."""
        return self._loop.run(self._client.status())

    def peers(self, *, connected_only: bool = False) -> list[PeerInfo]:
        """The peers that the node knows, by id."""
        return self._loop.run(self._client.peers(connected_only=connected_only))

    def ping(self, peer: str, count: int = 1) -> PingResult:
        """Have the node ping a peer; see :meth:`mlnet.sdk.async_client.AsyncClient.ping`."""
        return self._loop.run(self._client.ping(peer, count))
