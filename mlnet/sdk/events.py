"""What happens in a task, as typed events: ``match event: case events.CommitteeElected(committee=ids): ...``.

Each event has a number within its task, so that whoever watches can go on after it.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from mlnet.sdk.plain import to, to_plain
from mlnet.sdk.records import RankProgress, TaskState

if TYPE_CHECKING:
    from mlnet.v1 import tasks_pb2


class TaskEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="unknown"):
    """Something that happened in a task; itself only where this version does not know what.

    Attributes:
        revision: from 1, without a gap within a task.
        time: by the node's clock.
        task: the task's id.
        state: the task's state after it.
    """

    revision: int
    time: datetime
    task: str
    state: TaskState


class PhaseEntered(TaskEvent, frozen=True, kw_only=True, tag="phase"):
    """The task entered a phase of the protocol, such as ``measuring``; ``waiting`` says for what and whom."""

    phase: str
    waiting: str = ""


class NodeAnswered(TaskEvent, frozen=True, kw_only=True, tag="answer"):
    """A node answered.

    Attributes:
        peer: its peer id.
        open: whether others have reached the port of its Redis.
        host: where that port is; empty when it is not open.
        refusal: why it does not take part; empty when it does.
        closed: why that port is not open; empty when it is.
        vote: of the first cycle, 0 or 1; None where votes are sealed.
    """

    peer: str
    open: bool = False
    host: str = ""
    refusal: str = ""
    closed: str = ""
    vote: int | None = None


class MembersChosen(TaskEvent, frozen=True, kw_only=True, tag="members"):
    """The members of an attempt to form a cluster.

    Attributes:
        attempt: from 1.
        members: peer ids.
        without: peer ids of those left out since the former attempt.
        reason: why there is another attempt; empty for the first.
    """

    attempt: int
    members: tuple[str, ...]
    without: tuple[str, ...] = ()
    reason: str = ""


class VoteCounted(TaskEvent, frozen=True, kw_only=True, tag="vote"):
    """A cycle of the vote for the committee ended.

    Attributes:
        cycle: its number, from 1; from 0 where votes are sealed.
        votes: each member's, "0" or "1", by peer id.
        kept: peer ids of those who stay in.
        reason: how it came to be so.
    """

    cycle: int
    votes: dict[str, str]
    kept: tuple[str, ...]
    reason: str = ""


class CommitteeElected(TaskEvent, frozen=True, kw_only=True, tag="committee"):
    """The committee is elected: peer ids, and how it came to be so."""

    committee: tuple[str, ...]
    reason: str = ""


class PingsRanked(TaskEvent, frozen=True, kw_only=True, tag="pings"):
    """The pings are in, and master and replica elected by them.

    Attributes:
        members: peer ids; the order of rows, columns and points.
        matrix: microseconds from each member to each; negative where there is no measurement.
        points: Borda half-points.
        master: peer id of the Redis master; empty when none could be elected.
        replica: peer id of its replica.
        reason: how it came to be so.
    """

    members: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]
    points: tuple[float, ...]
    master: str = ""
    replica: str = ""
    reason: str = ""


class ClusterBound(TaskEvent, frozen=True, kw_only=True, tag="bound"):
    """The cluster is fixed.

    Attributes:
        nodes: peer ids by training rank.
        committee: peer ids.
        decision: hash of what all members have signed.
    """

    nodes: tuple[str, ...]
    committee: tuple[str, ...]
    decision: str


class OrderVoted(TaskEvent, frozen=True, kw_only=True, tag="order"):
    """The order of the segments.

    Attributes:
        order: hashes.
        held_out: hashes of those that nobody trains on.
        counted: peer ids of the members of the committee whose ballots counted.
        uncounted: peer ids of those whose ballots did not.
    """

    order: tuple[str, ...]
    held_out: tuple[str, ...]
    counted: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()


class TrainingAdvanced(TaskEvent, frozen=True, kw_only=True, tag="progress"):
    """A step of the training; see :class:`mlnet.sdk.records.Progress`."""

    progress: RankProgress


class MemberChange(StrEnum):
    """What happened to a member: it joined, it is lost, or it said something about itself."""

    JOINED = "joined"
    LOST = "lost"
    NOTED = "noted"
    UNKNOWN = "unknown"


class MemberChanged(TaskEvent, frozen=True, kw_only=True, tag="member"):
    """A member, by its peer id, is lost, left out or back, and why."""

    peer: str
    change: MemberChange
    reason: str = ""


class ModelMade(TaskEvent, frozen=True, kw_only=True, tag="model"):
    """The members have made a model, or the client has scored it.

    Attributes:
        scored: whether the client has; else the figures are the members' own.
        accuracy: share of right answers, 0 to 1; None for a regression.
        metrics: by name.
        sha256: of the file; empty where it is scored.
    """

    scored: bool
    accuracy: float | None = None
    metrics: dict[str, float] = {}
    sha256: str = ""


class RewardsShared(TaskEvent, frozen=True, kw_only=True, tag="rewards"):
    """The reward is shared out.

    Attributes:
        payment_micro: millionths of a unit.
        split_micro: millionths of a unit by peer id.
        settled: whether more than half of the committee has signed the same split.
    """

    payment_micro: int
    split_micro: dict[str, int]
    settled: bool


class Notice(TaskEvent, frozen=True, kw_only=True, tag="notice"):
    """What the operator should know, in words."""

    text: str


class TaskEnded(TaskEvent, frozen=True, kw_only=True, tag="ended"):
    """The task has ended; the last event of every task.

    Attributes:
        reason: why; empty for a task that completed.
        code: name of the error in :mod:`mlnet.errors`; empty where there is none.
    """

    reason: str = ""
    code: str = ""


class Bookmark(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="bookmark"):
    """Nothing has happened for a while; not an event, and shown only to those who ask for it.

    Attributes:
        revision: number of the latest event.
        waiting: what the task waits for, and from whom.
    """

    revision: int
    waiting: str = ""


_KINDS: dict[str, type[TaskEvent]] = {
    "phase": PhaseEntered,
    "answer": NodeAnswered,
    "members": MembersChosen,
    "vote": VoteCounted,
    "committee": CommitteeElected,
    "pings": PingsRanked,
    "bound": ClusterBound,
    "order": OrderVoted,
    "progress": TrainingAdvanced,
    "member": MemberChanged,
    "model": ModelMade,
    "rewards": RewardsShared,
    "notice": Notice,
    "ended": TaskEnded,
}
"""The type of each kind of event in tasks.proto, by the name of its field."""


def from_proto(message: tasks_pb2.Event) -> TaskEvent:
    """The typed event; a bare :class:`Event` for one of a kind that a newer node knows.

    Raises:
        RemoteProtocolError: it is not an event.
    """
    plain = to_plain(message)
    kind = message.WhichOneof("kind") or ""
    body: dict[str, Any] = plain.pop(kind, {})
    if kind == "progress":
        body = {"progress": body}
    elif kind == "pings":
        body["matrix"] = [row["microseconds"] for row in body["matrix"]]
    return to(_KINDS.get(kind, TaskEvent), {**body, **plain, "event": kind or "unknown"})
