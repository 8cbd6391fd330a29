"""The network as the drivers see it: peers, envelopes, gossip, blobs and forwarded streams.

Everything here runs on the user's asyncio loop. libp2p runs in a thread of its own (trio_thread.py), and the
two meet in :class:`~mlnet.net.transport.host.Host`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mlnet.errors import LocalProtocolError, TransportError
from mlnet.identity.envelope import Envelope
from mlnet.identity.keys import Identity
from mlnet.net import addresses as addressing
from mlnet.net import blobs, dialback
from mlnet.net.gossip import Gossip
from mlnet.net.metric import Metrics
from mlnet.net.peers.manager import PeerManager
from mlnet.net.peers.twins import Twins
from mlnet.net.peers.views import Views
from mlnet.net.receiving.inbox import Inbox
from mlnet.net.receiving.server import PeerServer
from mlnet.net.receiving.service import Service, anonymous
from mlnet.net.sending.peer_channel import PeerChannels
from mlnet.net.sending.routing import Deliveries
from mlnet.net.transport.host import Host
from mlnet.net.transport.listening import everywhere
from mlnet.net.transport.ping_identify import Identified
from mlnet.net.transport.unix_tunnel import RuntimeDir
from mlnet.net.types import (
    MAX_ENVELOPE_BYTES,
    MAX_PREAMBLE_BYTES,
    RPC_PROTOCOL,
    DialBack,
    Handlers,
    Limits,
    Source,
    Target,
)
from mlnet.util.stopping import within

DEFAULT_LISTEN = everywhere()
STOP_SECONDS = 5.0
"""How long one part of a network may take to stop before the next one is stopped. The parts end in
milliseconds; the bound is for a part that hangs, which ``stop`` must not do with it."""


class Network:
    """A libp2p host and the gRPC service behind it.

    Args:
        identity: the key of this node.
        handlers: see :class:`Handlers`.
        listen: multiaddrs to listen on; port 0 takes a free one.
        peers: full multiaddrs (with ``/p2p/ID``) that are dialled, and redialled when the connection is lost.
        runtime_dir: a private directory (mode 0700, made if missing) for unix sockets; empty again after
            :meth:`stop`. Its path must leave room for a name of 24 characters within the 107 of a unix
            socket.
        limits: see :class:`Limits`.

    Raises:
        ConfigError: one of these addresses is malformed.
    """

    def __init__(
        self,
        identity: Identity,
        handlers: Handlers,
        *,
        listen: Sequence[str] = DEFAULT_LISTEN,
        peers: Sequence[str] = (),
        runtime_dir: Path,
        limits: Limits | None = None,
    ) -> None:
        # Nothing here opens a socket or starts a thread: the constructor may run outside a loop, and what it
        # raises is about its arguments only.
        self._handlers = handlers
        self._peer_id = identity.peer_id
        self._limits = limits or Limits()
        self._runtime = RuntimeDir(runtime_dir)
        rpc_socket = self._runtime.name("g")
        self._host = Host(
            identity.seed,
            listen=[addressing.check_listen(address) for address in listen],
            runtime=self._runtime,
            rpc_socket=rpc_socket,
            limits=self._limits,
            events=self,
        )
        self._peers = PeerManager(identity.peer_id, self._host, self._limits, peers, handlers.on_unreachable)
        self._twins = Twins(identity.peer_id, self._host.dial, self._is_own)
        split = map(addressing.split_full, peers)
        self._own_pinned = [address for address, peer in split if peer == identity.peer_id]
        self._channels = PeerChannels(self._host, self._peers, self._limits)
        self._deliveries = Deliveries(identity.peer_id, self._channels, self._peers.is_connected)
        self._gossip = Gossip(
            self._limits, self._peers.neighbours.targets, self._deliveries.gossip, time.monotonic
        )
        self._inbox = Inbox(
            identity.peer_id,
            handlers,
            self._limits,
            self._gossip,
            self._deliveries.relay,
            self._peers.penalise,
            time.monotonic,
        )
        self._rpc_socket = rpc_socket
        self._server = PeerServer(self._service(self._host.source), rpc_socket)
        self.for_tools = self._service(anonymous)
        """PeerService as tools may call it, whoever serves it to them."""
        self._running = False
        self._views = Views(self._host)

    def _service(self, find_source: Callable[[str], Source | None]) -> Service:
        return Service(
            self._limits,
            self._inbox,
            find_source,
            self._handlers.find_blob,
            self._peers.neighbours.on_degree,
            time.monotonic,
        )

    async def start(self) -> None:
        """Listen and serve; the addresses given as ``peers`` are dialled in the background.

        Raises:
            PortInUse: an address to listen on is taken.
            ConfigError: an address is not ours, or ``runtime_dir`` cannot be used.
        """
        self._runtime.prepare()
        try:
            # The gRPC server first: a peer that connects the moment the host listens must find it.
            await self._server.start()
            self._running = True
            await self._host.start()
        except BaseException:
            await self.stop()
            raise
        self._peers.start()
        self._twins.suspect(self._own_pinned)

    async def stop(self) -> None:
        """End every thread, connection and socket within a few seconds; sends that wait resolve to False.

        Can be called again, and before :meth:`start`.
        """
        # Set before anything is awaited: events that arrive while the parts end start nothing new.
        # The order is that of dependence: what calls others ends before what it calls. The host is last,
        # since its end closes the sockets in which an earlier part may hang.
        self._running = False
        await within(STOP_SECONDS, "the questions to peers", self._views.stop())
        await within(STOP_SECONDS, "the dials of our own identity", self._twins.stop())
        await within(STOP_SECONDS, "the dials under way", self._peers.stop())
        await within(STOP_SECONDS, "the channels to peers", self._channels.stop())
        self._host.refuse_calls()
        await within(STOP_SECONDS, "the gRPC server", self._server.stop())
        await self._host.stop()
        await self._inbox.stop()
        self._runtime.close()

    # --- peers

    @property
    def peer_id(self) -> str:
        """Our peer id."""
        return self._peer_id

    def addresses(self) -> list[str]:
        """Full multiaddrs with ``/p2p/ID``: first those at which peers have reached us, then those at which
        they see us; global addresses before private ones, loopback last."""
        return self._host.advertised()

    def standing(self, address: str) -> int:
        """What others have shown of an address of ours: see :mod:`mlnet.net.transport.reach`."""
        return self._host.reach.standing(address)

    async def reach_changed(self) -> None:
        """Return once more is known of which of our addresses others can use."""
        await self._views.changed()

    async def connect(self, address: str) -> str:
        """Dial a full multiaddr; the peer id once connected.

        Raises:
            PeerUnreachable: it did not answer, or proved another identity.
            ConfigError: not a multiaddr with ``/p2p/ID``.
        """
        return await self._peers.connect(address)

    async def ping(self, peer: str) -> int:
        """The round trip to a peer by libp2p's ping, in microseconds; connects when needed.

        Raises:
            TransportError: it did not answer.
        """
        return await self._host.ping(peer)

    async def identify(self, peer: str) -> Identified:
        """What a peer states about itself by libp2p's identify; connects when needed.

        Raises:
            TransportError: it did not answer by the rules.
        """
        return await self._host.identify(peer)

    def add_addresses(self, peer: str, addresses: Sequence[str]) -> None:
        """Remember addresses that a signed message gave, in place of those learned before.

        Malformed ones, names, and what exceeds the limits are ignored.
        """
        self._peers.learn(peer, addresses)

    def known_at(self, addresses: Sequence[str]) -> None:
        """A peer says that it knows us at these addresses: see whether another process has our identity."""
        found = (addressing.from_network(self._peer_id, address) for address in addresses)
        if self._running:
            self._twins.suspect(address for address in found if address is not None)

    def _is_own(self, address: str) -> bool:
        return any(own.partition("/p2p/")[0] == address for own in self.addresses())

    def neighbours(self) -> list[str]:
        """The connected peers to which gossip is passed, at most 16."""
        return self._peers.neighbours.chosen()

    def connected_peers(self) -> list[str]:
        """All peers with a live connection."""
        return self._peers.neighbours.connected

    def known_peers(self) -> dict[str, list[str]]:
        """Peers whose addresses are known, with these addresses (full multiaddrs)."""
        return self._peers.known()

    def remote_ips(self, peer: str) -> frozenset[str]:
        """The IP addresses at the other end of the live connections with that peer."""
        return self._peers.remote_ips(peer)

    async def lost(self, peer: str, seconds: float) -> None:
        """Return once a peer that was once connected has been unreachable for ``seconds``, though it was
        redialled all the time."""
        await self._peers.lost(peer, seconds)

    # --- envelopes

    def send(
        self,
        envelope: Envelope,
        to: str,
        *,
        timeout: float,
        via: Sequence[str] = (),
        gossip_fallback: bool = False,
    ) -> asyncio.Future[bool]:
        """Queue an envelope for a peer.

        It is resent over the next connection until it is acknowledged or ``timeout`` seconds have passed.
        When the direct path does not work, each peer of ``via`` is asked to carry it (one hop, acknowledged
        end to end); when none of that works and ``gossip_fallback`` is set, it is gossiped once, and the
        direct path tried on.

        Returns:
            A future: True when the peer acknowledged it, False when it was refused, timed out or found no
            room in the outbox. It never raises; cancelling it withdraws the envelope.

        Raises:
            LocalProtocolError: the envelope is larger than 1 MiB, or ``to`` is not another peer.
        """
        self._check(envelope)
        if to == self._peer_id or len(to) != len(self._peer_id):
            raise LocalProtocolError(f"an envelope cannot be sent to {to!r}")
        if not self._running:
            return self._deliveries.stopped()
        publish = self.publish if gossip_fallback else None
        return self._deliveries.send(envelope, to, timeout, via, publish)

    def publish(self, envelope: Envelope) -> Sequence[asyncio.Future[bool]]:
        """Gossip an envelope: every node of a connected network gets it once. Our ``on_envelope`` is not
        called.

        Returns:
            For each neighbour a future like that of :meth:`send`.

        Raises:
            LocalProtocolError: the envelope is larger than 1 MiB.
        """
        self._check(envelope)
        return self._gossip.publish(envelope) if self._running else []

    def _check(self, envelope: Envelope) -> None:
        if (size := envelope.size) > MAX_ENVELOPE_BYTES:
            raise LocalProtocolError(
                f"an envelope has {size} bytes; at most {MAX_ENVELOPE_BYTES} can be sent"
            )

    # --- other services of peers

    async def dial_back(self, peer: str, port: int, timeout: float) -> DialBack:
        """Ask a peer to dial back the IP address from which it sees us, at this TCP port, and to send a Redis
        PING.

        Never raises for a failure on the way: ``open`` is then False and ``reason`` says why.
        """
        return await dialback.ask(functools.partial(self._channels.stub, peer), port, timeout)

    async def fetch_blob(
        self, peer: str, digest: str, *, max_bytes: int, timeout: float, sink: Callable[[bytes], None]
    ) -> int:
        """Stream a blob from a peer into ``sink``, in pieces of at most 1 MiB; resume after a lost
        connection.

        Returns:
            The number of bytes. The caller checks the hash.

        Raises:
            TransportError: it could not be fetched within ``timeout`` seconds.
            DataError: the peer does not have it for us, or it is larger than ``max_bytes``.
        """
        connect = functools.partial(self._channels.stub, peer)
        return await blobs.fetch(connect, digest, max_bytes=max_bytes, timeout=timeout, sink=sink)

    async def forward(
        self, peer: str, protocol: str, preamble: str, *, listener: socket.socket | None = None
    ) -> Path:
        """A unix socket of which every connection becomes a stream of ``protocol`` to the peer.

        With a ``listener``, a socket that listens, it is the connections to that one, which belongs to the
        network from then on; the path is a mere name for :meth:`unforward`.

        The peer's ``admit`` sees ``preamble`` and decides; a refused stream is closed. When the peer is not
        connected, a connection to the socket makes us dial it, and is closed if that fails.

        Raises:
            LocalProtocolError: the preamble has more than 1024 bytes.
            TransportError: the network has stopped.
        """
        if len(preamble.encode()) > MAX_PREAMBLE_BYTES:
            raise LocalProtocolError(f"a preamble has at most {MAX_PREAMBLE_BYTES} bytes")
        return await self._host.open_tunnel(peer, protocol, preamble, listener)

    async def forward_rpc(self, peer: str, listener: socket.socket) -> Path:
        """Have each connection to a socket that listens lead to the gRPC service of a peer, as if from this
        one; see :meth:`forward`.

        Raises:
            TransportError: the network has stopped.
        """
        return await self._host.open_tunnel(peer, RPC_PROTOCOL, None, listener)

    async def unforward(self, path: Path) -> None:
        """Close a socket of :meth:`forward` and the streams that were opened through it."""
        with contextlib.suppress(TransportError):
            await self._host.close_tunnel(path)

    async def metrics(self) -> Metrics:
        """Counters and gauges of everything that peers may cost.

        Raises:
            TransportError: the network does not run.
        """
        return Metrics(
            (
                *self._peers.metrics(),
                *await self._host.metrics(),
                *self._inbox.metrics(),
                *self._gossip.metrics(),
                *self._channels.metrics(),
            )
        )

    # --- what the host tells and asks

    def on_connection(self, peer: str, ip: str, up: bool) -> None:
        """A libp2p connection came up or went."""
        now = self._peers.on_connection(peer, ip, up)
        channel = self._channels.get(peer)
        if up and channel is not None:
            channel.on_connection(True)
        if self._peers.is_connected(peer) == now or not self._running:
            return
        self._peers.on_peer(peer, now)
        if not now and channel is not None:
            channel.on_connection(False)
        # Who the neighbours are may have changed with any connection; each of them needs an open Exchange
        # stream, or its first gossip would wait for one to be opened.
        for target in self._peers.neighbours.chosen():
            self._channels[target].want()
        if now:
            self._views.on_peer(peer)
        self._handlers.on_peer(peer, now)

    def on_reached(self, remote: str, host: str, port: int) -> None:
        """A peer has dialled us."""
        self._views.on_reached(remote, host, port)

    def admit(self, peer: str, protocol: str, preamble: str) -> Target | None:
        """Ask the user about a stream."""
        return self._handlers.admit(peer, protocol, preamble) if self._running else None

    def on_missing_connection(self, peer: str) -> None:
        """A stream waits for a connection with that peer."""
        if self._running:
            self._peers.dial_soon(peer)

    def on_twin(self, ip: str) -> None:
        """Another process has our identity."""
        self._twins.found(ip)

    def on_garbage(self, peer: str, points: float) -> None:
        """A connection ended because that peer violated the protocol."""
        if self._running:
            self._peers.penalise(peer, points)
