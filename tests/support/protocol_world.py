"""A world of real state machines on one event heap, for tests: messages with latency, effects with durations.

Only what surrounds the machines is of the test: the network delivers or loses, a Redis server opens or not, a
trainer finishes or fails. Keys are real.
"""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import msgspec

from mlnet.driver.book import MemoryBook
from mlnet.driver.loop import DriverLoop, Executor, Handler
from mlnet.driver.parties import ClientParty, NodeParty
from mlnet.identity.keys import Identity
from mlnet.protocol.client.machine import Client
from mlnet.protocol.client.state import OfferedDataset
from mlnet.protocol.commands import (
    CancelTimer,
    Command,
    End,
    FetchModel,
    FollowProgress,
    Introduce,
    MeasurePings,
    PrepareRedis,
    Publish,
    PublishSegments,
    RecordReceipt,
    Replicate,
    Report,
    Send,
    ServeModel,
    ServeStore,
    SetTimer,
    StartTraining,
)
from mlnet.protocol.deadlines import Deadlines
from mlnet.protocol.events import (
    Event,
    ModelScored,
    PingsMeasured,
    Received,
    RedisPrepared,
    Replicated,
    TimerFired,
    TrainingFinished,
)
from mlnet.protocol.member.machine import Member
from mlnet.protocol.node import Node, Terms
from mlnet.protocol.phases import ClientPhase, MemberPhase
from mlnet.protocol.signer import IdentitySigner
from mlnet.protocol.wire.messages import Body, Message, NewMlTask, Resources, TaskFailedBody
from mlnet.task import definition as task_definition
from mlnet.task.segments import Segment
from mlnet.util.wording import short

DEFINITION = """
version: 1
payment: {{best-model-payment-amount: 100}}
ml:
  dataset:
    format: NPZ
    training-set-size: 0.8
    test-set-size: 0.2
    source: {{features: digits.npz}}
  validation: {{strategy: {{method: Holdout, size: 0.2}}}}
  optimizer:
    type: SGD
    optimizer_initialization_parameters: {{learning_rate: 0.1}}
    epochs: 1
    batch-size: 32
    initializer: {{name: Xavier}}
  model:
    type: MLP
    hidden-units:
      - {{id: 1, type: Dense, nodes: 10, activation: Linear}}
    loss: CrossEntropy
  evaluation-metrics: [Accuracy]
cluster: {{waiting-period: 10s, {cluster}}}
"""
START = 1_700_000_000_000
LATENCY = 20


@dataclass
class Party:
    """One process of the world."""

    signer: IdentitySigner
    machine: Node | Client
    book: MemoryBook
    alive: bool = True
    timers: dict[tuple[str, str], int] = field(default_factory=dict)


