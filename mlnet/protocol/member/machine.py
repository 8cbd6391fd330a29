"""A node's part in one task: the state machine and its transition table.

::

    PREPARING -> ANSWERED -> VOTING -> MEASURING -> REPLICATING -> READY -> BALLOTS -> LINKS -> TRAINING
                    ^           \\-> FOLLOWING ---------------------------------------/        |
                    \\ any of these: CLUSTER_MEMBERS of a new attempt                          v
                                                        FAILING <- TRAINING -> COMPLETED -> OFFERING
                                                           \\---------------> ENDED <--------/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, NamedTuple

from mlnet.errors import RemoteProtocolError
from mlnet.protocol.commands import (
    Command,
    End,
    Introduce,
    Plan,
    PrepareRedis,
    Publish,
    Send,
    SetTimer,
    State,
)
from mlnet.protocol.deadlines import Deadlines
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
from mlnet.protocol.machine import DEADLINE, Machine, Rule, Seal
from mlnet.protocol.member import forming, training
from mlnet.protocol.phases import UNBOUND, Phase
from mlnet.protocol.wire.messages import (
    MAX_ATTEMPTS,
    MAX_REASON,
    MESSAGE_TYPES,
    ClusterMembers,
    ClusterReady,
    DatasetSelection,
    InitCluster,
    Message,
    NewMlTask,
    Resources,
    Role,
    TaskFailed,
)
from mlnet.task.definition import TaskDefinition

EARLY_LENGTH = 8192
EARLY_MESSAGES = 12
"""Of one sender, who may be a stranger, until the members are named."""


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


class Member(Machine):
    """One node in one task. The first event must be the NEW_ML_TASK.

    Attributes:
        cluster: the current attempt; None before the client has named members.
        redis: what became of this node's Redis server.
        bound: digest of the decision that the client bound the task to; empty before.
        selection: the client's DATASET_SELECTION, when this node sits on the committee.
        order: the voted order, when it does.
        paid: the committee members whose ballots count.
        round: of the ballots that gave the order.
        plan: what is trained.
        result: what this node's trainer has made.
        failure: why the task failed, once it has.
        pace: when training began, the first step that was seen then, the last one, and all steps.
    """

    def __init__(
        self,
        seal: Seal,
        task: Message,
        definition: TaskDefinition,
        deadlines: Deadlines,
        resources: Resources,
    ) -> None:
        super().__init__(seal, task, definition, deadlines, Phase.PREPARING)
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
        self.plan: Plan | None = None
        self.result: TrainingFinished | None = None
        self.failure = ""
        self.pace = (0, 0, 0, 0)

    @property
    def idle(self) -> bool:
        """Whether this node is free for another task."""
        return self.phase in (Phase.OFFERING, Phase.ENDED)

    def occupied(self, now: int) -> Occupied:
        """For how long from now on this task takes a place."""
        began, first, step, steps = self.pace
        if self.phase is Phase.TRAINING and step > first:
            return Occupied(max(1, (steps - step) * (self.now - began) // (step - first) - (now - self.now)))
        if self.cluster is None:
            return Occupied(max(1, self.deadline - now), True, ", which still gathers nodes")
        forms = self.phase in UNBOUND or self.phase in (Phase.BALLOTS, Phase.LINKS)
        return Occupied(stage=", which is about to train" if forms else "")

    @property
    def attempted(self) -> Cluster:
        """The current attempt."""
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

    def finish(self, state: State, reason: str = "", code: str = "") -> Phase:
        """End this node's part; returns the phase to enter."""
        if self.once("end"):
            self.emit(End(state, reason, code))
        return Phase.ENDED

    def withdraw(self, reason: str, code: str = "TaskFailed", sent: int | None = None) -> Phase:
        """Tell the client, and who else may wait for this node, that it is out."""
        to = (self.client, *(self.others if self.cluster else ()))
        self.say(TaskFailed(reason, code), to, until=self.now + self.deadlines.grace, sent=sent)
        return self.finish("failed", reason, code)

    @property
    def result_said(self) -> bool:
        """Whether the client has this node's result."""
        return self.phase in (Phase.COMPLETED, Phase.OFFERING)

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
        note = self.seal.seal(
            TaskFailed(reason[:MAX_REASON], "NodeLost"),
            task=self.task,
            attempt=self.attempt,
            sent=self._created,
        )
        others = self.others if self.cluster else ()
        unheard = self.phase is Phase.PREPARING  # so are all the nodes whose disk is full, a storm of them
        until = self.now + self.deadlines.grace
        return [Send((self.client, *others), note, until, via=others, neighbours_only=unheard)]

    @property
    def _created(self) -> int:
        body = self.announcement.body
        assert isinstance(body, NewMlTask)
        return body.created

    # ---------------------------------------------------------------------------------------------- messages

    def _receive(self, message: Message) -> None:
        body = message.body
        self.heard = False
        if not self._concerns(message):
            return
        if isinstance(body, NewMlTask):
            if self.phase is Phase.PREPARING and self.once("announced"):
                self.heard = True
                self.enter(Phase.PREPARING)
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
                self.seal.open(signed.envelope)
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
        if self.phase is Phase.PREPARING:
            self.heard = True
            self.enter(self.finish("released", "the client has enough nodes"))
        elif self.phase is Phase.ANSWERED and self.once("closed"):
            self.heard = True
            self.extend(min(self.deadline - self.now, self.deadlines.members))

    def _takes_part(self, message: Message) -> bool:
        if message.sender == self.client:
            return True
        if message.attempt < self.attempt or message.attempt > MAX_ATTEMPTS or message.attempt == 0:
            return False
        if self.cluster is not None:
            return message.sender in self.cluster.members
        return MESSAGE_TYPES[message.type].early and len(message.envelope.yaml) <= EARLY_LENGTH

    def _took(self, message: Message, members: Mapping[str, Message]) -> None:
        body = message.body
        if isinstance(body, ClusterMembers):
            if message.attempt > self.attempt and self.phase in UNBOUND:
                self._join(message, members)
        elif message.type == "CANCEL_TASK":
            self.enter(self.finish("cancelled", getattr(body, "reason", ""), "TaskCancelled"))
        elif isinstance(body, TaskFailed):
            self._heard_failure(message, body)

    def _named(self, message: Message) -> dict[str, Message]:
        """Open the INIT_CLUSTER envelopes in a CLUSTER_MEMBERS; whatever is wrong with them is the client's
        fault."""
        assert isinstance(message.body, ClusterMembers)
        members: dict[str, Message] = {}
        for signed in message.body.members:
            init = self.seal.open(signed.envelope)
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
        self.enter(Phase.VOTING)

    def _heard_failure(self, message: Message, body: TaskFailed) -> None:
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
        if self.phase is Phase.TRAINING:
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
        if self.phase is Phase.TRAINING:
            if event.step:
                began, first = self.pace[:2] if self.pace[3] else (self.now, event.step)
                self.pace = (began, first, event.step, event.steps)
            self.extend(max(self.deadline - self.now, self.deadlines.step))

    def _finished(self, event: TrainingFinished) -> None:
        if self.phase is Phase.TRAINING:
            self.result = event

    def _stopped(self, event: TrainingStopped) -> None:
        if self.phase is Phase.TRAINING:
            self.failure = event.reason

    def _restarted(self, event: Restarted) -> None:
        """Servers and trainer are gone: only a model is still of use to the client."""
        body = self.announcement.body
        assert isinstance(body, NewMlTask)
        self.emit(Introduce({self.client: body.addresses}))
        if self.phase is Phase.COMPLETED:
            self.enter(training.claim(self))
        elif self.phase is Phase.OFFERING:
            training.claim(self)  # once more: the receipt may have found no room on the disk
            self.emit(SetTimer(DEADLINE, self.deadline))
        else:
            # A process whose disk failed may have said so before; dated alike it is the same string.
            self.enter(self.withdraw(event.reason[:1000], "NodeLost", self._created))

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
    table: ClassVar = {
        Phase.PREPARING: Rule(forming.prepare, forming.preparing_limit, forming.give_up),
        Phase.ANSWERED: Rule(forming.answer, forming.answered_limit, forming.give_up),
        Phase.VOTING: Rule(forming.vote, forming.voting_limit, forming.give_up),
        Phase.MEASURING: Rule(forming.measure, forming.measuring_limit, forming.give_up),
        Phase.REPLICATING: Rule(forming.replicate, forming.ready_limit, forming.give_up),
        Phase.READY: Rule(forming.ready, forming.dataset_limit, forming.give_up),
        Phase.FOLLOWING: Rule(forming.follow, forming.following_limit, forming.give_up),
        Phase.BALLOTS: Rule(training.ballots, training.ballots_limit, forming.give_up),
        Phase.LINKS: Rule(training.links, training.links_limit, forming.give_up),
        Phase.TRAINING: Rule(training.train, training.training_limit, training.stalled),
        Phase.FAILING: Rule(training.fail, training.failing_limit, training.failed),
        Phase.COMPLETED: Rule(training.complete, training.completed_limit, training.claim),
        Phase.OFFERING: Rule(training.await_client, training.offer_limit, training.forgotten),
        Phase.ENDED: Rule(forming.rest, None, forming.rest),
    }
