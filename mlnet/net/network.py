"""The network as the drivers see it: peers, envelopes, gossip, blobs and forwarded streams, on one asyncio loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mlnet.envelope import Envelope
from mlnet.identity import Identity
from mlnet.net.interface import TOOL, DialBack, Handlers, Limits

__all__ = ["TOOL", "DialBack", "Handlers", "Limits", "Network"]

DEFAULT_LISTEN = ("/ip4/0.0.0.0/tcp/0",)


class Network:
    """A libp2p host and the gRPC service behind it.

    Args:
        identity: the key of this node.
        handlers: see :class:`Handlers`.
        listen: multiaddrs to listen on; port 0 takes a free one.
        peers: full multiaddrs (with ``/p2p/ID``) that are dialled, and redialled when the connection is lost.
        runtime_dir: a private directory (mode 0700, made if missing) for unix sockets; empty again after :meth:`stop`. Its path
            must leave room for a name of 24 characters within the 107 that a unix socket may have.
        tools_address: ``host:port`` at which tools (a gRPC stub, ghz) may call the service; None for nowhere.
        limits: see :class:`Limits`.
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
        raise NotImplementedError

    async def start(self) -> None:
        """Listen and serve; the addresses given as ``peers`` are dialled in the background.

        Raises:
            PortInUse: an address to listen on, or ``tools_address``, is taken.
            ConfigError: an address is malformed, or ``runtime_dir`` cannot be used.
        """
        raise NotImplementedError

    async def stop(self) -> None:
        """End every thread, connection and socket within a few seconds; sends that wait resolve to False. Idempotent."""
        raise NotImplementedError

    @property
    def peer_id(self) -> str:
        raise NotImplementedError

    @property
    def tools_port(self) -> int | None:
        """The TCP port of ``tools_address``; None when it is off."""
        raise NotImplementedError

    def addresses(self) -> list[str]:
        """Full multiaddrs with ``/p2p/ID``: global addresses first, then private ones, loopback last."""
        raise NotImplementedError

    async def connect(self, address: str) -> str:
        """Dial a full multiaddr; the peer id once connected.

        Raises:
            PeerUnreachable: it did not answer, or proved another identity.
            ConfigError: not a multiaddr with ``/p2p/ID``.
        """
        raise NotImplementedError

    def add_addresses(self, peer: str, addresses: Sequence[str]) -> None:
        """Remember addresses that a signed message gave; malformed ones and what exceeds the limits are ignored."""
        raise NotImplementedError

    def neighbours(self) -> list[str]:
        """The connected peers to which gossip is passed."""
        raise NotImplementedError

    def connected_peers(self) -> list[str]:
        """All peers with a live connection."""
        raise NotImplementedError

    def known_peers(self) -> dict[str, list[str]]:
        """Peers whose addresses are known, with these addresses (full multiaddrs)."""
        raise NotImplementedError

    def remote_ips(self, peer: str) -> frozenset[str]:
        """The IP addresses at the other end of the live connections with that peer."""
        raise NotImplementedError

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

        It is resent over the next connection until it is acknowledged or ``timeout`` seconds have passed. When the direct path
        does not work, each peer of ``via`` is asked to carry it (one hop, acknowledged end to end); when none of that works and
        ``gossip_fallback`` is set, it is gossiped once.

        Returns:
            A future: True when the peer acknowledged it, False when it was refused, timed out or found no room. Never raises.

        Raises:
            LocalProtocolError: the envelope is larger than 1 MiB.
        """
        raise NotImplementedError

    def publish(self, envelope: Envelope) -> None:
        """Gossip an envelope: every node of a connected network gets it once. Our own ``on_envelope`` is not called.

        Raises:
            LocalProtocolError: the envelope is larger than 1 MiB.
        """
        raise NotImplementedError

    async def dial_back(self, peer: str, port: int, timeout: float) -> DialBack:
        """Ask a peer to dial back the IP from which it sees us, at this TCP port, and to send a Redis PING.

        Never raises for what happens on the way: ``open`` is False and ``reason`` says why.
        """
        raise NotImplementedError

    async def fetch_blob(
        self, peer: str, digest: str, *, max_bytes: int, timeout: float, sink: Callable[[bytes], None]
    ) -> int:
        """Stream a blob from a peer into ``sink``, in pieces of at most 1 MiB; continues after a break of the connection.

        Returns:
            The number of bytes. The caller checks the hash.

        Raises:
            TransportError: it could not be fetched within ``timeout`` seconds.
            DataError: the peer does not have it for us, or it is larger than ``max_bytes``.
        """
        raise NotImplementedError

    async def forward(self, peer: str, protocol: str, preamble: str) -> Path:
        """A unix socket of which every connection becomes a stream of ``protocol`` to the peer.

        The peer's ``admit`` sees ``preamble`` (at most 1024 bytes) and decides; a refused stream is closed.
        """
        raise NotImplementedError

    async def unforward(self, path: Path) -> None:
        """Close a socket of :meth:`forward` and the streams opened by way of it."""
        raise NotImplementedError

    def penalise(self, peer: str, points: float = 1.0) -> None:
        """Score a peer down for what the network cannot see itself, such as equivocation."""
        raise NotImplementedError

    def health(self) -> Mapping[str, int]:
        """Counters since the start."""
        raise NotImplementedError
