"""Rates and scores per peer and per address, in bounded memory. No I/O; the clock is an argument."""

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
"""Peers and addresses whose rates and scores are remembered, also after they have disconnected. One
that is forgotten starts with a full bucket and without points, which takes 4,096 others in between."""


def allowance(bound: float, address: str) -> float:
    """The bound for one address: wider for the loopback address, which all nodes on this machine share."""
    return bound * OWN_ADDRESS_FACTOR if address in LOOPBACK else bound


class Recent(Generic[K, V]):
    """A mapping that makes missing values and evicts the least recently used one beyond ``limit``."""

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
        """The values, least recently used first."""
        return list(self._values.values())

    def __setitem__(self, key: K, value: V) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._limit:
            self._values.popitem(last=False)


class TokenBucket:
    """A rate with a burst: two seconds' worth of it unless another one is given.

    Example:
        >>> now = 0.0
        >>> bucket = TokenBucket(1.0, lambda: now)
        >>> [bucket.try_take() for _ in range(3)]
        [True, True, False]
        >>> bucket.take(3)
        3.0
    """

    def __init__(self, rate: float, clock: Clock, burst: float | None = None) -> None:
        self._rate, self._clock = rate, clock
        # At least one token: a rate below one a second must let the first one pass.
        self._tokens = self._burst = max(1.0, 2 * rate) if burst is None else burst
        self._at = clock()

    def _refill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now

    def has(self, tokens: float) -> bool:
        """Whether that many tokens are there; takes none."""
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
        """Take tokens, on credit if there are too few.

        Returns:
            Seconds to wait before using them; 0 when they were there.
        """
        self._refill()
        self._tokens -= tokens
        return max(0.0, -self._tokens / self._rate)


class Scores:
    """Points of misbehaviour, which fade; at the limit the peer or address is banned.

    Args:
        limit: points.
        fade_seconds: time in which one point fades.
        clock: seconds.
    """

    def __init__(self, limit: float, fade_seconds: float, clock: Clock) -> None:
        self._limit, self._fade_seconds, self._clock = limit, fade_seconds, clock
        self._points: Recent[str, list[float]] = Recent(lambda: [0.0, clock()], REMEMBERED_PEERS)

    def add(self, key: str, points: float) -> bool:
        """Add points; True when the limit is reached and a ban is due. The score then starts at zero
        again."""
        entry = self._points[key]
        now = self._clock()
        faded = (now - entry[1]) / self._fade_seconds
        entry[:] = [max(0.0, entry[0] - faded) + points, now]
        if entry[0] < self._limit:
            return False
        entry[0] = 0.0
        return True
