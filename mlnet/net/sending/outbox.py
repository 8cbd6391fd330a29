"""Envelopes that wait for one peer's acknowledgement. No I/O: the channel to the peer takes frames from here.

Delivery is at least once: what was sent and not acknowledged when a stream breaks is sent again, in order, on
the next one, so a receiver may get an envelope twice.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from mlnet.identity.envelope import Envelope
from mlnet.net.sending.expiry import ExpiryQueue
from mlnet.net.types import MAX_ENVELOPE_BYTES, Limits
from mlnet.v1 import peer_pb2 as pb

T = TypeVar("T")
MAX_FRAME_ENVELOPES = 256
"""Envelopes of one frame, and so of one batch of signatures to verify. The bound is on the wire: a callee
ends a stream with larger frames."""
MAX_IN_FLIGHT = 1024
"""Envelopes that are sent but not acknowledged: four full frames, so that a round trip does not stall the
stream."""
_OVERHEAD = 256
"""Bytes that a queued envelope is counted with beside its text and signature, for Python's objects around it.
"""


class Outcome(enum.Enum):
    """What became of an envelope."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    NO_ROOM = "no room"
    STOPPED = "stopped"


_OUTCOMES = {
    pb.OUTCOME_ACCEPTED: Outcome.ACCEPTED,
    pb.OUTCOME_REFUSED: Outcome.REFUSED,
    pb.OUTCOME_UNREACHABLE: Outcome.UNREACHABLE,
}


@dataclass(slots=True)
class OutboxBudget:
    """The bytes that all outboxes of a node hold together."""

    limit: int
    used: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """How an envelope travels.

    Attributes:
        to: the addressee, when the callee is to relay it; empty otherwise.
        relayed: the caller relays it for its sender.
        hops: how many times it may still be forwarded as gossip; 0 for no gossip.
    """

    to: str = ""
    relayed: bool = False
    hops: int = 0


DIRECT = Route()
"""From the sender to the callee itself."""


def _same(outcome: Outcome) -> Outcome:
    return outcome


class Sending(asyncio.Future[T]):
    """The future outcome of one envelope. Cancelling it withdraws the envelope."""

    __slots__ = ("_convert", "_outbox", "_sequence")

    def __init__(self, loop: asyncio.AbstractEventLoop, convert: Callable[[Outcome], T]) -> None:
        super().__init__(loop=loop)
        self._convert = convert
        self._outbox: Outbox | None = None
        self._sequence = 0

    def expect(self, outbox: Outbox, sequence: int) -> None:
        """Note in which outbox, and under which sequence number, the envelope is."""
        self._outbox, self._sequence = outbox, sequence

    def settle(self, outcome: Outcome) -> None:
        """Resolve with the final outcome."""
        self._outbox = None
        if not self.done():
            self.set_result(self._convert(outcome))

    def cancel(self, msg: Any | None = None) -> bool:
        """Take the envelope back."""
        # A subclass rather than a callback: this saves a callback, and so a turn of the loop, for each
        # envelope.
        cancelled = super().cancel(msg)
        if cancelled and self._outbox is not None:
            self._outbox.take_back(self._sequence)
        return cancelled


class QueuedEnvelope:
    """An envelope in an outbox."""

    __slots__ = ("envelope", "route", "sending", "sent", "size")

    def __init__(self, envelope: Envelope, route: Route, size: int, sending: Sending[Any] | None) -> None:
        self.envelope, self.route, self.size, self.sending = envelope, route, size, sending
        self.sent = False


