"""Rates and scores by peer and by address, with bounded memory. No I/O; the clock is an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from mlnet.net.types import OWN_ADDRESS_FACTOR
from mlnet.util.hosts import LOOPBACK

Clock = Callable[[], float]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
REMEMBERED_PEERS = 4096
"""Peers for which rates and scores are remembered after they have gone."""


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
