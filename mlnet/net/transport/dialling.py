"""Dials the addresses of a peer, each with a head start before the next, until one answers (Happy Eyeballs,
RFC 8305). It runs in the trio thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from mlnet.net.transport import resolving

HEAD_START_SECONDS = 0.25
"""Time for one address to answer before the next one is dialled as well: the Connection Attempt Delay that
RFC 8305, 5, recommends. A shorter one dials more addresses than are needed, a longer one makes a peer with
dead addresses slower to reach."""


async def race(
    addresses: Sequence[str], peer: str, seconds: float, dial: Callable[[str], Awaitable[str | None]]
) -> list[str]:
    """Dial addresses of a peer, and the addresses behind names, until one answers; the other dials are
    cancelled.

    Args:
        addresses: multiaddrs without ``/p2p/ID``.
        peer: who should be there.
        seconds: timeout of the resolution of a name.
        dial: dials one address; returns None if the peer answered, else the reason why not.

    Returns:
        The reasons of all addresses that failed; those that were cancelled have none.
    """
    reasons: list[str] = []
    async with trio.open_nursery() as nursery:

        async def attempt(address: str, name: str, failed: trio.Event) -> None:
            try:
                found = await resolving.resolve(address, peer, seconds)
            except resolving.Unresolved as error:
                reasons.append(f"{address}: {error}")
            else:
                if found == [address]:
                    await try_one(address, name)
                else:
                    await start(found, f"{address} is ")
            failed.set()

        async def try_one(address: str, name: str) -> None:
            reason = await dial(address)
            if reason is None:
                nursery.cancel_scope.cancel()
            else:
                reasons.append(f"{name}{address}: {reason}")

        async def start(among: Sequence[str], name: str = "") -> None:
            for address in among:
                failed = trio.Event()
                nursery.start_soon(attempt, address, name, failed)
                with trio.move_on_after(HEAD_START_SECONDS):
                    await failed.wait()

        await start(addresses)
    return reasons
