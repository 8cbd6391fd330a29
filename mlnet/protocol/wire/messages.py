"""The messages of the protocol: one frozen struct for the body of each type, with the bounds that it must
keep.

A message on the wire is one YAML mapping of a header and a body (see :mod:`mlnet.protocol.wire.codec`). Who
sends a type to whom, and how large it may be, is in :mod:`mlnet.protocol.wire.message_types`; when something
may be said is for the state machines.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mlnet.identity.envelope import Envelope
from mlnet.task.schema import MAX_COMMITTEE, MAX_NODES
from mlnet.task.segments import SEGMENTS, Rows, Segment, Sha256, Size

VERSION = 1
MAX_ATTEMPTS = 5
"""Attempts to form a cluster. Each leaves somebody out; when members fail one by one each costs an attempt,
and after five the user is told."""
MAX_CYCLES = 8
"""Cycles of the vote. Each removes half of the candidates or more, unless it is unanimous or leaves too few:
eight suffice for 1,024 candidates and five seats. An answer holds a commitment for each."""
PING_SAMPLES = 9
"""Odd, so that the median is one of them; up to four outliers do not move it out of the range of the
others."""
MAX_ADDRESSES = 16
"""Multiaddrs of one peer: a machine with several networks, each in IPv4 and IPv6, over two transports."""
MAX_REASON = 2000
"""Characters of a text for people; it is cut, so that an error never fails to be told."""
MAX_METRIC = 1e12
"""Magnitude of a metric. JSON writers give an exponent to 1e16 and more, and the codec allows none."""

PeerId = Annotated[str, Meta(min_length=40, max_length=64, pattern="^[1-9A-HJ-NP-Za-km-z]+\\Z")]
Address = Annotated[str, Meta(min_length=1, max_length=256)]
Addresses = Annotated[tuple[Address, ...], Meta(max_length=MAX_ADDRESSES)]
Reason = Annotated[str, Meta(max_length=MAX_REASON)]
Text = Annotated[str, Meta(max_length=128)]
Micros = Annotated[int, Meta(ge=0, le=10**9)]
Money = Annotated[int, Meta(ge=0, le=10**18)]
Metric = Annotated[float, Meta(ge=-MAX_METRIC, le=MAX_METRIC)]
Signature = Annotated[str, Meta(pattern="^[0-9a-f]{128}\\Z")]


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all bodies: immutable, and an unknown key is an error."""


class Signed(Body, frozen=True):
    """An envelope inside a message, so that it can be checked by whoever reads it.

    Attributes:
        yaml: the string.
        signature: its signature, in hex.
    """

    yaml: Annotated[str, Meta(max_length=65536)]
    signature: Signature

    @classmethod
    def of(cls, envelope: Envelope) -> Signed:
        """Take an envelope in."""
        return cls(envelope.yaml, envelope.signature.hex())

    @property
    def envelope(self) -> Envelope:
        """The envelope, as it was."""
        return Envelope(self.yaml, bytes.fromhex(self.signature))


class NewMlTask(Body, frozen=True):
    """client -> every node: a task. Its id is the SHA-256 of the message's string.

    Attributes:
        definition: the task definition, as the user wrote it.
        addresses: multiaddrs of the client.
        created: when, ms since 1970 by the client's clock.
        peers: nodes in the network, as the client estimates; see :mod:`mlnet.protocol.decisions.answering`.
    """

    definition: Annotated[str, Meta(max_length=65536)]
    addresses: Addresses
    created: Annotated[int, Meta(ge=0, le=2**53)]
    peers: Annotated[int, Meta(ge=0, le=2**40)] = 0


class Redis(Body, frozen=True):
    """The open port of a node's Redis server.

    Attributes:
        open: another peer has dialled it back and got a pong.
        host: the address at which that peer reached it.
        port: the TCP port.
        reason: why it is not open, for the user.
    """

    open: bool
    host: Annotated[str, Meta(max_length=64)]
    port: Annotated[int, Meta(ge=0, le=65535)]
    reason: Reason = ""


class Resources(Body, frozen=True):
    """What a node offers: memory in MiB, processor threads."""

    memory: Annotated[int, Meta(ge=0, le=2**40)]
    cpus: Annotated[int, Meta(ge=0, le=65536)]


