"""One simulated process: its state machine, clock, disk and place in the network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from mlnet.driver.book import MemoryBook, MemoryRecord
from mlnet.driver.loop import DriverLoop
from mlnet.driver.peer_clocks import PeerClocks
from mlnet.protocol.client.machine import Client
from mlnet.protocol.client.rivals import Rivals
from mlnet.protocol.commands import ServeStore
from mlnet.protocol.events import Event, Received
from mlnet.protocol.machine import Machine, Signer
from mlnet.protocol.node import Node
from mlnet.protocol.phases import ClientPhase
from mlnet.protocol.wire.messages import Message

EPOCH_MS = 1_700_000_000_000
"""What a correct clock shows when the world begins. """
PPM = 1_000_000
MAX_SEEN = 16_384
"""Gossiped envelopes that a party remembers, as Limits.seen in :mod:`mlnet.net.types`."""
MAX_HELD = 4096
"""Events that are kept for a paused process. Bounded like the buffers of its connections."""


@dataclass
class SimulatedClock:
    """A clock that is off by ``skew`` ms at the start and runs ``drift`` parts in a million fast."""

    skew: int = 0
    drift: int = 0

    def read(self, now: int) -> int:
        """What it shows (ms since 1970) at a time of the world (us)."""
        return EPOCH_MS + self.skew + now * (PPM + self.drift) // PPM // 1000

    def when(self, reading: int) -> int:
        """The first time of the world (us) at which the clock shows ``reading`` ms."""
        passed = (reading - EPOCH_MS - self.skew) * 1000
        return -(-passed * PPM // (PPM + self.drift))


class SimulatedParty:
    """A node or a client.

    Args:
        name: for people.
        signer: its identity.
        machine: its state.
        region: index into :data:`mlnet.simulation.regions.REGIONS`.
        reborn: makes the machine of a process that has just started.

    Attributes:
        incarnation: counts the starts of the process; what an earlier one has under way is void.
        scrapped: its machine is lost with disk and identity.
        slow: the factor by which its delays and its work take longer.
        rate: bytes a second of its uplink.
        open_to: peers that reach its Redis port; None for everybody.
        hostile: the checks of honest parties do not apply.
        stepped: ms by which somebody has set its system's clock forward.
        rivals: what a client has heard of others' tasks.
        loop: drives the machine; the world's, anew for each process.
        book: what the party's disk holds.
    """

    loop: DriverLoop

    def __init__(
        self,
        name: str,
        signer: Signer,
        machine: Node | Client,
        region: int,
        reborn: Callable[[], Node | Client],
    ) -> None:
        self.name, self.signer, self.machine, self.region = name, signer, machine, region
        self.peer = signer.peer_id
        self.reborn = reborn
        self.clock = SimulatedClock()
        self.stepped = 0
        self.rivals = Rivals(self.peer)
        self.alive, self.paused, self.incarnation = True, False, 0
        self.scrapped = False
        self.slow = 1
        # 100 Mbit/s.
        self.rate = 12_500_000
        self.port_open = True
        self.open_to: frozenset[str] | None = None
        self.hostile = False
        self.neighbours: list[SimulatedParty] = []
        self.timers: dict[tuple[str, str], int] = {}
        self.book = MemoryBook(self.peer)
        self.buried: dict[str, None] = {}
        self.held: list[Callable[[], None]] = []
        self.serving: dict[str, ServeStore] = {}
        self.servers: set[str] = set()
        self.models: dict[str, str] = {}
        self.segments: dict[str, set[str]] = {}
        self.seen: OrderedDict[str, None] = OrderedDict()
        self.sent_messages = self.sent_bytes = self.got_messages = self.got_bytes = 0
        self.outstanding = 0

    @property
    def up(self) -> bool:
        """Whether the process is there and does something."""
        return self.alive and not self.paused

    @property
    def is_node(self) -> bool:
        """Whether this is a node, not a client."""
        return isinstance(self.machine, Node)

    @property
    def disk(self) -> dict[str, MemoryRecord]:
        """The party's journals by task."""
        return self.book.records

    def wall(self, now: int) -> int:
        """What the system's clock shows, at a time of the world (us); somebody may have set it."""
        return self.clock.read(now) + self.stepped

    def clocks(self, now: int, client: str = "") -> tuple[int, ...]:
        """What a driver finds other clocks to show, at a time of the world (us): the system's, most
        neighbours', and that of a client that is a neighbour."""
        elapsed, known = now // 1000, PeerClocks()
        for other in self.neighbours:
            if other.up:
                known.greeted(other.peer, other.peer, other.wall(now), elapsed)
        wall, told = self.wall(now), known.of(client, elapsed)
        return (wall, known.median(wall, elapsed), *(() if told is None else (told,)))

    def machines(self) -> dict[str, Machine]:
        """The state machines of this party by task."""
        if isinstance(self.machine, Client):
            return {self.machine.task: self.machine}
        return dict(self.machine.members)

    def open_tasks(self, now: int) -> list[Message]:
        """Announcements that a newcomer may still answer, at a time of the world (us)."""
        if isinstance(self.machine, Client):
            open_ = self.machine.phase is ClientPhase.GATHERING and self.machine.deadline > 0
            return [self.machine.announcement] if open_ else []
        return self.machine.open_tasks(self.clock.read(now))

    def clocks_for(self, event: Event, now: int) -> tuple[int, ...]:
        """What other clocks show that bear on an event, as a driver has it, at a time of the world (us)."""
        if not self.is_node or not isinstance(event, Received) or event.message.type != "NEW_ML_TASK":
            return ()
        return self.clocks(now, event.message.sender)

    def first_sight(self, message: Message) -> bool:
        """Whether a gossiped message has not been here before."""
        text = message.envelope.yaml
        if text in self.seen:
            return False
        self.seen[text] = None
        if len(self.seen) > MAX_SEEN:
            self.seen.popitem(last=False)
        return True

    def release(self, task: str) -> None:
        """Let go of all that a task holds here."""
        self.serving.pop(task, None)
        self.servers.discard(task)
        self.models.pop(task, None)
        self.segments.pop(task, None)

    def forget(self, task: str) -> None:
        """The task has ended: its id stays on the disk, its record leaves it."""
        self.buried[task] = None
        self.release(task)
        self.book.remove(task)
        for key in [key for key in self.timers if key[0] == task]:
            del self.timers[key]

    def crash(self, *, power: bool) -> None:
        """End the process at once; with ``power`` also lose what was written but not forced to the disk."""
        self.alive = self.paused = False
        self.incarnation += 1
        self.timers.clear()
        self.held.clear()
        self.seen.clear()
        self.serving.clear()
        self.servers.clear()
        self.segments.clear()
        if power:
            self.book.lose_power()


def chance(random: Random, per_mille: int) -> bool:
    """True with a chance of ``per_mille`` in a thousand. Draws nothing for 0, so that a kind of fault that is
    off does not change the other draws of a seed."""
    return per_mille > 0 and random.randrange(1000) < per_mille
