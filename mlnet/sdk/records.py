"""What a node says of itself, of its peers and of its tasks, as frozen values."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec


class TaskState(StrEnum):
    """Where a task is; the last three are its end."""

    GATHERING = "gathering"
    FORMING = "forming"
    TRAINING = "training"
    FINISHING = "finishing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens."""
        return self in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)


class RankProgress(msgspec.Struct, frozen=True):
    """Where a rank's training is.

    Attributes:
        epoch: from 1.
        epochs: of the whole training.
        step: steps done, over all epochs.
        steps: of the whole training.
        loss: the latest; None when there is none yet.
        accuracy: on the validation rows, 0 to 1; None until there is one.
        rank: whose.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None = None
    accuracy: float | None = None
    rank: int = 0


class TaskOutcome(msgspec.Struct, frozen=True):
    """What a task ended in, as the node keeps it.

    Attributes:
        validation_accuracy: on the members' validation split, 0 to 1; None for a regression.
        held_out_accuracy: on the segments that nobody trained on.
        metrics: on those segments, by name.
        model_size: bytes of the model file; 0 without a model.
        model_sha256: of the model file, hexadecimal; empty without a model.
        attested_sha256: of the file that the members signed.
        payment_micro: millionths of a unit.
        rewards_micro: millionths of a unit by peer id.
        committee: peer ids, the best ranked first.
        master: peer id of the Redis master.
        replica: peer id of its replica.
        segments: hashes in the voted order.
        held_out: hashes of those that nobody trained on.
        seconds: spent in each phase.
    """

    validation_accuracy: float | None = None
    held_out_accuracy: float | None = None
    metrics: dict[str, float] = {}
    model_size: int = 0
    model_sha256: str = ""
    attested_sha256: str = ""
    payment_micro: int = 0
    rewards_micro: dict[str, int] = {}
    committee: tuple[str, ...] = ()
    master: str = ""
    replica: str = ""
    segments: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    seconds: dict[str, float] = {}


class TaskInfo(msgspec.Struct, frozen=True):
    """A task as it was when the node was asked.

    Attributes:
        id: 64 hexadecimal digits.
        state: where it is.
        phase: of the protocol, such as ``voting``; finer than ``state``.
        name: of the task in its definition; may be empty.
        created_at: when it was submitted.
        ended_at: when it ended; None before.
        reason: why it failed or was cancelled.
        code: name of the error in :mod:`mlnet.errors`; empty where there is none.
        output: directory for model and result.json on the node's machine.
        revision: number of the latest event.
        waiting: what is waited for, and from whom.
        progress: of the training; None before it begins.
        result: how it ended; None before, and in lists.
        members: peer ids by training rank.
    """

    id: str
    state: TaskState
    phase: str = ""
    name: str = ""
    created_at: datetime | None = None
    ended_at: datetime | None = None
    reason: str = ""
    code: str = ""
    output: str = ""
    revision: int = 0
    waiting: str = ""
    progress: RankProgress | None = None
    result: TaskOutcome | None = None
    members: tuple[str, ...] = ()


class Membership(msgspec.Struct, frozen=True):
    """A task in which a node takes part.

    Attributes:
        task: its id.
        client: peer id of its client.
        phase: of the protocol.
        waiting: what is waited for, and from whom.
    """

    task: str
    client: str = ""
    phase: str = ""
    waiting: str = ""


class NodeStatus(msgspec.Struct, frozen=True):
    """A node.

    Attributes:
        peer: its peer id.
        version: of mlnet.
        started_at: when it started.
        addresses: its multiaddrs, the best one first.
        reached: whether a peer has dialled the first of them.
        connected_peers: how many.
        memberships: tasks in which it takes part.
        tasks: those of which it is the client and that have not ended.
        most_memberships: tasks that it takes at the same time.
        memory: bytes that each task may take.
        threads: that each task may use.
        disk: bytes that each task may take.
    """

    peer: str
    version: str = ""
    started_at: datetime | None = None
    addresses: tuple[str, ...] = ()
    reached: bool = False
    connected_peers: int = 0
    memberships: tuple[Membership, ...] = ()
    tasks: tuple[TaskInfo, ...] = ()
    most_memberships: int = 0
    memory: int = 0
    threads: int = 0
    disk: int = 0


class PeerInfo(msgspec.Struct, frozen=True):
    """A peer that a node knows.

    Attributes:
        id: its peer id.
        addresses: its multiaddrs.
        connected: whether there is a connection with it.
        round_trip: seconds to it and back; None where they were not measured.
        clock_offset: seconds by which its clock is ahead; None where unknown.
    """

    id: str
    addresses: tuple[str, ...] = ()
    connected: bool = False
    round_trip: float | None = None
    clock_offset: float | None = None


class PingResult(msgspec.Struct, frozen=True):
    """What came back from a peer.

    Attributes:
        peer: its whole peer id.
        round_trips: seconds, in the order in which they were measured.
    """

    peer: str
    round_trips: tuple[float, ...] = ()


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong with a definition; see :class:`mlnet.errors.TaskProblem`."""

    path: str
    problem: str
    fix: str = ""
    line: int = 0
    column: int = 0


class ValidationReport(msgspec.Struct, frozen=True):
    """What a definition says.

    Attributes:
        problems: everything that is wrong; empty for a definition that can be submitted.
        summary: what was understood, in lines.
        warnings: what might not be meant.
        parameters: of the model; 0 when the dataset was not read.
    """

    problems: tuple[Problem, ...] = ()
    summary: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    parameters: int = 0
