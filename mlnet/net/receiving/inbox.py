"""Decides what happens to an inbound envelope: it is handled, forwarded, relayed or refused, and its source
may be scored down.

Cheap checks come before expensive ones: sizes and rates, then whether gossip is new, then the signature.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mlnet.errors import RemoteProtocolError
from mlnet.identity.envelope import Envelope
from mlnet.net.addresses import block
from mlnet.net.gossip import Gossip
from mlnet.net.metric import Metric, single
from mlnet.net.rates import REMEMBERED_PEERS, Clock, Recent, TokenBucket
from mlnet.net.receiving.verifier import Verifier
from mlnet.net.sending.outbox import Outcome, Route
from mlnet.net.types import MAX_ENVELOPE_BYTES, OWN_ADDRESS_FACTOR, RELAY_SECONDS, TOOL, Handlers, Limits
from mlnet.util.hosts import LOOPBACK

logger = logging.getLogger(__name__)
MAX_SIGNATURE_BYTES = 64
"""Bytes of an Ed25519 signature (RFC 8032, 5.1.6). No other kind is accepted."""
_GARBAGE, _CARRIED_GARBAGE = 1.0, 0.25
"""Points for an invalid envelope, and for one that a peer relayed for another. A relay does not verify what
it carries, so it pays less; but it pays, or relaying would be a way around the score."""


class Disposition(NamedTuple):
    """What the sender is told about one envelope.

    Attributes:
        outcome: accepted, refused or unreachable.
        error: why it was refused; for people.
        wanted: False when the envelope was valid, but of no use here.
    """

    outcome: Outcome
    error: str = ""
    wanted: bool = True


_WANTED, _UNWANTED = Disposition(Outcome.ACCEPTED), Disposition(Outcome.ACCEPTED, wanted=False)


class _Rates:
    """The rates of envelopes and their bytes, per peer and per address."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits, self._clock = limits, clock
        self._by_peer: Recent[str, tuple[TokenBucket, TokenBucket]] = Recent(self._pair, REMEMBERED_PEERS)
        self._by_address: Recent[str, tuple[TokenBucket, TokenBucket]] = Recent(
            lambda: self._pair(limits.peers_per_address), REMEMBERED_PEERS
        )
        self._by_own_address: Recent[str, tuple[TokenBucket, TokenBucket]] = Recent(
            lambda: self._pair(limits.peers_per_address * OWN_ADDRESS_FACTOR), len(LOOPBACK)
        )

    def _pair(self, peers: float = 1.0) -> tuple[TokenBucket, TokenBucket]:
        count, size = self._limits.envelopes_per_second, self._limits.envelope_bytes_per_second
        return TokenBucket(count * peers, self._clock), TokenBucket(size * peers, self._clock)

    def _buckets(self, peer: str, address: str) -> tuple[TokenBucket, TokenBucket, TokenBucket, TokenBucket]:
        addresses = self._by_own_address if address in LOOPBACK else self._by_address
        return *self._by_peer[peer], *addresses[address]

    def take(self, peer: str, address: str, size: int) -> float:
        """Take one envelope from all buckets; return the seconds to wait before it is handled."""
        envelopes, bytes_, all_envelopes, all_bytes = self._buckets(peer, address)
        return max(envelopes.take(), bytes_.take(size), all_envelopes.take(), all_bytes.take(size))

    def try_take(self, peer: str, address: str, count: int, size: int) -> bool:
        """Take ``count`` envelopes of ``size`` bytes together, if none has to wait; otherwise take
        nothing."""
        wanted = (count, size, count, size)
        buckets = self._buckets(peer, address)
        if not all(bucket.has(tokens) for bucket, tokens in zip(buckets, wanted, strict=True)):
            return False
        for bucket, tokens in zip(buckets, wanted, strict=True):
            bucket.take(tokens)
        return True


def _unfit(envelope: Envelope) -> str:
    """Why an envelope is refused without being parsed; empty when it is not."""
    signature = len(envelope.signature)
    if not signature:
        return f"the envelope is not signed; a signature is Ed25519, {MAX_SIGNATURE_BYTES} bytes"
    if signature != MAX_SIGNATURE_BYTES:
        return f"the signature has {signature} bytes; an Ed25519 signature has {MAX_SIGNATURE_BYTES}"
    if envelope.size > MAX_ENVELOPE_BYTES:
        return f"the envelope has {envelope.size} bytes; at most {MAX_ENVELOPE_BYTES} are accepted"
    return ""


