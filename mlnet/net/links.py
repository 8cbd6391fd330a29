"""The live connections of the host, by peer. Everything here runs in the trio thread, but for the bans."""

from __future__ import annotations

import time
from dataclasses import dataclass

import trio
from libp2p.peer.id import ID

from mlnet.identity import parse_peer_id
from mlnet.net.interface import Limits
from mlnet.net.session import Session


@dataclass(eq=False, slots=True)
class Link:
    """One libp2p connection.

    Attributes:
        peer: whom it is with, as proved.
        session: the streams on it.
        ip: the address at its other end.
    """

    peer: str
    session: Session
    ip: str


class Links:
    """Connections that were let in, each peer's oldest first."""

    def __init__(self, own: ID, limits: Limits) -> None:
        self._own, self._limits = own, limits
        self._by_peer: dict[str, list[Link]] = {}
        self._banned: dict[str, float] = {}
        self._added = trio.Event()

    def ban(self, peer: str, seconds: float) -> None:
        """Refuse new connections of a peer for a while."""
        now = time.monotonic()
        self._banned = {other: end for other, end in self._banned.items() if end > now}
        self._banned[peer] = now + seconds

    def is_banned(self, peer: str) -> bool:
        """Whether that peer's connections are refused at present."""
        return self._banned.get(peer, 0.0) > time.monotonic()

    def add(self, session: Session, ip: str) -> Link | None:
        """Let a connection in; None when its peer may not connect, or there are too many."""
        peer = str(session.peer_id)
        try:
            parse_peer_id(peer)
        except ValueError:
            return None
        total = sum(len(links) for links in self._by_peer.values())
        if session.peer_id == self._own or self.is_banned(peer) or total >= self._limits.connections:
            return None
        link = Link(peer, session, ip)
        self._by_peer.setdefault(peer, []).append(link)
        self._added.set()
        self._added = trio.Event()
        return link

    def remove(self, link: Link) -> None:
        """A connection has ended."""
        links = self._by_peer[link.peer]
        links.remove(link)
        if not links:
            del self._by_peer[link.peer]

    def surplus(self, peer: str) -> Link | None:
        """The connection to close when a peer has too many.

        The newest stay: a peer that lost its machine is back before we notice that its old ones are dead.
        """
        links = self._by_peer.get(peer, [])
        return links[0] if len(links) > self._limits.connections_per_peer else None

    def of(self, peer: str) -> list[Link]:
        """A peer's connections."""
        return list(self._by_peer.get(peer, ()))

    def all(self) -> list[Link]:
        """All connections."""
        return [link for links in self._by_peer.values() for link in links]

    def session(self, peer: str) -> Session | None:
        """The newest session with a peer that takes streams."""
        for link in reversed(self._by_peer.get(peer, [])):
            if link.session.is_established:
                return link.session
        return None

    async def wait_for_session(self, peer: str, seconds: float) -> Session | None:
        """The same, waiting for one; None when it does not come in time."""
        session = self.session(peer)
        with trio.move_on_after(seconds):
            while session is None:
                await self._added.wait()
                session = self.session(peer)
        return session
