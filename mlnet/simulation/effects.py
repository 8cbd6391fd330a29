"""Redis servers, replication, trainers and files as models: they take time, and they fail."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random

from mlnet.driver.loop import Handler
from mlnet.protocol.client.machine import Client
from mlnet.protocol.commands import (
    Command,
    FetchModel,
    FollowProgress,
    MeasurePings,
    PrepareRedis,
    PublishSegments,
    RecordReceipt,
    Replicate,
    ServeModel,
    ServeStore,
    StartTraining,
    TrainingAssignment,
)
from mlnet.protocol.events import (
    Event,
    ModelRefused,
    ModelScored,
    PingsMeasured,
    RedisPrepared,
    Replicated,
    TrainingFinished,
    TrainingProgressed,
    TrainingStopped,
)
from mlnet.simulation.network import SimulatedNetwork
from mlnet.simulation.party import SimulatedParty, chance
from mlnet.simulation.regions import one_way_us
from mlnet.simulation.timeline import MILLISECOND, SECOND, Timeline

TICKS = 4
"""Steps of training that are reported."""


@dataclass
class Group:
    """The trainers of one decision."""

    assignment: TrainingAssignment
    task: str
    ranks: dict[str, tuple[SimulatedParty, StartTraining, int]] = field(default_factory=dict)
    begun: int = 0
    ticks: int = 0
    stalled_since: int = 0
    over: bool = False


@dataclass(frozen=True)
class Odds:
    """How often effects fail, in a thousand."""

    closed_port: int = 0
    trainer: int = 0
    replication: int = 0
    corrupt: int = 0
    hang: int = 0


class Effects:
    """What commands lead to.

    Args:
        timeline: how long they take.
        parties: by peer id.
        network: between the parties.
        give: gives an event to a party's machine.
        tell: gives it the event of a command; the party may be hostile and change it.
        random: decides durations and failures.
    """

    def __init__(
        self,
        timeline: Timeline,
        parties: Mapping[str, SimulatedParty],
        network: SimulatedNetwork,
        give: Callable[[SimulatedParty, str, Event], object],
        tell: Callable[[SimulatedParty, str, Command, Event], None],
        random: Random,
    ) -> None:
        self._timeline, self._parties, self._network = timeline, parties, network
        self._give, self._told, self._random = give, tell, random
        self.odds = Odds()
        self.groups: dict[tuple[str, str], Group] = {}
        self.following: dict[str, tuple[SimulatedParty, FollowProgress]] = {}
        self.published: dict[str, tuple[SimulatedParty, PublishSegments]] = {}
        self.accepted: list[tuple[str, str, str]] = []

    @staticmethod
    def model(digest: str) -> str:
        """SHA-256 of the model that honest trainers make under a decision."""
        return hashlib.sha256(f"model {digest}".encode()).hexdigest()

    def handlers(self, party: SimulatedParty) -> dict[type[Command], Handler]:
        """What begins the effects of a party's commands; their events come later."""
        return {
            PrepareRedis: partial(self._prepare, party),
            MeasurePings: partial(self._measure, party),
            ServeStore: party.serving.__setitem__,
            Replicate: partial(self._begin_replication, party),
            StartTraining: partial(self._join, party),
            ServeModel: partial(self._offer, party),
            RecordReceipt: lambda task, command: None,
            PublishSegments: partial(self._publish, party),
            FollowProgress: partial(self._follow, party),
            FetchModel: lambda task, command: self._later(party, SECOND, self._fetch, task, command, 0),
        }

    def ended(self, party: SimulatedParty, task: str) -> None:
        """A task is over for a party: its server and trainer stop."""
        self._left(party, task)

    def lost(self, party: SimulatedParty) -> None:
        """A party's process is gone, and its children with it."""
        for group in list(self.groups.values()):
            if party.peer in group.ranks:
                self._left(party, group.task)

    def _offer(self, party: SimulatedParty, task: str, _: ServeModel) -> None:
        party.serving.pop(task, None)
        party.servers.discard(task)
        self._left(party, task)

    def _publish(self, party: SimulatedParty, task: str, command: PublishSegments) -> None:
        self.published[task] = (party, command)

    def _follow(self, party: SimulatedParty, task: str, command: FollowProgress) -> None:
        self.following[task] = (party, command)

    # ------------------------------------------------------------------------------------------------ Redis

    def _begin_replication(self, party: SimulatedParty, task: str, command: Replicate) -> None:
        deadline = self._timeline.now + party.machines()[task].deadlines.ready * 750
        self._replicate(party, task, command, deadline, party.incarnation)

    def _prepare(self, party: SimulatedParty, task: str, command: PrepareRedis) -> None:
        is_open = party.port_open and not chance(self._random, self.odds.closed_port)
        port = 20_000 + self._random.randrange(20_000)
        reason = "" if is_open else "behind a firewall"
        party.servers.add(task)
        event = RedisPrepared(is_open, f"10.{party.region}.0.1", port, ("/ip4/10.0.0.1/tcp/4001",), reason)
        self._later(party, self._took(party, 400), self._tell, task, command, event)

    def _measure(self, party: SimulatedParty, task: str, command: MeasurePings) -> None:
        pings: dict[str, tuple[int, ...]] = {}
        longest = MILLISECOND
        give_up = party.machines()[task].deadlines.pings * 500
        for peer in command.targets:
            other = self._parties.get(peer)
            if other is None or not self._answers(party, other, task):
                longest = max(longest, give_up // max(1, len(command.targets)))
                pings[peer] = ()
                continue
            trip = 2 * one_way_us(party.region, other.region) * max(party.slow, other.slow)
            samples = [trip + self._random.randrange(trip // 8 + 200) for _ in range(command.samples)]
            longest = max(longest, sum(samples))
            pings[peer] = tuple(min(sample, 10**9) for sample in samples)
        self._later(party, longest, self._tell, task, command, PingsMeasured(command.attempt, pings))

    def _answers(self, party: SimulatedParty, other: SimulatedParty, task: str) -> bool:
        reachable = other.open_to is None or party.peer in other.open_to
        return reachable and task in other.servers and self._network.linked(party, other)

    def _replicate(
        self, party: SimulatedParty, task: str, command: Replicate, deadline: int, incarnation: int
    ) -> None:
        if party.incarnation != incarnation or task not in party.machines():
            return
        master = self._parties.get(command.master)
        served = master.serving.get(task) if master is not None else None
        serves = served is not None and served.attempt == command.attempt and served.slave == party.peer
        if master is not None and serves and self._network.linked(party, master):
            reason = "replication broke off" if chance(self._random, self.odds.replication) else ""
            event = Replicated(command.attempt, reason)
            self._later(party, self._took(party, 300), self._tell, task, command, event)
        elif self._timeline.now >= deadline:
            self._tell(party, task, command, Replicated(command.attempt, "the master does not answer"))
        else:
            self._timeline.after(SECOND // 2, self._replicate, party, task, command, deadline, incarnation)

    # --------------------------------------------------------------------------------------------- training

    def _join(self, party: SimulatedParty, task: str, command: StartTraining) -> None:
        plan = command.assignment
        group = self.groups.setdefault((task, plan.decision), Group(plan, task))
        wait = party.machines()[task].deadlines.rendezvous * MILLISECOND
        self._later(party, self._took(party, 800), self._fetched, task, command, group)
        self._timeline.after(wait, self._gave_up, party, task, command, group, party.incarnation)

    def _fetched(self, party: SimulatedParty, task: str, command: StartTraining, group: Group) -> None:
        """The segments are here, if somebody who has them could be reached."""
        if task not in party.machines():
            return
        held = party.segments.setdefault(task, set())
        for segment in command.assignment.segments:
            if not self._has_source(party, task, segment.root, command.assignment):
                reason = f"segment {segment.root[:12]} cannot be fetched"
                self._tell(party, task, command, TrainingStopped(command.attempt, reason))
                return
            content = segment.root
            if chance(self._random, self.odds.corrupt):
                content = hashlib.sha256(content.encode()).hexdigest()
            if not verified(content, segment.root):
                reason = f"segment {segment.root[:12]} has another hash"
                self._tell(party, task, command, TrainingStopped(command.attempt, reason))
                return
            held.add(content)
            self.accepted.append((party.peer, segment.root, content))
        group.ranks[party.peer] = (party, command, party.incarnation)
        self._tell(party, task, command, TrainingProgressed(command.attempt))
        if set(group.ranks) == set(group.assignment.nodes) and not group.begun and not group.over:
            group.begun = self._timeline.now
            self._timeline.after(self._tick(group), self._train, group)

    def _has_source(self, party: SimulatedParty, task: str, digest: str, plan: TrainingAssignment) -> bool:
        linked = self._network.linked
        client, offer = self.published.get(task, (None, None))
        if client is not None and offer is not None:
            served = digest in offer.hashes and party.peer in offer.members
            if served and linked(party, client):
                return True
        others = (self._parties.get(peer) for peer in plan.nodes)
        return any(
            other is not None and digest in other.segments.get(task, ()) and linked(party, other)
            for other in others
        )

    def _gave_up(
        self, party: SimulatedParty, task: str, command: StartTraining, group: Group, incarnation: int
    ) -> None:
        if not group.begun and party.incarnation == incarnation:
            group.over = True
            reason = "the trainers did not find each other in time"
            self._tell(party, task, command, TrainingStopped(command.attempt, reason))

    def _train(self, group: Group) -> None:
        if group.over:
            return
        parties = [party for party, _, _ in group.ranks.values()]
        network = self._network
        if all(network.linked(parties[0], other) for other in parties[1:]) and parties[0].up:
            group.stalled_since = 0
            group.ticks += 1
            if chance(self._random, self.odds.trainer):
                self._break_off(group, "out of memory")
                return
            if chance(self._random, self.odds.hang):
                return  # nobody ever hears of them again
            self._progressed(group)
            if group.ticks > TICKS:
                self._finish(group)
                return
        elif not group.stalled_since:
            group.stalled_since = self._timeline.now
        elif self._timeline.now - group.stalled_since > 120 * SECOND:
            self._break_off(group, "no word from a rank for too long")
            return
        self._timeline.after(self._tick(group), self._train, group)

    def _progressed(self, group: Group) -> None:
        for party, command, _ in list(group.ranks.values()):
            self._tell(party, group.task, command, TrainingProgressed(command.attempt))
        client, follow = self.following.get(group.task, (None, None))
        if client is None or follow is None:
            return
        for peer in (follow.master, follow.slave):
            server = self._parties.get(peer)
            if server is not None and self._network.linked(client, server):
                self._give(client, group.task, TrainingProgressed(follow.attempt))
                return

    def _finish(self, group: Group) -> None:
        group.over = True
        sha256 = self.model(group.assignment.decision)
        rows, world = sum(segment.rows for segment in group.assignment.segments), len(group.assignment.nodes)
        trained = {
            peer: rows * (rank + 1) // world - rows * rank // world
            for rank, peer in enumerate(group.assignment.nodes)
        }
        for party, command, incarnation in list(group.ranks.values()):
            if party.incarnation == incarnation:
                party.models[group.task] = sha256
            event = TrainingFinished(command.attempt, {"Accuracy": 0.9}, 0.9, sha256, 5000, trained)
            self._later(party, self._took(party, 100), self._tell, group.task, command, event)

    def _break_off(self, group: Group, reason: str) -> None:
        group.over = True
        for party, command, _ in list(group.ranks.values()):
            event = TrainingStopped(command.attempt, reason)
            self._later(party, self._took(party, 100), self._tell, group.task, command, event)

    def _left(self, party: SimulatedParty, task: str) -> None:
        """A party's trainer is gone: the others notice."""
        for group in self.groups.values():
            if group.task == task and party.peer in group.ranks and not group.over:
                del group.ranks[party.peer]
                self._break_off(group, "connection closed by peer")

    def _tick(self, group: Group) -> int:
        slow = max((party.slow for party, _, _ in group.ranks.values()), default=1)
        return (500 + self._random.randrange(1500)) * MILLISECOND * slow

    # ----------------------------------------------------------------------------------------------- models

    def _fetch(self, party: SimulatedParty, task: str, command: FetchModel, index: int) -> None:
        """Ask one holder after the other."""
        machine = party.machine
        if not isinstance(machine, Client) or machine.ended:
            return
        if index >= len(command.holders):
            self._tell(party, task, command, ModelRefused("no holder delivered it"))
            return
        holder = self._parties.get(command.holders[index])
        if holder is not None and self._network.linked(party, holder):
            content = holder.models.get(task, "")
            if content and chance(self._random, self.odds.corrupt):
                content = hashlib.sha256(content.encode()).hexdigest()
            if content and verified(content, command.sha256):
                self.accepted.append((party.peer, command.sha256, content))
                self._tell(party, task, command, ModelScored({"Accuracy": 0.88}, 0.88, "model.safetensors"))
                return
        self._later(party, SECOND, self._fetch, task, command, index + 1)

    # ----------------------------------------------------------------------------------------------- inside

    def _took(self, party: SimulatedParty, milliseconds: int) -> int:
        return (milliseconds // 2 + self._random.randrange(milliseconds)) * MILLISECOND * party.slow

    def _later(self, party: SimulatedParty, delay: int, action: object, *arguments: object) -> None:
        self._timeline.after(delay, self._if_alive, party, party.incarnation, action, arguments)

    def _if_alive(
        self, party: SimulatedParty, incarnation: int, action: object, arguments: tuple[object, ...]
    ) -> None:
        if not party.alive or party.incarnation != incarnation:
            return
        if party.paused:
            party.held.append(lambda: self._if_alive(party, incarnation, action, arguments))
            return
        action(party, *arguments)  # type: ignore[operator]

    def _tell(self, party: SimulatedParty, task: str, command: Command, event: Event) -> None:
        self._told(party, task, command, event)


def verified(content: str, digest: str) -> bool:
    """Whether bytes have the hash that was promised; contents are named by their hash here."""
    return content == digest
