"""What is known about peers: addresses, rates, scores, and which of them get gossip. No I/O; the clock is
an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from mlnet.net import addresses
from mlnet.net.types import OWN_ADDRESS_FACTOR, Limits
from mlnet.util.hosts import LOOPBACK, is_loopback

Clock = Callable[[], float]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
REMEMBERED_PEERS = 4096
"""Peers for which rates and scores are remembered after they have gone."""
MAX_DEPENDENTS = 64
"""Poorly connected peers that get our gossip beside the neighbours."""


def allowance(bound: float, address: str) -> float:
    """A bound by address for this one."""
    return bound * OWN_ADDRESS_FACTOR if address in LOOPBACK else bound


class Recent(Generic[K, V]):
    """A mapping that makes missing values and forgets the one not used for longest."""

    def __init__(self, make: Callable[[], V], limit: int) -> None:
        self._make, self._limit = make, limit
        self._values: OrderedDict[K, V] = OrderedDict()

    def __getitem__(self, key: K) -> V:
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = self._values[key] = self._make()
        if len(self._values) > self._limit:
            self._values.popitem(last=False)
        return value

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def values(self) -> list[V]:
        """All of them."""
        return list(self._values.values())

    def __setitem__(self, key: K, value: V) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._limit:
            self._values.popitem(last=False)


class TokenBucket:
    """A rate with a burst: of two seconds unless another one is given."""

    def __init__(self, rate: float, clock: Clock, burst: float | None = None) -> None:
        self._rate, self._clock = rate, clock
        self._tokens = self._burst = max(1.0, 2 * rate) if burst is None else burst
        self._at = clock()

    def _refill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now

    def has(self, tokens: float) -> bool:
        """Whether there are so many."""
        self._refill()
        return self._tokens >= tokens

    def try_take(self) -> bool:
        """Take one token if there is one."""
        self._refill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def take(self, tokens: float = 1) -> float:
        """Take tokens, on credit if need be; the seconds to wait before using them."""
        self._refill()
        self._tokens -= tokens
        return max(0.0, -self._tokens / self._rate)


class Scores:
    """Points of garbage, which fade; at the limit a peer or an address is to be cut off.

    Args:
        limit: points.
        fade_seconds: time in which one point fades.
        clock: seconds.
    """

    def __init__(self, limit: float, fade_seconds: float, clock: Clock) -> None:
        self._limit, self._fade_seconds, self._clock = limit, fade_seconds, clock
        self._points: Recent[str, list[float]] = Recent(lambda: [0.0, clock()], REMEMBERED_PEERS)

    def add(self, key: str, points: float) -> bool:
        """Add points; True when the peer or address is to be cut off, which starts it again at zero."""
        entry = self._points[key]
        now = self._clock()
        faded = (now - entry[1]) / self._fade_seconds
        entry[:] = [max(0.0, entry[0] - faded) + points, now]
        if entry[0] < self._limit:
            return False
        entry[0] = 0.0
        return True


class AddressBook:
    """Dialable addresses by peer. Those of pinned peers are never dropped for others; the rest goes oldest
    first."""

    def __init__(self, own: str, limits: Limits) -> None:
        self._own, self._limits = own, limits
        self._pinned: dict[str, list[str]] = {}
        self._learned: OrderedDict[str, list[str]] = OrderedDict()

    def pin(self, peer: str, address: str) -> None:
        """Keep an address that the operator gave."""
        kept = self._pinned.setdefault(peer, [])
        if address not in kept:
            kept.append(address)

    @property
    def pinned(self) -> list[str]:
        """The peers that the operator named."""
        return list(self._pinned)

    def learn(self, peer: str, found: Sequence[str]) -> bool:
        """Take what a signed message says about a peer in place of what was learned before; whether
        anything usable was in it."""
        usable: list[str] = []
        for address in found[: 4 * self._limits.addresses_per_peer]:
            dialable = addresses.from_network(peer, address)
            if dialable is not None and dialable not in usable:
                usable.append(dialable)
        if not usable or peer == self._own:
            return False
        self._learned[peer] = usable[: self._limits.addresses_per_peer]
        self._learned.move_to_end(peer)
        while len(self._learned) > self._limits.known_peers:
            self._learned.popitem(last=False)
        return True

    def get(self, peer: str) -> list[str]:
        """Addresses to dial; loopback last, because on another machine it is not that peer."""
        found = dict.fromkeys([*self._pinned.get(peer, ()), *self._learned.get(peer, ())])
        return sorted(found, key=lambda address: is_loopback(addresses.host_of(address)))

    def known(self) -> dict[str, list[str]]:
        """All peers with full multiaddrs."""
        return {
            peer: [f"{address}/p2p/{peer}" for address in self.get(peer)]
            for peer in dict.fromkeys([*self._pinned, *self._learned])
        }


class Neighbours:
    """Which connected peers get gossip: the first that came, up to the limit, and those who have few
    connections themselves."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._connected: dict[str, None] = {}
        self._dependents: dict[str, None] = {}

    def add(self, peer: str) -> None:
        """A peer has connected."""
        self._connected[peer] = None

    def remove(self, peer: str) -> None:
        """A peer has gone."""
        self._connected.pop(peer, None)
        self._dependents.pop(peer, None)

    def on_degree(self, peer: str, degree: int) -> None:
        """A peer has said how many connections it has."""
        if degree >= self._limits.min_neighbours:
            self._dependents.pop(peer, None)
        elif len(self._dependents) < MAX_DEPENDENTS:
            self._dependents[peer] = None

    @property
    def connected(self) -> list[str]:
        """All connected peers, in the order in which they came."""
        return list(self._connected)

    def __contains__(self, peer: object) -> bool:
        return peer in self._connected

    def __len__(self) -> int:
        return len(self._connected)

    def chosen(self) -> list[str]:
        """The neighbours."""
        return list(self._connected)[: self._limits.max_neighbours]

    def targets(self) -> list[str]:
        """To whom gossip goes: the neighbours and the connected dependents."""
        dependents = [peer for peer in self._dependents if peer in self._connected]
        return list(dict.fromkeys([*self.chosen(), *dependents]))
