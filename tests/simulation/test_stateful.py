"""Hypothesis drives a small network: it chooses what fails and when; the invariants look at each step."""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from mlnet.protocol.client.machine import Client
from mlnet.protocol.events import CancelRequested, StopWaiting
from mlnet.protocol.phases import ClientPhase
from mlnet.simulation.hostile import KINDS, turn
from mlnet.simulation.party import SimulatedParty
from mlnet.simulation.scenario import Run, Scenario
from mlnet.simulation.timeline import SECOND

WHO = st.integers(0, 5)
NODES = 5


class Cluster(RuleBasedStateMachine):
    """One client, five nodes, and a person who pulls plugs."""

    run: Run

    @initialize(seed=st.integers(0, 1000), sealed=st.booleans(), seats=st.integers(2, 5))
    def begin(self, seed: int, sealed: bool, seats: int) -> None:
        cluster: dict[str, object] = {
            "waiting-period": "10s",
            "max-committee-size": seats,
            "sealed-votes": sealed,
        }
        self.run = Run(Scenario(seed, "calm", nodes=NODES, cluster=cluster), keep=200)
        self.world = self.run.world
        self.turned = False

    def party(self, who: int) -> SimulatedParty:
        return list(self.world.parties.values())[who]

    def client(self) -> tuple[SimulatedParty, Client]:
        party = self.world.clients()[0]
        assert isinstance(party.machine, Client)
        return party, party.machine

    @rule(milliseconds=st.sampled_from([1, 20, 100, 500, 3000, 11_000]))
    def time_passes(self, milliseconds: int) -> None:
        self.world.run(until=self.world.now + milliseconds * 1000)

    @rule(steps=st.integers(1, 30))
    def some_things_happen(self, steps: int) -> None:
        self.world.run(until_step=self.world.steps + steps, until=self.world.now + 30 * SECOND)

    @rule(who=WHO, power=st.booleans())
    def crash(self, who: int, power: bool) -> None:
        self.world.crash(self.party(who), power=power)

    @rule(who=WHO, after=st.integers(0, 4))
    def crash_in_the_middle_of_a_step(self, who: int, after: int) -> None:
        if self.party(who).alive:
            self.world.doomed[self.party(who).peer] = after

    @rule(who=WHO)
    def restart(self, who: int) -> None:
        self.world.restart(self.party(who))

    @rule(who=WHO)
    def pause_or_go_on(self, who: int) -> None:
        party = self.party(who)
        if party.paused:
            self.world.resume(party)
        else:
            self.world.pause(party)

    @rule(one=WHO, other=WHO)
    def a_path_breaks_or_heals(self, one: int, other: int) -> None:
        pair = (self.party(one).peer, self.party(other).peer)
        self.world.network.blocked.symmetric_difference_update({pair})
        self.world.network.break_connection(*pair)

    @precondition(lambda self: not self.turned)
    @rule(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 100))
    def a_party_turns_hostile(self, kind: str, seed: int) -> None:
        nodes_kind = kind not in ("two-lists", "two-datasets", "silent-client", "wrong-links", "two-orders")
        party = self.world.nodes()[0] if nodes_kind else self.world.clients()[0]
        turn(self.world, party, kind, Random(f"{kind} {seed}"))
        self.turned = True

    @rule()
    def the_user_ends_the_waiting(self) -> None:
        party, client = self.client()
        if client.phase is ClientPhase.GATHERING and client.deadline:
            self.world.give(party, client.task, StopWaiting())

    @rule()
    def the_user_cancels(self) -> None:
        party, client = self.client()
        if client.deadline and not client.ended:
            self.world.give(party, client.task, CancelRequested("enough"))

    def teardown(self) -> None:
        """Everything heals, and everything ends."""
        if not hasattr(self, "run"):
            return
        self.world.network.blocked.clear()
        self.world.doomed.clear()
        for party in list(self.world.parties.values()):
            self.world.resume(party)
            self.world.restart(party)
        outcome = self.run.go()
        assert not outcome.violation or self._excused(outcome.problem), (
            f"{outcome.problem}\n{outcome.dialogue}"
        )

    def _excused(self, problem: str) -> bool:
        """A model is not owed when plugs were pulled."""
        return "got no model" in problem


TestCluster = Cluster.TestCase
TestCluster.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
