"""The messages between the trainer's child process and its parent: one JSON line each.

Without torch, so that the parent can import it.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from mlnet.task.schema import MAX_PARAMETERS
from mlnet.task.segments import Segment
from mlnet.util import local_json

MAX_LINE = 1 << 20
"""Bytes of a line in either direction."""

Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class TrainJob(msgspec.Struct, frozen=True, tag_field="command", tag="train"):
    """Train a model together with the other ranks.

    Attributes:
        definition: the task's definition as plain values, see :func:`mlnet.task.definition.to_plain`.
        seed: any text that all ranks share; determines the first weights and the order of the rows.
        rank: place of this process, from 0.
        world: number of ranks.
        segments: the training segments in voted order, all of them.
        files: theirs, in the same order; None where this rank needs none.
        inputs: features of a row.
        host: address of this machine on which gloo listens, at which the other ranks reach it.
        endpoints: unix socket paths that lead to the task's Redis servers; those of the master and the slave.
        task: id of the task.
        attempt: of the cluster; with the task it names the keys that the ranks share.
        output: the model file to write.
        rendezvous_timeout_s: seconds for all ranks to meet.
        step_timeout_s: seconds for a collective operation, after which a silent rank counts as lost.
        threads: processor threads of this process.
        max_parameters: the operator's limit.
        gloo_tunnel: unix socket path at which the node opens tunnels to ranks that are not reached directly;
            empty for none.
    """

    definition: dict[str, Any]
    seed: str
    rank: Annotated[int, Meta(ge=0)]
    world: Annotated[int, Meta(ge=1)]
    segments: tuple[Segment, ...]
    files: tuple[str | None, ...]
    inputs: Annotated[int, Meta(ge=1)]
    host: str
    endpoints: tuple[str, ...]
    task: str
    attempt: Annotated[int, Meta(ge=0)]
    output: str
    rendezvous_timeout_s: Seconds = 60.0
    step_timeout_s: Seconds = 120.0
    threads: Annotated[int, Meta(ge=1)] = 1
    max_parameters: Annotated[int, Meta(ge=1)] = MAX_PARAMETERS
    gloo_tunnel: str = ""

    @property
    def namespace(self) -> str:
        """The namespace of the ranks' keys in the task's Redis."""
        return f"mlnet:{self.task}:{self.attempt}"


class ScoreJob(msgspec.Struct, frozen=True, tag_field="command", tag="score"):
    """Measure a model on segments that it has not been trained on.

    Attributes:
        definition: the task's definition as plain values, which the model must fit.
        model: the file, whose hash has been verified.
        segments: paths of the held-back segments, which this machine made itself.
        threads: processor threads of this process.
    """

    definition: dict[str, Any]
    model: str
    segments: Annotated[tuple[str, ...], Meta(min_length=1)]
    threads: Annotated[int, Meta(ge=1)] = 1


Plan: TypeAlias = TrainJob | ScoreJob


class ChildReady(msgspec.Struct, frozen=True, tag_field="event", tag="ready"):
    """The child is up and waits for a job."""


class TrainingProgress(msgspec.Struct, frozen=True, tag_field="event", tag="progress"):
    """The progress of training.

    Attributes:
        epoch: from 1.
        epochs: of the whole training.
        step: steps done, over all epochs.
        steps: of the whole training.
        loss: within an epoch the mean over this rank's rows of the last step that had any; at its end the
            mean over the validation rows of all ranks.
        accuracy: on the validation rows of all ranks; only at the end of an epoch, and of a classifier.
        end: whether the epoch is over.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None = None
    accuracy: float | None = None
    end: bool = False


class Finished(msgspec.Struct, frozen=True, tag_field="event", tag="finished"):
    """There is a model.

    Attributes:
        metrics: those that the definition asks for, on the validation rows of all ranks.
        accuracy: on the same rows; None for a regression.
        loss: on the same rows.
        model: path of the file.
        sha256: of the file, the same on every rank.
        size: of the file, bytes.
        rows_trained: by rank, all epochs together.
        steps: done.
        seconds: from the arrival of the job.
    """

    metrics: dict[str, float]
    accuracy: float | None
    loss: float
    model: str
    sha256: str
    size: int
    rows_trained: tuple[int, ...]
    steps: int
    seconds: float


class Scored(msgspec.Struct, frozen=True, tag_field="event", tag="scored"):
    """A model has been measured.

    Attributes:
        metrics: those that the definition asks for.
        accuracy: None for a regression.
        loss: mean over the rows.
        rows: how many were used.
    """

    metrics: dict[str, float]
    accuracy: float | None
    loss: float
    rows: int


class Failed(msgspec.Struct, frozen=True, tag_field="event", tag="failed"):
    """The job could not be carried out.

    Attributes:
        error: name of the class of :mod:`mlnet.errors`.
        reason: for people.
    """

    error: str
    reason: str


Event: TypeAlias = ChildReady | TrainingProgress | Finished | Scored | Failed

encode = local_json.encode


def decode_plan(line: bytes) -> Plan:
    """The job in a line; raises msgspec.DecodeError."""
    job: Plan = local_json.decode(line, Plan)  # type: ignore[arg-type]
    return job


def decode_event(line: bytes) -> Event:
    """The event in a line; raises msgspec.DecodeError."""
    event: Event = local_json.decode(line, Event)  # type: ignore[arg-type]
    return event
