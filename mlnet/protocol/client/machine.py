"""A client's side of its task: the state machine and its transition table.

::

    phase        leads to                   may take                                           at its deadline
    GATHERING    VOTING, ENDED              waiting period                                     VOTING, ENDED
    VOTING       MEASURING, ENDED           cycle, anew for each                               VOTING, ENDED
    MEASURING    READY, ENDED               pings                                              VOTING, ENDED
    READY        BALLOTS                    ready                                              VOTING, ENDED
    BALLOTS      ORDER, ENDED               ballots                                            ORDER, ENDED
    ORDER        TRAINING                   ballots                                            ORDER, ENDED
    TRAINING     SCORING, ENDED             links + fetch + load + rendezvous + step + grace   SCORING, ENDED
    FAILING      ENDED                      grace / 6                                          ENDED
    SCORING      REWARDS, ENDED             fetch from each member + load + step               ENDED
    REWARDS      ENDED                      rewards                                            ENDED

The leaving of a member leads from VOTING, MEASURING and READY to VOTING, in a new attempt without it; from
BALLOTS, ORDER and TRAINING to ENDED, or to FAILING when its trainer failed. When the user cancels, any phase
before SCORING leads to ENDED. VOTING, MEASURING and READY give the silent, at their deadline, once more what
they may lack. The deadlines are those of :class:`~mlnet.protocol.deadlines.Deadlines`.
"""

from __future__ import annotations

from typing import ClassVar

from mlnet.errors import RemoteProtocolError
from mlnet.protocol.client import choosing, forming, training
from mlnet.protocol.client.state import ClientState
from mlnet.protocol.commands import Command, Introduce, Publish, Send
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
from mlnet.protocol.phases import CLIENT_UNBOUND, ClientPhase
from mlnet.protocol.wire.message_types import Role
from mlnet.protocol.wire.messages import (
    MAX_REASON,
    CancelTask,
    InitCluster,
    Message,
    NewMlTask,
    TaskFailedBody,
)

NOT_ALLOWED = "not one of the nodes that the client allows (--allow-node)"
_TRAINED_TOGETHER = frozenset({ClientPhase.BALLOTS, ClientPhase.ORDER, ClientPhase.TRAINING})
"""Phases in which the task has failed when one member is out."""


