"""The network as the drivers see it: peers, envelopes, gossip, blobs and forwarded streams, on one asyncio
loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from mlnet.envelope import Envelope
from mlnet.errors import LocalProtocolError, TransportError
from mlnet.identity import Identity, parse_peer_id
from mlnet.net import addresses as addressing
from mlnet.net import blobs, dialback
from mlnet.net.connector import Connector
from mlnet.net.conversation import Conversations
from mlnet.net.delivery import deliver
from mlnet.net.gossip import Gossip
from mlnet.net.host import Host
from mlnet.net.intake import Intake
from mlnet.net.interface import (
    MAX_ENVELOPE_BYTES,
    MAX_PREAMBLE_BYTES,
    TOOL,
    DialBack,
    Handlers,
    Limits,
    Target,
)
from mlnet.net.metrics import Metric, Metrics, single
from mlnet.net.outbox import DIRECT, Outcome, Route, Sending
from mlnet.net.peers import AddressBook, Neighbours, Scores
from mlnet.net.presence import Presence
from mlnet.net.service import RpcServer, Service
from mlnet.net.tunnel import RuntimeDir
from mlnet.net.wellknown import Identified

__all__ = ["TOOL", "DialBack", "Handlers", "Identified", "Limits", "Network"]

logger = logging.getLogger(__name__)
DEFAULT_LISTEN = ("/ip4/0.0.0.0/tcp/0",)
GOSSIP_SECONDS = 30.0
"""How long gossip for a neighbour waits for its acknowledgement."""


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
        tools_address: ``host:port`` at which tools (a gRPC stub, ghz) may call the service; None for nowhere.
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
        tools_address: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._handlers = handlers
        self._peer_id = identity.peer_id
        self._limits = limits or Limits()
        self._runtime = RuntimeDir(runtime_dir)
        self._book = AddressBook(identity.peer_id, self._limits)
        for address in peers:
            dialable, peer = addressing.split_full(address)
            if peer != identity.peer_id:
                self._book.pin(peer, dialable)
        self._neighbours = Neighbours(self._limits)
        self._links: dict[str, Counter[str]] = {}
        self._scores = Scores(self._limits.garbage_score, self._limits.garbage_fade_seconds, time.monotonic)
        self._bans = 0
        self._background: set[asyncio.Task[None]] = set()
        self._deliveries: set[asyncio.Future[bool]] = set()
        self._gossip = Gossip(self._limits, self._neighbours.targets, self._forward_gossip, time.monotonic)
        self._intake = Intake(
            identity.peer_id,
            handlers,
            self._limits,
            self._gossip,
            self._relay,
            self.penalise,
            time.monotonic,
        )
        rpc_socket = self._runtime.name("g")
        self._host = Host(
            identity.seed,
            listen=[addressing.check_listen(address) for address in listen],
            runtime=self._runtime,
            rpc_socket=rpc_socket,
            limits=self._limits,
            events=self,
        )
        self._connector = Connector(self._host, self._book, self._neighbours, self._limits)
        self._presence = Presence(self._neighbours, self._connector.connect, self._limits.known_peers)
        self._conversations = Conversations(self._host, self, self._limits)
        self._rpc_socket, self._tools_address = rpc_socket, tools_address
        self._server: RpcServer | None = None
        self._running = False

    async def start(self) -> None:
        """Listen and serve; the addresses given as ``peers`` are dialled in the background.

        Raises:
            PortInUse: an address to listen on, or ``tools_address``, is taken.
            ConfigError: an address is not ours, or ``runtime_dir`` cannot be used.
        """
        self._runtime.prepare()
        service = Service(
            self._limits,
            self._intake,
            self._host.source,
            self._handlers.find_blob,
            self._neighbours.on_degree,
            time.monotonic,
        )
        self._server = RpcServer(service, self._rpc_socket, self._tools_address)
        try:
            await self._server.start()
            self._running = True
            await self._host.start()
        except BaseException:
            await self.stop()
            raise
        self._connector.start()

    async def stop(self) -> None:
        """End every thread, connection and socket within a few seconds; sends that wait resolve to False.

        Can be called again, and before :meth:`start`.
        """
        self._running = False
        await self._connector.stop()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._conversations.stop()
        if self._server is not None:
            await self._server.stop()
        await self._host.stop()
        await self._intake.stop()

    # --- peers

    @property
    def peer_id(self) -> str:
        """Our peer id."""
        return self._peer_id

    @property
    def tools_port(self) -> int | None:
        """The TCP port of ``tools_address``; None when it is off."""
        return None if self._server is None else self._server.tools_port

    def addresses(self) -> list[str]:
        """Full multiaddrs with ``/p2p/ID``: global addresses first, then private ones, loopback last."""
        return addressing.advertised(self._host.listen_addresses, self._peer_id)

    async def connect(self, address: str) -> str:
        """Dial a full multiaddr; the peer id once connected.

        Raises:
            PeerUnreachable: it did not answer, or proved another identity.
            ConfigError: not a multiaddr with ``/p2p/ID``.
        """
        dialable, peer = addressing.split_full(address)
        await self._connector.connect(peer, [dialable])
        self._book.learn(peer, [dialable])
        return peer

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
        try:
            parse_peer_id(peer)
        except ValueError:
            return
        if self._book.learn(peer, addresses):
            self._connector.wake()

    def neighbours(self) -> list[str]:
        """The connected peers to which gossip is passed, at most 16."""
        return self._neighbours.chosen()

    def connected_peers(self) -> list[str]:
        """All peers with a live connection."""
        return self._neighbours.connected

    def known_peers(self) -> dict[str, list[str]]:
        """Peers whose addresses are known, with these addresses (full multiaddrs)."""
        return self._book.known()

    def remote_ips(self, peer: str) -> frozenset[str]:
        """The IP addresses at the other end of the live connections with that peer."""
        return frozenset(self._links.get(peer, ()))

    async def lost(self, peer: str, seconds: float) -> None:
        """Return once a peer that was connected at some time has been away for so many seconds, though it was
        dialled."""
        await self._presence.lost(peer, seconds)

    def penalise(self, peer: str, points: float = 1.0) -> None:
        """Score a peer down; at ten points (they fade, one a minute) it is disconnected and shut out for a
        minute.

        The network does it for garbage by itself; call it for what only the user sees, such as equivocation.
        """
        if peer != TOOL and self._scores.add(peer, points):
            logger.warning("peer %s is shut out for %g s: it broke the rules", peer, self._limits.ban_seconds)
            self._bans += 1
            self._spawn(self._host.disconnect(peer, self._limits.ban_seconds))

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
            room. It never raises; cancelling it takes the envelope back.

        Raises:
            LocalProtocolError: the envelope is larger than 1 MiB, or ``to`` is not another peer.
        """
        self._check(envelope)
        if to == self._peer_id or len(to) != len(self._peer_id):
            raise LocalProtocolError(f"an envelope cannot be sent to {to!r}")
        result = Sending(asyncio.get_running_loop(), _is_accepted)
        if not self._running:
            result.settle(Outcome.STOPPED)
            return result
        helpers = [peer for peer in dict.fromkeys(via) if peer not in (to, self._peer_id)]
        if not helpers and not gossip_fallback:
            self._conversations.add(envelope, to, timeout, DIRECT, result)
            return result
        task = asyncio.ensure_future(
            deliver(
                self._conversations.put,
                self._conversations[to].broken,
                envelope,
                to,
                timeout=timeout,
                via=helpers,
                publish=self.publish if gossip_fallback else None,
            )
        )
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)
        result.add_done_callback(lambda done: task.cancel() if done.cancelled() else None)
        task.add_done_callback(lambda done: _settle(result, done))
        return result

    def publish(self, envelope: Envelope) -> None:
        """Gossip an envelope: every node of a connected network gets it once. Our ``on_envelope`` is not
        called.

        Raises:
            LocalProtocolError: the envelope is larger than 1 MiB.
        """
        self._check(envelope)
        if self._running:
            self._gossip.publish(envelope)

    def _check(self, envelope: Envelope) -> None:
        size = envelope.size
        if size > MAX_ENVELOPE_BYTES:
            raise LocalProtocolError(f"an envelope of {size} bytes; at most {MAX_ENVELOPE_BYTES} can be sent")

    def _relay(self, envelope: Envelope, to: str, seconds: float) -> asyncio.Future[Outcome] | None:
        if to not in self._neighbours:
            return None
        return self._conversations.put(envelope, to, seconds, Route(relayed=True))

    def _forward_gossip(self, envelope: Envelope, peer: str, hops: int) -> None:
        self._conversations.add(envelope, peer, GOSSIP_SECONDS, Route(hops=hops), None)

    # --- other services of peers

    async def dial_back(self, peer: str, port: int, timeout: float) -> DialBack:
        """Ask a peer to dial back the IP from which it sees us, at this TCP port, and to send a Redis PING.

        Never raises for what happens on the way: ``open`` is False and ``reason`` says why.
        """
        try:
            async with asyncio.timeout(timeout):
                return await dialback.ask(await self._conversations.stub(peer), port, timeout)
        except TransportError as error:
            return DialBack(False, "", str(error))
        except TimeoutError:
            return DialBack(False, "", f"the peer did not answer within {timeout:g} s")

    async def fetch_blob(
        self, peer: str, digest: str, *, max_bytes: int, timeout: float, sink: Callable[[bytes], None]
    ) -> int:
        """Stream a blob from a peer into ``sink``, in pieces of at most 1 MiB; goes on after a lost
        connection.

        Returns:
            The number of bytes. The caller checks the hash.

        Raises:
            TransportError: it could not be fetched within ``timeout`` seconds.
            DataError: the peer does not have it for us, or it is larger than ``max_bytes``.
        """
        connect = functools.partial(self._conversations.stub, peer)
        return await blobs.fetch(connect, digest, max_bytes=max_bytes, timeout=timeout, sink=sink)

    async def forward(
        self, peer: str, protocol: str, preamble: str, *, listener: socket.socket | None = None
    ) -> Path:
        """A unix socket of which every connection becomes a stream of ``protocol`` to the peer.

        With a ``listener``, a socket that listens, it is the connections to that one, which belongs to the
        network from then on; the path is a mere name for :meth:`unforward`.

        The peer's ``admit`` sees ``preamble`` and decides; a refused stream is closed. A connection that
        finds the peer gone has it dialled, and is closed if that fails.

        Raises:
            LocalProtocolError: the preamble has more than 1024 bytes.
            TransportError: the network has stopped.
        """
        if len(preamble.encode()) > MAX_PREAMBLE_BYTES:
            raise LocalProtocolError(f"a preamble has at most {MAX_PREAMBLE_BYTES} bytes")
        return await self._host.open_tunnel(peer, protocol, preamble, listener)

    async def unforward(self, path: Path) -> None:
        """Close a socket of :meth:`forward` and the streams opened by way of it."""
        with contextlib.suppress(TransportError):
            await self._host.close_tunnel(path)

    async def metrics(self) -> Metrics:
        """Counters and gauges of everything that peers may cost.

        Raises:
            TransportError: the network does not run.
        """
        known, connected = len(self._book.known()), len(self._neighbours)
        peers = {"connected": connected, "neighbours": len(self._neighbours.chosen()), "known": known}
        return Metrics(
            (
                Metric("mlnet_peers", "Peers by what they are to this node.", peers, "state"),
                single("mlnet_peer_bans_total", "Peers that were shut out.", self._bans),
                *await self._host.metrics(),
                *self._intake.metrics(),
                *self._gossip.metrics(),
                *self._conversations.metrics(),
            )
        )

    # --- what the host and the conversations tell and ask

    def on_link(self, peer: str, ip: str, up: bool) -> None:
        """A libp2p connection came up or went."""
        ips = self._links.setdefault(peer, Counter())
        ips[ip] += 1 if up else -1
        if ips[ip] <= 0:
            del ips[ip]
        was, now = peer in self._neighbours, bool(ips)
        if not now:
            del self._links[peer]
        conversation = self._conversations.get(peer)
        if up and conversation is not None:
            conversation.on_link(True)
        if was == now or not self._running:
            return
        if now:
            self._neighbours.add(peer)
            self._connector.on_connected(peer)
        else:
            self._neighbours.remove(peer)
            self._connector.wake()
            if conversation is not None:
                conversation.on_link(False)
        for target in self._neighbours.chosen():
            self._conversations[target].want()
        self._presence.on_peer(peer, now)
        self._handlers.on_peer(peer, now)

    def admit(self, peer: str, protocol: str, preamble: str) -> Target | None:
        """Ask the user about a stream."""
        return self._handlers.admit(peer, protocol, preamble) if self._running else None

    def on_missing_link(self, peer: str) -> None:
        """A stream waits for a connection with that peer."""
        if self._running:
            self._connector.dial_soon(peer)

    def on_garbage(self, peer: str, points: float) -> None:
        """A connection ended because that peer broke the rules."""
        if self._running:
            self.penalise(peer, points)

    def degree(self) -> int:
        """Connected peers."""
        return len(self._neighbours)

    def is_connected(self, peer: str) -> bool:
        """Whether a libp2p connection with that peer is up."""
        return peer in self._neighbours

    async def connect_peer(self, peer: str) -> None:
        """Bring one up."""
        await self._connector.connect(peer)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background_done)

    def _background_done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.debug("%r", error)


def _settle(result: asyncio.Future[bool], task: asyncio.Future[bool]) -> None:
    if not result.done():
        result.set_result(not task.cancelled() and task.result())


def _is_accepted(outcome: Outcome) -> bool:
    return outcome is Outcome.ACCEPTED
