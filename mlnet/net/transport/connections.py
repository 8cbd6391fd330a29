"""The live connections of the host, by peer.

Everything here runs in the trio thread, except for the bans, which the asyncio loop sets and reads as well:
that dict is replaced or read as a whole, so no lock is needed.
"""

from __future__ import annotations

import enum
import time
from collections import Counter
from dataclasses import dataclass

import trio
from libp2p.peer.id import ID

from mlnet.identity.keys import parse_peer_id
from mlnet.net.addresses import block
from mlnet.net.muxer.base import Session
from mlnet.net.rates import allowance
from mlnet.net.types import Limits

OUTBOUND_SHARE = 8
"""An eighth of all connections is kept for peers that we dial: strangers could otherwise fill all of them and
cut
the node off from the peers that its operator named."""


class Turned(enum.Enum):
    """Why a peer that has proved its identity is told to go away."""

    BANNED = "the peer is banned"
    FULL = "there are too many connections"
    ADDRESS = "there are too many connections from its address"
    ODD = "its identity is this node's own, or of a kind that is not accepted"


@dataclass(eq=False, slots=True)
class Connection:
    """One libp2p connection.

    Attributes:
        peer: whom it is with, as proved.
        session: the streams on it.
        ip: the address at its other end.
    """

    peer: str
    session: Session
    ip: str

    @property
    def block(self) -> str:
        """The address to which the bounds per address count it; see :func:`mlnet.net.addresses.block`."""
        return block(self.ip)

    @property
    def is_inbound(self) -> bool:
        """Whether the peer dialled."""
        return not self.session.is_initiator


class Connections:
    """The admitted connections, each peer's oldest first."""

    def __init__(self, own: ID, limits: Limits) -> None:
        self._own, self._limits = own, limits
        self._by_peer: dict[str, list[Connection]] = {}
        self._by_address: Counter[str] = Counter()
        self._banned: dict[str, float] = {}
        self.turned: Counter[Turned] = Counter()
        self._added = trio.Event()

    def ban(self, peer: str, seconds: float) -> None:
        """Refuse new connections of a peer for a while."""
        now = time.monotonic()
        self._banned = {other: end for other, end in self._banned.items() if end > now}
        self._banned[peer] = now + seconds

    @property
    def banned(self) -> int:
        """Peers that are banned at present."""
        now = time.monotonic()
        # A copy: the other thread may add a ban meanwhile.
        return sum(end > now for end in list(self._banned.values()))

    def is_banned(self, peer: str) -> bool:
        """Whether that peer's connections are refused at present."""
        return self._banned.get(peer, 0.0) > time.monotonic()

    def add(self, session: Session, ip: str) -> Connection | Turned:
        """Admit a connection, or return the reason why it is turned away."""
        turned = self._turned(session, ip)
        if turned is not None:
            self.turned[turned] += 1
            return turned
        connection = Connection(str(session.peer_id), session, ip)
        self._by_peer.setdefault(connection.peer, []).append(connection)
        self._by_address[connection.block] += connection.is_inbound
        # Set and replaced: whoever waits now is woken, and whoever waits later waits for the next one.
        self._added.set()
        self._added = trio.Event()
        return connection

    def _turned(self, session: Session, ip: str) -> Turned | None:
        peer = str(session.peer_id)
        try:
            parse_peer_id(peer)
        except ValueError:
            return Turned.ODD
        # Ourselves, or a process with a copy of our key (twins.py).
        if session.peer_id == self._own:
            return Turned.ODD
        if self.is_banned(peer):
            return Turned.BANNED
        room = self._limits.connections
        # Bounds per address apply to inbound connections: we chose whom to dial.
        if not session.is_initiator:
            room -= room // OUTBOUND_SHARE
            if self._is_crowded(block(ip), 1) and not self._replaceable(peer, block(ip)):
                return Turned.ADDRESS
        # A peer that is connected already may replace its own connection though all are in use.
        if len(self.all()) >= room and not self._by_peer.get(peer):
            return Turned.FULL
        return None

    def _is_crowded(self, address: str, more: int = 0) -> bool:
        bound = allowance(self._limits.connections_per_address, address)
        return self._by_address[address] + more > bound

    def _replaceable(self, peer: str, address: str) -> list[Connection]:
        return [
            connection
            for connection in self.of(peer)
            if connection.is_inbound and connection.block == address
        ]

    def remove(self, connection: Connection) -> None:
        """A connection has ended."""
        connections = self._by_peer[connection.peer]
        connections.remove(connection)
        if not connections:
            del self._by_peer[connection.peer]
        self._by_address[connection.block] -= connection.is_inbound
        if not self._by_address[connection.block]:
            del self._by_address[connection.block]

    def surplus(self, newest: Connection) -> Connection | None:
        """The connection to close when the peer of this one, its address, or all together have too many.

        The newest stay: a peer whose network or process restarted is back before we notice that its old
        connections are dead.
        """
        connections = self.of(newest.peer)
        if len(connections) > self._limits.connections_per_peer:
            return connections[0]
        if self._is_crowded(newest.block):
            return self._replaceable(newest.peer, newest.block)[0]
        if len(self.all()) > self._limits.connections:
            return connections[0]
        return None

    def of(self, peer: str) -> list[Connection]:
        """A peer's connections."""
        return list(self._by_peer.get(peer, ()))

    def all(self) -> list[Connection]:
        """All connections."""
        return [connection for connections in self._by_peer.values() for connection in connections]

    def session(self, peer: str) -> Session | None:
        """The newest session with a peer that takes streams."""
        for connection in reversed(self._by_peer.get(peer, [])):
            if connection.session.is_established:
                return connection.session
        return None

    async def wait_for_session(self, peer: str, seconds: float) -> Session | None:
        """Like :meth:`session`, but waits up to ``seconds`` for one; None when none came up."""
        session = self.session(peer)
        with trio.move_on_after(seconds):
            while session is None:
                await self._added.wait()
                session = self.session(peer)
        return session
