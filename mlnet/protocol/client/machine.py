"""A client's side of its task: the state machine and its transition table.

::

    GATHERING -> VOTING -> MEASURING -> READY -> BALLOTS -> ORDER -> TRAINING -> SCORING -> REWARDS
                   ^ any of the three, without whoever was silent |        \\-> FAILING        |
                   \\----------------------------------------------/              \\-> ENDED <--/
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import msgspec

from mlnet.errors import RemoteProtocolError
from mlnet.protocol.client import forming, training
from mlnet.protocol.commands import Command, End, Introduce, Publish, Send, State
from mlnet.protocol.deadlines import Deadlines
from mlnet.protocol.decisions.answering import FACTOR
from mlnet.protocol.decisions.cluster import Cluster
from mlnet.protocol.events import (
    CancelRequested,
    ModelRefused,
    ModelScored,
    OthersWait,
    Restarted,
    StopWaiting,
    TrainingProgressed,
)
from mlnet.protocol.evidence import Verdict
from mlnet.protocol.machine import Machine, Rule, Seal
from mlnet.protocol.phases import UNBOUND_STAGES, Stage
from mlnet.protocol.wire.messages import (
    MAX_ATTEMPTS,
    MAX_REASON,
    CancelTask,
    ClusterMembers,
    InitCluster,
    Message,
    NewMlTask,
    Role,
    SegmentInfo,
    Signed,
    TaskFailed,
    TrainingCompleted,
)
from mlnet.task.definition import TaskDefinition


class Dataset(msgspec.Struct, frozen=True):
    """The client's dataset as the protocol knows it: ten segments, fixed before their order is.

    Attributes:
        segments: the ten.
        inputs: features of a row.
        outputs: columns of the labels; the number of classes for a classifier.
    """

    segments: tuple[SegmentInfo, ...]
    inputs: int
    outputs: int


class Client(Machine):
    """The client of one task. The first event must be its own NEW_ML_TASK.

    Args:
        seal: signs as the client.
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
        seal: Seal,
        task: Message,
        definition: TaskDefinition,
        deadlines: Deadlines,
        dataset: Dataset,
        allowed: frozenset[str] | None = None,
    ) -> None:
        super().__init__(seal, task, definition, deadlines, Stage.GATHERING)
        self.dataset = dataset
        self.allowed = allowed
        self.answers: dict[str, Message] = {}
        self.dropped: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self.busy: dict[str, tuple[int, bool]] = {}
        self.others = 0
        self.complained: set[str] = set()
        self.hurried = False
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
    def link(digest: str) -> str:
        """Where members find a segment: at this client, or at another member that has it."""
        return f"mlnet:{digest}"

    @property
    def held_out(self) -> tuple[str, ...]:
        """The segments that the client keeps back, once the order is known."""
        return self.order[self.definition.training_segments :]

    def last_word(self, reason: str) -> list[Command]:
        """What a client says that can write nothing down any more: the task is over.

        It is dated like the task, so that it is the same string if it is said again.
        """
        body = self.announcement.body
        assert isinstance(body, NewMlTask)
        word = CancelTask(reason[:MAX_REASON])
        cancelled = self.seal.seal(word, task=self.task, attempt=self.attempt, sent=body.created)
        sent = Send(self._everyone(), cancelled, self.now + self.deadlines.grace)
        return [sent] if self.attempt else [sent, Publish(cancelled)]  # some may be about to answer

    # ------------------------------------------------------------------------------------------- for the
    # phases

    def fail(self, reason: str, code: str) -> Stage:
        """End the task without a model and tell everyone who was part of it."""
        self.say(TaskFailed(reason, code), self._everyone(), until=self.now + self.deadlines.grace)
        return self.finish("failed", reason, code)

    def finish(self, state: State, reason: str = "", code: str = "") -> Stage:
        """End the machine; returns the stage to enter."""
        if self.once("end"):
            self.emit(End(state, reason, code))
        return Stage.ENDED

    def name_members(self, without: Iterable[str] = (), reason: str = "") -> Stage:
        """Start the next attempt, without some peers."""
        for peer in without:
            self.dropped.setdefault(peer, reason)
        chosen = forming.choose(self)
        least = self.definition.cluster.min_nodes
        if self.attempt == MAX_ATTEMPTS:
            return self.fail(
                f"no cluster was formed in {MAX_ATTEMPTS} attempts; the last failure: {reason}", "NodeLost"
            )
        if self.attempt:
            self.report("retry", attempt=self.attempt + 1, without=tuple(without), reason=reason)
        if len(chosen) < least:
            return self.fail(forming.shortage(self, len(chosen)), "TooFewNodes")
        if not self.attempt:
            closed = self.seal.seal(ClusterMembers(()), task=self.task, attempt=0, sent=self.now)
            self.emit(Publish(closed))
        self.attempt += 1
        body = ClusterMembers(tuple(Signed.of(self.answers[peer].envelope) for peer in chosen))
        before = self.members if self.cluster else ()
        told = self.answers if self._few() else dict.fromkeys((*chosen, *before))
        named = self.say(body, told, until=self.now + self.deadlines.members)
        inits = {peer: self.answers[peer] for peer in chosen}
        self.evidence.prune(self.attempt, {*self.answers, self.me})
        self.cluster = Cluster(named, inits, self.definition.cluster, self.evidence)
        self.report("members", attempt=self.attempt, members=self.members)
        return Stage.VOTING

    # --------------------------------------------------------------------------------------------------
    # messages

    def _receive(self, message: Message) -> None:
        if message.sender == self.me:
            if message.type == "NEW_ML_TASK" and self.once("announced"):
                self.emit(Publish(message))
                self.enter(Stage.GATHERING)
            return
        if self.ended or not self._concerns(message):
            return
        body = message.body
        if isinstance(body, InitCluster):
            self._answered(message, body)
        elif isinstance(body, TaskFailed):
            self._noted(message, body)
        else:
            if self.cluster is None or message.sender not in self.members or message.attempt != self.attempt:
                return
            if self.evidence.add(message) is Verdict.EQUIVOCATION:
                self._drop(message.sender, "signed two messages that contradict each other")

    def _answered(self, message: Message, body: InitCluster) -> None:
        if message.attempt != 0:
            raise RemoteProtocolError(f"INIT_CLUSTER must have attempt 0, not {message.attempt}")
        peer = message.sender
        if self.allowed is not None and peer not in self.allowed:
            if len(self.notes) < forming.MAX_ANSWERS:
                self.notes[peer] = "not one of the nodes that the client allows (--allow-node)"
            return
        if len(self.answers) >= forming.MAX_ANSWERS and peer not in self.answers:
            return
        if self.evidence.add(message) is Verdict.EQUIVOCATION:
            self._drop(peer, "sent two different answers to one announcement")
        elif peer in self.dropped:
            return
        elif peer not in self.answers and self.phase is Stage.GATHERING:
            self.answers[peer] = message
            self.emit(Introduce({peer: body.addresses}))
            self.report(
                "answer",
                peer=peer,
                open=body.redis.open,
                host=body.redis.host,
                vote=None if self.definition.cluster.sealed_votes else body.vote,
                reason=body.redis.reason,
            )
        elif peer not in self.answers and self.cluster is not None and self._few():
            self.forward(self.cluster.named, [peer], until=self.now + self.deadlines.members)

    def _noted(self, message: Message, body: TaskFailed) -> None:
        peer = message.sender
        if peer not in self.answers:
            if len(self.notes) < forming.MAX_ANSWERS:
                self.notes[peer] = body.reason
                if body.busy:
                    self.busy[peer] = (self.now + body.busy, body.at_most)
                self.report("note", peer=peer, reason=forming.why(self, peer))
            return
        if message.attempt == 0 and body.code == "TooFewNodes":
            return  # it was busy before it answered, and only the word came late
        # One that left before it heard of this attempt is not in it either.
        late = message.attempt < self.attempt and body.code == "NodeLost"
        if (message.attempt != self.attempt and not late) or self.evidence.add(message) is not Verdict.NEW:
            return
        self.report("note", peer=peer, reason=body.reason)
        if body.code == "StoreError" and self.phase is Stage.READY:
            self.enter(forming.replication_failed(self, peer, body.reason))
        elif self.phase is Stage.GATHERING or peer in self.members:
            self.notes[peer] = body.reason
            self._drop(peer, body.reason, alone=body.code != "TrainingError")

    def _drop(self, peer: str, reason: str, *, alone: bool = True) -> None:
        """A peer is out: before the task is bound the cluster forms anew without it.

        Later the task has failed. A trainer that failed is hardly ever ``alone``: the others will say more.
        """
        if self.phase is Stage.GATHERING:
            self.answers.pop(peer, None)
            self.dropped[peer] = reason
        elif self.phase in UNBOUND_STAGES:
            self.enter(self.name_members([peer], f"{peer}: {reason}"))
        elif self.winner is not None:
            return  # most members hold the model; what becomes of one of them changes nothing
        elif self.phase in (Stage.BALLOTS, Stage.ORDER, Stage.TRAINING) and peer in self.members:
            left = f"{peer} left the cluster: {reason}"
            self.enter(self.fail(left, "NodeLost") if alone else Stage.FAILING)

    def _few(self) -> bool:
        """Whether the list of members, which is long, can be sent to all who answered.

        Otherwise those who are not on it are free a little after the end of the waiting period.
        """
        return len(self.answers) <= FACTOR * self.definition.cluster.max_nodes

    def _everyone(self) -> tuple[str, ...]:
        return tuple(self.answers)

    # ---------------------------------------------------------------------------------------------------
    # effects

    def _hurry(self, _: StopWaiting) -> None:
        self.hurried = True

    def _crowded(self, event: OthersWait) -> None:
        self.others = event.count

    def _cancel(self, event: CancelRequested) -> None:
        if self.bound and self.phase in (Stage.SCORING, Stage.REWARDS):
            return
        cancelled = self.say(
            CancelTask(event.reason), self._everyone(), until=self.now + self.deadlines.grace
        )
        if self.phase is Stage.GATHERING:
            self.emit(Publish(cancelled))
        self.enter(self.finish("cancelled", event.reason, "TaskCancelled"))

    def _progressed(self, _: TrainingProgressed) -> None:
        if self.phase is Stage.TRAINING and self.winner is None:
            waits = self.deadlines.step + self.deadlines.grace
            self.extend(max(self.deadline - self.now, waits))

    def _restarted(self, _: Restarted) -> None:
        """Say again what may not have been heard, do again what the former process did not finish."""
        for peer, answer in self.answers.items():
            if isinstance(answer.body, InitCluster):
                self.emit(Introduce({peer: answer.body.addresses}))
        if self.phase is Stage.GATHERING:
            self.emit(Publish(self.announcement))
        for message in self.said():
            to = self.members if self.cluster and not self._few() else self._everyone()
            self.forward(message, to, until=self.now + self.deadlines.members)
        training.resume(self)
        limit = self.table[self.phase].limit
        assert limit is not None
        self.extend(limit(self))

    def _scored(self, event: ModelScored) -> None:
        if self.phase is Stage.SCORING:
            self.scored = event

    def _refused(self, event: ModelRefused) -> None:
        if self.phase is Stage.SCORING:
            self.refused = event.reason

    handlers: ClassVar = {
        Restarted: _restarted,
        StopWaiting: _hurry,
        OthersWait: _crowded,
        CancelRequested: _cancel,
        TrainingProgressed: _progressed,
        ModelScored: _scored,
        ModelRefused: _refused,
    }
    roles: ClassVar = Role.CLIENT
    table: ClassVar = {
        Stage.GATHERING: Rule(forming.gather, forming.gathering_limit, forming.gathered),
        Stage.VOTING: Rule(forming.vote, forming.cycle_limit, forming.without_silent_voters),
        Stage.MEASURING: Rule(forming.measure, forming.pings_limit, forming.without_unmeasured),
        Stage.READY: Rule(forming.ready, forming.ready_limit, forming.without_unready),
        Stage.BALLOTS: Rule(training.ballots, training.ballots_limit, training.second_round),
        Stage.ORDER: Rule(training.agree, training.ballots_limit, training.no_order),
        Stage.TRAINING: Rule(training.train, training.training_limit, training.stalled),
        Stage.FAILING: Rule(training.fail, training.failing_limit, training.failed),
        Stage.SCORING: Rule(training.score, training.scoring_limit, training.unfetched),
        Stage.REWARDS: Rule(training.reward, training.rewards_limit, training.unsettled),
        Stage.ENDED: Rule(training.rest, None, training.rest),
    }
