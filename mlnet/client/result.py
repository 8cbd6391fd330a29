"""What a task ended in, as one document."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from mlnet import errors
from mlnet.util import files, local_json


class Accuracy(msgspec.Struct, frozen=True):
    """Shares of right answers, 0 to 1; None for a regression.

    Attributes:
        validation: on the members' validation split.
        held_out: on the segments that nobody trained on, by the client.
    """

    validation: float | None = None
    held_out: float | None = None


class ModelFile(msgspec.Struct, frozen=True):
    """The model.

    Attributes:
        path: where it lies.
        sha256: of the file there, which describes the dataset, too.
        attested: SHA-256 of the file that the members signed: the same tensors without that description.
    """

    path: str
    sha256: str
    attested: str = ""


class Result(msgspec.Struct, frozen=True):
    """The end of a task.

    Attributes:
        task: its id.
        state: how it ended.
        reason: why it did not complete, or why its model lies elsewhere than where the user wanted it; else
            empty.
        code: the error's name in :mod:`mlnet.errors`; empty when there is none.
        nodes: peer ids by training rank.
        committee: peer ids, best ranked first.
        master: peer id of the Redis master.
        slave: peer id of its replica.
        segments: hashes in the voted order.
        held_out: hashes of those that the client kept back.
        accuracy: see :class:`Accuracy`.
        metrics: on the held-back segments, by name.
        payment: micro-units.
        rewards: micro-units by peer id.
        model: None when there is none.
        seconds: spent in each phase.
    """

    task: str
    state: Literal["completed", "failed", "cancelled", "released"]
    reason: str = ""
    code: str = ""
    nodes: tuple[str, ...] = ()
    committee: tuple[str, ...] = ()
    master: str = ""
    slave: str = ""
    segments: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    accuracy: Accuracy = Accuracy()
    metrics: dict[str, float] = {}
    payment: int = 0
    rewards: dict[str, int] = {}
    model: ModelFile | None = None
    seconds: dict[str, float] = {}

    @property
    def is_delivered(self) -> bool:
        """Whether nothing is left to do: the user has the model, or there is none."""
        return not (self.state == "completed" and self.code)

    @property
    def error(self) -> errors.MlnetError | None:
        """The error that the state stands for; None when the task completed and its model is delivered."""
        if self.state == "completed":
            return errors.StorageError(self.reason) if self.code else None
        if self.state == "cancelled":
            return errors.TaskCancelled(self.reason)
        kind = getattr(errors, self.code, errors.TaskFailed)
        if isinstance(kind, type) and issubclass(kind, errors.MlnetError) and kind is not errors.TaskError:
            return kind(self.reason)
        return errors.TaskFailed(self.reason)

    def write(self, path: Path) -> None:
        """Write the document as JSON.

        Raises:
            OSError: it is not written.
        """
        files.replace(path, local_json.encode(self, indent=2) + b"\n", 0o644)
