"""Inbound streams: which protocol they speak, how many there may be, and where they lead.

Everything here runs in the trio thread.
"""

from __future__ import annotations

import contextlib
import enum
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.stream_muxer.exceptions import MuxedStreamError

from mlnet.net.addresses import block
from mlnet.net.muxer.base import Stream
from mlnet.net.rates import allowance
from mlnet.net.transport import ping_identify, unix_tunnel
from mlnet.net.transport.multistream import Communicator
from mlnet.net.types import GLOO_PROTOCOL, REDIS_PROTOCOL, RPC_PROTOCOL, Limits, Source, Target
from mlnet.util import sockets

logger = logging.getLogger(__name__)
Admit = Callable[[str, str, str], Awaitable[Target | None]]
"""``(peer, protocol, preamble)`` -> the socket to which the stream is spliced; None refuses it."""
ServeWellknown = Callable[[str, Stream, Sequence[str]], Awaitable[None]]
"""``(protocol, stream, protocols)`` serves a stream of ping or identify; ``protocols`` are all that we
answer."""


class Kind(enum.Enum):
    """What a stream is for; the values are labels of a metric."""

    NAMELESS = "nameless"
    RPC = "rpc"
    SPLICED = "spliced"
    WELLKNOWN = "wellknown"


_KINDS = {
    RPC_PROTOCOL: Kind.RPC,
    REDIS_PROTOCOL: Kind.SPLICED,
    GLOO_PROTOCOL: Kind.SPLICED,
    ping_identify.PING: Kind.WELLKNOWN,
    ping_identify.IDENTIFY: Kind.WELLKNOWN,
}


class TooManyStreams(Exception):
    """A bound on streams is reached; the stream is reset."""


