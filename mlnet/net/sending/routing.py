"""The routes of an envelope to a peer: directly, through a relay, as gossip.

The direct route is tried all the time. Relays and gossip cost other peers something, so they come in only
when the direct route does not work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from mlnet.identity.envelope import Envelope
from mlnet.net.sending.outbox import DIRECT, Outcome, Route, Sending
from mlnet.net.sending.peer_channel import PeerChannels
from mlnet.net.types import RELAY_SECONDS

GOSSIP_SECONDS = 30.0
"""How long gossip waits for a neighbour's acknowledgement: a neighbour that reconnects within that time still
gets it. Longer waits hold outbox bytes for announcements that are stale."""
DIRECT_SECONDS = 2.0
"""Time for the direct route to work before relays are tried beside it. A dial and handshake take well below a
second; a broken connection is reported sooner and ends this wait."""
ROUND_SECONDS = 5.0
"""Pause before the relays are tried again, as long as one of them may take (RELAY_SECONDS)."""

Put = Callable[[Envelope, str, float, Route], "asyncio.Future[Outcome]"]


class Deliveries:
    """Sends envelopes, each by the cheapest route that its sender allows.

    Args:
        own: our peer id.
        channels: the channels to peers.
        is_connected: whether a connection with a peer is up.
    """

    def __init__(self, own: str, channels: PeerChannels, is_connected: Callable[[str], bool]) -> None:
        self._own, self._channels, self._is_connected = own, channels, is_connected
        self._under_way: set[asyncio.Future[bool]] = set()

    def send(
        self,
        envelope: Envelope,
        to: str,
        timeout: float,
        via: Sequence[str],
        publish: Callable[[Envelope], object] | None,
    ) -> asyncio.Future[bool]:
        """Deliver an envelope with :func:`deliver`, or without a task when the direct route is the only one.

        Returns:
            A future that never raises: whether the peer has acknowledged the envelope. Cancelling it
            withdraws the envelope.
        """
        result = Sending(asyncio.get_running_loop(), _is_accepted)
        helpers = [peer for peer in dict.fromkeys(via) if peer not in (to, self._own)]
        if not helpers and publish is None:
            self._channels.add(envelope, to, timeout, DIRECT, result)
            return result
        task = asyncio.ensure_future(
            deliver(
                self._channels.put,
                self._channels[to].broken,
                envelope,
                to,
                timeout=timeout,
                via=helpers,
                publish=publish,
            )
        )
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        result.add_done_callback(lambda done: task.cancel() if done.cancelled() else None)
        task.add_done_callback(lambda done: _settle(result, done))
        return result

    def stopped(self) -> asyncio.Future[bool]:
        """What :meth:`send` returns after the network has stopped."""
        result = Sending(asyncio.get_running_loop(), _is_accepted)
        result.settle(Outcome.STOPPED)
        return result

    def relay(self, envelope: Envelope, to: str, seconds: float) -> asyncio.Future[Outcome] | None:
        """Relay another peer's envelope to a connected peer; None when that is not connected."""
        if not self._is_connected(to):
            return None
        return self._channels.put(envelope, to, seconds, Route(relayed=True))

    def gossip(self, envelope: Envelope, peer: str, hops: int) -> asyncio.Future[bool]:
        """Forward gossip to a neighbour; the future is like that of :meth:`send`."""
        result = Sending(asyncio.get_running_loop(), _is_accepted)
        self._channels.add(envelope, peer, GOSSIP_SECONDS, Route(hops=hops), result)
        return result


async def deliver(
    put: Put,
    broken: asyncio.Event,
    envelope: Envelope,
    to: str,
    *,
    timeout: float,
    via: Sequence[str],
    publish: Callable[[Envelope], object] | None,
) -> bool:
    """Deliver an envelope within ``timeout`` seconds.

    Args:
        put: ``(envelope, peer, seconds, route)`` queues it for a peer.
        broken: set while the direct route does not work.
        envelope: what to deliver.
        to: the addressee.
        timeout: seconds.
        via: peers that may relay it, in this order.
        publish: gossips it, as the last resort, at most once; None for never.

    Returns:
        Whether the peer has acknowledged it.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    direct = put(envelope, to, timeout, Route())
    try:
        if via or publish is not None:
            await _wait_for_trouble(direct, broken, min(DIRECT_SECONDS, timeout))
        while (via or publish is not None) and not direct.done() and loop.time() < deadline:
            outcome = await _through_relays(put, direct, envelope, to, via, deadline)
            if outcome in (Outcome.ACCEPTED, Outcome.REFUSED):
                return outcome is Outcome.ACCEPTED
            if publish is not None and not direct.done():
                publish(envelope)
                # Once only: gossip floods the network, and its copies cannot be withdrawn.
                publish = None
            await asyncio.wait((direct,), timeout=min(ROUND_SECONDS, max(0.0, deadline - loop.time())))
        return await direct is Outcome.ACCEPTED
    finally:
        # Also when a relay has delivered it: the direct copy is withdrawn if it was not sent yet.
        direct.cancel()


async def _wait_for_trouble(direct: asyncio.Future[Outcome], broken: asyncio.Event, seconds: float) -> None:
    trouble = asyncio.ensure_future(broken.wait())
    try:
        await asyncio.wait((direct, trouble), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        trouble.cancel()


async def _through_relays(
    put: Put,
    direct: asyncio.Future[Outcome],
    envelope: Envelope,
    to: str,
    via: Sequence[str],
    deadline: float,
) -> Outcome | None:
    """Try one relay after the other. Returns the addressee's answer; None if no relay got one, or the direct
    route is done."""
    loop = asyncio.get_running_loop()
    for peer in via:
        # A second longer than the relay itself waits, so that its answer arrives.
        seconds = min(RELAY_SECONDS + 1.0, deadline - loop.time())
        if direct.done() or seconds <= 0:
            return None
        carried = put(envelope, peer, seconds, Route(to=to))
        try:
            await asyncio.wait((direct, carried), return_when=asyncio.FIRST_COMPLETED)
            if carried.done() and carried.result() in (Outcome.ACCEPTED, Outcome.REFUSED):
                return carried.result()
        finally:
            carried.cancel()
    return None


def _settle(result: asyncio.Future[bool], task: asyncio.Future[bool]) -> None:
    if not result.done():
        result.set_result(not task.cancelled() and task.result())


def _is_accepted(outcome: Outcome) -> bool:
    return outcome is Outcome.ACCEPTED
