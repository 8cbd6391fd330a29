"""Whose clock is off by how much: what the clocks of peers show, compared with the system's.

A peer states its clock in the PEERS message that it sends over each new connection. One address has one vote,
and so has this machine, so that whoever makes many identities sets nobody's clock. No I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

MAX_PEERS = 256
"""Clocks that are remembered; the oldest go first. Peer ids cost nothing, so their number must be bounded."""
TOLERANCE_MS = 60_000
"""By how much a clock may be off before anybody is told."""


class Reading(NamedTuple):
    """A peer's clock.

    Attributes:
        address: of its connection; one address has one vote.
        ahead: ms by which it is ahead of the steady clock of this machine.
    """

    address: str
    ahead: int


class PeerClocks:
    """The clocks of the peers that have greeted this party."""

    def __init__(self) -> None:
        self._readings: OrderedDict[str, Reading] = OrderedDict()

    def greeted(self, peer: str, address: str, sent: int, elapsed: int) -> None:
        """A peer stated its clock.

        Args:
            peer: who.
            address: at the other end of its connection, or the block of addresses that one party may have.
            sent: ms since 1970 by its clock.
            elapsed: ms of this machine's steady clock when that came.
        """
        self._readings[peer] = Reading(address, sent - elapsed)
        self._readings.move_to_end(peer)
        if len(self._readings) > MAX_PEERS:
            self._readings.popitem(last=False)

    def of(self, peer: str, elapsed: int) -> int | None:
        """What a peer's clock shows now; None when it has not said."""
        reading = self._readings.get(peer)
        return None if reading is None else reading.ahead + elapsed

    def median(self, wall: int, elapsed: int) -> int:
        """What most clocks show now, this machine's among them; of two middle ones, that nearer to it."""
        own = wall - elapsed
        votes = sorted([own, *self._votes().values()])
        middle = votes[(len(votes) - 1) // 2], votes[len(votes) // 2]
        return min(middle, key=lambda vote: abs(vote - own)) + elapsed

    def verdict(self, peer: str, wall: int, elapsed: int) -> str:
        """Whose clock is off, for people, after a peer has greeted; empty while the two agree."""
        shown = self.of(peer, elapsed)
        if shown is None or abs(shown - wall) <= TOLERANCE_MS:
            return ""
        median, count = self.median(wall, elapsed), len(self._votes())
        if abs(median - wall) > TOLERANCE_MS:
            return own_is_off(median - wall, count)
        off = f"the clock of peer {peer} is {difference(shown - wall)} this machine's"
        if count < 2:
            return f"{off}; two clocks cannot show which of them is wrong: check both"
        return f"{off}, which agrees with most of {count} other machines"

    def own(self, wall: int, elapsed: int) -> str:
        """What is wrong with this machine's clock, for people; empty when nothing is known to be."""
        off = self.median(wall, elapsed) - wall
        return own_is_off(off, len(self._votes())) if abs(off) > TOLERANCE_MS else ""

    def _votes(self) -> dict[str, int]:
        return {reading.address: reading.ahead for reading in self._readings.values()}


def own_is_off(milliseconds: int, machines: int) -> str:
    """Tell an operator that the system's clock is behind (ahead: negative) by so many ms."""
    return (
        f"this machine's clock is {difference(-milliseconds)} the clocks of most of {machines} other "
        "machines; have it set by NTP (timedatectl set-ntp true)"
    )


def difference(milliseconds: int) -> str:
    """How far ahead, or behind, for people: ``12 min ahead of``."""
    return f"{length(milliseconds)} {'ahead of' if milliseconds > 0 else 'behind'}"


def length(milliseconds: int) -> str:
    """A time span for people, its sign left out: ``12 min``."""
    seconds = abs(milliseconds) // 1000
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= 2 * size or size == 1:
            return f"{round(seconds / size)} {unit}"
    raise AssertionError(milliseconds)
