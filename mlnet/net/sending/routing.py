"""The ways of an envelope to a peer: directly, by way of another peer, as gossip."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from mlnet.identity.envelope import Envelope
from mlnet.net.sending.outbox import DIRECT, Outcome, Route, Sending
from mlnet.net.sending.peer_channel import PeerChannels
from mlnet.net.types import RELAY_SECONDS

GOSSIP_SECONDS = 30.0
"""How long gossip for a neighbour waits for its acknowledgement."""
DIRECT_SECONDS = 2.0
"""Time for the direct way to work before others are tried beside it."""
ROUND_SECONDS = 5.0
"""Pause before the other ways are tried again."""

Put = Callable[[Envelope, str, float, Route], "asyncio.Future[Outcome]"]


class Deliveries:
    """Puts envelopes on their way, each on the cheapest that its sender allows.

    Args:
        own: our peer id.
        channels: carry them.
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
        """Deliver an envelope by :func:`deliver`, or, where there is but one way, without a task of its own.

        Returns:
            A future that never raises: whether the peer has acknowledged it. Cancelling it takes the envelope
            back.
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
        """What :meth:`send` returns when nothing is sent any more."""
        result = Sending(asyncio.get_running_loop(), _is_accepted)
        result.settle(Outcome.STOPPED)
        return result

    def relay(self, envelope: Envelope, to: str, seconds: float) -> asyncio.Future[Outcome] | None:
        """Pass on what another peer sent for a connected one; None when it is not connected."""
        if not self._is_connected(to):
            return None
        return self._channels.put(envelope, to, seconds, Route(relayed=True))

    def gossip(self, envelope: Envelope, peer: str, hops: int) -> asyncio.Future[bool]:
        """Pass gossip on to a neighbour; the future is like that of :meth:`send`."""
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
        broken: set while the direct way does not work.
        envelope: what to deliver.
        to: to whom.
        timeout: seconds.
        via: peers that may carry it.
        publish: gossips it, as the last resort; None for never.

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
            outcome = await _by_way_of_others(put, direct, envelope, to, via, deadline)
            if outcome in (Outcome.ACCEPTED, Outcome.REFUSED):
                return outcome is Outcome.ACCEPTED
            if publish is not None and not direct.done():
                publish(envelope)
                publish = None
            await asyncio.wait((direct,), timeout=min(ROUND_SECONDS, max(0.0, deadline - loop.time())))
        return await direct is Outcome.ACCEPTED
    finally:
        direct.cancel()


async def _wait_for_trouble(direct: asyncio.Future[Outcome], broken: asyncio.Event, seconds: float) -> None:
    trouble = asyncio.ensure_future(broken.wait())
    try:
        await asyncio.wait((direct, trouble), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        trouble.cancel()


async def _by_way_of_others(
    put: Put,
    direct: asyncio.Future[Outcome],
    envelope: Envelope,
    to: str,
    via: Sequence[str],
    deadline: float,
) -> Outcome | None:
    """Ask one peer after the other; what the addressee said, None if no way worked or the direct one did."""
    loop = asyncio.get_running_loop()
    for peer in via:
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
