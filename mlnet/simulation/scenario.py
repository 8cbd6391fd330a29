"""One run: parties by a profile and a seed, and what became of them."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from mlnet.driver.peer_clocks import TOLERANCE_MS, PeerClocks
from mlnet.protocol.client.machine import Client
from mlnet.protocol.client.state import OfferedDataset
from mlnet.protocol.deadlines import Deadlines
from mlnet.protocol.decisions.answering import estimate
from mlnet.protocol.node import Node, Terms
from mlnet.protocol.wire.messages import NewMlTask, Resources
from mlnet.simulation import hostile
from mlnet.simulation.derivation import Violation, check_rewards
from mlnet.simulation.faults import Faults
from mlnet.simulation.invariants import Invariants
from mlnet.simulation.mint import Mint
from mlnet.simulation.party import SimulatedClock, SimulatedParty
from mlnet.simulation.profiles import MIXED, Profile, profile
from mlnet.simulation.regions import REGIONS
from mlnet.simulation.timeline import SECOND
from mlnet.simulation.world import World
from mlnet.task import definition as task_definition
from mlnet.task.segments import Segment

MODEL = """
ml:
  dataset:
    format: NPZ
    training-set-size: 0.8
    test-set-size: 0.2
    source: {features: rows.npz}
  validation: {strategy: {method: Holdout, size: 0.2}}
  optimizer:
    type: SGD
    optimizer_initialization_parameters: {learning_rate: 0.1}
    epochs: 1
    batch-size: 32
    initializer: {name: Xavier}
  model:
    type: MLP
    hidden-units:
      - {id: 1, type: Dense, nodes: 10, activation: Linear}
    loss: CrossEntropy
  evaluation-metrics: [Accuracy]
