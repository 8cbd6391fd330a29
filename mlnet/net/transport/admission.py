"""Admission: inbound connections that have not proved an identity yet, bounded and scored by address.

The address is all that is known of them, and it may be a whole site behind a NAT. So a banned address keeps
the connections that it has, and an address from which peers have proved their identity is slowed down instead
of banned. The loopback address is only ever slowed down, since all nodes on this machine share it.
Everything here runs in the trio thread.
"""

from __future__ import annotations

import contextlib
import enum
from collections import Counter
from collections.abc import Callable, Iterator

import trio
from libp2p.io.exceptions import (
    ConnectionClosedError,
    IncompleteReadError,
    MissingLengthException,
    MissingMessageException,
)

from mlnet.net.addresses import block
from mlnet.net.rates import REMEMBERED_PEERS, Clock, Recent, Scores, TokenBucket, allowance
from mlnet.net.types import OWN_ADDRESS_FACTOR, Limits
from mlnet.util.hosts import LOOPBACK

TRICKLE_PER_SECOND = 2.0
"""Handshakes a second of an address that is slowed down: enough for the peers of a site to come back within
seconds, a sixteenth of Limits.handshakes_per_second for an attacker who shares it."""
BURST_SECONDS = 4.0
"""Handshakes of an address that may come at once, in seconds of its rate: 128, when a site of that many nodes
starts at the same time."""
KNOWN_SECONDS = 600.0
"""How long an address counts as shared with a peer after that peer's last connection has ended. A node that
restarts, or whose router does, must not find its address banned because of a neighbour."""

# What libp2p and trio raise when the other side closes, in any state of the handshake.
_HUNG_UP = (
    ConnectionClosedError,
    IncompleteReadError,
    MissingLengthException,
    MissingMessageException,
    OSError,
    trio.BrokenResourceError,
)


class Failure(enum.Enum):
    """Why an inbound connection has not proved an identity."""

    GARBAGE = "it does not speak the protocol"
    EXPIRED = "it took too long"
    EVICTED = "it was dropped to make room for others"
    GONE = "it closed the connection"

    @property
    def points(self) -> float:
        """Points for the address. One that only hangs up may be a port scan, or a peer on a bad line."""
        return 0.25 if self is Failure.GONE else 1.0


class Refusal(enum.Enum):
    """Why an inbound connection was closed before its first byte was read."""

    BANNED = "its address is banned"
    RATE = "too many connections a second from its address"


class Attempt:
    """A handshake under way.

    Attributes:
        address: where it comes from.
        heard: returns how many times the other side has sent something.
        scope: cancelled when the handshake takes too long or is evicted.
        failure: why it failed; None until then.
    """

    def __init__(self, address: str, heard: Callable[[], int], scope: trio.CancelScope) -> None:
        self.address, self.heard, self.scope = address, heard, scope
        self.failure: Failure | None = None


