"""Tells when a peer that was connected has gone for good."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Container

from mlnet.errors import TransportError

REDIAL_SECONDS = 0.5
"""Pause between two dials of a peer that is away. It may dial us in the meantime, which ends the pause."""


class Liveness:
    """Waits for peers that do not come back.

    Args:
        connected: container of the peers with a live connection.
        connect: brings up a connection with a peer; raises TransportError.
        limit: peers whose former connection is remembered.
    """

    def __init__(
        self, connected: Container[str], connect: Callable[[str], Awaitable[None]], limit: int
    ) -> None:
        self._connected, self._connect, self._limit = connected, connect, limit
        self._met: OrderedDict[str, None] = OrderedDict()
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    def on_peer(self, peer: str, connected: bool) -> None:
        """A peer's first connection came up, or its last one ended."""
        if connected:
            self._met[peer] = None
            self._met.move_to_end(peer)
            while len(self._met) > self._limit:
                self._met.popitem(last=False)
        for waiting in self._waiting.pop(peer, ()):
            if not waiting.done():
                waiting.set_result(None)

    async def lost(self, peer: str, seconds: float) -> None:
        """Return once a peer that was connected at some time has been unreachable for ``seconds``, although
        it was dialled all the time. A peer that never was connected is waited for without limit: that it
        cannot be dialled says nothing, since behind a NAT it may still dial us."""
        while True:
            while peer in self._connected or peer not in self._met:
                await self._change(peer)
            try:
                async with asyncio.timeout(seconds):
                    await self._back(peer)
            except TimeoutError:
                return

    async def _back(self, peer: str) -> None:
        while peer not in self._connected:
            try:
                await self._connect(peer)
            except TransportError:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REDIAL_SECONDS):
                        await self._change(peer)

    async def _change(self, peer: str) -> None:
        waiting = asyncio.get_running_loop().create_future()
        others = self._waiting.setdefault(peer, set())
        others.add(waiting)
        try:
            await waiting
        finally:
            others.discard(waiting)
            # on_peer may have taken this set away, and another waiter begun a new one.
            if not others and self._waiting.get(peer) is others:
                del self._waiting[peer]
