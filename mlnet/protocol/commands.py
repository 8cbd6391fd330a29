"""What comes out of the state machines: plain data, which a driver carries out. Effects answer with an event.

The driver writes two logs, for two readers. The journal holds the events of a task, from which this process
comes back to the same state after a crash; it is deleted when the task ends. The transcript holds the signed
messages of all, hash-chained, from which anybody can derive the decisions years later. One log could not be
both: a journal holds what is private and unsigned, and a transcript lacks timers and effects.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from mlnet.protocol.wire.messages import Message
from mlnet.task.segments import Segment

State = Literal["completed", "failed", "cancelled", "released"]
"""How a task ended for a party."""


class Command(msgspec.Struct, frozen=True, tag=True):
    """Base of all commands. The tag names a command in traces of the simulation; it outlives a renaming."""

    @classmethod
    def tag(cls) -> str:
        """The name in traces."""
        return str(cls.__struct_config__.tag)


class Send(Command, frozen=True):
    """Deliver a message. It is acknowledged, resent until ``until``, and relayed by a ``via`` peer where no
    direct path works.

    Attributes:
        to: peer ids.
        message: ours, or one that we pass on.
        until: ms; resending ends then.
        via: peers that may relay it.
        gossip: it may go by gossip when nothing else reaches the receiver.
        neighbours_only: it goes only where a connection already is.
    """

    to: tuple[str, ...]
    message: Message
    until: int
    via: tuple[str, ...] = ()
    gossip: bool = False
    neighbours_only: bool = False


class Publish(Command, frozen=True):
    """Give a message to every node by gossip."""

    message: Message


class SetTimer(Command, frozen=True):
    """Fire :class:`~mlnet.protocol.events.TimerFired` at a time (ms); replaces a timer of the same name."""

    name: str
    at: int


class CancelTimer(Command, frozen=True):
    """Forget a timer."""

    name: str


class Introduce(Command, frozen=True):
    """These peers can be dialled there, they say."""

    addresses: dict[str, tuple[str, ...]]


class PrepareRedis(Command, frozen=True):
    """Start this node's Redis server for the task and have its port dialled back -> RedisPrepared."""


class MeasurePings(Command, frozen=True):
    """Redis-ping these members at (host, port) -> PingsMeasured."""

    attempt: int
    targets: dict[str, tuple[str, int]]
    samples: int


class ServeStore(Command, frozen=True):
    """Admit these peers to this node's Redis server: members to the store, the slave to replication, the
    client to
    the progress of training."""

    attempt: int
    members: tuple[str, ...]
    slave: str
    client: str


class Replicate(Command, frozen=True):
    """Make this node's Redis server replicate the master's -> Replicated."""

    attempt: int
    master: str


class TrainingAssignment(msgspec.Struct, frozen=True):
    """What a node needs to train.

    Attributes:
        decision: that is bound; seeds the model and the batches.
        nodes: peer ids by rank.
        master: peer id whose Redis serves the rendezvous.
        slave: its replica.
        segments: the training segments, in voted order.
        links: where each can be had.
        inputs: features of a row.
        outputs: columns of the labels; the number of classes for a classifier.
        hosts: by rank, the IP address at which the others reach it; empty for one that they reach through its
            libp2p connections.
    """

    decision: str
    nodes: tuple[str, ...]
    master: str
    slave: str
    segments: tuple[Segment, ...]
    links: tuple[str, ...]
    inputs: int
    outputs: int
    hosts: tuple[str, ...]


class StartTraining(Command, frozen=True):
    """Fetch the segments and train -> TrainingProgressed ..., then TrainingFinished or TrainingStopped."""

    attempt: int
    assignment: TrainingAssignment


class ServeModel(Command, frozen=True, tag="Offer"):
    """Training is over: release the servers and children of the task, serve the model until a time (ms)."""

    until: int


class RecordReceipt(Command, frozen=True, tag="Record"):
    """Write a receipt to the ledger; a later one of the same task replaces it.

    Attributes:
        state: ``claimed`` by the committee, or ``settled``: signed by more than half of it and by the client.
        amount: this node's share, micro-units.
        split: of everybody.
        evidence: the REWARDS messages that prove it.
    """

    state: Literal["claimed", "settled"]
    amount: int
    split: dict[str, int]
    evidence: tuple[Message, ...]


class PublishSegments(Command, frozen=True):
    """The client serves these segments to the members, and no others."""

    hashes: tuple[str, ...]
    members: tuple[str, ...]


class FollowProgress(Command, frozen=True):
    """The client reads the progress of training from this master's Redis."""

    attempt: int
    master: str
    slave: str


class FetchModel(Command, frozen=True):
    """Fetch the model from one of its holders, check its hash, score it -> ModelScored or ModelRefused."""

    sha256: str
    size: int
    holders: tuple[str, ...]
    held_out: tuple[str, ...]


class End(Command, frozen=True):
    """The task is over for this party: release all that it holds.

    Attributes:
        state: ``completed``, ``failed``, ``cancelled``, or ``released``: not needed for it.
        reason: for people.
        code: of a failure: a class name of :mod:`mlnet.errors`.
    """

    state: State
    reason: str = ""
    code: str = ""


class Report(Command, frozen=True):
    """Something that people want to see; programs may ignore it."""

    what: str
    data: dict[str, object]


def speaks(commands: Iterable[Command]) -> bool:
    """Whether something that was signed leaves this party: what led to it must be on the disk before.

    Otherwise a process that restarts could sign another word in the same place, and would be a liar to all
    who hold both.
    """
    return any(isinstance(command, Send | Publish) for command in commands)
