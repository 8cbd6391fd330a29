"""Envelopes that wait for one peer's acknowledgement. No I/O: the conversation with the peer takes frames
from here."""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from mlnet.envelope import Envelope
from mlnet.net.interface import MAX_ENVELOPE_BYTES, Limits
from mlnet.rpc import mlnet_pb2 as pb

MAX_FRAME_ENVELOPES = 256
MAX_IN_FLIGHT = 512
"""Envelopes sent but not acknowledged."""
_OVERHEAD = 256


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
class Budget:
    """Bytes that all outboxes of a node hold together."""

    limit: int
    used: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """How an envelope travels: to whom if not to the callee, whether for another, and how far as gossip."""

    to: str = ""
    relayed: bool = False
    hops: int = 0


@dataclass(eq=False, slots=True)
class _Parcel:
    envelope: Envelope
    route: Route
    size: int
    done: asyncio.Future[Outcome]
    timer: asyncio.TimerHandle | None = field(default=None)
    sent: bool = False


class Outbox:
    """The envelopes for one peer, in order; each has a deadline."""

    def __init__(self, limits: Limits, budget: Budget) -> None:
        self._limits, self._budget = limits, budget
        self._parcels: dict[int, _Parcel] = {}
        self._unsent: deque[int] = deque()
        self._in_flight = 0
        self._next = 1
        self.changed = asyncio.Event()
        self.resent = 0

    def __len__(self) -> int:
        return len(self._parcels)

    def put(self, envelope: Envelope, timeout: float, route: Route) -> asyncio.Future[Outcome]:
        """Queue an envelope for at most ``timeout`` seconds. Cancelling the future takes it back."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Outcome] = loop.create_future()
        size = len(envelope.yaml.encode()) + len(envelope.signature) + _OVERHEAD
        if (
            len(self._parcels) >= self._limits.outbox_envelopes
            or self._budget.used + size > self._budget.limit
        ):
            done.set_result(Outcome.NO_ROOM)
            return done
        sequence = self._next
        self._next += 1
        parcel = _Parcel(envelope, route, size, done)
        parcel.timer = loop.call_later(max(0.0, timeout), self._settle, sequence, Outcome.TIMEOUT)
        done.add_done_callback(lambda _: self._settle(sequence, Outcome.STOPPED))
        self._parcels[sequence] = parcel
        self._budget.used += size
        self._unsent.append(sequence)
        self.changed.set()
        return done

    def _settle(self, sequence: int, outcome: Outcome) -> None:
        parcel = self._parcels.pop(sequence, None)
        if parcel is None:
            return
        self._budget.used -= parcel.size
        self._in_flight -= parcel.sent
        if parcel.timer is not None:
            parcel.timer.cancel()
        if not parcel.done.done():
            parcel.done.set_result(outcome)
        self.changed.set()

    def next_frame(self) -> pb.Frame | None:
        """The next envelopes that travel alike; None when there are none, or too many are not
        acknowledged."""
        frame, route, total = pb.Frame(), None, 0
        while self._unsent and self._in_flight < MAX_IN_FLIGHT and len(frame.envelopes) < MAX_FRAME_ENVELOPES:
            parcel = self._parcels.get(self._unsent[0])
            if parcel is None:
                self._unsent.popleft()
                continue
            if route is not None and (parcel.route != route or total + parcel.size > MAX_ENVELOPE_BYTES):
                break
            route = parcel.route
            total += parcel.size
            parcel.sent = True
            self._in_flight += 1
            frame.sequences.append(self._unsent.popleft())
            frame.envelopes.add(yaml=parcel.envelope.yaml, signature=parcel.envelope.signature)
        if route is None:
            return None
        frame.to, frame.relayed, frame.hops = route.to, route.relayed, route.hops
        return frame

    def acknowledge(self, acknowledgements: Iterable[pb.Acknowledgement]) -> None:
        """Settle what the peer names; numbers that are not in flight are ignored."""
        for one in acknowledgements:
            parcel = self._parcels.get(one.sequence)
            if parcel is not None and parcel.sent:
                self._settle(one.sequence, _OUTCOMES.get(one.outcome, Outcome.REFUSED))

    def rewind(self) -> None:
        """The stream broke: what was not acknowledged is sent again on the next one, in the same order."""
        again = [sequence for sequence, parcel in self._parcels.items() if parcel.sent]
        for sequence in again:
            self._parcels[sequence].sent = False
        self.resent += len(again)
        self._in_flight = 0
        self._unsent = deque(self._parcels)
        if self._unsent:
            self.changed.set()

    def clear(self) -> None:
        """Settle everything as stopped."""
        for sequence in list(self._parcels):
            self._settle(sequence, Outcome.STOPPED)
