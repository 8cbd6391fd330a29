"""What the network asks of its user, and the plain values that it returns. Loads neither libp2p nor grpc."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mlnet.identity.envelope import Envelope

MAX_ENVELOPE_BYTES = 1 << 20
"""UTF-8 bytes of the largest envelope that is sent or accepted."""
CHUNK_BYTES = 1 << 20
"""Bytes of the largest piece of a blob."""
MAX_PREAMBLE_BYTES = 1024
"""UTF-8 bytes of the longest preamble of a spliced stream."""
TOOL = ""
"""The ``source`` of an envelope that a tool handed in at ``tools_address``: no peer stands behind it."""
OWN_ADDRESS_FACTOR = 4
"""By how much the bounds by address are wider for this machine's own, which all nodes on it share."""
RELAY_SECONDS = 5.0
"""How long an envelope for another peer waits at a relay for that peer's acknowledgement."""
RPC_PROTOCOL = "/mlnet/grpc/1.0.0"
REDIS_PROTOCOL = "/mlnet/redis/1.0.0"
GLOO_PROTOCOL = "/mlnet/gloo/1.0.0"


Target = Path | tuple[str, int]
"""A unix socket, or an address and a TCP port of this machine."""
AddToServer = Callable[[Any], None]
"""Adds a servicer to a ``grpc.aio.Server``, as the generated ``add_NAMEServicer_to_server`` does."""


class Source(NamedTuple):
    """Where a call comes from, as the noise handshake and the TCP connection prove it."""

    peer: str
    ip: str


@dataclass(frozen=True, slots=True)
class DialBack:
    """What a peer found when it dialled one of our ports.

    Attributes:
        open: it got a pong.
        host: the address that it dialled: the remote IP of our libp2p connection as that peer sees it.
        reason: why the port is not open; empty when it is.
    """

    open: bool
    host: str
    reason: str


