"""What a member knows of its task, and what it can do in every phase."""

from __future__ import annotations

from typing import Literal

from mlnet.protocol.commands import End, State, TrainingAssignment
from mlnet.protocol.deadlines import Deadlines
from mlnet.protocol.decisions.cluster import Cluster
from mlnet.protocol.events import RedisPrepared, Replicated, TrainingFinished
from mlnet.protocol.machine import Machine, Signer
from mlnet.protocol.phases import MemberPhase
from mlnet.protocol.wire.messages import (
    ClusterReady,
    DatasetSelection,
    Message,
    NewMlTask,
    Resources,
    TaskFailedBody,
)
from mlnet.task.schema import TaskDefinition


class MemberState(Machine):
    """One node in one task, as its phases see it.

    Args:
        signer: signs as this node.
        task: the NEW_ML_TASK.
        definition: what the task's text says.
        deadlines: of this party.
        resources: what the node offers.

    Attributes:
        cluster: the current attempt; None before the client has named members.
        redis: what became of this node's Redis server.
        pings: what this node measured; None before.
        replicated: what became of replication, if this node is the slave.
        followed: the decision that a worker took up from the committee.
        bound: digest of the decision that the client bound the task to; empty before.
        selection: the client's DATASET_SELECTION, when this node sits on the committee.
        order: the voted order, when it does.
        paid: the committee members whose ballots count.
        round: of the ballots that gave the order.
        assignment: what is trained, and with whom.
        result: what this node's trainer has made.
        failure: why training failed, once it has.
        pace: when training began, the first step that was seen then, the last one, and all steps.
    """

    def __init__(
        self,
        signer: Signer,
        task: Message,
        definition: TaskDefinition,
        deadlines: Deadlines,
        resources: Resources,
    ) -> None:
        super().__init__(signer, task, definition, deadlines, MemberPhase.PREPARING)
        self.resources = resources
        self.cluster: Cluster | None = None
        self.redis: RedisPrepared | None = None
        self.pings: dict[str, tuple[int, ...]] | None = None
        self.replicated: Replicated | None = None
        self.followed: ClusterReady | None = None
        self.bound = ""
        self.selection: DatasetSelection | None = None
        self.order: tuple[str, ...] = ()
        self.paid: tuple[str, ...] = ()
        self.round = 0
        self.assignment: TrainingAssignment | None = None
        self.result: TrainingFinished | None = None
        self.failure = ""
        self.pace = (0, 0, 0, 0)

    @property
    def attempted(self) -> Cluster:
        """The current attempt; only in phases that come after CLUSTER_MEMBERS."""
        assert self.cluster is not None
        return self.cluster

    @property
    def others(self) -> tuple[str, ...]:
        """The other members."""
        return tuple(peer for peer in self.attempted.members if peer != self.me)

    @property
    def committee(self) -> tuple[str, ...]:
        """The seated members; empty while the vote is on."""
        return self.attempted.poll().committee

    @property
    def seated(self) -> bool:
        """Whether this node sits on the committee."""
        return self.me in self.committee

    @property
    def created(self) -> int:
        """The date of the task, ms since 1970 by the client's clock.

        What a node says of its end after a restart is dated like the task: said twice, by two processes that
        know nothing of one another, it is the same string and no contradiction.
        """
        body = self.announcement.body
        assert isinstance(body, NewMlTask)
        return body.created

    def finish(self, state: State, reason: str = "", code: str = "") -> Literal[MemberPhase.ENDED]:
        """End this node's part; returns the phase to enter."""
        self.emit(End(state, reason, code))
        return MemberPhase.ENDED

    def withdraw(
        self, reason: str, code: str = "TaskFailed", sent: int | None = None
    ) -> Literal[MemberPhase.ENDED]:
        """Tell the client, and who else may wait for this node, that it is out; returns the phase to enter.

        Args:
            reason: for people.
            code: a class name of :mod:`mlnet.errors`.
            sent: the word's date, ms since 1970; now when None.
        """
        to = (self.client, *(self.others if self.cluster else ()))
        self.say(TaskFailedBody(reason, code), to, until=self.now + self.deadlines.grace, sent=sent)
        return self.finish("failed", reason, code)

    def give_up(self) -> Literal[MemberPhase.ENDED]:
        """The deadline came without the client's word: nobody guesses, this node leaves."""
        if self.phase is MemberPhase.ANSWERED and not self.once("closed"):
            return self.finish("released", "the client has enough nodes")
        return self.withdraw(f"gave up waiting for {self.waiting}", "NodeLost")
