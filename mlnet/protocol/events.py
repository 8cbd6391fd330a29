"""What goes into the state machines: plain data, so that it can be journalled, replayed and simulated."""

from __future__ import annotations

import msgspec

from mlnet.protocol.wire.messages import Message


class Event(msgspec.Struct, frozen=True, tag=True):
    """Base of all events. What belongs to a task names it; what belongs to an attempt is void in the next."""


class Received(Event, frozen=True, tag="received"):
    """A message came in, its signature and form verified."""

    message: Message


class TimerFired(Event, frozen=True, tag="timer"):
    """The deadline set under this name has come."""

    name: str


class Restarted(Event, frozen=True, tag="restarted"):
    """The process came back, or is about to end: its servers, children and unsent words are gone."""

    reason: str = "the node was stopped or restarted"


class RedisPrepared(Event, frozen=True, tag="redis-prepared"):
    """This node's Redis server for the task runs - or not - and a peer has dialled its port back - or not."""

    open: bool
    host: str
    port: int
    addresses: tuple[str, ...]
    reason: str = ""
    tunnel: bool = False


class PingsMeasured(Event, frozen=True, tag="pings-measured"):
    """Redis ping times to the other committee members, microseconds; none for one that did not answer."""

    attempt: int
    pings: dict[str, tuple[int, ...]]


class Replicated(Event, frozen=True, tag="replicated"):
    """This node's server replicates the master's; ``reason`` says why not."""

    attempt: int
    reason: str = ""


class TrainingProgressed(Event, frozen=True, tag="training-progressed"):
    """The trainer, or the download before it, made a step.

    Attributes:
        step: of training, from 1; 0 for a download.
        steps: in all.
    """

    attempt: int
    step: int = 0
    steps: int = 0


class TrainingFinished(Event, frozen=True, tag="training-finished"):
    """This node's trainer has a model.

    Attributes:
        metrics: on the validation split, by name.
        accuracy: absent for a regression.
        sha256: of the model file.
        size: of the model file, bytes.
        contributions: rows trained, by peer id.
    """

    attempt: int
    metrics: dict[str, float]
    accuracy: float | None
    sha256: str
    size: int
    contributions: dict[str, int]


class TrainingStopped(Event, frozen=True, tag="training-stopped"):
    """This node's trainer failed."""

    attempt: int
    reason: str


class StopWaiting(Event, frozen=True, tag="stop-waiting"):
    """The user ends the waiting period now."""


class OthersWait(Event, frozen=True, tag="others-wait"):
    """So many other clients gather nodes at the same time."""

    count: int


class CancelRequested(Event, frozen=True, tag="cancel-requested"):
    """The user gives the task up."""

    reason: str


class ModelScored(Event, frozen=True, tag="model-scored"):
    """The model is here, its hash is right, and these are its metrics on the held-back segments."""

    metrics: dict[str, float]
    accuracy: float | None
    path: str


class ModelRefused(Event, frozen=True, tag="model-refused"):
    """No holder gave a usable model."""

    reason: str


AnyEvent = (
    TimerFired
    | Restarted
    | RedisPrepared
    | PingsMeasured
    | Replicated
    | TrainingProgressed
    | TrainingFinished
    | TrainingStopped
    | StopWaiting
    | OthersWait
    | CancelRequested
    | ModelScored
    | ModelRefused
)
"""Every event but :class:`Received`, whose message is journalled as the envelope that it came in."""
