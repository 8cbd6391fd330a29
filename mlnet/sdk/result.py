"""What a task ended in, as a program gets it; with the way to its model."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from mlnet.client.result import Accuracy, ModelFile
from mlnet.client.result import Result as Document
from mlnet.errors import DataError, MlnetError, ServiceError
from mlnet.sdk.records import TaskInfo, TaskOutcome, TaskState

if TYPE_CHECKING:
    from mlnet.training.model import Model

Fetch: TypeAlias = Callable[[str, Path], Awaitable[Path]]
"""Fetches the model of a task to a path."""
FetchNow: TypeAlias = Callable[[str, Path], Path]
_STATES: dict[TaskState, Literal["completed", "failed", "cancelled"]] = {
    TaskState.COMPLETED: "completed",
    TaskState.CANCELLED: "cancelled",
}


@dataclass(frozen=True)
class FinishedTask:
    """The end of a task.

    Attributes:
        info: the task as it was then.
    """

    info: TaskInfo

    @property
    def task(self) -> str:
        """The task's id."""
        return self.info.id

    @property
    def state(self) -> str:
        """How it ended: ``completed``, ``failed`` or ``cancelled``."""
        return str(self.info.state)

    @property
    def reason(self) -> str:
        """Why it did not complete; else empty."""
        return self.info.reason

    @property
    def code(self) -> str:
        """Name of the error in :mod:`mlnet.errors`; empty where there is none."""
        return self.info.code

    @property
    def nodes(self) -> tuple[str, ...]:
        """Peer ids of the members by training rank."""
        return self.info.members

    @property
    def details(self) -> TaskOutcome:
        """Committee, Redis pair, segments, times."""
        return self.info.result or TaskOutcome()

    @property
    def accuracy(self) -> Accuracy:
        """Shares of right answers, 0 to 1: ``validation`` by the members, ``held_out`` by the client."""
        return Accuracy(self.details.validation_accuracy, self.details.held_out_accuracy)

    @property
    def metrics(self) -> dict[str, float]:
        """On the segments that nobody trained on, by name."""
        return self.details.metrics

    @property
    def rewards(self) -> dict[str, int]:
        """Millionths of a unit by peer id."""
        return self.details.rewards_micro

    @property
    def error(self) -> MlnetError | None:
        """The error that the task ended with; None when it completed and its model is there."""
        return self.document().error

    def document(self, model: Path | None = None) -> Document:
        """The same as ``result.json`` has it.

        Args:
            model: where the model lies; None for where the node has put it.
        """
        from mlnet.data.modelfile import MODEL

        found = self.details
        path = str(model) if model is not None else str(Path(self.info.output) / MODEL)
        return Document(
            task=self.task,
            state=_STATES.get(self.info.state, "failed"),
            reason=self.reason,
            code=self.code,
            nodes=self.nodes,
            committee=found.committee,
            master=found.master,
            slave=found.replica,
            segments=found.segments,
            held_out=found.held_out,
            accuracy=self.accuracy,
            metrics=found.metrics,
            payment=found.payment_micro,
            rewards=found.rewards_micro,
            model=ModelFile(path, found.model_sha256, found.attested_sha256) if found.model_sha256 else None,
            seconds=found.seconds,
        )

    def require_model(self) -> None:
        """Raise the error of a task that has no model.

        Raises:
            ServiceError: it has not ended.
            MlnetError: of the kind that the task ended with.
        """
        if self.details.model_sha256:
            return
        what = f"task {self.task[:12]} has no model"
        if not self.info.state.ended:
            raise ServiceError(f"{what} yet: it is {self.state}")
        error = self.error
        if error is None:
            raise DataError(what)
        raise type(error)(f"{what}: {self.reason or self.state}")

    def __str__(self) -> str:
        held_out = self.accuracy.held_out
        figure = "" if held_out is None else f", held-out accuracy {held_out:.4f}"
        return f"task {self.task[:12]} {self.state}{': ' if self.reason else ''}{self.reason}{figure}"


@dataclass(frozen=True)
class Result(FinishedTask):
    """The end of a task, and its model."""

    _fetch: FetchNow = field(repr=False, compare=False)

    def download(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Fetch the model.

        Args:
            path: of the file; ``mlnet-TASK/model.safetensors`` in the current directory by default.

        Returns:
            Its path.

        Raises:
            MlnetError: the task has none, or it cannot be fetched or written.
        """
        self.require_model()
        return self._fetch(self.task, default_path(self.task) if path is None else Path(path))

    def model(self) -> Model:
        """The model as a torch module in evaluation mode. It is fetched once, and kept in the user's cache.

        Raises:
            MlnetError: the task has none, or it cannot be fetched.
        """
        self.require_model()
        from mlnet.training.model import load_model

        path = cached(self.details.model_sha256)
        return load_model(path if path.exists() else self._fetch(self.task, path))


@dataclass(frozen=True)
class AsyncResult(FinishedTask):
    """The end of a task, and its model, for programs with an event loop; see :class:`Result`."""

    _fetch: Fetch = field(repr=False, compare=False)

    async def download(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Fetch the model; see :meth:`Result.download`."""
        self.require_model()
        return await self._fetch(self.task, default_path(self.task) if path is None else Path(path))

    async def model(self) -> Model:
        """The model as a torch module; see :meth:`Result.model`."""
        self.require_model()
        import asyncio

        from mlnet.training.model import load_model

        path = cached(self.details.model_sha256)
        return await asyncio.to_thread(
            load_model, path if path.exists() else await self._fetch(self.task, path)
        )


def default_path(task: str) -> Path:
    """Where a model goes for which the user has named no place."""
    from mlnet.data.modelfile import MODEL  # which loads numpy

    return Path(f"mlnet-{task[:12]}") / MODEL


def cached(sha256: str) -> Path:
    """Where a model is kept that a program has loaded: below XDG_CACHE_HOME. Its name is its hash."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        base = Path("~/.cache").expanduser()
    return base / "mlnet" / "models" / f"{sha256}.safetensors"
