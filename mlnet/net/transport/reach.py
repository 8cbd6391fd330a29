"""Which of its own addresses a node can be reached at. No I/O.

A machine may have an address that is of no use to others, such as 10.0.2.15, which every VirtualBox guest
has. A node learns the useful ones in two ways: a connection that comes in from another machine is proof; a
peer's statement from where it sees us counts only for an address that this machine has, so that a lie can do
no more than change the order of the addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from mlnet.net import addresses
from mlnet.util import hosts

MAX_PEERS = 64
"""Peers whose views are remembered, and own addresses that were reached. Peer ids cost nothing, so their
number must be bounded; one view is enough to order a handful of addresses."""
REACHED, SEEN, UNKNOWN = 0, 1, 2
"""Standings of an address, best first: they sort."""
Own = Callable[[], Container[str]]


class Reach:
    """What is known about our addresses. Any thread may ask for a standing: what it reads is replaced as a
    whole."""

    def __init__(self) -> None:
        self._reached: dict[tuple[str, int], None] = {}
        self._views: dict[str, str] = {}
        self._seen: frozenset[str] = frozenset()

    def on_inbound(self, remote: str, host: str, port: int, own: Own) -> bool:
        """Note that a peer's connection came in; return whether that was news.

        Args:
            remote: the IP address that the connection came from.
            host: the IP address that was dialled.
            port: its TCP port.
            own: gives the IP addresses of this machine.
        """
        # A full table learns nothing new: it has MAX_PEERS proofs already.
        known = (host, port) in self._reached or len(self._reached) >= MAX_PEERS
        if known or hosts.is_loopback(remote) or remote in own():
            return False
        self._reached[host, port] = None
        return True

    def on_view(self, peer: str, host: str, own: Own) -> bool:
        """Note that a peer sees us at this IP address; return whether that was news.

        Args:
            peer: its id.
            host: the IP address.
            own: gives the IP addresses of this machine.
        """
        if hosts.is_loopback(host) or self._views.get(peer) == host or host not in own():
            return False
        news = host not in self._seen
        # Removed first, so that the newest view is the last in order and the oldest is evicted.
        self._views.pop(peer, None)
        self._views[peer] = host
        while len(self._views) > MAX_PEERS:
            del self._views[next(iter(self._views))]
        self._seen = frozenset(self._views.values())
        return news

    def standing(self, address: str) -> int:
        """What is known about one of our multiaddrs: REACHED, SEEN or UNKNOWN."""
        _, host, port, _ = addresses.parse(address)
        if (host, port) in self._reached:
            return REACHED
        return SEEN if host in self._seen else UNKNOWN
