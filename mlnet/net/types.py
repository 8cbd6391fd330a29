"""What the network asks of its user, and the plain values that it returns.

This module loads neither libp2p nor grpc, so that the drivers and the command line start without either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mlnet.identity.envelope import Envelope

MAX_ENVELOPE_BYTES = 1 << 20
"""UTF-8 bytes of the largest envelope that is sent or accepted. The largest message of the protocol,
CLUSTER_MEMBERS or DATASET_SELECTION, may have 1 MiB (proto/README.md): at half of it they would not arrive.
"""
CHUNK_BYTES = 1 << 20
"""Bytes of the largest piece of a blob. It has to fit into one gRPC message (MAX_MESSAGE_BYTES), whose bound
is shared with envelopes."""
MAX_PREAMBLE_BYTES = 1024
"""UTF-8 bytes of the longest preamble of a spliced stream. A preamble is a task id (64 digits) and a purpose;
the bound is what a stranger can make us hold for a stream that is not admitted yet."""
TOOL = ""
"""The ``source`` of an envelope from a tool at the node's API: there is no peer to blame or to limit."""
OWN_ADDRESS_FACTOR = 4
"""How many times wider the bounds per address are for the loopback address, which all nodes on this machine
share: a demonstration runs dozens of them, and each may be connected with every other."""
RELAY_SECONDS = 5.0
"""How long a relay waits for the addressee's acknowledgement. The sender waits a second longer (routing.py),
so that the relay's answer, and not a timeout, tells it what happened."""
# gRPC runs inside a libp2p stream: libp2p gives identity, encryption and multiplexing without a certificate
# authority, gRPC gives deadlines, flow control and status codes that stock clients understand
# (docs/adr/0002-grpc-inside-libp2p.md). The ids are on the wire; a new version of a protocol gets a new id,
# and a node may answer both.
RPC_PROTOCOL = "/mlnet/grpc/1.0.0"
REDIS_PROTOCOL = "/mlnet/redis/1.0.0"
GLOO_PROTOCOL = "/mlnet/gloo/1.0.0"


Target = Path | tuple[str, int]
"""A unix socket, or an address and a TCP port of this machine."""


class Source(NamedTuple):
    """Where a call comes from: the peer id that the noise handshake proved, and the remote address of the TCP
    connection. Nothing that a message claims goes into it."""

    peer: str
    ip: str


@dataclass(frozen=True, slots=True)
class DialBack:
    """The result of a peer's dial-back to one of our ports.

    Attributes:
        open: whether it got a pong.
        host: the address that it dialled: the remote IP address of our libp2p connection, as that peer sees
            it.
        reason: why the port is not open; empty when it is.
    """

    open: bool
    host: str
    reason: str