@dataclass(frozen=True, slots=True)
class Handlers:
    """The network's user. Every function but ``verify`` is called on the asyncio loop of
    :meth:`Network.start` and must not block.

    Attributes:
        on_envelope: ``(opened, source, gossip)``, with what ``verify`` made of an envelope. ``source`` is the
            peer whose connection carried it (the sender is in the envelope's string, and only its signature
            proves it), or :data:`TOOL`. Return True to acknowledge it and, if ``gossip``, to pass it on;
            False when it is not for us: acknowledged, not passed on. Raise
            :class:`~mlnet.errors.RemoteProtocolError` for garbage: the sender is told, and the source scored
            down. A gossiped envelope comes once; one sent directly may come again when its acknowledgement
            was lost.
        on_peer: ``(peer, connected)``: the first libp2p connection with a peer is up, by whichever side, or
            the last one is gone.
        find_blob: ``(peer, digest)`` -> the file to serve, None to refuse. The digest comes from the network.
        admit: ``(peer, protocol, preamble)`` -> where that stream is spliced to, see :data:`Target`; None to
            refuse.
        verify: ``(envelopes)`` of one peer -> for each what ``on_envelope`` gets, or the RemoteProtocolError
            that refuses it. Called in any thread, several at a time: it changes nothing.
        on_unreachable: ``(peer, why)``: a peer that was named at the start was dialled in vain; ``why`` says
            for each address what answered there. Called again only when that changes.
    """

    on_envelope: Callable[[Any, str, bool], bool]
    on_peer: Callable[[str, bool], None]
    find_blob: Callable[[str, str], Path | None]
    admit: Callable[[str, str, str], Target | None]
    verify: Callable[[Sequence[Envelope]], Sequence[object]]
    on_unreachable: Callable[[str, str], None] = lambda peer, why: None


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what peers may cost us. Rates are token buckets that allow a burst.

    An address is an IPv4 address or the /64 network of an IPv6 one; many peers may share it. This machine's
    own has :data:`OWN_ADDRESS_FACTOR` times what others have.

    Attributes:
        connections: libp2p connections in all.
        connections_per_peer: of them with one peer; the oldest goes first.
        connections_per_address: inbound ones of one address; what exceeds them is told to go away.
        handshakes: inbound connections that have not proved an identity yet; of the busiest address, the
            one that has said least goes first.
        handshakes_per_second: of them from one address; what exceeds it is closed at once.
        handshake_seconds: time for such a proof.
        rpc_streams_per_peer: tunnelled HTTP/2 connections that one peer may have open with us.
        spliced_streams_per_peer: streams to unix sockets of ours that one peer may have open with us.
        wellknown_streams_per_peer: streams of ping and identify that one peer may have open with us.
        nameless_streams_per_peer: streams of one peer that have not said what they are for.
        streams_per_address: streams of all of these of one address.
        envelopes_per_second: envelopes of one peer that are handled; more than that wait, which slows that
            peer down.
        envelope_bytes_per_second: likewise their bytes.
        peers_per_address: the rates of envelopes that one address has, as those of so many peers.
        gossip_per_second: gossiped envelopes of one neighbour; what exceeds it is dropped.
        relays_per_second: envelopes of one peer that we carry to another.
        outbox_envelopes: envelopes waiting for one peer's acknowledgement.
        outbox_bytes: bytes of all envelopes waiting for any peer.
        seen: gossiped envelopes that are remembered.
        hops: how often a gossiped envelope is passed on.
        min_neighbours: connections that the network tries to have.
        max_neighbours: peers to which gossip is passed.
        known_peers: peers whose addresses are kept.
        addresses_per_peer: addresses that are kept for one peer.
        garbage_score: points of garbage at which a peer is cut off; a point fades in
            ``garbage_fade_seconds``.
        garbage_fade_seconds: see there.
        address_score: points of failed handshakes and of garbage at which an address is shut out; a point
            fades in ``address_fade_seconds``.
        address_fade_seconds: see there.
        ban_seconds: how long a peer or an address that was cut off stays out.
        fetches_per_peer: blobs that one peer may fetch from us at a time.
        dial_backs_per_minute: ports that we dial for one peer.
        tunnel_bytes: received and not yet taken by their readers, or waiting to be sent, in all connections.
        tunnel_bytes_per_connection: the former of one connection.
        bytes_per_second: read from one connection; 0 for as many as come.
        ping_seconds: silence after which a connection is pinged.
        ping_timeout_seconds: time to answer; then the connection is dead.
        dial_seconds: time for one address to answer and prove its identity.
    """

    connections: int = 1024
    connections_per_peer: int = 4
    connections_per_address: int = 128
    handshakes: int = 128
    handshakes_per_second: float = 32.0
    handshake_seconds: float = 5.0
    rpc_streams_per_peer: int = 8
    spliced_streams_per_peer: int = 64
    wellknown_streams_per_peer: int = 8
    nameless_streams_per_peer: int = 128
    streams_per_address: int = 2048
    envelopes_per_second: float = 1000.0
    envelope_bytes_per_second: float = 32.0 * (1 << 20)
    peers_per_address: int = 8
    gossip_per_second: float = 200.0
    relays_per_second: float = 50.0
    outbox_envelopes: int = 1024
    outbox_bytes: int = 64 << 20
    seen: int = 16384
    hops: int = 16
    min_neighbours: int = 8
    max_neighbours: int = 16
    known_peers: int = 1024
    addresses_per_peer: int = 8
    garbage_score: float = 10.0
    garbage_fade_seconds: float = 60.0
    address_score: float = 20.0
    address_fade_seconds: float = 6.0
    ban_seconds: float = 60.0
    fetches_per_peer: int = 4
    dial_backs_per_minute: float = 30.0
    tunnel_bytes: int = 256 << 20
    tunnel_bytes_per_connection: int = 32 << 20
    bytes_per_second: int = 0
    ping_seconds: float = 2.0
    ping_timeout_seconds: float = 3.0
    dial_seconds: float = 8.0