"""

KNOWN = 1024
"""Peers whose addresses a party of the real network keeps, so that it can know of no more."""


@dataclass(frozen=True)
class Scenario:
    """What a run is made of.

    Attributes:
        seed: of the run.
        faults: name of the profile; ``mixed`` takes one by the seed.
        nodes: how many; None leaves it to the seed.
        tasks: how many; None leaves it to the profile.
        cluster: keys of the definition's ``cluster`` part; None leaves them to the seed.
        known: nodes that a client knows of; None for all, up to the bound of what a peer remembers.
    """

    seed: int
    faults: str = "mixed"
    nodes: int | None = None
    tasks: int | None = None
    cluster: dict[str, object] | None = None
    known: int | None = None

    @property
    def profile_name(self) -> str:
        """Name of the profile that it comes to."""
        return MIXED[self.seed % len(MIXED)] if self.faults == "mixed" else self.faults

    @property
    def profile(self) -> Profile:
        """The profile that it comes to."""
        return profile(self.profile_name)


@dataclass
class RunOutcome:
    """What became of a run.

    Attributes:
        trace: hash of all that happened.
        violation: the invariant that did not hold; empty if all did.
        problem: what was seen of it.
        dialogue: the lines that led to it.
        states: how many tasks ended how.
        seconds: virtual, from the announcement to the end of each stage, by stage: the longest of all tasks.
        messages: by role: of a node and of a client, sent and received, and bytes.
    """

    seed: int
    profile: str
    trace: str
    steps: int
    violation: str = ""
    problem: str = ""
    dialogue: str = ""
    states: dict[str, int] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    traffic: dict[str, int] = field(default_factory=dict)
    nodes: int = 0


def _place(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


class Run:
    """A world by a scenario.

    Args:
        scenario: what it is made of.
        keep: lines of the dialogue that are kept.
    """

    def __init__(self, scenario: Scenario, *, keep: int | None = 600) -> None:
        self.scenario, self.profile = scenario, scenario.profile
        label = f"{scenario.profile_name} {scenario.seed}"
        self.random = Random(f"{label} scenario")
        self.label = label
        self.world = World(label, Mint(real=self.profile.real), self.profile.quality, keep=keep)
        self.world.effects.odds = self.profile.odds
        self.deadlines = Deadlines()
        self.invariants = Invariants(self.world)
        self.text = self._definition()
        self.definition = task_definition.load(self.text)
        count = scenario.nodes or 3 + self.random.randrange(8)
        # A client asks its clock and those of at most 8 nodes: only where most of them are right can the
        # median be, and only then is a task promised to end with a model.
        self._wrong_clocks = (min(count + 1, 9) - 1) // 2
        for index in range(count):
            self.add_node(f"node{index}")
        self._mesh(self.world.nodes())
        for index in range(scenario.tasks or self.profile.tasks):
            self._add_client(f"client{index}" if index else "client")
        hostile.infect(self.world, self.profile, Random(f"{label} hostile"))
        Faults(self.world, self.profile.faults, self.profile.rate, Random(f"{label} faults"), self._replace)

    def go(self, until_step: int | None = None) -> RunOutcome:
        """Let it run to its end, or to a step."""
        violation: Violation | None = None
        try:
            self.world.run(until_step=until_step)
            if until_step is None:
                self.invariants.finish()
                self._finish()
        except Violation as found:
            violation = found
        except Exception as error:  # noqa: BLE001 - whatever a machine raises is a fault of the protocol's
            violation = Violation("no crash", f"{type(error).__name__}: {error} at {_place(error)}")
        return self._outcome(violation, until_step)

    def add_node(self, name: str) -> SimulatedParty:
        """A node joins, connected to nobody yet."""
        signer = self.world.mint.signer(f"{self.label} {name}")
        terms = Terms(Resources(4096, 4))

        def reborn() -> Node:
            known = self.world.parties.get(signer.peer_id)
            return Node(signer, terms, self.deadlines, known.buried if known is not None else ())

        party = SimulatedParty(name, signer, reborn(), self.random.randrange(len(REGIONS)), reborn)
        party.clock = self._clock()
        return self.world.add(party)

    # ----------------------------------------------------------------------------------------------- inside

    def _definition(self) -> str:
        cluster = self.scenario.cluster
        if cluster is None:
            seats = 2 + self.random.randrange(4)
            cluster = {
                "waiting-period": self.random.choice((self.profile.waiting or "5s", "10s", "30s")),
                "min-nodes": 2,
                "max-nodes": self.random.choice((4, 8, 64)),
                "max-committee-size": seats,
                "min-committee-size": 2,
                "sealed-votes": self.random.randrange(3) > 0,
            }
        keys = ", ".join(f"{key}: {str(value).lower()}" for key, value in cluster.items())
        return f"version: 1\npayment: {{best-model-payment-amount: 100}}\n{MODEL}cluster: {{{keys}}}\n"

    def _add_client(self, name: str) -> None:
        signer = self.world.mint.signer(f"{self.label} {name}")
        clock = self._clock()
        start = self.random.randrange(2 * SECOND)
        nodes = self.world.nodes()
        neighbours = self.random.sample(nodes, min(8, len(nodes))) if self.profile.wrong else []
        created = self._network_time(clock, neighbours, start)
        body = NewMlTask(self.text, ("/ip4/10.0.0.2/tcp/4001",), created, self._estimate())
        announcement = signer.sign(body, sent=created)
        dataset = self._dataset(announcement.task)

        def reborn() -> Client:
            return Client(signer, announcement, self.definition, self.deadlines, dataset)

        party = SimulatedParty(name, signer, reborn(), self.random.randrange(len(REGIONS)), reborn)
        party.clock = clock
        self.world.add(party)
        for node in neighbours or self.random.sample(nodes, min(8, len(nodes))):
            self.world.connect(party, node)
        self.world.at(start, self.world.announce, party)

    def _estimate(self) -> int:
        """Nodes that a client knows of."""
        count = len(self.world.nodes())
        known = min(count, KNOWN) if self.scenario.known is None else self.scenario.known
        return estimate(known, self.definition.cluster.max_nodes)

    @staticmethod
    def _dataset(task: str) -> OfferedDataset:
        segments = tuple(
            Segment(hashlib.sha256(f"segment {task} {index}".encode()).hexdigest(), 100_000, 100)
            for index in range(10)
        )
        return OfferedDataset(segments, 64, 10)

    @staticmethod
    def _network_time(clock: SimulatedClock, neighbours: Iterable[SimulatedParty], now: int) -> int:
        """As the driver of a client does: what most clocks show, if its own is off."""
        known = PeerClocks()
        for node in neighbours:
            known.greeted(node.peer, node.peer, node.wall(now), now // 1000)
        own = clock.read(now)
        median = known.median(own, now // 1000)
        return median if abs(median - own) > TOLERANCE_MS else own

    def _clock(self) -> SimulatedClock:
        skew, drift = self.profile.skew, self.profile.drift
        if self.profile.wrong and self.random.randrange(100) < self.profile.wrong and self._wrong_clocks:
            self._wrong_clocks -= 1
            skew = 20 * 3_600_000
        return SimulatedClock(
            self.random.randrange(2 * skew + 1) - skew if skew else 0,
            self.random.randrange(2 * drift + 1) - drift if drift else 0,
        )

    def _mesh(self, nodes: list[SimulatedParty]) -> None:
        """Each node has some 8 to 16 neighbours; a ring makes sure that nobody is alone."""
        for index, node in enumerate(nodes):
            self.world.connect(node, nodes[index - 1])
            for _ in range(5 if len(nodes) > 12 else 2):
                self.world.connect(node, self.random.choice(nodes))

    def _replace(self, party: SimulatedParty) -> None:
        names = set(self.world.names.values())
        number = next(number for number in range(1, 1000) if f"{party.name}.{number}" not in names)
        newcomer = self.add_node(f"{party.name}.{number}")
        for neighbour in party.neighbours:
            self.world.connect(newcomer, neighbour)
            if self.world.network.linked(newcomer, neighbour):
                self.world.network.greet(newcomer, neighbour)

    def _finish(self) -> None:
        for party in self.world.clients():
            client = party.machine
            if party.hostile or not isinstance(client, Client):
                continue
            end = self.world.ends.get((party.peer, client.task))
            if end is not None and end.state == "completed":
                check_rewards(client)
                self._check_model(party, client)
            if (
                self.profile.must_complete
                and self._can_complete()
                and (end is None or end.state != "completed")
            ):
                raise Violation(
                    "progress", f"{party.name} got no model: {end.reason if end else client.phase}"
                )

    def _check_model(self, party: SimulatedParty, client: Client) -> None:
        """More than half of the members stated the model that is taken: with fewer liars it is honest."""
        liars = sum(self.world.parties[peer].hostile for peer in client.members)
        trained = self.world.effects.model(client.bound)
        if client.completed.model.sha256 != trained:
            raise Violation(
                "integrity",
                f"{party.name} took a model that {liars} hostile of {len(client.members)} members made up",
            )

    def _can_complete(self) -> bool:
        return len(self.world.nodes()) >= self.definition.cluster.min_nodes

    def _outcome(self, violation: Violation | None, until_step: int | None) -> RunOutcome:
        world = self.world
        states: dict[str, int] = {}
        reasons = []
        for party in world.clients():
            end = (
                world.ends.get((party.peer, party.machine.task))
                if isinstance(party.machine, Client)
                else None
            )
            name = end.state if end is not None else "open" if party.alive else "gone"
            states[name] = states.get(name, 0) + 1
            if end is not None and end.reason:
                reasons.append(f"{end.code}: {end.reason}")
        outcome = RunOutcome(
            self.scenario.seed, self.scenario.profile_name, world.trace.digest, world.steps, states=states
        )
        outcome.reasons = reasons
        outcome.nodes = len(world.nodes())
        outcome.seconds = self._seconds()
        outcome.traffic = self._traffic()
        if violation is not None:
            outcome.violation, outcome.problem = violation.invariant, violation.problem
        if violation is not None or until_step is not None:
            outcome.dialogue = world.trace.dialogue(world.names, last=200)
        return outcome

    def _seconds(self) -> dict[str, float]:
        """When each stage was entered, seconds after the announcement, the latest of all tasks."""
        seconds: dict[str, float] = {}
        for name, now, report in self.world.reports:
            if name.startswith("client") and report.what in (
                "members",
                "committee",
                "bound",
                "order",
                "rewards",
            ):
                seconds[report.what] = max(seconds.get(report.what, 0.0), now / SECOND)
        return seconds

    def _traffic(self) -> dict[str, int]:
        nodes, clients = self.world.nodes(), self.world.clients()
        keys: dict[str, Callable[[Any], int]] = {
            "sent": lambda party: party.sent_messages,
            "sent_bytes": lambda party: party.sent_bytes,
            "received": lambda party: party.got_messages,
            "received_bytes": lambda party: party.got_bytes,
        }
        traffic = {"messages": self.world.network.messages, "bytes": self.world.network.bytes}
        for key, read in keys.items():
            traffic[f"node_{key}"] = sum(map(read, nodes)) // max(1, len(nodes))
            traffic[f"client_{key}"] = sum(map(read, clients)) // max(1, len(clients))
        return traffic