class InitCluster(Body, frozen=True):
    """free node -> client: I would take part.

    Attributes:
        redis: its open port.
        vote: the vote of cycle 0; without meaning when votes are sealed.
        addresses: multiaddrs of the node.
        resources: what it offers.
        commitments: to its votes, one a cycle, when they are sealed; see
            :mod:`mlnet.protocol.decisions.commit_reveal`.
        tunnel: whether its gradients go through its libp2p connections, because nothing can listen at
            ``redis.host`` or because its operator chose so.
    """

    redis: Redis
    vote: Literal[0, 1]
    addresses: Addresses
    resources: Resources
    commitments: Annotated[tuple[Sha256, ...], Meta(max_length=MAX_CYCLES)] = ()
    tunnel: bool = False


class ClusterMembers(Body, frozen=True):
    """client -> the nodes that it names: the INIT_CLUSTER envelopes that take part in this attempt.

    In attempt 0 it names nobody and goes to every node by gossip: the waiting period is over.
    """

    members: Annotated[tuple[Signed, ...], Meta(max_length=MAX_NODES)]


class CommitteeVoting(Body, frozen=True):
    """candidate -> the other members and the client: its vote in a cycle.

    Attributes:
        cycle: after the first; sealed votes begin with cycle 0.
        vote: 0 or 1.
        opening: the secret of its commitment, hex, when votes are sealed.
    """

    cycle: Annotated[int, Meta(ge=0, lt=MAX_CYCLES)]
    vote: Literal[0, 1]
    opening: Annotated[str, Meta(max_length=64)] = ""


class ClusterDatabaseSelection(Body, frozen=True):
    """committee member -> the others and the client.

    Attributes:
        pings: its Redis ping times to the others, microseconds; no sample for one that it could not reach.
        commitment: SHA-256 of the secret that orders its ballot later.
    """

    pings: Annotated[
        dict[PeerId, Annotated[tuple[Micros, ...], Meta(max_length=PING_SAMPLES)]],
        Meta(max_length=MAX_COMMITTEE),
    ]
    commitment: Sha256


class ClusterReady(Body, frozen=True):
    """every member -> client and members: the decision that it computed, or follows.

    Attributes:
        committee: peer ids, in the order of the ranking.
        nodes: all members; the place in it is the rank in training.
        master: peer id of the Redis master.
        slave: peer id of its replica.
        decision: SHA-256 of the decision and of the evidence that it follows from.
    """

    committee: Annotated[tuple[PeerId, ...], Meta(max_length=MAX_COMMITTEE)]
    nodes: Annotated[tuple[PeerId, ...], Meta(max_length=MAX_NODES)]
    master: PeerId
    slave: PeerId
    decision: Sha256 = msgspec.field(name="digest")


Segments = Annotated[tuple[Segment, ...], Meta(min_length=SEGMENTS, max_length=SEGMENTS)]
SegmentRanking = Annotated[tuple[Sha256, ...], Meta(min_length=SEGMENTS, max_length=SEGMENTS)]


class DatasetSelection(Body, frozen=True):
    """client -> members: the decision that it binds the task to, and the segments.

    Attributes:
        decision: that of the CLUSTER_READY that the client accepts.
        segments: the ten, in the order in which the client holds them.
        inputs: features of a row.
        outputs: columns of the labels; the number of classes for a classifier.
        round: 2 when a ballot was missing at the deadline.
        ballots: in round 2, those that count.
    """

    decision: Sha256 = msgspec.field(name="digest")
    segments: Segments
    inputs: Annotated[int, Meta(ge=1, le=2**31)]
    outputs: Annotated[int, Meta(ge=1, le=2**31)]
    round: Literal[1, 2] = 1
    ballots: Annotated[tuple[Signed, ...], Meta(max_length=MAX_COMMITTEE)] = ()


class HashVotes(Body, frozen=True):
    """committee member -> committee and client: first its ballot; when all are in, to the client, the order.

    Attributes:
        decision: the bound one.
        stage: which of the two this is.
        ranking: the ten segment hashes, best first: its own ballot, or the order that all ballots give.
        secret: opens the commitment, hex; the ballot only.
        round: of the DATASET_SELECTION whose ballots give the order.
    """

    decision: Sha256 = msgspec.field(name="digest")
    stage: Literal["ballot", "order"]
    ranking: SegmentRanking
    secret: Annotated[str, Meta(max_length=64)] = ""
    round: Literal[1, 2] = 1