class World:
    """Nodes and clients with a clock.

    Args:
        nodes: how many.
        cluster: keys of the ``cluster`` part of the definition.
        closed: indices of nodes whose port is closed.
    """

    def __init__(
        self, nodes: int, cluster: str = "max-nodes: 64", *, closed: tuple[int, ...] = (), seed: int = 0
    ) -> None:
        self.now = START
        self.text = DEFINITION.format(cluster=cluster)
        self.definition = task_definition.load(self.text)
        self.parties: dict[str, Party] = {}
        self.names: dict[str, str] = {}
        self.loops: dict[str, DriverLoop] = {}
        self.heap: list[tuple[int, int, Callable[[], None]]] = []
        self.order = count()
        self.log: list[tuple[str, Command]] = []
        self.reports: list[Report] = []
        self.ends: dict[str, End] = {}
        self.records: dict[str, list[RecordReceipt]] = {}
        self.loses: Callable[[str, str, Message], bool] = lambda sender, receiver, message: False
        self.forges: Callable[[str, str, Message], Message] = lambda sender, receiver, message: message
        self.changes: Callable[[str, Command, Event], Event | None] = lambda name, command, event: event
        self.nodes = []
        for index in range(nodes):
            signer = self._signer(f"node {seed} {index}")
            node = Node(signer, Terms(Resources(4096, 4)), Deadlines())
            self.add(f"node{index}", signer, node)
            self.nodes.append(signer.peer_id)
        self.closed = {self.nodes[index] for index in closed}
        self.clients: list[str] = []

    @staticmethod
    def _signer(name: str) -> IdentitySigner:
        return IdentitySigner(Identity.from_seed(hashlib.sha256(name.encode()).digest()))

    def submit(self, name: str = "client", created: int | None = None, peers: int = 0) -> str:
        """Announce a task in a network that the client takes to be so large; the client's peer id."""
        signer = self._signer(name)
        body = NewMlTask(self.text, (), START if created is None else created, peers)
        task = signer.sign(body, sent=self.now)
        segments = tuple(
            Segment(hashlib.sha256(f"segment {index}".encode()).hexdigest(), 1000, 100) for index in range(10)
        )
        client = Client(signer, task, self.definition, Deadlines(), OfferedDataset(segments, 64, 10))
        self.add(name, signer, client)
        self.clients.append(signer.peer_id)
        self.give(signer.peer_id, task.task, Received(task))
        return signer.peer_id

    def peer(self, name: str) -> str:
        """The peer id of a party by its name."""
        (found,) = (peer for peer, named in self.names.items() if named == name)
        return found

    def client(self, peer: str) -> Client:
        machine = self.parties[peer].machine
        assert isinstance(machine, Client)
        return machine

    def node(self, peer: str) -> Node:
        machine = self.parties[peer].machine
        assert isinstance(machine, Node)
        return machine

    def kill(self, peer: str) -> None:
        self.parties[peer].alive = False

    def run(self, seconds: float = 1e6, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until nothing happens any more, or a condition holds."""
        end = self.now + int(seconds * 1000)
        while self.heap and self.heap[0][0] <= end and not until():
            self.now, _, action = heapq.heappop(self.heap)
            action()

    def give(self, peer: str, task: str, event: Event) -> None:
        """Step a party's machine and carry out what it wants."""
        if self.parties[peer].alive:
            self.loops[peer].dispatch(task, event)

    def add(self, name: str, signer: IdentitySigner, machine: Node | Client) -> None:
        peer = signer.peer_id
        self.parties[peer] = Party(signer, machine, MemoryBook(peer))
        self.names[peer] = name
        self.drive(peer, machine)

    def drive(self, peer: str, machine: Node | Client) -> None:
        """Have a party be that machine from here on."""
        party = self.parties[peer]
        party.machine = machine
        driven = NodeParty(machine) if isinstance(machine, Node) else ClientParty(machine)
        execute = Executor("a test", self._handlers(peer))
        self.loops[peer] = DriverLoop(driven, party.book, partial(self._execute, execute, peer), self.clock)

    def clock(self) -> int:
        return self.now

    def at(self, delay: int, action: Callable[[], None]) -> None:
        heapq.heappush(self.heap, (self.now + delay, next(self.order), action))

    def _execute(self, execute: Executor, peer: str, task: str, command: Command) -> None:
        self.log.append((self.names[peer], command))
        execute(task, command)

    def _handlers(self, peer: str) -> dict[type[Command], Handler]:
        name, timers = self.names[peer], self.parties[peer].timers
        effects = (PrepareRedis, MeasurePings, Replicate, StartTraining, FetchModel)
        silent = (Introduce, ServeStore, ServeModel, PublishSegments, FollowProgress)
        return {
            Send: partial(self._send, peer),
            Publish: partial(self._publish, peer),
            SetTimer: partial(self._set_timer, peer),
            CancelTimer: lambda task, command: timers.pop((task, command.name), None),
            End: lambda _, command: self.ends.__setitem__(name, command),
            RecordReceipt: lambda _, command: self.records.setdefault(name, []).append(command),
            Report: lambda _, command: self.reports.append(command),
            **dict.fromkeys(effects, partial(self._effect, peer)),
            **dict.fromkeys(silent, lambda task, command: None),
        }

    def _send(self, peer: str, _: str, command: Send) -> None:
        for receiver in command.to:
            self._deliver(peer, receiver, command.message)

    def _publish(self, peer: str, _: str, command: Publish) -> None:
        for receiver in list(self.parties):
            if receiver != peer:
                self._deliver(peer, receiver, command.message)

    def _set_timer(self, peer: str, task: str, command: SetTimer) -> None:
        self.parties[peer].timers[task, command.name] = command.at
        self.at(command.at - self.now, lambda: self._fire(peer, task, command))

    def _fire(self, peer: str, task: str, command: SetTimer) -> None:
        if self.parties[peer].timers.get((task, command.name)) == command.at:
            del self.parties[peer].timers[task, command.name]
            self.give(peer, task, TimerFired(command.name))

    def _deliver(self, sender: str, receiver: str, message: Message) -> None:
        if receiver not in self.parties:
            return
        machine = self.parties[receiver].machine
        if isinstance(machine, Client) and machine.task != message.task:
            return  # a client's driver gives its machine only what belongs to its task
        if self.loses(self.names[sender], self.names[receiver], message):
            return
        arrived = self.forges(self.names[sender], self.names[receiver], message)
        self.at(LATENCY, lambda: self.give(receiver, message.task, Received(arrived)))

    def _effect(self, peer: str, task: str, command: Command) -> None:
        name = self.names[peer]
        answer: Event | None = None
        delay = 50
        match command:
            case PrepareRedis():
                is_open = peer not in self.closed
                answer = RedisPrepared(is_open, "127.0.0.1", 7000, (), "" if is_open else "behind a firewall")
            case MeasurePings():
                pings = {target: self.ping(peer, target) for target in command.targets}
                answer = PingsMeasured(command.attempt, pings)
            case Replicate():
                answer = Replicated(command.attempt)
            case StartTraining():
                delay = 3000
                rows = {node: 100 + index for index, node in enumerate(command.assignment.nodes)}
                answer = TrainingFinished(command.attempt, {"Accuracy": 0.9}, 0.9, "ab" * 32, 5000, rows)
            case FetchModel():
                answer = ModelScored({"Accuracy": 0.88}, 0.88, "model.safetensors")
        if answer is not None:
            changed = self.changes(name, command, answer)
            if changed is not None:
                self.at(delay, lambda: self.give(peer, task, changed))

    def ping(self, one: str, other: str) -> tuple[int, ...]:
        """Nine samples, the same each time."""
        digest = hashlib.sha256(f"{one}{other}".encode()).digest()
        return tuple(100 + digest[index] for index in range(9))

    @staticmethod
    def is_idle(command: Command) -> bool:
        return isinstance(command, End | ServeModel)


def ends(world: World) -> str:
    """What client and nodes said last, and what nodes told others before."""
    lines = []
    for name, command in world.log:
        if isinstance(command, Send) and isinstance(command.message.body, TaskFailedBody):
            lines.append(f"{name} says: {command.message.body.reason}")
        elif isinstance(command, End):
            lines.append(f"{name} ends, {command.state}: {command.reason}".removesuffix(": "))
        elif isinstance(command, Report) and command.what == "retry":
            lines.append(f"{name} tries again: {command.data['reason']}")
    return masked(world, "\n".join(dict.fromkeys(lines)))


def reports(world: World, what: str) -> list[Report]:
    return [report for report in world.reports if report.what == what]


def sent(world: World, name: str, type_: str) -> list[Send]:
    return [
        command
        for owner, command in world.log
        if owner == name and isinstance(command, Send) and command.message.type == type_
    ]


def member(world: World, name: str) -> Member:
    """A node's part in the only task that it has."""
    (found,) = world.node(world.peer(name)).members.values()
    return found


def until_member(world: World, phase: MemberPhase) -> Member:
    """Let time pass until some node is in a phase of its task; its part in it."""
    found: list[Member] = []

    def reached() -> bool:
        members = [one for peer in world.nodes for one in world.node(peer).members.values()]
        found[:] = [one for one in members if one.phase is phase]
        return bool(found)

    world.run(until=reached)
    return found[0]


def until_client(world: World, phase: ClientPhase) -> Client:
    """Let time pass until the only client is in a phase; its machine."""
    client = world.client(world.clients[0])
    world.run(until=lambda: client.phase is phase)
    assert client.phase is phase
    return client


def said_by(world: World, peer: str, body: Body, *, task: str = "", attempt: int = 1) -> Message:
    """Any message, validly signed by a party; of the first client's task unless another is named."""
    task = task or world.client(world.clients[0]).task
    return world.parties[peer].signer.sign(body, task=task, attempt=attempt, sent=world.now)


def words(commands: Iterable[Command], type_: str = "") -> list[Send]:
    """What commands send, or send of a type."""
    return [one for one in commands if isinstance(one, Send) and type_ in ("", one.message.type)]


def end_of(commands: Iterable[Command]) -> End:
    """The one end in commands."""
    (end,) = (one for one in commands if isinstance(one, End))
    return end


def masked(world: World, text: str) -> str:
    """The text with names for peer ids and hashes, which the seed of a world draws."""
    for peer, name in world.names.items():
        text = text.replace(peer, name).replace(short(peer), f"{name:<6}"[:6])
    return re.sub(r"\b[0-9a-f]{8}(?:[0-9a-f]{4}|[0-9a-f]{56})?\b", "HASH", text)


def resealed(world: World, message: Message, attempt: int = 0, **changes: Any) -> Message:
    """A message with another body, or of another attempt, validly signed by its sender."""
    body = msgspec.structs.replace(message.body, **changes)
    signer = world.parties[message.sender].signer
    return signer.sign(body, task=message.task, attempt=attempt or message.attempt, sent=message.sent)