class Client(ClientState):
    """The client of one task. The first event must be its own NEW_ML_TASK."""

    def last_word(self, reason: str) -> list[Command]:
        """What a client says that can write nothing down any more: the task is over.

        It is dated like the task, so that it is the same string if it is said again.
        """
        word = CancelTask(reason[:MAX_REASON])
        cancelled = self.signer.sign(word, task=self.task, attempt=self.attempt, sent=self._created)
        sent = Send(self.everyone, cancelled, self.now + self.deadlines.grace)
        return [sent] if self.attempt else [sent, Publish(cancelled)]  # some may be about to answer

    # --------------------------------------------------------------------------------------------------
    # messages

    def _receive(self, message: Message) -> None:
        if message.sender == self.me:
            if message.type == "NEW_ML_TASK" and self.once("announced"):
                self.emit(Publish(message))
                self.enter(ClientPhase.GATHERING)
            return
        if self.ended or not self._concerns(message):
            return
        body = message.body
        if isinstance(body, InitCluster):
            self._answered(message, body)
        elif isinstance(body, TaskFailedBody):
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
            self._turn_away(peer)
            return
        if len(self.answers) >= choosing.MAX_ANSWERS and peer not in self.answers:
            return
        if self.evidence.add(message) is Verdict.EQUIVOCATION:
            self._drop(peer, "sent two different answers to one announcement")
        elif peer in self.dropped:
            return
        elif peer not in self.answers and self.phase is ClientPhase.GATHERING:
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
        elif peer not in self.answers and self.cluster is not None and self.few_answered:
            self.forward(self.cluster.named, [peer], until=self.now + self.deadlines.members)

    def _turn_away(self, peer: str) -> None:
        """Tell a node that its user does not allow it, once, so that it is free and its operator knows why.

        It is not among the things that the client has said to the cluster: nobody else is to hear it, nor
        this node again after a restart.
        """
        if peer in self.notes or len(self.notes) >= choosing.MAX_ANSWERS:
            return
        self.notes[peer] = NOT_ALLOWED
        # Dated like the task: the same string for every such node, and from a later process.
        word = TaskFailedBody(NOT_ALLOWED, "ConfigError")
        message = self.signer.sign(word, task=self.task, attempt=0, sent=self._created)
        self.forward(message, [peer], until=self.now + self.deadlines.members)

    @property
    def _created(self) -> int:
        body = self.announcement.body
        assert isinstance(body, NewMlTask)
        return body.created

    def _noted(self, message: Message, body: TaskFailedBody) -> None:
        peer = message.sender
        if peer not in self.answers:
            if len(self.notes) < choosing.MAX_ANSWERS:
                self.notes[peer] = body.reason
                if body.busy:
                    self.busy[peer] = (self.now + body.busy, body.at_most)
                self.report("note", peer=peer, reason=choosing.why(self, peer))
            return
        if message.attempt == 0 and body.code == "TooFewNodes":
            return  # it was busy before it answered, and only the word came late
        # One that left before it heard of this attempt is not in it either.
        late = message.attempt < self.attempt and body.code == "NodeLost"
        if (message.attempt != self.attempt and not late) or self.evidence.add(message) is not Verdict.NEW:
            return
        self.report("note", peer=peer, reason=body.reason)
        if body.code == "StoreError" and self.phase is ClientPhase.READY:
            self.enter(forming.replication_failed(self, peer, body.reason))
        elif self.phase is ClientPhase.GATHERING or peer in self.members:
            self.notes[peer] = body.reason
            self._drop(peer, body.reason, alone=body.code != "TrainingError")

    def _drop(self, peer: str, reason: str, *, alone: bool = True) -> None:
        """A peer is out: before the task is bound the cluster forms anew without it.

        Later the task has failed. A trainer that failed is hardly ever ``alone``: the others will say more.
        """
        if self.phase is ClientPhase.GATHERING:
            self.answers.pop(peer, None)
            self.dropped[peer] = reason
        elif self.phase in CLIENT_UNBOUND:
            self.enter(choosing.name_members(self, [peer], f"{peer}: {reason}"))
        elif self.winner is not None:
            return  # most members hold the model; what becomes of one of them changes nothing
        elif self.phase in _TRAINED_TOGETHER and peer in self.members:
            left = f"{peer} left the cluster: {reason}"
            self.enter(self.fail(left, "NodeLost") if alone else ClientPhase.FAILING)

    # ---------------------------------------------------------------------------------------------------
    # effects

    def _close_enrolment(self, _: StopWaiting) -> None:
        self.enrolment_closed = True

    def _crowded(self, event: OthersWait) -> None:
        self.others = event.count

    def _cancel(self, event: CancelRequested) -> None:
        if self.bound and self.phase in (ClientPhase.SCORING, ClientPhase.REWARDS):
            return
        cancelled = self.say(CancelTask(event.reason), self.everyone, until=self.now + self.deadlines.grace)
        if self.phase is ClientPhase.GATHERING:
            self.emit(Publish(cancelled))
        self.enter(self.finish("cancelled", event.reason, "TaskCancelled"))

    def _progressed(self, _: TrainingProgressed) -> None:
        if self.phase is ClientPhase.TRAINING and self.winner is None:
            waits = self.deadlines.step + self.deadlines.grace
            self.extend(max(self.deadline - self.now, waits))

    def _restarted(self, _: Restarted) -> None:
        """Say again what may not have been heard, do again what the former process did not finish."""
        for peer, answer in self.answers.items():
            assert isinstance(answer.body, InitCluster)
            self.emit(Introduce({peer: answer.body.addresses}))
        if self.phase is ClientPhase.GATHERING:
            self.emit(Publish(self.announcement))
        for message in self.said():
            to = self.members if self.cluster and not self.few_answered else self.everyone
            self.forward(message, to, until=self.now + self.deadlines.members)
        training.resume(self)
        self.extend(self.phases[self.phase].limit(self))

    def _scored(self, event: ModelScored) -> None:
        if self.phase is ClientPhase.SCORING:
            self.scored = event

    def _refused(self, event: ModelRefused) -> None:
        if self.phase is ClientPhase.SCORING:
            self.refused = event.reason

    handlers: ClassVar = {
        Restarted: _restarted,
        StopWaiting: _close_enrolment,
        OthersWait: _crowded,
        CancelRequested: _cancel,
        TrainingProgressed: _progressed,
        ModelScored: _scored,
        ModelRefused: _refused,
    }
    roles: ClassVar = Role.CLIENT
    phases: ClassVar = {
        ClientPhase.GATHERING: forming.Gathering(),
        ClientPhase.VOTING: forming.Voting(),
        ClientPhase.MEASURING: forming.Measuring(),
        ClientPhase.READY: forming.Ready(),
        ClientPhase.BALLOTS: training.Ballots(),
        ClientPhase.ORDER: training.Order(),
        ClientPhase.TRAINING: training.Training(),
        ClientPhase.FAILING: training.Failing(),
        ClientPhase.SCORING: training.Scoring(),
        ClientPhase.REWARDS: training.Rewarding(),
    }
