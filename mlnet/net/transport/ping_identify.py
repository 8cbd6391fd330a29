"""The two protocols that every libp2p node speaks, ping and identify, from both sides.

Other implementations send identify right after they connect, and learn from the answer which protocols they
may open; without an answer they wait for a refusal first. mlnet itself trusts nothing that a peer states
here. Specifications: https://github.com/libp2p/specs/tree/master/ping and .../identify. Everything runs in
the trio thread.
"""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import trio
from google.protobuf.message import DecodeError
from libp2p.exceptions import BaseLibp2pError
from libp2p.identity.identify.identify import ID as _IDENTIFY
from libp2p.identity.identify.identify import PROTOCOL_VERSION
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamError
from libp2p.utils.varint import encode_varint_prefixed, read_varint_prefixed_bytes_limited
from multiaddr import Multiaddr

from mlnet import __version__
from mlnet.errors import PeerUnreachable, TransportError
from mlnet.net.muxer.base import Stream
from mlnet.net.transport import unix_tunnel

T = TypeVar("T")
PING = "/ipfs/ping/1.0.0"
IDENTIFY = str(_IDENTIFY)
AGENT = f"mlnet/{__version__}"

PING_BYTES = 32
"""The ping protocol fixes it."""
ANSWER_SECONDS = 10.0
"""Time for one exchange, after the stream is open. An honest peer answers in a round trip; the rest is for a
busy one."""
PING_STREAM_SECONDS = 30.0
"""How long one stream of pings is served. A peer that goes on pinging opens another one, so that an idle
stream does not count against its bound for ever."""
PINGS_PER_STREAM = 1024
"""Pings on one stream; bounds how long one peer can keep the trio thread busy with echoes."""
MAX_IDENTIFY_BYTES = 8 * 1024
"""Bytes of a statement that is read: a key, a few dozen addresses and protocols."""
MAX_ADDRESSES = 32
"""Addresses that we state, and that we read from a peer's statement."""


@dataclass(frozen=True, slots=True)
class Identified:
    """What a peer states about itself. Only its peer id is proved, by the noise handshake; the rest is a
    claim.

    Attributes:
        agent: the name and version of its software.
        protocols: those that it answers.
        addresses: multiaddrs at which it listens.
        observed: the multiaddr from which it sees our connection; empty when it does not say.
    """

    agent: str
    protocols: tuple[str, ...]
    addresses: tuple[str, ...]
    observed: str


async def serve_ping(stream: Stream) -> None:
    """Echo what the peer sends, 32 bytes at a time."""
    with trio.move_on_after(PING_STREAM_SECONDS):
        try:
            for _ in range(PINGS_PER_STREAM):
                await stream.write(await unix_tunnel.read_exactly(stream, PING_BYTES))
        except MuxedStreamEOF:
            await stream.close()


async def serve_identify(
    stream: Stream, public_key: bytes, addresses: Sequence[str], protocols: Sequence[str]
) -> None:
    """Answer identify: send our statement.

    Args:
        stream: of the peer that asks.
        public_key: ours, as libp2p serialises it.
        addresses: multiaddrs without ``/p2p/ID`` at which we listen; the first 32 are stated.
        protocols: those that we answer.
    """
    remote = stream.get_remote_address()
    statement = Identify(
        protocol_version=PROTOCOL_VERSION,
        agent_version=AGENT,
        public_key=public_key,
        listen_addrs=[Multiaddr(address).to_bytes() for address in addresses[:MAX_ADDRESSES]],
        observed_addr=b"" if remote is None else _tcp_address(*remote).to_bytes(),
        protocols=protocols,
    )
    with trio.move_on_after(ANSWER_SECONDS):
        await stream.write(encode_varint_prefixed(statement.SerializeToString()))
        await _finish(stream)


async def ping(stream: Stream) -> int:
    """The round trip of 32 random bytes, in microseconds.

    Raises:
        ValueError: other bytes came back.
        MuxedStreamError: the peer ended the stream.
    """
    # Random: a peer that could predict them would answer early and look closer than it is.
    sent = secrets.token_bytes(PING_BYTES)
    started = time.perf_counter_ns()
    await stream.write(sent)
    if await unix_tunnel.read_exactly(stream, PING_BYTES) != sent:
        raise ValueError("the bytes that came back are not those that were sent")
    elapsed = time.perf_counter_ns() - started
    await _finish(stream)
    return elapsed // 1000


async def identify(stream: Stream) -> Identified:
    """What the peer at the other end states about itself.

    Raises:
        ValueError: it is malformed, or gives the key of another peer.
        BaseLibp2pError: the peer ended the stream, or its statement is too long.
    """
    data = await read_varint_prefixed_bytes_limited(stream, MAX_IDENTIFY_BYTES)
    try:
        statement = Identify.FromString(data)
    except DecodeError as error:
        raise ValueError("it is not a statement of identify") from error
    # The peer id of an Ed25519 key is the key behind two bytes.
    if statement.public_key != stream.muxed_conn.peer_id.to_bytes()[2:]:
        raise ValueError("it gives the key of another peer")
    await _finish(stream)
    return Identified(
        statement.agent_version,
        tuple(statement.protocols),
        tuple(filter(None, map(_as_text, statement.listen_addrs[:MAX_ADDRESSES]))),
        _as_text(statement.observed_addr),
    )


async def ask(
    open_stream: Callable[[str, str, bytes | None], Awaitable[Stream | None]],
    peer: str,
    protocol: str,
    question: Callable[[Stream], Awaitable[T]],
) -> T:
    """Open a stream of ``protocol`` to a peer and run ``question`` on it.

    Raises:
        PeerUnreachable: it does not take the stream.
        TransportError: it did not answer by the rules in time.
    """
    stream = await open_stream(peer, protocol, None)
    if stream is None:
        raise PeerUnreachable(f"peer {peer} does not speak {protocol}")
    try:
        with trio.fail_after(ANSWER_SECONDS):
            return await question(stream)
    except (BaseLibp2pError, ValueError, trio.TooSlowError) as error:
        reason = str(error) or type(error).__name__
        raise TransportError(f"peer {peer} did not answer {protocol}: {reason}") from error
    finally:
        if not stream.is_closed:
            with trio.CancelScope(shield=True):
                await stream.reset()


async def _finish(stream: Stream) -> None:
    """Close our side and wait for the peer to close its side: a reset would discard what it has not read
    yet."""
    await stream.close()
    with contextlib.suppress(MuxedStreamError):
        await stream.read(1)


def _tcp_address(host: str, port: int) -> Multiaddr:
    ip = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return Multiaddr(f"/ip{ip.version}/{ip}/tcp/{port}")


def _as_text(address: bytes) -> str:
    """A peer's binary multiaddr as text; empty when it is not valid."""
    try:
        return str(Multiaddr(address)) if address else ""
    except ValueError:
        return ""