class Admission:
    """Decides which inbound connections may try to prove an identity, and for how long.

    When too many handshakes are under way, one from the address with most of them is evicted, the one that
    has sent least. libp2p alone gives each a slot for ten seconds, so a few hundred idle TCP connections
    would keep every new peer out.

    Args:
        limits: see :class:`Limits`.
        clock: seconds.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits, self._clock = limits, clock
        self._pending: dict[Attempt, None] = {}
        self._scores = Scores(limits.address_score, limits.address_fade_seconds, clock)
        self._banned: Recent[str, float] = Recent(float, REMEMBERED_PEERS)
        self._rates: Recent[str, TokenBucket] = Recent(self._bucket, REMEMBERED_PEERS)
        self._rates_of_own: Recent[str, TokenBucket] = Recent(self._bucket_of_own, len(LOOPBACK))
        self._trickles: Recent[str, TokenBucket] = Recent(
            lambda: TokenBucket(TRICKLE_PER_SECOND, clock), REMEMBERED_PEERS
        )
        self._trickle_of_own = TokenBucket(TRICKLE_PER_SECOND * OWN_ADDRESS_FACTOR, clock)
        self._peers: Counter[str] = Counter()
        self._left: Recent[str, float] = Recent(float, REMEMBERED_PEERS)
        self.failed: Counter[Failure] = Counter()
        self.refused: Counter[Refusal] = Counter()
        self.bans = 0

    def _bucket(self, factor: float = 1.0) -> TokenBucket:
        rate = self._limits.handshakes_per_second * factor
        return TokenBucket(rate, self._clock, max(1.0, rate * BURST_SECONDS))

    def _bucket_of_own(self) -> TokenBucket:
        return self._bucket(allowance(1.0, LOOPBACK[0]))

    @property
    def under_way(self) -> int:
        """Handshakes under way."""
        return len(self._pending)

    @property
    def banned(self) -> int:
        """Addresses that are banned or slowed down at present."""
        now = self._clock()
        return sum(end > now for end in self._banned.values())

    def refuses(self, ip: str) -> Refusal | None:
        """Why a connection is closed before its first byte is read; None when it may begin its handshake."""
        address = block(ip)
        rates = self._rates_of_own if address in LOOPBACK else self._rates
        refusal = None
        if not rates[address].try_take():
            refusal = Refusal.RATE
        elif self._is_banned(address) and not (self._is_shared(address) and self._trickle(address)):
            refusal = Refusal.BANNED
        if refusal is not None:
            self.refused[refusal] += 1
        return refusal

    def _trickle(self, address: str) -> bool:
        return (self._trickle_of_own if address in LOOPBACK else self._trickles[address]).try_take()

    def _is_banned(self, address: str) -> bool:
        return address in self._banned and self._banned[address] > self._clock()

    def _is_shared(self, address: str) -> bool:
        """Whether peers that did not violate the protocol may be at this address too."""
        if address in LOOPBACK or self._peers[address]:
            return True
        return address in self._left and self._clock() - self._left[address] < KNOWN_SECONDS

    def on_connection(self, ip: str, up: bool) -> None:
        """A connection with a peer that has proved its identity came up or ended, whichever side dialled."""
        address = block(ip)
        # Outbound connections count as well: a peer that we dialled has proved its identity at this address.
        self._peers[address] += 1 if up else -1
        if self._peers[address] <= 0:
            del self._peers[address]
            self._left[address] = self._clock()

    def blame(self, ip: str, points: float) -> None:
        """Score an address down; at the limit it is banned for ``ban_seconds``."""
        address = block(ip)
        if self._scores.add(address, points / allowance(1.0, address)):
            self._banned[address] = self._clock() + self._limits.ban_seconds
            self.bans += 1

    @contextlib.contextmanager
    def handshake(self, ip: str, heard: Callable[[], int]) -> Iterator[Attempt]:
        """The scope of one handshake: its body is cancelled at the deadline, and its exception is its
        failure.

        Args:
            ip: where it comes from.
            heard: returns how many times the other side has sent something so far.
        """
        if len(self._pending) >= self._limits.handshakes:
            self._evict()
        deadline = trio.current_time() + self._limits.handshake_seconds
        attempt = Attempt(block(ip), heard, trio.CancelScope(deadline=deadline))
        self._pending[attempt] = None
        try:
            with attempt.scope:
                yield attempt
        except Exception as error:
            attempt.failure = Failure.GONE if _has_gone(error) else Failure.GARBAGE
            raise
        finally:
            # None: an evicted attempt has left the table already.
            self._pending.pop(attempt, None)
            if attempt.scope.cancelled_caught and attempt.failure is None:
                attempt.failure = Failure.EXPIRED
            if attempt.failure is not None:
                self.failed[attempt.failure] += 1
                self.blame(ip, attempt.failure.points)

    def _evict(self) -> None:
        busy = Counter(attempt.address for attempt in self._pending)
        # min() takes the first of equals, and the table is in order of arrival: the oldest of those that have
        # sent least.
        oldest = min(self._pending, key=lambda attempt: (-busy[attempt.address], attempt.heard()))
        del self._pending[oldest]
        oldest.failure = Failure.EVICTED
        oldest.scope.cancel()


def _has_gone(error: BaseException | None) -> bool:
    """Whether the other side has hung up, rather than sent something invalid."""
    while error is not None:
        if isinstance(error, _HUNG_UP):
            return True
        error = error.__cause__ or error.__context__
    return False