class Inbound:
    """Serves the streams that peers open.

    Args:
        limits: how many there may be.
        runtime: where unix sockets live.
        rpc_socket: the gRPC server's.
        admit: asks the user about a stream that is to be spliced.
        serve_wellknown: serves ping and identify.
    """

    def __init__(
        self,
        limits: Limits,
        runtime: unix_tunnel.RuntimeDir,
        rpc_socket: Path,
        admit: Admit,
        serve_wellknown: ServeWellknown,
    ) -> None:
        self._limits, self._runtime, self._rpc_socket = limits, runtime, rpc_socket
        self._rpc_way: sockets.Way | None = None
        self._stopping = False
        self._admit, self._serve_wellknown = admit, serve_wellknown
        self._bounds = {
            Kind.NAMELESS: limits.nameless_streams_per_peer,
            Kind.RPC: limits.rpc_streams_per_peer,
            Kind.SPLICED: limits.spliced_streams_per_peer,
            Kind.WELLKNOWN: limits.wellknown_streams_per_peer,
        }
        self._sources: dict[str, Source] = {}
        self._by_peer: Counter[tuple[str, Kind]] = Counter()
        self._by_address: Counter[str] = Counter()
        self._negotiator = Multiselect()
        for protocol in _KINDS:
            self._negotiator.add_handler(TProtocol(protocol), self.serve)
        self.open: Counter[Kind] = Counter()
        self.refused = 0
        self.failed = 0

    def start(self) -> None:
        """Open a way to the gRPC server, which listens by now. It works even if the socket's name is removed
        later, as logind does with a runtime directory at logout."""
        self._rpc_way = sockets.Way(self._rpc_socket)

    def refuse_calls(self) -> None:
        """Refuse gRPC streams from now on: the server is about to stop. May be called in any thread."""
        self._stopping = True

    def close(self) -> None:
        """Close the way to the gRPC server."""
        if self._rpc_way is not None:
            self._rpc_way.close()
            self._rpc_way = None

    def source(self, grpc_peer: str) -> Source | None:
        """The peer behind a gRPC call, found by its ``context.peer()``: the name of the calling socket, which
        only this process could bind. None when the stream has ended."""
        return self._sources.get(_caller(grpc_peer))

    async def serve(self, net_stream: INetStream) -> None:
        """Serve a stream until it ends; libp2p calls this in a task of its own."""
        stream = getattr(net_stream, "muxed_stream", None)
        # Not one of our sessions; repair_muxer makes that impossible, and a stream without bounds is not
        # served.
        if not isinstance(stream, Stream):
            return
        try:
            await self._serve(stream)
        except TooManyStreams:
            self.refused += 1
        except Exception as error:  # noqa: BLE001 - an error of one stream would end libp2p's whole host
            self.failed += 1
            logger.debug("stream from %s ended: %r", stream.muxed_conn.peer_id, error)
        finally:
            if not stream.is_closed:
                # Shielded: the peer must be told of the end also when this task is being cancelled.
                with trio.CancelScope(shield=True):
                    await stream.reset()

    async def _serve(self, stream: Stream) -> None:
        peer = str(stream.muxed_conn.peer_id)
        address = block(stream.muxed_conn.remote_ip)
        with self._counted_to_address(address):
            with self._counted(peer, Kind.NAMELESS):
                protocol = await self._meet(stream)
            kind = _KINDS[protocol]
            with self._counted(peer, kind):
                if kind is Kind.RPC:
                    await self._serve_rpc(peer, stream)
                elif kind is Kind.SPLICED:
                    await self._serve_splice(peer, protocol, stream)
                else:
                    await self._serve_wellknown(protocol, stream, list(_KINDS))

    @contextlib.contextmanager
    def _counted_to_address(self, address: str) -> Iterator[None]:
        if self._by_address[address] >= allowance(self._limits.streams_per_address, address):
            raise TooManyStreams
        self._by_address[address] += 1
        try:
            yield
        finally:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

    @contextlib.contextmanager
    def _counted(self, peer: str, kind: Kind) -> Iterator[None]:
        key = (peer, kind)
        if self._by_peer[key] >= self._bounds[kind]:
            raise TooManyStreams
        self._by_peer[key] += 1
        self.open[kind] += 1
        try:
            yield
        finally:
            self.open[kind] -= 1
            self._by_peer[key] -= 1
            if not self._by_peer[key]:
                del self._by_peer[key]

    async def _meet(self, stream: Stream) -> str:
        """Negotiate the protocol of a stream."""
        # libp2p takes whole seconds, and 0 would mean no time at all.
        seconds = max(1, int(self._limits.handshake_seconds))
        protocol, _ = await self._negotiator.negotiate(Communicator(stream), seconds)
        if protocol is None:
            raise MuxedStreamError("no protocol was named")
        return str(protocol)

    async def _serve_rpc(self, peer: str, stream: Stream) -> None:
        if self._rpc_way is None or self._stopping:
            raise MuxedStreamError("the host has stopped")
        # The calling end has a name that we choose, so that the server, which sees only a unix socket, can
        # tell which peer calls. It is registered before the connection exists: the first call may come at
        # once.
        name = self._runtime.caller()
        self._sources[_caller(name)] = Source(peer, stream.muxed_conn.remote_ip)
        try:
            try:
                sock = await unix_tunnel.connect_named(self._rpc_way.address, name)
            except OSError as error:
                logger.error(
                    "peers cannot call this node: its socket %s does not answer (%s); restart it",
                    self._rpc_socket,
                    error.strerror,
                )
                raise
            await stream.splice(sock)
        finally:
            del self._sources[_caller(name)]

    async def _serve_splice(self, peer: str, protocol: str, stream: Stream) -> None:
        target = await self._admit(peer, protocol, await unix_tunnel.read_preamble(stream))
        if isinstance(target, Path):
            await stream.splice(await trio.open_unix_socket(str(target)))
        elif target is not None:
            await stream.splice(await trio.open_tcp_stream(*target))


def _caller(address: str) -> str:
    """The last part of the name of a calling end: letters, digits and dots. The part before it differs, since
    grpc writes ``unix:`` or ``unix-abstract:`` and percent-encodes directories."""
    return address.replace(":", "/").replace("\0", "/").rpartition("/")[2]
