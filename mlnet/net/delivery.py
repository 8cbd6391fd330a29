"""One envelope to one peer, by whatever way works: directly, by way of another peer, as gossip."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from mlnet.envelope import Envelope
from mlnet.net.intake import RELAY_SECONDS
from mlnet.net.outbox import Outcome, Route

DIRECT_SECONDS = 2.0
"""Time for the direct way to work before others are tried beside it."""
ROUND_SECONDS = 5.0
"""Pause before the other ways are tried again."""

Put = Callable[[Envelope, str, float, Route], "asyncio.Future[Outcome]"]


async def deliver(
    put: Put,
    broken: asyncio.Event,
    envelope: Envelope,
    to: str,
    *,
    timeout: float,
    via: Sequence[str],
    publish: Callable[[Envelope], None] | None,
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
