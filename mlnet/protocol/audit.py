"""What follows from the signed messages of a task, derived once more by whoever holds them, years later.

The rules are those of :class:`~mlnet.protocol.decisions.cluster.Cluster`, which the parties themselves
asked. What somebody said that does not follow is a lie; what is missing is no lie, but is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

import msgspec

from mlnet.errors import RemoteProtocolError, TaskError
from mlnet.protocol.decisions import rewards, segment_order
from mlnet.protocol.decisions.cluster import Cluster
from mlnet.protocol.evidence import Evidence
from mlnet.protocol.machine import Signer
from mlnet.protocol.wire.messages import (
    ClusterMembers,
    ClusterReady,
    DatasetSegment,
    DatasetSelection,
    HashVotes,
    InitCluster,
    Message,
    NewMlTask,
    Place,
    Rewards,
    Signed,
    TrainingCompleted,
)
from mlnet.task import definition as task_definition


class Lie(msgspec.Struct, frozen=True):
    """Something that a party signed and that does not follow.

    Attributes:
        peer: who.
        what: in words.
        messages: SHA-256 of the strings that prove it.
    """

    peer: str
    what: str
    messages: tuple[str, ...]


class Audit(msgspec.Struct):
    """What follows from a task's messages.

    Attributes:
        task: its id.
        client: peer id.
        attempt: the one that was bound, else the last.
        committee: in the order of the ranking.
        master: peer id.
        slave: peer id.
        decision: identity of the decision.
        order: of the segments.
        held_out: those that the client kept back.
        model: SHA-256 that more than half of the members state.
        rewards: micro-units by peer.
        settled: the split is signed by the client and more than half of the committee.
        lies: what does not follow.
        missing: what could not be derived, and why.
    """

    task: str = ""
    client: str = ""
    attempt: int = 0
    committee: tuple[str, ...] = ()
    master: str = ""
    slave: str = ""
    decision: str = msgspec.field(default="", name="digest")
    order: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    model: str = ""
    rewards: dict[str, int] = msgspec.field(default_factory=dict)
    settled: bool = False
    lies: list[Lie] = msgspec.field(default_factory=list)
    missing: list[str] = msgspec.field(default_factory=list)


def audit(messages: Iterable[Message], signer: Signer) -> Audit:
    """Derive committee, master, slave, order and rewards of one task.

    Args:
        messages: in the order in which a party saw them, their signatures verified.
        signer: opens the envelopes inside messages; of no party in particular.
    """
    return _Auditor(signer).run(list(messages))


class _Auditor:
    def __init__(self, signer: Signer) -> None:
        self.signer = signer
        self.found = Audit()
        self.evidence = Evidence()
        self.all: dict[tuple[Place, str], Message] = {}
        self.paid: tuple[str, ...] = ()
        self.definition: task_definition.TaskDefinition | None = None

    def run(self, messages: list[Message]) -> Audit:
        announced = next((m for m in messages if isinstance(m.body, NewMlTask)), None)
        if announced is None or not isinstance(announced.body, NewMlTask):
            self.found.missing.append("the task: there is no NEW_ML_TASK")
            return self.found
        self.found.task, self.found.client = announced.task, announced.sender
        try:
            self.definition = task_definition.load(announced.body.definition, diagnose=False)
        except TaskError as error:
            self._lie(announced, f"announced a definition that is not valid: {error}")
            return self.found
        for message in messages:
            if message.task == announced.task:
                self._take(message)
        self._derive()
        return self.found

    def _take(self, message: Message) -> None:
        """Keep what a party said first in each place; a second version is a lie of its own."""
        key = (message.place, message.sender)
        kept = self.all.setdefault(key, message)
        if kept.envelope.yaml != message.envelope.yaml:
            what = f"signed two different {message.type} (attempt {message.attempt})"
            proof = (kept.envelope.digest, message.envelope.digest)
            self.found.lies.append(Lie(message.sender, what, proof))
        elif kept is message:
            self.evidence.add(message)

    def _derive(self) -> None:
        selections = self._of(DatasetSelection, self.found.client)
        named = self._of(ClusterMembers, self.found.client)
        attempts = [m.attempt for m in selections] or [m.attempt for m in named if m.attempt]
        if not attempts:
            self.found.missing.append("the committee: the client named no members")
            return
        self.found.attempt = max(attempts)
        cluster = self._cluster(next((m for m in named if m.attempt == self.found.attempt), None))
        if cluster is None or not self._decide(cluster):
            return
        if self._order(cluster, [m for m in selections if m.attempt == self.found.attempt]):
            self._reward(cluster)

    def _cluster(self, named: Message | None) -> Cluster | None:
        if named is None or not isinstance(named.body, ClusterMembers):
            self.found.missing.append("the committee: there is no CLUSTER_MEMBERS of the bound attempt")
            return None
        assert self.definition is not None
        inits = {
            init.sender: init
            for init in self._opened(named.body.members)
            if isinstance(init.body, InitCluster) and init.task == self.found.task
        }
        if len(inits) < len(named.body.members):
            self._lie(named, "named members without exactly one INIT_CLUSTER of this task for each")
            return None
        return Cluster(named, inits, self.definition.cluster, self.evidence)

    def _decide(self, cluster: Cluster) -> bool:
        poll = cluster.poll()
        if not poll.committee:
            self.found.missing.append(f"the committee: {poll.reason}")
            return False
        self.found.committee = poll.committee
        if missing := cluster.unmeasured():
            self.found.missing.append(
                f"master and slave: no CLUSTER_DATABASE_SELECTION of {', '.join(missing)}"
            )
            return False
        if not cluster.election().master:
            self.found.missing.append(f"master and slave: {cluster.election().reason}")
            return False
        ready = cluster.decision().ready
        self.found.committee, self.found.decision = ready.committee, ready.decision
        self.found.master, self.found.slave = ready.master, ready.slave
        for message in () if self._doubtful(cluster) else self._of(ClusterReady):
            if (
                message.attempt == cluster.attempt
                and message.sender in cluster.inits
                and message.body != ready
            ):
                self._lie(message, "announced a decision that does not follow from the evidence")
        return True

    def _order(self, cluster: Cluster, selections: list[Message]) -> bool:
        if not selections:
            self.found.missing.append("the order of the segments: there is no DATASET_SELECTION")
            return False
        for message in selections:
            if getattr(message.body, "decision", "") != self.found.decision:
                self._lie(message, "bound a decision that does not follow from the evidence")
        first = selections[0].body
        assert isinstance(first, DatasetSelection)
        assert self.definition is not None
        hashes = tuple(segment.root for segment in first.segments)
        ballots = self._ballots(cluster, selections)
        if not ballots:
            held, seated = cluster.ballots(), cluster.poll().committee
            silent = [peer for peer in seated if peer not in held] or seated
            self.found.missing.append(f"the order of the segments: no ballot of {', '.join(silent)}")
            return False
        secrets = cluster.secrets(ballots, hashes)
        for peer, message in ballots.items():
            if peer not in secrets:
                self._lie(message, "cast a ballot that does not open what it had committed to")
        if not secrets:
            self.found.missing.append("the order of the segments: no ballot matches its commitment")
            return False
        self.paid = tuple(sorted(secrets))
        order = segment_order.order(secrets, hashes)
        number = 2 if len(selections) > 1 else 1
        self.found.order, self.found.held_out = order, order[self.definition.training_segments :]
        if number == 2 or not self._doubtful(cluster):
            self._compare_orders(cluster, order, number)
        return True

    def _compare_orders(self, cluster: Cluster, order: tuple[str, ...], number: int) -> None:
        for message in self._of(HashVotes):
            body = message.body
            assert isinstance(body, HashVotes)
            mine = body.stage == "order" and body.round == number and message.attempt == cluster.attempt
            if mine and message.sender in cluster.poll().committee and body.ranking != order:
                self._lie(message, "computed another order of the segments than the ballots give")
        for message in self._of(DatasetSegment, self.found.client):
            body = message.body
            if isinstance(body, DatasetSegment) and body.segment.root != order[body.position]:
                self._lie(message, f"handed out another segment {body.position} than the voted order has")

    def _doubtful(self, cluster: Cluster) -> bool:
        """Whether honest members may have computed otherwise: somebody told them other things."""
        return any(lie.peer in cluster.poll().committee for lie in self.found.lies if len(lie.messages) == 2)

    def _ballots(self, cluster: Cluster, selections: list[Message]) -> dict[str, Message]:
        """Those that the client named in a second round, else those of the whole committee."""
        for message in selections:
            if isinstance(message.body, DatasetSelection) and message.body.round == 2:
                ballots = cluster.named_ballots(self._opened(message.body.ballots))
                if len(ballots) < len(message.body.ballots):
                    self._lie(message, "named ballots that the committee did not cast in this task")
                return ballots
        held = cluster.ballots()
        return held if len(held) == len(cluster.poll().committee) else {}

    def _reward(self, cluster: Cluster) -> None:
        results: dict[str, Message] = {}
        for message in self._of(TrainingCompleted):
            if message.attempt == cluster.attempt and message.sender in cluster.inits:
                if isinstance(message.body, TrainingCompleted) and message.body.trained:
                    results[message.sender] = message
                else:
                    self._lie(message, "stated a result for which nobody trained a row")
        agreed = _majority(cluster, results)
        if agreed is None:
            self._reward_as_signed(cluster, results)
            return
        self.found.model = agreed.model.sha256
        for message in results.values():
            if message.body != agreed:
                self._lie(message, "stated another result than more than half of the members")
        split = self._split(agreed)
        self._settle(cluster, split)
        for message in self._of(Rewards):
            body = message.body
            assert isinstance(body, Rewards)
            party = message.sender in cluster.inits or message.sender == self.found.client
            if message.attempt == cluster.attempt and party and body.split != split:
                self._lie(message, "signed a split that does not follow from what was trained")

    def _reward_as_signed(self, cluster: Cluster, results: Mapping[str, Message]) -> None:
        """A member has its own result alone: what follows from it counts when more than half of the committee
        signed the same."""
        for message in results.values():
            assert isinstance(message.body, TrainingCompleted)
            split = self._split(message.body)
            if rewards.settled(split, self._signed(cluster), cluster.poll().committee):
                self._settle(cluster, split)
                return
        self.found.missing.append("the rewards: no result is stated by more than half of the members")

    def _split(self, result: TrainingCompleted) -> dict[str, int]:
        assert self.definition is not None
        return rewards.split(self.definition.payment_micro, result.contributions, self.paid)

    def _settle(self, cluster: Cluster, split: dict[str, int]) -> None:
        signed = self._signed(cluster)
        agreed = rewards.settled(split, signed, cluster.poll().committee)
        self.found.rewards, self.found.settled = split, agreed and signed.get(self.found.client) == split

    def _signed(self, cluster: Cluster) -> dict[str, Mapping[str, int]]:
        """The splits of the attempt, by who signed them."""
        return {
            message.sender: message.body.split
            for message in self._of(Rewards)
            if message.attempt == cluster.attempt and isinstance(message.body, Rewards)
        }

    def _opened(self, signed: Iterable[Signed]) -> list[Message]:
        """Those of the envelopes inside a message that their stated senders signed."""
        opened = []
        for one in signed:
            with suppress(RemoteProtocolError):
                opened.append(self.signer.verify(one.envelope))
        return opened

    def _of(self, body: type, sender: str = "") -> list[Message]:
        return [m for m in self.all.values() if isinstance(m.body, body) and sender in ("", m.sender)]

    def _lie(self, message: Message, what: str) -> None:
        self.found.lies.append(Lie(message.sender, what, (message.envelope.digest,)))


def _majority(cluster: Cluster, results: Mapping[str, Message]) -> TrainingCompleted | None:
    bodies = [message.body for message in results.values()]
    for body in bodies:
        if isinstance(body, TrainingCompleted) and 2 * bodies.count(body) > len(cluster.members):
            return body
    return None
