"""Faults by kind. They happen with a party's steps, so mostly where most happens, and are healed after a
while."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from mlnet.protocol.events import Event
from mlnet.simulation.party import SimulatedParty
from mlnet.simulation.timeline import SECOND
from mlnet.simulation.world import World

CALM_AFTER = 180 * SECOND
"""From then on there are no new faults, and all are healed. Whatever still waits has to end: a run that does
not end is a liveness fault."""


class Faults:
    """Injects faults into a world.

    Args:
        world: whose parties and paths fail.
        kinds: kinds of faults.
        rate: faults in a hundred steps, roughly.
        random: decides when, where and for how long.
        reborn: makes the new identity that a node without its disk comes back with.
    """

    def __init__(
        self,
        world: World,
        kinds: tuple[str, ...],
        rate: int,
        random: Random,
        reborn: Callable[[SimulatedParty], None],
    ) -> None:
        self.world, self.kinds, self.rate = world, kinds, rate
        self._random, self._reborn = random, reborn
        self._most = 1 + random.randrange(6)
        self._made = 0
        self._islands = 0
        if kinds:
            world.hooks.append(self._stepped)
            world.at(CALM_AFTER, self._heal_all)

    def _stepped(self, party: SimulatedParty, _: Event) -> None:
        if (
            self._made >= self._most
            or self.world.now >= CALM_AFTER
            or self._random.randrange(100) >= self.rate
        ):
            return
        self._made += 1
        kind = self._random.choice(self.kinds)
        # Half of the time the party that has just acted is hit: between a step and its consequences.
        victim = (
            party if self._random.randrange(2) else self._random.choice(list(self.world.parties.values()))
        )
        getattr(self, "_" + kind.replace("-", "_"))(victim)

    def _seconds(self) -> int:
        return self._random.choice((1, 3, 10, 40)) * SECOND // 2 + self._random.randrange(10 * SECOND)

    # -------------------------------------------------------------------------------------------- processes

    def _crash(self, party: SimulatedParty, *, power: bool = False) -> None:
        if party.alive and self._random.randrange(2):
            self.world.doomed[party.peer] = self._random.randrange(4)  # in the middle of a step to come
            self.world.after(self._seconds(), self._crash_now, party, power)
        else:
            self.world.after(0, self._crash_now, party, power)

    def _crash_now(self, party: SimulatedParty, power: bool) -> None:
        self.world.doomed.pop(party.peer, None)
        self.world.crash(party, power=power)
        if self._random.randrange(4):
            self.world.after(self._seconds(), self.world.restart, party)

    def _twice(self, party: SimulatedParty) -> None:
        """A process that crashes as soon as it is back, too."""
        for turn in range(2):
            self.world.after(turn * SECOND, self.world.crash, party)
            self.world.after(turn * SECOND + SECOND // 2, self.world.restart, party)

    def _at_end(self, party: SimulatedParty) -> None:
        """A crash between the last words of a task and its being put away."""
        self.world.doomed_at_end.add(party.peer)
        self.world.after(CALM_AFTER - self.world.now, self.world.restart, party)

    def _power(self, party: SimulatedParty) -> None:
        self._crash(party, power=True)

    def _disk(self, party: SimulatedParty) -> None:
        """The machine is lost with its disk, and so its identity; another node comes in its place."""
        if party.is_node:
            self.world.after(0, self._lose_disk, party)

    def _lose_disk(self, party: SimulatedParty) -> None:
        if party.alive:
            self.world.crash(party, power=True)
            party.scrapped = True
            self.world.after(self._seconds(), self._reborn, party)

    def _pause(self, party: SimulatedParty) -> None:
        self.world.after(0, self.world.pause, party)
        self.world.after(self._seconds(), self.world.resume, party)

    def _clock(self, party: SimulatedParty) -> None:
        """Somebody sets a system's clock."""
        party.stepped += self._random.choice((-1, 1)) * self._random.choice((2_000, 600_000, 50_000_000))
        self.world.note(party, f"has a clock that is {party.stepped} ms ahead of the time that passes")

    def _slow(self, party: SimulatedParty) -> None:
        party.slow = self._random.choice((5, 20, 100))
        self.world.note(party, f"is {party.slow} times slower")
        self.world.after(self._seconds(), self._fast, party)

    def _fast(self, party: SimulatedParty) -> None:
        party.slow = 1

    # ---------------------------------------------------------------------------------------------- network

    def _partition(self, party: SimulatedParty) -> None:
        """Two islands."""
        self._islands += 1
        for peer in self.world.parties:
            if self._random.randrange(2):
                self.world.network.island[peer] = self._islands
        self.world.note(party, "the network falls apart")
        self.world.after(self._seconds(), self._heal_islands)

    def _heal_islands(self) -> None:
        self.world.network.island.clear()
        self._reconnect()

    def _partial(self, party: SimulatedParty) -> None:
        """One party is cut off from some others."""
        others = [other for other in self.world.parties.values() if other is not party]
        for other in others:
            if self._random.randrange(2):
                self._block(party, other)
                self._block(other, party)

    def _one_way(self, party: SimulatedParty) -> None:
        for other in list(self.world.parties.values()):
            if other is not party and self._random.randrange(2):
                self._block(*((party, other) if self._random.randrange(2) else (other, party)))

    def _block(self, one: SimulatedParty, other: SimulatedParty) -> None:
        pair = (one.peer, other.peer)
        self.world.network.blocked.add(pair)
        self.world.note(one, f"does not reach {other.name}")
        self.world.after(self._seconds(), self._unblock, pair)

    def _unblock(self, pair: tuple[str, str]) -> None:
        self.world.network.blocked.discard(pair)
        self._reconnect()

    def _break(self, party: SimulatedParty) -> None:
        """Every connection of a party breaks."""
        self.world.note(party, "loses its connections")
        for peer in self.world.parties:
            self.world.network.break_connection(party.peer, peer)

    def _flap(self, party: SimulatedParty) -> None:
        """A party's connections come and go."""
        for turn in range(8):
            self.world.after(turn * SECOND // 2, self._break, party)

    def _reconnect(self) -> None:
        for party in self.world.parties.values():
            for neighbour in party.neighbours:
                if party.name < neighbour.name and self.world.network.linked(party, neighbour):
                    self.world.network.greet(party, neighbour)
        self.world.network.kick()

    def _heal_all(self) -> None:
        network = self.world.network
        network.blocked.clear()
        network.island.clear()
        for party in list(self.world.parties.values()):
            party.slow = 1
            self.world.resume(party)
        self._reconnect()
