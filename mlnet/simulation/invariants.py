"""What must always hold, looked at after each step of an honest party and once more at the end.

The names are those of the protocol's account: agreement, validity, progress, integrity, conservation,
restart, hostile input, and bounds on memory, queues and messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mlnet.errors import ProtocolError
from mlnet.protocol.client.machine import Client
from mlnet.protocol.commands import Command, FetchModel, Publish, RecordReceipt, Report, Send, StartTraining
from mlnet.protocol.events import Event, Received
from mlnet.protocol.evidence import PER_SENDER, SENDERS, Evidence
from mlnet.protocol.machine import DEADLINE, Machine
from mlnet.protocol.member.machine import Member
from mlnet.protocol.node import MAX_ENDED, MAX_PENDING, Node, Step
from mlnet.protocol.wire.message_types import MESSAGE_TYPES, Role, is_gossiped
from mlnet.protocol.wire.messages import (
    MAX_ATTEMPTS,
    DatasetSegment,
    DatasetSelection,
    Message,
    Rewards,
    TrainingCompleted,
)
from mlnet.simulation.derivation import Violation, check_decision, check_order
from mlnet.simulation.party import SimulatedParty
from mlnet.simulation.world import World

PRINCIPALS = 2
"""Senders who always find room in the evidence: the party itself and the client."""
SENDS_PER_MEMBER = 25
"""Envelopes that one party may address to one other in one attempt of one task."""


class Course(NamedTuple):
    """What honest parties have done in a task so far.

    Attributes:
        bound: digests that the client bound.
        used: digests under which nodes trained, published or rewarded.
        splits: that were settled or signed by the client.
        receipts: settled amounts by node.
    """

    bound: set[str]
    used: set[str]
    splits: list[dict[str, int]]
    receipts: dict[str, int]


class Invariants:
    """Looks at each step of a world.

    Args:
        world: the world; hostile parties in it are not looked at.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.tasks: dict[str, Course] = {}
        self._signed: dict[tuple[str, str, str, int, str], str] = {}
        self._sends: dict[tuple[str, str, int], int] = {}
        self._others: dict[tuple[str, str, int], int] = {}
        self._told: dict[tuple[str, str, str, int, str], str] = {}
        self._liars: dict[tuple[str, int], set[str]] = {}
        self._state: dict[str, tuple[object, ...]] = {}
        world.watches.append(self)
        world.signing.append(self._signs)

    # ----------------------------------------------------------------------------------------- at each step

    def stepped(self, party: SimulatedParty, event: Event, steps: list[Step]) -> None:
        """See :class:`mlnet.simulation.world.Watch`."""
        if party.hostile:
            return
        if isinstance(event, Received) and isinstance(party.machine, Client):
            self._heard(party.machine, event.message)
        machines = party.machines()
        for task, machine in machines.items():
            if any(step.task == task for step in steps):
                self._waits(party, task, machine)
                self._bounds(party, machine.evidence)
        if isinstance(party.machine, Node):
            if len(party.machine.pending) > MAX_PENDING or len(party.machine.ended) > MAX_ENDED:
                raise Violation("bounds", f"{party.name} remembers too many tasks")
            working = sum(not member.idle for member in party.machine.members.values())
            if working > party.machine.terms.tasks:
                raise Violation("bounds", f"{party.name} works on {working} tasks at a time")
        self._state[party.peer] = fingerprint(party)

    def _heard(self, client: Client, message: Message) -> None:
        key = (client.task, message.sender, *message.place)
        if message.attempt != client.attempt or client.bound:
            return  # what does not count cannot contradict
        if self._told.setdefault(key, message.envelope.yaml) != message.envelope.yaml:
            self._liars.setdefault((client.task, message.attempt), set()).add(message.sender)

    def refused(self, party: SimulatedParty, event: Event, error: ProtocolError) -> None:
        """See :class:`mlnet.simulation.world.Watch`."""
        before = self._state.get(party.peer)
        if not party.hostile and before is not None and fingerprint(party) != before:
            raise Violation(
                "hostile input", f"{party.name} refused a message and changed all the same: {error}"
            )

    def does(self, party: SimulatedParty, task: str, command: Command) -> None:
        """See :class:`mlnet.simulation.world.Watch`."""
        if party.hostile:
            return
        match command:
            case Send() | Publish():
                self._said(party, task, command.message)
                self._addresses(party, task, command)
                if isinstance(command, Send):
                    self._storm(party, task, command)
            case StartTraining():
                self._uses(party, task, command.assignment.decision)
                self._plan(party, task, command)
            case RecordReceipt():
                self._record(party, task, command)
            case Report(what="rewards") if command.data.get("settled") is True:
                self._settles(party)
            case FetchModel():
                if not command.holders:
                    raise Violation("progress", f"{party.name} fetches a model from nobody")

    def _said(self, party: SimulatedParty, task: str, message: Message) -> None:
        if message.sender != party.peer:
            return
        body = message.body
        if isinstance(body, DatasetSelection):
            self._binds(party, task, body)
        elif isinstance(body, DatasetSegment):
            self._hands_out(party)
        elif isinstance(body, TrainingCompleted | Rewards):
            self._uses(party, task, body.decision)
            if isinstance(body, Rewards):
                self._splits(party, task, body)

    def _addresses(self, party: SimulatedParty, task: str, command: Send | Publish) -> None:
        """Who says what to whom is what the table of messages allows, also of what is passed on."""
        client, message = self._client(task), command.message
        if client is None:
            return
        row = MESSAGE_TYPES[message.type]
        to = command.to if isinstance(command, Send) else ()
        if isinstance(command, Publish) and not is_gossiped(message):
            raise Violation("validity", f"{party.name} gave {row.name} to gossip")
        if not row.senders & _roles(message.sender, client):
            raise Violation("validity", f"{party.name} sent {row.name}, which its sender may not send")
        if strangers := [peer for peer in to if not row.receivers & _roles(peer, client)]:
            raise Violation(
                "validity", f"{party.name} sent {row.name} to {strangers[0]}, who does not read it"
            )

    def _course(self, task: str) -> Course:
        return self.tasks.setdefault(task, Course(set(), set(), [], {}))

    def _binds(self, party: SimulatedParty, task: str, body: DatasetSelection) -> None:
        course = self._course(task)
        course.bound.add(body.decision)
        if len(course.bound) > 1:
            raise Violation("agreement", f"{party.name} bound two decisions: {sorted(course.bound)}")
        client = party.machine
        if isinstance(client, Client):
            check_decision(client)
            liars = self._liars.get((task, client.attempt), set()) & set(client.members)
            if liars:
                names = [self.world.names[peer] for peer in sorted(liars)]
                raise Violation(
                    "hostile input", f"{names} contradicted themselves and are members all the same"
                )

    @staticmethod
    def _hands_out(party: SimulatedParty) -> None:
        """More than half of the committee has computed the order by which the client hands out segments."""
        client = party.machine
        if not isinstance(client, Client):
            return
        sent = client.evidence.of("HASH_VOTES", client.attempt, f"order {client.round}")
        agreeing = sum(getattr(sent[peer].body, "ranking", ()) == client.order for peer in sent)
        if 2 * agreeing <= len(client.committee):
            raise Violation(
                "validity", f"{agreeing} of {len(client.committee)} computed the order that is used"
            )
        check_order(client)

    @staticmethod
    def _settles(party: SimulatedParty) -> None:
        client = party.machine
        if not isinstance(client, Client):
            return
        sent = client.evidence.of("REWARDS", client.attempt)
        bodies = [sent[peer].body for peer in client.committee if peer in sent]
        agreeing = [body for body in bodies if isinstance(body, Rewards) and body.split == client.split]
        if 2 * len(agreeing) <= len(client.committee):
            raise Violation("conservation", f"{party.name} settles with {len(agreeing)} signatures")

    def _uses(self, party: SimulatedParty, task: str, digest: str) -> None:
        course = self._course(task)
        course.used.add(digest)
        if len(course.used) > 1 and self._client_is_honest(task):
            raise Violation("agreement", f"{party.name} is the second to use another decision: {course.used}")
        if self._client_is_honest(task) and digest not in course.bound:
            raise Violation("agreement", f"{party.name} uses {digest[:12]}, which the client has not bound")

    def _plan(self, party: SimulatedParty, task: str, command: StartTraining) -> None:
        member = party.machines().get(task)
        used = [segment.root for segment in command.assignment.segments]
        if isinstance(member, Member) and member.order and list(member.order[: len(used)]) != used:
            raise Violation(
                "integrity", f"{party.name} trains on other segments than the committee's order says"
            )
        client = self._client(task)
        if client is None or not self._client_is_honest(task):
            return
        offered = [segment.root for segment in client.dataset.segments]
        if len(set(used)) != len(used) or not set(used) <= set(offered):
            raise Violation("integrity", f"{party.name} trains on segments that the client does not have")
        if client.order and tuple(used) != client.order[: client.definition.training_segments]:
            raise Violation("integrity", f"{party.name} trains on segments out of the voted order")

    def _splits(self, party: SimulatedParty, task: str, body: Rewards) -> None:
        if sum(body.split.values()) != body.payment:
            raise Violation("conservation", f"{party.name} signed a split of {sum(body.split.values())}")
        if isinstance(party.machine, Client):
            course = self._course(task)
            course.splits.append(body.split)
            if party.machine.definition.payment_micro != body.payment:
                raise Violation("conservation", f"{party.name} pays {body.payment}")

    def _record(self, party: SimulatedParty, task: str, command: RecordReceipt) -> None:
        course = self._course(task)
        if command.split and command.amount != command.split.get(party.peer, 0):
            raise Violation("conservation", f"{party.name} wrote down {command.amount}, not its part")
        if command.state != "settled":
            return
        known = course.receipts.setdefault(party.peer, command.amount)
        if known != command.amount:
            raise Violation("conservation", f"{party.name} has two receipts: {known} and {command.amount}")
        signed = [
            message for message in command.evidence if getattr(message.body, "split", {}) == command.split
        ]
        client = self._client(task)
        if client is not None and self._client_is_honest(task) and client.cluster is not None:
            agreeing = {message.sender for message in signed} & set(client.committee)
            if 2 * len(agreeing) <= len(client.committee) or client.me not in {m.sender for m in signed}:
                raise Violation("conservation", f"{party.name} settled with {len(agreeing)} signatures")
        if self._client_is_honest(task) and command.split not in course.splits:
            raise Violation("conservation", f"{party.name} settled a split that the client did not sign")

    def _storm(self, party: SimulatedParty, task: str, command: Send) -> None:
        key = (party.peer, task, command.message.attempt)
        self._sends[key] = self._sends.get(key, 0) + len(command.to)
        machine = party.machines().get(task)
        cluster = machine.cluster if isinstance(machine, Client | Member) else None
        others = len(machine.answers) if isinstance(machine, Client) else 1
        others += len(cluster.members) if cluster is not None else len(command.to)
        most = self._others[key] = max(others, self._others.get(key, 0))
        if self._sends[key] > SENDS_PER_MEMBER * (most + 1):
            raise Violation("no storm", f"{party.name} sent {self._sends[key]} envelopes in one attempt")

    def _waits(self, party: SimulatedParty, task: str, machine: Machine) -> None:
        if machine.ended:
            return
        if not str(machine.waiting):
            raise Violation("progress", f"{party.name} cannot say what it waits for in {machine.phase}")
        due = party.timers.get((task, DEADLINE))
        if due is None or due != machine.deadline:
            raise Violation("progress", f"{party.name} waits in {machine.phase} without a deadline")
        if due > machine.now + machine.deadlines.offer + machine.definition.cluster.waiting_period_ms:
            raise Violation("progress", f"{party.name} waits in {machine.phase} for ever")

    def _bounds(self, party: SimulatedParty, evidence: Evidence) -> None:
        senders = {sender: count for sender, count in evidence.counts().items() if count > PER_SENDER}
        if senders or len(evidence.counts()) > SENDERS + PRINCIPALS:
            raise Violation("bounds", f"{party.name} keeps too many messages: {senders}")

    def _signs(self, message: Message) -> None:
        party = self.world.parties.get(message.sender)
        if party is None or party.hostile or not message.task:
            return
        key = (message.sender, message.task, *message.place)
        known = self._signed.setdefault(key, message.envelope.yaml)
        if known != message.envelope.yaml:
            raise Violation(
                "restart", f"{party.name} signed a second {message.type}, attempt {message.attempt}"
            )

    # ------------------------------------------------------------------------------------------- at the end

    def finish(self) -> None:
        """Nothing is under way any more: look at what has become of everybody."""
        for party in self.world.parties.values():
            if party.hostile or not party.alive:
                continue
            if isinstance(party.machine, Client):
                self._ended(party, party.machine)
            elif party.machine.members or party.machine.pending:
                left = {**party.machine.members, **party.machine.pending}
                raise Violation(
                    "progress", f"{party.name} still has {len(left)} tasks when nothing happens any more"
                )
            elif party.disk:
                raise Violation("progress", f"{party.name} still has the journal of a task that has ended")
            if party.servers or party.models:
                raise Violation("progress", f"{party.name} has not released all that its tasks held")
            if party.outstanding:
                raise Violation("bounds", f"{party.name} still sends {party.outstanding} envelopes")
        for peer, digest, content in self.world.effects.accepted:
            if digest != content:
                raise Violation("integrity", f"{self.world.names[peer]} used what has another hash")

    def _ended(self, party: SimulatedParty, client: Client) -> None:
        end = self.world.ends.get((party.peer, client.task))
        if end is None:
            if party.disk or not client.ended:
                raise Violation("progress", f"{party.name} has no end: {client.phase}, {client.waiting}")
            return
        if end.state == "failed" and not (end.reason and end.code):
            raise Violation("progress", f"{party.name} failed without a reason")

    def _client(self, task: str) -> Client | None:
        for party in self.world.clients():
            if isinstance(party.machine, Client) and party.machine.task == task:
                return party.machine
        return None

    def _client_is_honest(self, task: str) -> bool:
        client = self._client(task)
        return client is not None and not self.world.parties[client.me].hostile


def _roles(peer: str, client: Client) -> Role:
    """What a peer can be to a client's task, whatever its votes say."""
    return Role.CLIENT if peer == client.me else Role.NODE | Role.MEMBER | Role.COMMITTEE


def fingerprint(party: SimulatedParty) -> tuple[object, ...]:
    """What a refused message must leave as it was."""
    machine = party.machine
    machines: Iterable[tuple[str, Machine]] = party.machines().items()
    states = tuple(
        (task, one.phase, one.attempt, one.deadline, len(one.said()), sum(one.evidence.counts().values()))
        for task, one in machines
    )
    bound = tuple(one.bound for _, one in machines if isinstance(one, Client | Member))
    known = (tuple(machine.pending), len(machine.ended)) if isinstance(machine, Node) else ()
    return (states, bound, known, MAX_ATTEMPTS)