class Inbox:
    """Decides about inbound envelopes.

    Args:
        own: our peer id.
        handlers: the user's callbacks.
        limits: rates.
        gossip: remembers and forwards gossip.
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
        gossip: Gossip[object],
        relay: Callable[[Envelope, str, float], asyncio.Future[Outcome] | None],
        score: Callable[[str, float], None],
        clock: Clock,
    ) -> None:
        self._own, self._handlers, self._gossip = own, handlers, gossip
        self._relay, self._score = relay, score
        self._verifier = Verifier(handlers.verify)
        self._rates = _Rates(limits, clock)
        self._relay_rates: Recent[str, TokenBucket] = Recent(
            lambda: TokenBucket(limits.relays_per_second, clock), REMEMBERED_PEERS
        )
        self._seen: Recent[bytes, None] = Recent(lambda: None, limits.seen)
        self.repeated = self.received = self.refused = self.oversized = self.slowed = 0

    def pause(self, source: str, ip: str, size: int) -> float:
        """Seconds to wait before the next envelope of that peer is handled; 0 for tools, which the operator
        let in.

        Args:
            source: the peer.
            ip: the address of its connection.
            size: bytes of the envelope.
        """
        seconds = 0.0 if source == TOOL else self._rates.take(source, block(ip), size)
        self.slowed += seconds > 0
        return seconds

    def may_pass(self, source: str, ip: str, sizes: Sequence[int]) -> bool:
        """Whether envelopes of these sizes may be handled at once, without a pause. If so, they are taken
        from the rates."""
        return source == TOOL or self._rates.try_take(source, block(ip), len(sizes), sum(sizes))

    def metrics(self) -> list[Metric]:
        """Metrics of inbound envelopes."""
        return [
            single(
                "mlnet_envelopes_received_total",
                "Envelopes received for this node or for everybody.",
                self.received,
            ),
            single(
                "mlnet_envelopes_repeated_total",
                "Received envelopes other than gossip that had been sent before.",
                self.repeated,
            ),
            single(
                "mlnet_envelopes_refused_total",
                "Received envelopes that were refused as invalid.",
                self.refused,
            ),
            single(
                "mlnet_envelopes_slowed_total",
                "Envelopes delayed because their sender exceeded its rate.",
                self.slowed,
            ),
            single(
                "mlnet_envelopes_oversized_total",
                "Envelopes and frames that exceeded a size limit.",
                self.oversized,
            ),
        ]

    def on_oversized(self, source: str) -> None:
        """A peer sent an envelope or a frame beyond a size limit."""
        self.oversized += 1
        self._score(source, _GARBAGE)

    def is_foreign(self, route: Route) -> bool:
        """Whether the envelope is meant for another peer."""
        return route.to not in ("", self._own)

    def screen(self, envelope: Envelope, source: str, route: Route) -> Disposition | None:
        """Decide about an envelope without parsing it; None when it has to be verified."""
        self.received += 1
        if reason := _unfit(envelope):
            self.on_oversized(source)
            self.refused += 1
            return Disposition(Outcome.REFUSED, reason)
        if route.hops:
            return None if self._gossip.admits(envelope, source) else _UNWANTED
        # Only counted, by the signature alone: the user decides what a repetition means.
        self.repeated += envelope.signature in self._seen
        # Bounded like the memory of gossip; what is forgotten is only counted less.
        self._seen[envelope.signature] = None
        return None

    def open(self, envelopes: Sequence[Envelope]) -> asyncio.Future[Sequence[object]]:
        """Start the user's ``verify``; the future holds a result for each envelope, for :meth:`accept`."""
        return self._verifier.start(envelopes)

    def accept(self, opened: object, envelope: Envelope, source: str, route: Route) -> Disposition:
        """Handle a verified envelope that is addressed to us or gossiped."""
        try:
            if route.hops:
                wanted = self._gossip.receive(
                    envelope, source, route.hops, lambda _: self._handle(opened, source, True)
                )
            else:
                wanted = self._handle(opened, source, False)
        except RemoteProtocolError as error:
            # A relay has not verified the envelope, but must not be a way around the score either.
            self._score(source, _CARRIED_GARBAGE if route.relayed else _GARBAGE)
            self.refused += 1
            logger.debug("garbage from %s: %s", source or "a tool", error)
            return Disposition(Outcome.REFUSED, str(error)[:512])
        return _WANTED if wanted else _UNWANTED

    def _handle(self, opened: object, source: str, gossip: bool) -> bool:
        if isinstance(opened, RemoteProtocolError):
            raise opened
        return self._handlers.on_envelope(opened, source, gossip)

    async def stop(self) -> None:
        """Stop verifying."""
        await self._verifier.stop()

    async def carry(self, envelope: Envelope, source: str, route: Route) -> Disposition:
        """Relay an envelope to its addressee, and return the addressee's answer."""
        # One hop only, so that an envelope cannot be sent in circles.
        if source == TOOL or route.relayed or route.hops:
            return Disposition(
                Outcome.REFUSED, "an envelope is passed on only for a peer, by one hop, and never as gossip"
            )
        # UNREACHABLE, not REFUSED: the sender should try another relay.
        if not self._relay_rates[source].try_take():
            return Disposition(
                Outcome.UNREACHABLE, "this peer has too many envelopes passed on; try again later"
            )
        future = self._relay(envelope, route.to, RELAY_SECONDS)
        if future is None:
            return Disposition(Outcome.UNREACHABLE, "not connected with that peer")
        outcome = await future
        if outcome is Outcome.ACCEPTED:
            return Disposition(outcome)
        if outcome is Outcome.REFUSED:
            self._score(source, _GARBAGE)
            return Disposition(outcome, "the peer refused it")
        return Disposition(Outcome.UNREACHABLE, "the peer did not acknowledge it")
