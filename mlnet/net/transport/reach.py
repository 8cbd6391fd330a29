"""At which of its addresses a node is reached. No I/O.

A machine may have an address that is worth nothing to others, such as 10.0.2.15, which every guest of a
VirtualBox has. A node learns which one it is: by connections that come in from other machines, and by what
peers say from where they see it. The former is proof; the latter counts only if it is an address that this
machine has, so that a lie can do no more than change their order.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from mlnet.net import addresses
from mlnet.util import hosts

MAX_PEERS = 64
"""Peers whose views are remembered, and addresses of ours that were reached."""
REACHED, SEEN, UNKNOWN = 0, 1, 2
Own = Callable[[], Container[str]]


class Reach:
    """What others have shown of our addresses. Any thread may ask for a standing."""

    def __init__(self) -> None:
        self._reached: dict[tuple[str, int], None] = {}
        self._views: dict[str, str] = {}
        self._seen: frozenset[str] = frozenset()

    def on_inbound(self, remote: str, host: str, port: int, own: Own) -> bool:
        """A peer's connection has come in; whether that was news.

        Args:
            remote: the IP address that it came from.
            host: the IP address that was dialled.
            port: its TCP port.
            own: gives the IP addresses of this machine.
        """
        known = (host, port) in self._reached or len(self._reached) >= MAX_PEERS
        if known or hosts.is_loopback(remote) or remote in own():
            return False
        self._reached[host, port] = None
        return True

    def on_view(self, peer: str, host: str, own: Own) -> bool:
        """A peer sees us at this IP address; whether that was news.

        Args:
            peer: its id.
            host: the IP address.
            own: gives the IP addresses of this machine.
        """
        if hosts.is_loopback(host) or self._views.get(peer) == host or host not in own():
            return False
        news = host not in self._seen
        self._views.pop(peer, None)
        self._views[peer] = host
        while len(self._views) > MAX_PEERS:
            del self._views[next(iter(self._views))]
        self._seen = frozenset(self._views.values())
        return news

    def standing(self, address: str) -> int:
        """What is known of a multiaddr of ours: REACHED, SEEN or UNKNOWN."""
        _, host, port, _ = addresses.parse(address)
        if (host, port) in self._reached:
            return REACHED
        return SEEN if host in self._seen else UNKNOWN
