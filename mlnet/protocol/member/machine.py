"""A node's part in one task: the state machine and its transition table.

::

    phase        leads to                   may take                                           at its deadline
    PREPARING    ANSWERED                   waiting period                                     ENDED
    ANSWERED     -                          waiting period + members                           ENDED
    VOTING       MEASURING, FOLLOWING       8 x cycle + grace                                  ENDED
    MEASURING    REPLICATING                pings + grace                                      ENDED
    REPLICATING  READY                      ready + grace                                      ENDED
    READY        BALLOTS, ENDED             dataset                                            ENDED
    FOLLOWING    LINKS                      pings + ready + dataset + 2 x ballots + links      ENDED
    BALLOTS      LINKS, ENDED               2 x ballots + grace                                ENDED
    LINKS        TRAINING, BALLOTS, ENDED   links + ballots                                    ENDED
    TRAINING     COMPLETED, FAILING         fetch + load + rendezvous + step                   FAILING
    FAILING      -                          grace                                              ENDED
    COMPLETED    ENDED                      completion + fetch + rewards + grace               OFFERING
    OFFERING     ENDED                      offer                                              ENDED

In every phase from ANSWERED to FOLLOWING a CLUSTER_MEMBERS of a new attempt leads to VOTING, or to ENDED for
a node that it does not name. CANCEL_TASK, and TASK_FAILED of the client or of more than half of the bound
committee, lead to ENDED. So does a restart of the process, except that COMPLETED leads to OFFERING, where a
node stays. The deadlines are those of :class:`~mlnet.protocol.deadlines.Deadlines`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, NamedTuple

from mlnet.errors import RemoteProtocolError
from mlnet.protocol.commands import (
    Command,
    Introduce,
    PrepareRedis,
    Publish,
    Send,
    SetTimer,
)
from mlnet.protocol.decisions.cluster import Cluster
from mlnet.protocol.decisions.committee import nodes
from mlnet.protocol.events import (
    PingsMeasured,
    RedisPrepared,
    Replicated,
    Restarted,
    TrainingFinished,
    TrainingProgressed,
    TrainingStopped,
)
from mlnet.protocol.evidence import PER_SENDER, Verdict
from mlnet.protocol.machine import DEADLINE
from mlnet.protocol.member import forming, training
from mlnet.protocol.member.state import MemberState
from mlnet.protocol.phases import MEMBER_UNBOUND, MemberPhase
from mlnet.protocol.wire.message_types import MESSAGE_TYPES, Role
from mlnet.protocol.wire.messages import (
    MAX_REASON,
    ClusterMembers,
    DatasetSelection,
    InitCluster,
    Message,
    NewMlTask,
    TaskFailedBody,
)

EARLY_LENGTH = 8192
"""Characters of a message from a peer that may be a stranger, until the members are named. Measurements of a
committee of 64 take about that."""
EARLY_MESSAGES = 12
"""Messages of such a peer that are kept: eight votes, measurements and READY, and two to spare."""


class Occupied(NamedTuple):
    """For how long a task takes a place of a node.

    Attributes:
        ms: as far as the node can tell; 0 where it cannot.
        at_most: whether the task may let go of the place earlier, and then takes it for longer if it trains;
            else ``ms`` is an estimate.
        stage: what the task is at, for people.
    """

    ms: int = 0
    at_most: bool = False
    stage: str = ""


class Member(MemberState):
    """One node in one task. The first event must be the NEW_ML_TASK."""

    @property
    def idle(self) -> bool:
        """Whether this node is free for another task."""
        return self.phase in (MemberPhase.OFFERING, MemberPhase.ENDED)

    def occupied(self, now: int) -> Occupied:
        """For how long from now on this task takes a place."""
        began, first, step, steps = self.pace
        if self.phase is MemberPhase.TRAINING and step > first:
            return Occupied(max(1, (steps - step) * (self.now - began) // (step - first) - (now - self.now)))
        if self.cluster is None:
            return Occupied(max(1, self.deadline - now), True, ", which still gathers nodes")
        forms = self.phase in MEMBER_UNBOUND or self.phase in (MemberPhase.BALLOTS, MemberPhase.LINKS)
        return Occupied(stage=", which is about to train" if forms else "")

    @property
    def result_said(self) -> bool:
        """Whether the client has this node's result."""
        return self.phase in (MemberPhase.COMPLETED, MemberPhase.OFFERING)

    def speaks_anew(self, *commands: Command) -> bool:
        """Whether commands give away something that was signed in the last step."""
        return any(
            isinstance(command, Send | Publish)
            and command.message.sender == self.me
            and (command.message.sent == self.now or command.message.type == "TASK_FAILED")
            for command in commands
        )

    def last_word(self, reason: str, unsaid: Iterable[Command]) -> list[Command]:
        """What a member says that can write nothing down any more: that it is out.

        It is dated like the task, as what a restarted member says: with the same reason it is the same
        string.
        A member that has ended says it only where its last step would have said that it failed.

        Args:
            reason: for the client; that of :class:`~mlnet.protocol.events.Restarted` when the journal stays.
            unsaid: the commands of the step that was not written down.
        """
        withdrawn = any(
            isinstance(command, Send) and command.message.type == "TASK_FAILED" and self.speaks_anew(command)
            for command in unsaid
        )
        before = any(message.type == "TASK_FAILED" for message in self.said()) and not withdrawn
        if before or (self.ended and not withdrawn):
            return []
        note = self.signer.sign(
            TaskFailedBody(reason[:MAX_REASON], "NodeLost"),
            task=self.task,
            attempt=self.attempt,
            sent=self.created,
        )
        others = self.others if self.cluster else ()
        # Nobody waits yet for one that has not answered, and all nodes whose disk is full would be a storm.
        unheard = self.phase is MemberPhase.PREPARING
        until = self.now + self.deadlines.grace
        return [Send((self.client, *others), note, until, via=others, neighbours_only=unheard)]

    # ---------------------------------------------------------------------------------------------- messages

    def _receive(self, message: Message) -> None:
        body = message.body
        self.heard = False
        if not self._concerns(message):
            return
        if isinstance(body, NewMlTask):
            if self.phase is MemberPhase.PREPARING and self.once("announced"):
                self.heard = True
                self.enter(MemberPhase.PREPARING)
                self.emit(Introduce({self.client: body.addresses}), PrepareRedis())
            return
        if self.ended:
            return
        if isinstance(body, ClusterMembers) and message.attempt == 0:
            self._closed(body)
            return
        members = self._named(message) if isinstance(body, ClusterMembers) else {}
        if isinstance(body, DatasetSelection):
            for signed in body.ballots:
                self.signer.verify(signed.envelope)
        if not self._takes_part(message):
            return
        stranger = self.cluster is None and message.sender != self.client
        verdict = self.evidence.add(message, EARLY_MESSAGES if stranger else PER_SENDER)
        self.heard = verdict in (Verdict.NEW, Verdict.EQUIVOCATION)
        if verdict is Verdict.EQUIVOCATION:
            self._expose(message.sender)
        elif verdict is Verdict.NEW:
            self._took(message, members)

    def _closed(self, body: ClusterMembers) -> None:
        """The waiting period is over: who has not answered is not needed, the others will soon know."""
        if body.members:
            raise RemoteProtocolError("CLUSTER_MEMBERS of attempt 0 must name no members")
        if self.phase is MemberPhase.PREPARING:
            self.heard = True
            self.enter(self.finish("released", "the client has enough nodes"))
        elif self.phase is MemberPhase.ANSWERED and self.once("closed"):
            self.heard = True
            self.extend(min(self.deadline - self.now, self.deadlines.members))

    def _takes_part(self, message: Message) -> bool:
        if message.sender == self.client:
            return True
        if message.attempt < self.attempt or message.attempt == 0:
            return False
        if self.cluster is not None:
            return message.sender in self.cluster.members
        return MESSAGE_TYPES[message.type].early and len(message.envelope.yaml) <= EARLY_LENGTH

    def _took(self, message: Message, members: Mapping[str, Message]) -> None:
        body = message.body
        if isinstance(body, ClusterMembers):
            if message.attempt > self.attempt and self.phase in MEMBER_UNBOUND:
                self._join(message, members)
        elif message.type == "CANCEL_TASK":
            self.enter(self.finish("cancelled", getattr(body, "reason", ""), "TaskCancelled"))
        elif isinstance(body, TaskFailedBody):
            self._heard_failure(message, body)

    def _named(self, message: Message) -> dict[str, Message]:
        """Open the INIT_CLUSTER envelopes in a CLUSTER_MEMBERS; whatever is wrong with them is the client's
        fault."""
        assert isinstance(message.body, ClusterMembers)
        members: dict[str, Message] = {}
        for signed in message.body.members:
            init = self.signer.verify(signed.envelope)
            if not isinstance(init.body, InitCluster) or init.task != self.task or init.sender in members:
                raise RemoteProtocolError(
                    "CLUSTER_MEMBERS must hold one INIT_CLUSTER of this task for each member and nothing else"
                )
            members[init.sender] = init
        terms = self.definition.cluster
        if not terms.min_nodes <= len(members) <= terms.max_nodes:
            raise RemoteProtocolError(
                f"CLUSTER_MEMBERS names {nodes(len(members))}; "
                f"{terms.min_nodes} to {terms.max_nodes} are allowed"
            )
        mine = self.evidence.get("INIT_CLUSTER", 0, "", self.me)
        if self.me in members and (mine is None or members[self.me].envelope != mine.envelope):
            raise RemoteProtocolError("CLUSTER_MEMBERS holds an INIT_CLUSTER that this node did not send")
        return members

    def _join(self, message: Message, members: Mapping[str, Message]) -> None:
        self.attempt = message.attempt
        self.evidence.prune(self.attempt, {*members, self.client})
        if self.me not in members:
            self.enter(self.finish("released", "the client went on without this node"))
            return
        self.cluster = Cluster(message, members, self.definition.cluster, self.evidence)
        self.pings = self.replicated = self.followed = None
        self.report("members", attempt=self.attempt, members=self.cluster.members)
        self.emit(Introduce({peer: self.cluster.init(peer).addresses for peer in self.others}))
        self.enter(MemberPhase.VOTING)

    def _heard_failure(self, message: Message, body: TaskFailedBody) -> None:
        if message.sender == self.client:
            self.enter(self.finish("failed", body.reason, body.code))
            return
        self.report("note", peer=message.sender, reason=body.reason)
        if self.bound and self.cluster is not None:
            failed = self.evidence.of("TASK_FAILED", self.attempt)
            told = [peer for peer in self.committee if peer in failed]
            if 2 * len(told) > len(self.committee):
                # The client takes a member that says nothing for the one that was lost.
                self.say(body, [self.client], until=self.now + self.deadlines.grace, via=self.others)
                self.enter(self.finish("failed", body.reason, body.code))
                return
        if self.phase is MemberPhase.TRAINING:
            # Without one of them the trainers never meet, and whoever says nothing is taken for lost.
            self.failure = self.failure or f"{message.sender} gave up: {body.reason}"

    def _expose(self, sender: str) -> None:
        """Show a contradiction to the client; it is the proof. A client that contradicts itself has no
        cluster."""
        self.report("equivocation", peer=sender)
        if sender == self.client:
            self.enter(
                self.withdraw("the client signed two messages that contradict each other", "ProtocolError")
            )
            return
        for message in self.evidence.proofs[sender]:
            self.forward(message, [self.client], until=self.now + self.deadlines.grace)

    # ------------------------------------------------------------------------------------------------ effects

    def _prepared(self, event: RedisPrepared) -> None:
        self.redis = event

    def _measured(self, event: PingsMeasured) -> None:
        self.pings = event.pings

    def _replicated(self, event: Replicated) -> None:
        self.replicated = event

    def _progressed(self, event: TrainingProgressed) -> None:
        if self.phase is MemberPhase.TRAINING:
            if event.step:
                began, first = self.pace[:2] if self.pace[3] else (self.now, event.step)
                self.pace = (began, first, event.step, event.steps)
            self.extend(max(self.deadline - self.now, self.deadlines.step))

    def _finished(self, event: TrainingFinished) -> None:
        if self.phase is MemberPhase.TRAINING:
            self.result = event

    def _stopped(self, event: TrainingStopped) -> None:
        if self.phase is MemberPhase.TRAINING:
            self.failure = event.reason

    def _restarted(self, event: Restarted) -> None:
        """Servers and trainer are gone: only a model is still of use to the client."""
        body = self.announcement.body
        assert isinstance(body, NewMlTask)
        self.emit(Introduce({self.client: body.addresses}))
        if self.phase is MemberPhase.COMPLETED:
            self.enter(training.claim(self))
        elif self.phase is MemberPhase.OFFERING:
            training.claim(self)  # once more: the receipt may have found no room on the disk
            self.emit(SetTimer(DEADLINE, self.deadline))
        else:
            # A process whose disk failed may have said so before; dated alike it is the same string.
            self.enter(self.withdraw(event.reason[:1000], "NodeLost", self.created))

    handlers: ClassVar = {
        RedisPrepared: _prepared,
        PingsMeasured: _measured,
        Replicated: _replicated,
        TrainingProgressed: _progressed,
        TrainingFinished: _finished,
        TrainingStopped: _stopped,
        Restarted: _restarted,
    }
    roles: ClassVar = Role.NODE | Role.MEMBER | Role.COMMITTEE
    phases: ClassVar = {
        MemberPhase.PREPARING: forming.Preparing(),
        MemberPhase.ANSWERED: forming.Answered(),
        MemberPhase.VOTING: forming.Voting(),
        MemberPhase.MEASURING: forming.Measuring(),
        MemberPhase.REPLICATING: forming.Replicating(),
        MemberPhase.READY: forming.Ready(),
        MemberPhase.FOLLOWING: forming.Following(),
        MemberPhase.BALLOTS: training.Ballots(),
        MemberPhase.LINKS: training.Links(),
        MemberPhase.TRAINING: training.Training(),
        MemberPhase.FAILING: training.Failing(),
        MemberPhase.COMPLETED: training.Completed(),
        MemberPhase.OFFERING: training.Offering(),
    }