@dataclass(frozen=True, slots=True)
class Handlers:
    """The callbacks of the network's user. All but ``verify`` are called on the asyncio loop of
    :meth:`Network.start` and must not block.

    Attributes:
        on_envelope: ``(opened, source, gossip)``: takes the result of ``verify`` for an envelope. ``source``
            is the peer whose connection carried it, or :data:`TOOL`; the sender is named in the envelope's
            string, and only its signature proves it. Return True to acknowledge the envelope and, if
            ``gossip``, to forward it; False to acknowledge it only. Raise
            :class:`~mlnet.errors.RemoteProtocolError` for garbage: the sender is told, and the source scored
            down. A gossiped envelope comes once; one sent directly comes again when its acknowledgement was
            lost.
        on_peer: ``(peer, connected)``: the first libp2p connection with a peer came up, whichever side
            dialled, or the last one ended.
        find_blob: ``(peer, digest)`` -> the file to serve, None to refuse. The digest comes from the network
            and is lower-case hex, at most 128 digits.
        admit: ``(peer, protocol, preamble)`` -> the socket to which that stream is spliced, see
            :data:`Target`; None to refuse.
        verify: ``(envelopes)`` of one peer -> for each the object that ``on_envelope`` gets, or the
            RemoteProtocolError that refuses it. Called in any thread, several at a time, so it must not
            change anything.
        on_unreachable: ``(peer, why)``: no address of a peer that was named at the start answered; ``why``
            gives the reason for each address. Called again only when that changes.
    """

    on_envelope: Callable[[Any, str, bool], bool]
    on_peer: Callable[[str, bool], None]
    find_blob: Callable[[str, str], Path | None]
    admit: Callable[[str, str, str], Target | None]
    verify: Callable[[Sequence[Envelope]], Sequence[object]]
    on_unreachable: Callable[[str, str], None] = lambda peer, why: None


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what peers may cost us. Rates are token buckets with a burst of two seconds,
    unless said otherwise.

    An address is an IPv4 address or the /64 network of an IPv6 one; many peers may share it. The loopback
    address has :data:`OWN_ADDRESS_FACTOR` times the allowance of others.

    Peer ids cost nothing (tens of thousands a second on one core), so every bound per peer has one per
    address or one for all beside it. The comments at the values say what each is for, and what changes when
    it is halved.

    Attributes:
        connections: libp2p connections, inbound and outbound together.
        connections_per_peer: connections with one peer; the oldest is closed first.
        connections_per_address: inbound connections from one address; further ones are closed after the
            handshake.
        handshakes: inbound connections that have not proved an identity yet. When there are too many, the one
            that has sent least is evicted from the address that has most.
        handshakes_per_second: new inbound connections from one address; further ones are closed at once.
        handshake_seconds: time to prove an identity and to negotiate a protocol.
        rpc_streams_per_peer: tunnelled HTTP/2 connections that one peer may have open with us.
        spliced_streams_per_peer: Redis and gloo streams that one peer may have open with us.
        wellknown_streams_per_peer: streams of ping and identify that one peer may have open with us.
        nameless_streams_per_peer: streams of one peer that have not negotiated a protocol yet.
        streams_per_address: streams from one address, of all these kinds.
        envelopes_per_second: envelopes handled for one peer. Further ones wait, and flow control slows the
            peer down.
        envelope_bytes_per_second: the same for their bytes.
        peers_per_address: the envelope rates of one address, as a multiple of one peer's.
        gossip_per_second: gossiped envelopes accepted from one neighbour; further ones are dropped.
        relays_per_second: envelopes that we relay for one peer.
        outbox_envelopes: envelopes that wait for one peer's acknowledgement.
        outbox_bytes: bytes of all envelopes that wait, for all peers together.
        seen: gossiped envelopes that are remembered, so that a copy is dropped.
        hops: how many times a gossiped envelope may be forwarded.
        min_neighbours: connections that the dialer tries to keep.
        max_neighbours: peers to which gossip is forwarded.
        known_peers: peers whose addresses are kept.
        addresses_per_peer: addresses that are kept for one peer.
        garbage_score: points at which a peer is banned; one point fades in ``garbage_fade_seconds``.
        garbage_fade_seconds: seconds in which one point of a peer fades.
        address_score: points at which an address is banned; one point fades in ``address_fade_seconds``.
        address_fade_seconds: seconds in which one point of an address fades.
        ban_seconds: how long a ban of a peer or an address lasts.
        fetches_per_peer: blobs that one peer may fetch from us at a time.
        dial_backs_per_minute: dial-backs that one peer may ask of us; a third of them at once.
        tunnel_bytes: bytes in the buffers of all connections: received and not read, or waiting to be sent.
        tunnel_bytes_per_connection: received and unread bytes of one connection.
        bytes_per_second: bytes read from one connection; 0 for no bound.
        ping_seconds: silence after which a connection is pinged; the session in Python does not wait for
            silence.
        ping_timeout_seconds: silence after a ping that ends the connection.
        dial_seconds: time for one address to answer and to prove the peer's identity.
    """

    # A connection costs one descriptor, and each of its streams one more, beside 22 KB of memory (README,
    # "idle connection"; 44 KB with the session in Python). An eighth is kept for peers that we dial
    # (connections.py).
    connections: int = 1024
    # Two peers that dial each other at once have two; a peer that lost its network dials again before its
    # dead connections are noticed, which takes five seconds (ping_seconds and ping_timeout_seconds).
    connections_per_peer: int = 4
    # 64 nodes behind one address, each connected twice: at half of it a site or demonstration of that size
    # turns its own nodes away.
    connections_per_address: int = 128
    # One address may begin 4 s worth at once (admission.BURST_SECONDS), which is the whole table; then it
    # evicts its own attempts, never those of others. A dial, its handshake and a first call take 18 ms on
    # both sides together (README), so 32 a second cost at most 0.6 s of processor time each second.
    handshakes: int = 128
    handshakes_per_second: float = 32.0
    # Several round trips of a slow link, for noise and for each negotiation. py-libp2p's default of 10 s
    # doubles the time for which an idle TCP connection holds its place.
    handshake_seconds: float = 5.0
    # A peer uses one HTTP/2 connection (grpc_channel.Channel). The rest covers those that it opened anew
    # before we noticed the end of the old ones.
    rpc_streams_per_peer: int = 8
    spliced_streams_per_peer: int = 64
    wellknown_streams_per_peer: int = 8
    # Half of what a session may have open (muxer.base.MAX_STREAMS): streams that say nothing leave room for
    # streams in use.
    nameless_streams_per_peer: int = 128
    # 16 streams for each of connections_per_address. Without it 128 identities from one machine would open
    # 32,768 sockets.
    streams_per_address: int = 2048
    # A node verifies about 14,000 envelopes a second on two cores (README): one peer may use a fourteenth of
    # that, one address eight times as much. A training task needs a few hundred envelopes in all.
    envelopes_per_second: float = 1000.0
    envelope_bytes_per_second: float = 32.0 * (1 << 20)
    peers_per_address: int = 8
    # All 16 neighbours together may send 3,200 a second, less than a quarter of what a node can verify.
    # Gossip beyond it is dropped rather than delayed: another neighbour brings the same envelope.
    gossip_per_second: float = 200.0
    relays_per_second: float = 50.0
    # As many as may be in flight (outbox.MAX_IN_FLIGHT): a peer that acknowledges nothing holds no more than
    # that.
    outbox_envelopes: int = 1024
    # 64 of the largest envelopes; bounds the memory of a node whose peers have all gone silent.
    outbox_bytes: int = 64 << 20
    # About 4 MiB. At the largest rate (see gossip_per_second) this reaches back five seconds. An envelope
    # that is forgotten while copies of it are still on their way is handled and flooded again.
    seen: int = 16384
    # A bound, not a route: an envelope takes the shortest way first, about log n / log 7 hops in a random
    # overlay of 8 neighbours, so 5 for 10,000 nodes. The rest is for overlays that are nearly chains.
    hops: int = 16
    min_neighbours: int = 8
    max_neighbours: int = 16
    known_peers: int = 1024
    # As many as a node of one family advertises (addresses._MOST). Each is dialled at every attempt.
    addresses_per_peer: int = 8
    # A garbage envelope is 1 point, a connection that violates yamux or noise 6 (host.GARBAGE_POINTS): one
    # such connection may be a fault, a second within two minutes bans the peer. Steady garbage of less than
    # one envelope a minute never does.
    garbage_score: float = 10.0
    garbage_fade_seconds: float = 60.0
    # A failed handshake is 1 point, one that only hung up 0.25. So twenty failures at once, or more than ten
    # a minute for long, ban an address. Peers that share an address pay for one another: hence the higher
    # score, the faster fading, and the exceptions in admission.py.
    address_score: float = 20.0
    address_fade_seconds: float = 6.0
    # What an attacker waits before it may try again, and what an honest peer behind a banned address loses.
    ban_seconds: float = 60.0
    fetches_per_peer: int = 4
    dial_backs_per_minute: float = 30.0
    # Eight connections at their own bound, each of which is eight streams with a full window of 4 MiB
    # (native.MAX_WINDOW) that nobody reads.
    tunnel_bytes: int = 256 << 20
    tunnel_bytes_per_connection: int = 32 << 20
    bytes_per_second: int = 0
    # A silent peer is noticed after five seconds. Every connection pays for it with a frame each way. A peer
    # whose process is stopped for more than 3 s (swapping, SIGSTOP) loses its connections.
    ping_seconds: float = 2.0
    ping_timeout_seconds: float = 3.0
    # Three retransmissions of a lost SYN, at 1, 3 and 7 s (RFC 6298 doubles from 1 s), and the handshake. At
    # 4 s the third is never sent.
    dial_seconds: float = 8.0