class DatasetSegment(Body, frozen=True):
    """client -> committee, which forwards it to the nodes: where a training segment can be had.

    Attributes:
        decision: the bound one.
        position: its place in the voted order, from 0.
        count: how many training segments there are.
        segment: which.
        link: where: ``mlnet:HASH``, ``http(s)://...`` or ``file://...``.
        inputs: features of a row.
        outputs: columns of the labels; the number of classes for a classifier.
    """

    decision: Sha256 = msgspec.field(name="digest")
    position: Annotated[int, Meta(ge=0, lt=SEGMENTS)]
    count: Annotated[int, Meta(ge=1, le=SEGMENTS)]
    segment: Segment
    link: Annotated[str, Meta(max_length=2048)]
    inputs: Annotated[int, Meta(ge=1, le=2**31)]
    outputs: Annotated[int, Meta(ge=1, le=2**31)]


class ModelInfo(Body, frozen=True):
    """A trained model: plain SHA-256 of the file, its size in bytes, where it can be had."""

    sha256: Sha256
    size: Size
    links: Annotated[tuple[Annotated[str, Meta(max_length=2048)], ...], Meta(max_length=8)]


class TrainingCompleted(Body, frozen=True):
    """every member -> client: the result of training.

    Attributes:
        decision: the bound one.
        accuracy: on the validation split, 0 to 1; absent for a regression.
        metrics: those that the definition asks for, by name, on the validation split.
        model: the model that it holds.
        contributions: rows trained, by peer id.
    """

    decision: Sha256 = msgspec.field(name="digest")
    metrics: Annotated[dict[Text, Metric], Meta(max_length=16)]
    model: ModelInfo
    contributions: Annotated[dict[PeerId, Rows], Meta(max_length=MAX_NODES)]
    accuracy: Metric | None = None

    @property
    def trained(self) -> bool:
        """Whether there is something by which the payment can be shared out."""
        return any(self.contributions.values())


class Rewards(Body, frozen=True):
    """committee members, then the client: the split of the payment, in micro-units, by peer id."""

    decision: Sha256 = msgspec.field(name="digest")
    payment: Money
    split: Annotated[dict[PeerId, Money], Meta(max_length=MAX_NODES)]


class TaskFailedBody(Body, frozen=True):
    """client or committee member -> all: the task, or the sender's part in it, has failed.

    Attributes:
        reason: for people.
        code: which kind of failure, for programs: a class name of :mod:`mlnet.errors`.
        busy: of a node that has no place free: ms until it has, as it estimates; 0 when it does not know.
        at_most: whether ``busy`` is a bound, not an estimate: that of the time in which the other task may
            still gather nodes.
    """

    reason: Reason
    code: Text = "TaskFailed"
    busy: Annotated[int, Meta(ge=0, le=10**9)] = 0
    at_most: bool = False


class CancelTask(Body, frozen=True):
    """client -> all."""

    reason: Reason


class PeerAddresses(Body, frozen=True):
    """Where a peer can be dialled."""

    peer: PeerId
    addresses: Addresses


class Peers(Body, frozen=True):
    """peer -> peer: addresses of peers."""

    peers: Annotated[tuple[PeerAddresses, ...], Meta(max_length=64)]


class Message(msgspec.Struct, frozen=True):
    """A decoded message: header, body, and the envelope that it came in.

    Attributes:
        type: its name on the wire.
        task: the task's id; of a NEW_ML_TASK the SHA-256 of its own string; empty for PEERS.
        attempt: 0 until the client has named members, then 1 to 5.
        sender: peer id (``from`` on the wire).
        sent: ms since 1970 by the sender's clock.
        body: by type.
        envelope: the signed string.
    """

    type: str
    task: str
    attempt: int
    sender: str
    sent: int
    body: Body
    envelope: Envelope

    @property
    def place(self) -> Place:
        """What its sender may say once."""
        return (self.type, self.attempt, detail(self.attempt, self.body))


Place = tuple[str, int, str]
"""Type, attempt, and cycle, round, stage or position: two different strings of one sender in it are
equivocation."""


def detail(attempt: int, body: Body) -> str:
    """What tells a message from others of its type, attempt and sender: cycle, round, stage or position."""
    match body:
        case CommitteeVoting():
            return str(body.cycle)
        case DatasetSelection():
            return str(body.round)
        case HashVotes():
            return f"{body.stage} {body.round}"
        case DatasetSegment():
            return str(body.position)
        case TaskFailedBody() if attempt == 0:
            # A node that was busy when it heard of the task may take part, and leave, later; and after a
            # restart it may be busy for another time.
            return f"{body.code} {body.busy}" if body.busy else body.code
    return ""
