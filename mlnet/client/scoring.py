"""The model of a task on its way to the client: fetched by its hash, scored in a child that it can hurt."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from mlnet import data
from mlnet.data.modelfile import MODEL
from mlnet.driver.blob_holders import Holder
from mlnet.driver.messenger import Wire
from mlnet.errors import DataError, HashMismatch, TrainingError, TransportError
from mlnet.protocol.commands import FetchModel
from mlnet.task.definition import TaskDefinition
from mlnet.training.ipc import Scored
from mlnet.training.process import Trainer


class Scorer:
    """Fetches and scores the model of one task.

    Args:
        wire: the connection to the network.
        directory: of the task.
        definition: of the task.
    """

    def __init__(self, wire: Wire, directory: Path, definition: TaskDefinition) -> None:
        self._wire, self._directory, self._definition = wire, directory, definition
        self._trainer: asyncio.Task[Trainer] | None = None

    def load(self) -> asyncio.Task[Trainer]:
        """Have torch loaded by the time there is a model, in a child that a hostile model can hurt."""
        if self._trainer is None:
            # torch leaves directories in TMPDIR; in this one they go with the task.
            environment = os.environ | {"TMPDIR": str(self._directory)}
            self._trainer = asyncio.get_running_loop().create_task(Trainer.start(env=environment))
        return self._trainer

    async def score(self, model: Path, segments: Sequence[Path]) -> Scored:
        """What the model is worth on segments that nobody has trained on.

        Raises:
            MlnetError: it cannot be used.
        """
        trainer = await self.load()
        return await trainer.score(model, list(segments), self._definition)

    async def fetch(self, command: FetchModel) -> Path:
        """The model, from the first holder that delivers what it promised.

        Raises:
            DataError: none does.
            StorageError: there is no room for it.
        """
        problems = []
        for holder in command.holders:
            try:
                return await data.fetch(
                    f"mlnet:{command.sha256}",
                    digest=command.sha256,
                    size=command.size,
                    destination=self._directory / MODEL,
                    policy=data.LinkPolicy(),
                    fetch_blob=Holder(self._wire, holder),
                    algorithm="sha256",
                )
            except (HashMismatch, DataError, TransportError) as error:
                problems.append(str(error))
        raise DataError("; ".join(problems) or "no member of the cluster has the model")

    async def stop(self) -> None:
        """End the child."""
        if self._trainer is not None:
            with contextlib.suppress(TrainingError, OSError):
                await (await self._trainer).stop()
