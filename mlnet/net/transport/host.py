"""The libp2p host: TCP, noise and yamux in a trio thread, and the splices of its streams.

It uses libp2p's swarm, transport and security; what needs repair is in
:mod:`mlnet.net.transport.libp2p_patches`. The user, on the asyncio loop, sees peers as strings and streams
as unix sockets: bytes never cross between the two event loops, only decisions do
(docs/adr/0003-trio-thread.md).
"""

from __future__ import annotations

import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from mlnet.net import addresses as addressing
from mlnet.net import metric
from mlnet.net.metric import Metric
from mlnet.net.muxer.base import Ending, Session, Stream
from mlnet.net.muxer.select import Muxing, open_muxing
from mlnet.net.muxer.yamux import YamuxSession
from mlnet.net.transport import libp2p_patches, listening, ping_identify
from mlnet.net.transport.admission import Admission
from mlnet.net.transport.connections import Connection, Connections, Turned
from mlnet.net.transport.host_dialer import MEET_SECONDS, HostDialer
from mlnet.net.transport.inbound_streams import Inbound
from mlnet.net.transport.multistream import bound_negotiation
from mlnet.net.transport.outbound_streams import Outbound
from mlnet.net.transport.reach import Reach
from mlnet.net.transport.trio_thread import TrioThread
from mlnet.net.transport.unix_tunnel import RuntimeDir
from mlnet.net.types import Limits, Source, Target

logger = logging.getLogger(__name__)
GARBAGE_POINTS = 6.0
"""Points for a peer, and for its address, whose connection ended because it violated the protocol. One may be
a fault on the way; with 5 or less, a second one would not ban a peer (Limits.garbage_score)."""
SHUTDOWN_SECONDS = 2.0
"""Time for all connections to say goodbye and to write what is queued, which takes a session half a second.
"""


class HostEvents(Protocol):
    """Events and questions of the host. All are called on the asyncio loop."""

    def on_connection(self, peer: str, ip: str, up: bool) -> None:
        """A libp2p connection with a peer came up or ended."""

    def on_missing_connection(self, peer: str) -> None:
        """A stream waits for a connection with that peer, which should be dialled."""

    def on_garbage(self, peer: str, points: float) -> None:
        """A connection ended because the peer violated the protocol."""

    def on_twin(self, ip: str) -> None:
        """Another process, at this address, has our identity."""

    def admit(self, peer: str, protocol: str, preamble: str) -> Target | None:
        """The socket to which an inbound stream is spliced; None refuses the stream."""

    def on_reached(self, remote: str, host: str, port: int) -> None:
        """A peer at IP address ``remote`` has dialled us at our address ``host`` and TCP port ``port``."""