class Outbox:
    """The envelopes for one peer, in order, each with a deadline."""

    def __init__(self, limits: Limits, budget: OutboxBudget) -> None:
        self._limits, self._budget = limits, budget
        self._queued: dict[int, QueuedEnvelope] = {}
        self._unsent: deque[int] = deque()
        self._deadlines = ExpiryQueue(self._queued, self._expire)
        self._in_flight = 0
        self._next = 1
        self.changed = asyncio.Event()
        self.resent = 0

    def __len__(self) -> int:
        return len(self._queued)

    def put(self, envelope: Envelope, timeout: float, route: Route) -> asyncio.Future[Outcome]:
        """Queue an envelope for at most ``timeout`` seconds; cancelling the future withdraws it."""
        sending = Sending(asyncio.get_running_loop(), _same)
        self.add(envelope, timeout, route, sending)
        return sending

    def add(self, envelope: Envelope, timeout: float, route: Route, sending: Sending[Any] | None) -> None:
        """Queue an envelope for at most ``timeout`` seconds; ``sending`` gets the outcome."""
        size = envelope.size + len(envelope.signature) + _OVERHEAD
        if (
            len(self._queued) >= self._limits.outbox_envelopes
            or self._budget.used + size > self._budget.limit
        ):
            if sending is not None:
                sending.settle(Outcome.NO_ROOM)
            return
        sequence = self._next
        self._next += 1
        self._queued[sequence] = QueuedEnvelope(envelope, route, size, sending)
        if sending is not None:
            sending.expect(self, sequence)
        self._budget.used += size
        self._unsent.append(sequence)
        self._deadlines.add(sequence, max(0.0, timeout))
        self.changed.set()

    def take_back(self, sequence: int) -> None:
        """Withdraw an envelope. It may have been sent already."""
        self._settle(sequence, Outcome.STOPPED)

    def _expire(self, sequence: int) -> None:
        self._settle(sequence, Outcome.TIMEOUT)

    def _settle(self, sequence: int, outcome: Outcome) -> None:
        queued = self._queued.pop(sequence, None)
        if queued is None:
            return
        self._budget.used -= queued.size
        self._in_flight -= queued.sent
        if queued.sending is not None:
            queued.sending.settle(outcome)
        self.changed.set()

    def next_frame(self) -> pb.ExchangeRequest | None:
        """The next envelopes with the same route, as one frame. None when none is waiting, or too many are
        not acknowledged yet."""
        frame, route, total = pb.ExchangeRequest(), None, 0
        envelopes, sequences = frame.envelopes, frame.sequences
        while self._unsent and self._in_flight < MAX_IN_FLIGHT and len(sequences) < MAX_FRAME_ENVELOPES:
            queued = self._queued.get(self._unsent[0])
            if queued is None:
                self._unsent.popleft()
                continue
            if route is not None and (queued.route != route or total + queued.size > MAX_ENVELOPE_BYTES):
                break
            route = queued.route
            total += queued.size
            queued.sent = True
            self._in_flight += 1
            sequences.append(self._unsent.popleft())
            envelopes.add(yaml=queued.envelope.yaml, signature=queued.envelope.signature)
        if route is None:
            return None
        frame.to, frame.relayed, frame.hops = route.to, route.relayed, route.hops
        return frame

    def acknowledge(self, acknowledgements: Iterable[pb.Acknowledgement]) -> None:
        """Settle the envelopes that the peer acknowledges; numbers that are not in flight are ignored."""
        for one in acknowledgements:
            outcome = _OUTCOMES.get(one.outcome, Outcome.REFUSED)
            first = one.sequence
            # The peer may name any range: no more numbers are looked at than one frame can hold.
            last = min(max(first, one.through), first + MAX_FRAME_ENVELOPES - 1)
            for sequence in range(first, last + 1):
                queued = self._queued.get(sequence)
                if queued is not None and queued.sent:
                    self._settle(sequence, outcome)

    def rewind(self) -> None:
        """The stream broke: queue everything that was not acknowledged for the next stream, in the same
        order."""
        again = [sequence for sequence, queued in self._queued.items() if queued.sent]
        for sequence in again:
            self._queued[sequence].sent = False
        self.resent += len(again)
        self._in_flight = 0
        self._unsent = deque(self._queued)
        if self._unsent:
            self.changed.set()

    def clear(self) -> None:
        """Settle everything as stopped."""
        for sequence in list(self._queued):
            self._settle(sequence, Outcome.STOPPED)
        self._deadlines.clear()
