"""The peers of a node: their addresses, their connections, and bans."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from mlnet.identity.keys import parse_peer_id
from mlnet.net import addresses as addressing
from mlnet.net.metric import Metric, single
from mlnet.net.peers.address_book import AddressBook
from mlnet.net.peers.dialer import Dialer
from mlnet.net.peers.liveness import Liveness
from mlnet.net.peers.neighbours import Neighbours
from mlnet.net.rates import Scores
from mlnet.net.transport.host import Host
from mlnet.net.types import TOOL, Limits

logger = logging.getLogger(__name__)


class PeerManager:
    """What a node knows about other peers, and what it does to stay connected with them.

    Args:
        own: our peer id.
        host: dials and disconnects.
        limits: bounds on what is kept.
        pinned: full multiaddrs (with ``/p2p/ID``) that are dialled, and redialled when the connection is
            lost.
        on_unreachable: see :class:`~mlnet.net.types.Handlers`.

    Raises:
        ConfigError: one of these is malformed.
    """

    def __init__(
        self,
        own: str,
        host: Host,
        limits: Limits,
        pinned: Sequence[str],
        on_unreachable: Callable[[str, str], None] = lambda peer, why: None,
    ) -> None:
        self._host, self._limits = host, limits
        self._book = AddressBook(own, limits)
        for address in pinned:
            dialable, peer = addressing.split_full(address)
            if peer != own:
                self._book.pin(peer, dialable)
        self.neighbours = Neighbours(limits)
        self._dialer = Dialer(host, self._book, self.neighbours, limits, on_unreachable)
        self._liveness = Liveness(self.neighbours, self._dialer.connect, limits.known_peers)
        self._connections: dict[str, Counter[str]] = {}
        self._scores = Scores(limits.garbage_score, limits.garbage_fade_seconds, time.monotonic)
        self._bans = 0
        self._disconnecting: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to keep connections."""
        self._dialer.start()

    async def stop(self) -> None:
        """Stop the dialer. May be called again, and before :meth:`start`."""
        await self._dialer.stop()
        for task in self._disconnecting:
            task.cancel()
        await asyncio.gather(*self._disconnecting, return_exceptions=True)

    # --- where peers are

    async def connect(self, address: str) -> str:
        """Dial a full multiaddr and remember it; return the peer id once connected.

        Raises:
            PeerUnreachable: it did not answer, or proved another identity.
            ConfigError: not a multiaddr with ``/p2p/ID``.
        """
        dialable, peer = addressing.split_full(address)
        await self._dialer.connect(peer, [dialable])
        self._book.learn(peer, [dialable])
        return peer

    def learn(self, peer: str, addresses: Sequence[str]) -> None:
        """Remember addresses that a signed message gave; malformed ones are ignored."""
        try:
            parse_peer_id(peer)
        except ValueError:
            return
        if self._book.learn(peer, addresses):
            self._dialer.wake()

    def known(self) -> dict[str, list[str]]:
        """Peers whose addresses are known, with these addresses (full multiaddrs)."""
        return self._book.known()

    # --- who is connected

    def on_connection(self, peer: str, ip: str, up: bool) -> bool:
        """A libp2p connection came up or ended; return whether the peer has any now. When that has changed,
        the caller has to call :meth:`on_peer`."""
        # Counted, not listed: several connections of a peer may share an address.
        ips = self._connections.setdefault(peer, Counter())
        ips[ip] += 1 if up else -1
        if ips[ip] <= 0:
            del ips[ip]
        if not ips:
            del self._connections[peer]
        return bool(ips)

    def on_peer(self, peer: str, connected: bool) -> None:
        """A peer's first connection came up, or its last one ended."""
        if connected:
            self.neighbours.add(peer)
            self._dialer.on_connected(peer)
        else:
            self.neighbours.remove(peer)
            self._dialer.wake()
        self._liveness.on_peer(peer, connected)

    def remote_ips(self, peer: str) -> frozenset[str]:
        """The IP addresses at the other end of the live connections with that peer."""
        return frozenset(self._connections.get(peer, ()))

    def degree(self) -> int:
        """Connected peers."""
        return len(self.neighbours)

    def is_connected(self, peer: str) -> bool:
        """Whether the peer is connected, as :meth:`on_peer` was told last."""
        return peer in self.neighbours

    async def connect_peer(self, peer: str) -> None:
        """Bring up a connection unless there is one.

        Raises:
            PeerUnreachable: no address answered.
        """
        await self._dialer.connect(peer)

    def dial_soon(self, peer: str) -> None:
        """Begin to bring up a connection, without reporting the outcome."""
        self._dialer.dial_soon(peer)

    async def lost(self, peer: str, seconds: float) -> None:
        """See :meth:`mlnet.net.peers.liveness.Liveness.lost`."""
        await self._liveness.lost(peer, seconds)

    # --- bans

    def penalise(self, peer: str, points: float) -> None:
        """Score a peer down. At ``garbage_score`` points it is disconnected and banned for ``ban_seconds``.
        Tools are never banned: the operator let them in."""
        if peer != TOOL and self._scores.add(peer, points):
            logger.warning(
                "peer %s is banned for %g s: it violated the protocol", peer, self._limits.ban_seconds
            )
            self._bans += 1
            self._spawn(self._host.disconnect(peer, self._limits.ban_seconds))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._disconnecting.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._disconnecting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.debug("%r", error)

    def metrics(self) -> list[Metric]:
        """Metrics of peers and bans."""
        peers = {
            "connected": len(self.neighbours),
            "neighbours": len(self.neighbours.chosen()),
            "known": len(self._book.known()),
        }
        return [
            Metric("mlnet_peers", "Peers that this node knows, by their state.", peers, "state"),
            single("mlnet_peer_bans_total", "Peers banned so far.", self._bans),
        ]