class Host:
    """A libp2p host in a thread of its own. All public methods belong to the asyncio loop.

    Args:
        seed: the 32 bytes of the Ed25519 key.
        listen: multiaddrs to listen on.
        runtime: where unix sockets live.
        rpc_socket: the gRPC server's unix socket.
        limits: bounds on peers.
        events: told of connections.
    """

    def __init__(
        self,
        seed: bytes,
        *,
        listen: Sequence[str],
        runtime: RuntimeDir,
        rpc_socket: Path,
        limits: Limits,
        events: HostEvents,
    ) -> None:
        self._keys: KeyPair = create_new_key_pair(seed)
        self._id = ID.from_pubkey(self._keys.public_key)
        self._listen = tuple(listen)
        self._limits, self._events = limits, events
        self._thread = TrioThread(self._main)
        self._connections = Connections(self._id, limits)
        self._inbound = Inbound(limits, runtime, rpc_socket, self._admit, self._serve_wellknown)
        self._outbound = Outbound(
            self._connections,
            limits,
            runtime,
            lambda peer: self._thread.notify(events.on_missing_connection, peer),
        )
        self._admission = Admission(limits, time.monotonic)
        self._endings: Counter[Ending] = Counter()
        self._dialer = HostDialer(
            self._id,
            self._connections,
            limits,
            lambda: self.listen_addresses,
            self._keep,
            lambda ip: self._thread.notify(events.on_twin, ip),
        )
        self._muxing: Muxing | None = None
        self._nursery: trio.Nursery | None = None
        self.listen_addresses: list[str] = []
        self.reach = Reach()

    # --- the asyncio side

    def advertised(self) -> list[str]:
        """Full multiaddrs for others: where we were reached, then where we are seen, then the rest."""
        return addressing.advertised(self.listen_addresses, str(self._id), preference=self.reach.standing)

    async def start(self) -> None:
        """Listen.

        Raises:
            PortInUse: an address is taken.
            ConfigError: an address cannot be listened on.
        """
        libp2p_patches.quiet_logging()
        await self._thread.start()

    async def stop(self) -> None:
        """Close every connection and end the thread."""
        await self._thread.stop()

    def refuse_calls(self) -> None:
        """Refuse gRPC streams from now on: the server is about to stop."""
        self._inbound.refuse_calls()

    def source(self, grpc_peer: str) -> Source | None:
        """Who is behind a gRPC call, by its ``context.peer()``."""
        return self._inbound.source(grpc_peer)

    async def dial(self, peer: str, addresses: Sequence[str]) -> None:
        """Connect to a peer unless a connection is up already.

        Args:
            peer: its id.
            addresses: multiaddrs without ``/p2p/ID``; names in them are resolved, and all addresses tried.

        Raises:
            PeerUnreachable: no address answered with that identity.
        """
        await self._thread.call(self._dialer.dial, peer, addresses)

    async def disconnect(self, peer: str, ban_seconds: float = 0.0) -> None:
        """Close a peer's connections, and refuse new ones for a while."""
        if ban_seconds > 0:
            self._connections.ban(peer, ban_seconds)
        await self._thread.call(self._disconnect, peer)

    def is_banned(self, peer: str) -> bool:
        """Whether that peer's connections are refused at present."""
        return self._connections.is_banned(peer)

    async def open_tunnel(
        self, peer: str, protocol: str, preamble: str | None = None, listener: socket.socket | None = None
    ) -> Path:
        """A unix socket of which each connection becomes a stream of ``protocol`` over whichever connection
        with the peer is up; with a ``listener`` it is that one, and the path is a mere name for it."""
        return await self._thread.call(self._outbound.open_tunnel, peer, protocol, preamble, listener)

    async def close_tunnel(self, path: Path) -> None:
        """Close a socket of :meth:`open_tunnel` and its streams."""
        await self._thread.call(self._outbound.close_tunnel, path)

    async def ping(self, peer: str) -> int:
        """The time that a peer's host takes to answer, in microseconds; connects when needed.

        Raises:
            TransportError: it did not.
        """
        open_stream = self._outbound.open_stream
        return await self._thread.call(
            ping_identify.ask, open_stream, peer, ping_identify.PING, ping_identify.ping
        )

    async def identify(self, peer: str) -> ping_identify.Identified:
        """What a peer states about itself; connects when needed.

        Raises:
            TransportError: it did not answer by the rules.
        """
        open_stream = self._outbound.open_stream
        return await self._thread.call(
            ping_identify.ask, open_stream, peer, ping_identify.IDENTIFY, ping_identify.identify
        )

    async def metrics(self) -> list[Metric]:
        """Of connections, handshakes, streams and the transport."""
        return await self._thread.call(self._metrics)

    # --- the trio side

    async def _metrics(self) -> list[Metric]:
        return [
            *metric.of_connections(self._connections, self._endings),
            *metric.of_admission(self._admission),
            *metric.of_streams(self._inbound),
            *metric.of_transport({} if self._muxing is None else self._muxing.counters()),
        ]

    async def _main(self, nursery: trio.Nursery, started: Callable[[], None]) -> None:
        self._nursery = nursery
        self._outbound.start(nursery)
        # Ports first: a port that is taken must fail before a thread or a swarm exists, with our words.
        opened = await listening.open_all(self._listen)
        try:
            self._inbound.start()
            async with open_muxing(self._limits) as muxing:
                self._muxing = muxing
                swarm = self._make_swarm(libp2p_patches.Tcp(self._admission, opened), muxing)
                await self._serve(swarm, list(opened), started)
        finally:
            self._inbound.close()
            listening.close(opened)

    async def _serve(self, swarm: Swarm, listen: Sequence[str], started: Callable[[], None]) -> None:
        async with background_trio_service(swarm):
            self._dialer.start(swarm)
            await swarm.listen(*map(Multiaddr, listen))
            self.listen_addresses = [
                str(address) for listener in swarm.listeners.values() for address in listener.get_addrs()
            ]
            started()
            try:
                await trio.sleep_forever()
            finally:
                # Shielded: the scope that ends this function is cancelled already, and sessions need time to
                # say goodbye.
                with trio.CancelScope(shield=True), trio.move_on_after(SHUTDOWN_SECONDS):
                    async with trio.open_nursery() as closing:
                        for connection in self._connections.all():
                            closing.start_soon(connection.session.close)

    def _make_swarm(self, tcp: libp2p_patches.Tcp, muxing: Muxing) -> Swarm:
        negotiation = max(1, int(self._limits.handshake_seconds))
        # A key for noise that lives as long as the process. The handshake signs it with the identity's key.
        noise = NoiseTransport(self._keys, noise_privkey=create_x25519_key_pair().private_key)
        upgrader = TransportUpgrader({NOISE: noise}, {TProtocol(YAMUX): YamuxSession}, negotiation)
        libp2p_patches.repair_muxer(upgrader, TProtocol(YAMUX), muxing, negotiation)
        bound_negotiation(upgrader)
        peerstore = PeerStore()
        peerstore.add_key_pair(self._id, self._keys)
        swarm = Swarm(
            self._id,
            peerstore,
            upgrader,
            [tcp],
            retry_config=libp2p_patches.NO_RETRY,
            connection_config=libp2p_patches.connection_config(self._limits),
        )
        # libp2p calls it for each inbound stream; Inbound negotiates, bounds and splices.
        swarm.set_stream_handler(self._inbound.serve)
        libp2p_patches.repair_auto_connector(swarm)
        libp2p_patches.repair_inbound(swarm, self._admission, self._serve_inbound)
        return swarm

    async def _serve_inbound(self, session: Session, dialled: libp2p_patches.Address | None) -> None:
        connection = self._add_connection(session)
        if isinstance(connection, Connection):
            if dialled is not None:
                self._thread.notify(self._events.on_reached, connection.ip, *dialled)
            await self._watch(connection)
        elif session.peer_id != self._id:
            return
        elif not self._dialer.meet_self():
            self._thread.notify(self._events.on_twin, session.remote_ip)
            # Keep the connection until the twin's handshake has ended: only then does the twin learn of us.
            with trio.move_on_after(MEET_SECONDS):
                await session.event_closed.wait()

    async def _watch(self, connection: Connection) -> None:
        session = connection.session
        try:
            await session.event_closed.wait()
        finally:
            self._connections.remove(connection)
            self._admission.on_connection(connection.ip, False)
            logger.debug(
                "connection with %s at %s ended: %s", connection.peer, connection.ip, session.end_reason
            )
            # The end is told before the blame, in the order of events.
            self._thread.notify(self._events.on_connection, connection.peer, connection.ip, False)
            if session.ending is not None:
                self._endings[session.ending] += 1
                if session.ending.is_garbage:
                    self._blame(connection)

    def _blame(self, connection: Connection) -> None:
        """Score down a peer that violated the protocol, and its address too, since another identity costs
        nothing."""
        self._admission.blame(connection.ip, GARBAGE_POINTS)
        self._thread.notify(self._events.on_garbage, connection.peer, GARBAGE_POINTS)

    def _keep(self, session: Session) -> Turned | None:
        """Add a connection that we have dialled, and watch it; why not, if it is turned away."""
        connection = self._add_connection(session)
        if isinstance(connection, Turned):
            return connection
        if self._nursery is not None:
            self._nursery.start_soon(self._watch, connection)
        return None

    def _add_connection(self, session: Session) -> Connection | Turned:
        ip = session.remote_ip
        connection = self._connections.add(session, ip)
        if isinstance(connection, Connection):
            self._admission.on_connection(ip, True)
            surplus = self._connections.surplus(connection)
            # In a task of its own: closing takes up to half a second, and the new connection must not wait
            # for it.
            if surplus is not None and self._nursery is not None:
                self._nursery.start_soon(surplus.session.close)
            self._thread.notify(self._events.on_connection, connection.peer, ip, True)
        return connection

    async def _disconnect(self, peer: str) -> None:
        async with trio.open_nursery() as nursery:
            for connection in self._connections.of(peer):
                nursery.start_soon(connection.session.close)

    async def _admit(self, peer: str, protocol: str, preamble: str) -> Target | None:
        return await self._thread.ask(self._events.admit, peer, protocol, preamble)

    async def _serve_wellknown(self, protocol: str, stream: Stream, protocols: Sequence[str]) -> None:
        if protocol == ping_identify.PING:
            await ping_identify.serve_ping(stream)
        else:
            addresses = [address.partition("/p2p/")[0] for address in self.advertised()]
            await ping_identify.serve_identify(
                stream, self._keys.public_key.serialize(), addresses, protocols
            )
