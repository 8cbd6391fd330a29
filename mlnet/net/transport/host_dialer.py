"""Dials peers for the host: at all their addresses, and at those where its own identity is expected.

It runs in the trio thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from mlnet.errors import PeerUnreachable
from mlnet.net import addresses as addressing
from mlnet.net.muxer.base import Session
from mlnet.net.transport import dialling, libp2p_patches, refusals
from mlnet.net.transport.connections import Connections, Turned
from mlnet.net.types import Limits
from mlnet.util import hosts

MEET_SECONDS = 5.0
"""Time for the other end of a connection with ourselves to appear in this process; until then the end may
belong to another process with our identity."""


class HostDialer:
    """Dials, and says why nobody answered.

    Args:
        own: our peer id.
        connections: those that are up.
        limits: how long a dial may take.
        listening: the multiaddrs that we listen on.
        keep: adds a connection to those that are up and watches it, unless it is turned away.
        on_twin: called with the IP address at which another process has our identity.
    """

    def __init__(
        self,
        own: ID,
        connections: Connections,
        limits: Limits,
        listening: Callable[[], Sequence[str]],
        keep: Callable[[Session], Turned | None],
        on_twin: Callable[[str], None],
    ) -> None:
        self._own, self._connections, self._limits = own, connections, limits
        self._listening, self._keep, self._on_twin = listening, keep, on_twin
        self._swarm: Swarm | None = None
        # One dial to our own identity at a time: _met_self says for which one the other end appeared.
        self._dialling_self = trio.Lock()
        self._met_self: trio.Event | None = None

    def start(self, swarm: Swarm) -> None:
        """Dial through this swarm from now on."""
        self._swarm = swarm

    def meet_self(self) -> bool:
        """An inbound connection has proved our identity: whether it is the other end of a dial of ours."""
        if self._met_self is None:
            return False
        self._met_self.set()
        return True

    async def dial(self, peer: str, addresses: Sequence[str]) -> None:
        """Connect to a peer unless a connection is up already; see :meth:`Host.dial`."""
        # The peer may have dialled us since the caller looked, on the other thread.
        if self._connections.session(peer) is not None:
            return
        if self._connections.is_banned(peer):
            raise PeerUnreachable(f"peer {peer} is banned for a while because it violated the protocol")
        reasons = await dialling.race(
            addresses, peer, self._limits.dial_seconds, lambda address: self._dial_one(peer, address)
        )
        # Asked again rather than taken from the dials: the peer may have dialled us meanwhile.
        if self._connections.session(peer) is None:
            reason = "; ".join(reasons) or (
                "it closed the connection at once" if addresses else "no address is known"
            )
            raise PeerUnreachable(f"peer {peer} cannot be reached ({reason})", reason)

    async def _dial_one(self, peer: str, address: str) -> str | None:
        if peer == str(self._own):
            return await self._dial_self(address)
        session = await self._open(peer, address)
        if isinstance(session, str):
            return session
        turned = self._keep(session)
        if turned is None:
            return None
        await session.close()
        return turned.value

    async def _dial_self(self, address: str) -> str:
        """Dial an address where our own identity is expected. This process answered if the other end of the
        connection appears here as well; otherwise a process with a copy of the key did."""
        async with self._dialling_self:
            met = self._met_self = trio.Event()
            try:
                session = await self._open(str(self._own), address)
                if isinstance(session, str):
                    return session
                with trio.move_on_after(MEET_SECONDS):
                    await met.wait()
            finally:
                self._met_self = None
        if not met.is_set():
            self._on_twin(session.remote_ip)
        await session.close()
        if met.is_set():
            return "it is this node itself"
        return "another process answers there with the identity of this node"

    async def _open(self, peer: str, address: str) -> Session | str:
        """A connection with a peer at an address, or why there is none."""
        if self._swarm is None:
            return "the host has stopped"
        if self._is_own(address):
            return "that is this node itself"
        try:
            with trio.fail_after(self._limits.dial_seconds):
                return await libp2p_patches.dial(self._swarm, ID.from_base58(peer), Multiaddr(address))
        except trio.TooSlowError:
            return refusals.silent(self._limits.dial_seconds)
        except (BaseLibp2pError, OSError) as error:
            return refusals.why(error)

    def _is_own(self, address: str) -> bool:
        """Whether only this node can answer there, such as at a loopback address with our port."""
        place = addressing.parse(address)
        for ours in map(addressing.parse, self._listening()):
            if (ours.family, ours.port) == (place.family, place.port):
                if ours.host == place.host:
                    return True
                if ours.host in hosts.ANY and place.host in addressing.own_ips():
                    return True
        return False
