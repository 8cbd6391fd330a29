"""What becomes of an envelope that comes in, whoever carried it: handled, passed on, relayed, refused,
scored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from mlnet.envelope import Envelope
from mlnet.errors import RemoteProtocolError
from mlnet.net.gossip import Gossip
from mlnet.net.interface import MAX_ENVELOPE_BYTES, TOOL, Handlers, Limits
from mlnet.net.outbox import Outcome, Route
from mlnet.net.peers import REMEMBERED_PEERS, Clock, Recent, TokenBucket

logger = logging.getLogger(__name__)
RELAY_SECONDS = 5.0
"""How long an envelope for another peer waits here for that peer's acknowledgement."""
MAX_SIGNATURE_BYTES = 64
_GARBAGE, _CARRIED_GARBAGE = 1.0, 0.25


class Verdict(NamedTuple):
    """What the sender is told."""

    outcome: Outcome
    error: str = ""
    wanted: bool = True


class Intake:
    """Decides about inbound envelopes.

    Args:
        own: our peer id.
        handlers: the user's.
        limits: rates.
        gossip: where gossip goes.
        relay: ``(envelope, to, seconds)`` hands an envelope to a connected peer; None when there is no such
            peer.
        score: ``(peer, points)`` scores a peer down.
        clock: seconds.
    """

    def __init__(
        self,
        own: str,
        handlers: Handlers,
        limits: Limits,
        gossip: Gossip,
        relay: Callable[[Envelope, str, float], asyncio.Future[Outcome] | None],
        score: Callable[[str, float], None],
        clock: Clock,
    ) -> None:
        self._own, self._handlers, self._gossip = own, handlers, gossip
        self._relay, self._score = relay, score
        self._rates: Recent[str, TokenBucket] = Recent(
            lambda: TokenBucket(limits.envelopes_per_second, clock), REMEMBERED_PEERS
        )
        self._relay_rates: Recent[str, TokenBucket] = Recent(
            lambda: TokenBucket(limits.relays_per_second, clock), REMEMBERED_PEERS
        )
        self.received = 0

    def pause(self, source: str) -> float:
        """Seconds to wait before the next envelope of that peer is taken; none for tools, which the
        operator let in."""
        return 0.0 if source == TOOL else self._rates[source].take()

    def is_foreign(self, route: Route) -> bool:
        """Whether the envelope is meant for another peer."""
        return route.to not in ("", self._own)

    def accept(self, envelope: Envelope, source: str, route: Route) -> Verdict:
        """Handle an envelope that is for us or for everybody."""
        self.received += 1
        if len(envelope.yaml.encode()) > MAX_ENVELOPE_BYTES or len(envelope.signature) != MAX_SIGNATURE_BYTES:
            self._score(source, _GARBAGE)
            return Verdict(
                Outcome.REFUSED,
                f"an envelope has at most {MAX_ENVELOPE_BYTES} bytes, its signature {MAX_SIGNATURE_BYTES}",
            )
        try:
            if route.hops:
                wanted = self._gossip.receive(
                    envelope, source, route.hops, lambda one: self._handlers.on_envelope(one, source, True)
                )
            else:
                wanted = self._handlers.on_envelope(envelope, source, False)
        except RemoteProtocolError as error:
            # Whoever carries for another has not read it, but must not be a way round the score either.
            self._score(source, _CARRIED_GARBAGE if route.relayed else _GARBAGE)
            logger.debug("garbage from %s: %s", source or "a tool", error)
            return Verdict(Outcome.REFUSED, str(error)[:512])
        return Verdict(Outcome.ACCEPTED, wanted=wanted)

    async def carry(self, envelope: Envelope, source: str, route: Route) -> Verdict:
        """Hand an envelope to the peer it is meant for, and say what that peer said."""
        if source == TOOL or route.relayed or route.hops:
            return Verdict(Outcome.REFUSED, "an envelope is carried for a peer, one hop, and not as gossip")
        if not self._relay_rates[source].try_take():
            return Verdict(Outcome.UNREACHABLE, "too many envelopes to carry")
        future = self._relay(envelope, route.to, RELAY_SECONDS)
        if future is None:
            return Verdict(Outcome.UNREACHABLE, "no connection with that peer")
        outcome = await future
        if outcome is Outcome.ACCEPTED:
            return Verdict(outcome)
        if outcome is Outcome.REFUSED:
            self._score(source, _GARBAGE)
            return Verdict(outcome, "the peer refused it")
        return Verdict(Outcome.UNREACHABLE, "the peer did not acknowledge it")
