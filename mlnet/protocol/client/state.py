"""What a client knows of its task, and what it can do in every phase."""

from __future__ import annotations

from typing import Literal

import msgspec

from mlnet.protocol.commands import End, State
from mlnet.protocol.deadlines import Deadlines
from mlnet.protocol.decisions.answering import FACTOR
from mlnet.protocol.decisions.cluster import Cluster
from mlnet.protocol.events import ModelScored
from mlnet.protocol.machine import Machine, Signer
from mlnet.protocol.phases import ClientPhase
from mlnet.protocol.wire.messages import Message, TaskFailedBody, TrainingCompleted
from mlnet.task.schema import TaskDefinition
from mlnet.task.segments import Segment


class OfferedDataset(msgspec.Struct, frozen=True):
    """The client's dataset as the protocol knows it: ten segments, fixed before their order is.

    Attributes:
        segments: the ten.
        inputs: features of a row.
        outputs: columns of the labels; the number of classes for a classifier.
    """

    segments: tuple[Segment, ...]
    inputs: int
    outputs: int


class ClientState(Machine):
    """The client of one task, as its phases see it.

    Args:
        signer: signs as the client.
        task: the NEW_ML_TASK.
        definition: what the task's text says.
        deadlines: of this party.
        dataset: what there is to train on.
        allowed: peer ids that may take part; None for all.

    Attributes:
        answers: INIT_CLUSTER by peer, first come first.
        dropped: peers that were left out of later attempts, and why.
        notes: what nodes said of why they do not, or no longer, take part.
        busy: until when (ms) nodes said that they are, and whether that is the latest.
        others: clients that gather nodes at the same time.
        cluster: the current attempt; None while gathering.
        bound: digest of the decision that the task is bound to.
        order: the voted order.
        paid: committee members whose ballots count.
        round: of the ballots.
        winner: the TRAINING_COMPLETED that the majority agrees with.
        scored: the model, once it is here.
        split: of the payment.
    """

    def __init__(
        self,
        signer: Signer,
        task: Message,
        definition: TaskDefinition,
        deadlines: Deadlines,
        dataset: OfferedDataset,
        allowed: frozenset[str] | None = None,
    ) -> None:
        super().__init__(signer, task, definition, deadlines, ClientPhase.GATHERING)
        self.dataset = dataset
        self.allowed = allowed
        self.answers: dict[str, Message] = {}
        self.dropped: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self.busy: dict[str, tuple[int, bool]] = {}
        self.others = 0
        self.complained: set[str] = set()
        self.enrolment_closed = False
        self.cluster: Cluster | None = None
        self.bound = ""
        self.order: tuple[str, ...] = ()
        self.paid: tuple[str, ...] = ()
        self.round: Literal[1, 2] = 1
        self.winner: Message | None = None
        self.scored: ModelScored | None = None
        self.refused = ""
        self.split: dict[str, int] = {}

    @property
    def attempted(self) -> Cluster:
        """The current attempt."""
        assert self.cluster is not None
        return self.cluster

    @property
    def members(self) -> tuple[str, ...]:
        """Of the current attempt."""
        return self.attempted.members

    @property
    def committee(self) -> tuple[str, ...]:
        """The seated members; empty while the vote is on."""
        return self.attempted.poll().committee

    @property
    def completed(self) -> TrainingCompleted:
        """What the majority of the members made."""
        assert self.winner is not None
        assert isinstance(self.winner.body, TrainingCompleted)
        return self.winner.body

    @staticmethod
    def link(root: str) -> str:
        """Where members find a segment: at this client, or at another member that has it."""
        return f"mlnet:{root}"

    @property
    def held_out(self) -> tuple[str, ...]:
        """The segments that the client keeps back, once the order is known."""
        return self.order[self.definition.training_segments :]

    @property
    def everyone(self) -> tuple[str, ...]:
        """All who answered and are not out."""
        return tuple(self.answers)

    @property
    def few_answered(self) -> bool:
        """Whether the list of members, which is long, can be sent to all who answered.

        Otherwise those who are not on it are free a little after the end of the waiting period.
        """
        return len(self.answers) <= FACTOR * self.definition.cluster.max_nodes

    def fail(self, reason: str, code: str) -> Literal[ClientPhase.ENDED]:
        """End the task without a model and tell everyone who was part of it; returns the phase to enter."""
        self.say(TaskFailedBody(reason, code), self.everyone, until=self.now + self.deadlines.grace)
        return self.finish("failed", reason, code)

    def finish(self, state: State, reason: str = "", code: str = "") -> Literal[ClientPhase.ENDED]:
        """End the machine; returns the phase to enter."""
        self.emit(End(state, reason, code))
        return ClientPhase.ENDED
