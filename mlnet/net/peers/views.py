"""Learns which of our addresses others can reach: from inbound connections, and by asking peers."""

from __future__ import annotations

import asyncio
import contextlib

from mlnet.errors import TransportError
from mlnet.net import addresses
from mlnet.net.transport.host import Host
from mlnet.net.transport.reach import UNKNOWN
from mlnet.util.hosts import is_loopback

MAX_QUESTIONS = 4
"""Peers that are asked at a time: each connection that comes up may ask, and one answer is enough."""


class Views:
    """Collects what peers know about our addresses in the host's :class:`~mlnet.net.transport.reach.Reach`.

    Args:
        host: has the connections.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._questions: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()

    async def stop(self) -> None:
        """Cancel the questions under way."""
        for question in self._questions:
            question.cancel()
        await asyncio.gather(*self._questions, return_exceptions=True)

    async def changed(self) -> None:
        """Return when something new is learned."""
        await self._news.wait()

    def on_reached(self, remote: str, host: str, port: int) -> None:
        """A connection came in from IP address ``remote``, at our address ``host`` and TCP port ``port``."""
        if self._host.reach.on_inbound(remote, host, port, addresses.own_ips):
            self._tell()

    def on_peer(self, peer: str) -> None:
        """A peer is connected: ask from where it sees us, unless that would tell us nothing new."""
        if len(self._questions) < MAX_QUESTIONS and self._is_open():
            question = asyncio.get_running_loop().create_task(self._ask(peer))
            self._questions.add(question)
            question.add_done_callback(self._questions.discard)

    def _is_open(self) -> bool:
        """Whether we have several addresses and do not know of any that others can use it."""
        useful = [one for one in self._host.advertised() if not is_loopback(addresses.host_of(one))]
        return len(useful) > 1 and all(self._host.reach.standing(one) == UNKNOWN for one in useful)

    async def _ask(self, peer: str) -> None:
        # A peer need not answer identify, or not with an address of ours: then the order stays as it is.
        with contextlib.suppress(TransportError, ValueError):
            seen = addresses.parse((await self._host.identify(peer)).observed).host
            if self._host.reach.on_view(peer, seen, addresses.own_ips):
                self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
