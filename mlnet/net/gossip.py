"""Gossip: each new envelope once to each neighbour, bounded in hops, in rate, and in what is remembered.

The overlay consists of the connected neighbours, and an envelope floods it (eager push). A node drops a copy
that it has seen, so an envelope crosses each connection at most once in each direction.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from mlnet.identity.envelope import Envelope
from mlnet.net.metric import Metric, single
from mlnet.net.rates import REMEMBERED_PEERS, Clock, Recent, TokenBucket
from mlnet.net.types import Limits

Sent = TypeVar("Sent", covariant=True)
"""What ``forward`` returns for an envelope that was sent to one peer."""


def _key(envelope: Envelope) -> bytes:
    """The envelope's identity. It covers the signature: otherwise a copy with a forged signature would be
    remembered, and the genuine envelope dropped as seen."""
    # Padded: otherwise a shorter signature and a longer string could give the same bytes.
    return hashlib.sha256(envelope.signature.rjust(64, b"\0") + envelope.yaml.encode()).digest()


class Gossip(Generic[Sent]):
    """Forwards gossiped envelopes.

    Args:
        limits: hops, rates and memory.
        targets: returns the peers that get gossip now.
        forward: ``(envelope, peer, hops)`` sends one; :meth:`publish` returns what it returns.
        clock: seconds.
    """

    def __init__(
        self,
        limits: Limits,
        targets: Callable[[], Sequence[str]],
        forward: Callable[[Envelope, str, int], Sent],
        clock: Clock,
    ) -> None:
        self._limits, self._targets, self._forward = limits, targets, forward
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._rates: Recent[str, TokenBucket] = Recent(
            lambda: TokenBucket(limits.gossip_per_second, clock), REMEMBERED_PEERS
        )
        self.dropped = self.repeated = 0

    def metrics(self) -> list[Metric]:
        """Metrics of gossip that was not forwarded."""
        return [
            single("mlnet_gossip_dropped_total", "Gossip beyond its sender's rate.", self.dropped),
            single("mlnet_gossip_repeated_total", "Gossip that had come before.", self.repeated),
        ]

    def _is_new(self, key: bytes) -> bool:
        # Refreshed: an envelope that still goes round must not be forgotten before those that do not.
        if key in self._seen:
            self._seen.move_to_end(key)
            return False
        self._seen[key] = None
        if len(self._seen) > self._limits.seen:
            self._seen.popitem(last=False)
        return True

    def publish(self, envelope: Envelope) -> Sequence[Sent]:
        """Send an envelope of our own. One that was sent before is sent again: its sender may want it to
        reach peers that connected later."""
        self._is_new(_key(envelope))
        return self._pass_on(envelope, "", self._limits.hops)

    def admits(self, envelope: Envelope, source: str) -> bool:
        """Whether an envelope from a neighbour is worth verifying: it is new, and the neighbour is within its
        rate. Asked before the signature is checked, which costs some 50 us."""
        if _key(envelope) in self._seen:
            self.repeated += 1
            return False
        if source and not self._rates[source].try_take():
            # Not remembered as seen: the same envelope from another neighbour is still welcome.
            self.dropped += 1
            return False
        return True

    def receive(self, envelope: Envelope, source: str, hops: int, handle: Callable[[Envelope], bool]) -> bool:
        """Handle an envelope that was admitted, unless another neighbour brought it meanwhile, and forward it
        if ``handle`` returns True.

        Whatever ``handle`` raises is raised, and the envelope goes no further.

        Returns:
            Whether it was new and wanted.
        """
        if not self._is_new(_key(envelope)) or not handle(envelope):
            return False
        if hops > 1:
            # A peer may claim any number of hops; ours is the most that we forward.
            self._pass_on(envelope, source, min(hops, self._limits.hops) - 1)
        return True

    def _pass_on(self, envelope: Envelope, source: str, hops: int) -> Sequence[Sent]:
        return [self._forward(envelope, peer, hops) for peer in self._targets() if peer != source]
