"""The interface of a multiplexed session, whichever implementation moves its bytes.

:mod:`mlnet.net.muxer.native` moves them in a thread without the GIL, :mod:`mlnet.net.muxer.yamux` in Python.
Both behave the same on the wire. Everything here runs in the trio thread.
"""

from __future__ import annotations

import enum
from abc import abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Self

import trio
from libp2p.abc import IMuxedConn, IMuxedStream
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable

if TYPE_CHECKING:
    from libp2p.abc import ISecureConn
    from libp2p.connection_types import ConnectionType
    from libp2p.peer.id import ID
    from multiaddr import Multiaddr

MAX_STREAMS = 256
"""Streams that each side of a session may have open. Each costs a descriptor and up to a window of memory;
the bounds per peer (Limits.*_streams_per_peer) add up to less."""
INITIAL_WINDOW = 256 * 1024
"""Bytes that a new stream may send before the first window update; hashicorp's yamux spec fixes it."""


class Ending(enum.Enum):
    """Why a session is over."""

    CLOSED = "closed by us"
    GONE = "the peer closed the connection"
    SILENT = "the peer does not answer pings"
    PROTOCOL = "the peer violated the protocol"
    FLOOD = "the peer sent more than it may, or does not read"

    @property
    def is_garbage(self) -> bool:
        """Whether the peer violated the protocol, and is scored down."""
        return self in (Ending.PROTOCOL, Ending.FLOOD)


class Stream(IMuxedStream):
    """One stream of a session. One task may read and one may write at a time.

    Attributes:
        number: the stream id that both sides use.
    """

    muxed_conn: Session
    number: int

    @property
    @abstractmethod
    def is_closed(self) -> bool:
        """Whether neither side can send any more."""

    @abstractmethod
    async def splice(self, sock: trio.SocketStream) -> None:
        """Copy between the stream and a socket, both ways, until both are done.

        An end of file closes one direction, a broken socket or a reset closes both. Stream and socket are
        closed when this returns, also when it is cancelled.
        """

    def release(self) -> None:
        """Close what the stream holds of the operating system. Does nothing in Python sessions."""

    def set_deadline(self, ttl: int) -> None:
        """Not part of yamux: use a cancel scope."""
        raise NotImplementedError("yamux streams have no deadline; use a cancel scope")

    def get_remote_address(self) -> tuple[str, int] | None:
        """The TCP address at the other end."""
        return self.muxed_conn.get_remote_address()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Session(IMuxedConn):
    """A multiplexed connection over a secured one.

    Args:
        conn: the noise session.
        peer_id: the peer that it proved.
        remote: the TCP address at the other end; None when it is not known.

    Attributes:
        remote_ip: the IP address at the other end; empty when it is not known.
        event_started: streams can be opened.
        event_closed: the session is over.
        ending: why; None until then.
        end_reason: the same in words.
    """

    def __init__(self, conn: ISecureConn, peer_id: ID, *, remote: tuple[str, int] | None = None) -> None:
        self.secured_conn = conn
        self.peer_id = peer_id
        self._remote = remote
        self.remote_ip = remote[0] if remote else ""
        self.event_started = trio.Event()
        self.event_closed = trio.Event()
        self.ending: Ending | None = None
        self.end_reason = ""
        # Not a memory channel: that takes more than a kilobyte, and most sessions have nothing in it.
        self._offered: list[Stream] = []
        self._offer_came: trio.Event | None = None

    @property
    def is_initiator(self) -> bool:
        """Whether we dialled."""
        return self.secured_conn.is_initiator

    @property
    def is_established(self) -> bool:
        """Whether streams can be opened."""
        return self.event_started.is_set() and self.ending is None

    @property
    def is_closed(self) -> bool:
        """Whether the session is over."""
        return self.event_closed.is_set()

    @property
    @abstractmethod
    def stream_count(self) -> int:
        """Open streams, of both sides."""

    @abstractmethod
    async def open_stream(self) -> Stream:
        """A new stream.

        Raises:
            MuxedConnUnavailable: the session is over, or has too many streams.
        """

    async def accept_stream(self) -> Stream:
        """The next stream that the peer opens.

        Raises:
            MuxedConnUnavailable: the session is over.
        """
        # Always a checkpoint, also when a stream is there: an accept loop would otherwise never yield.
        await trio.lowlevel.checkpoint()
        while not self._offered:
            if self.ending is not None:
                raise MuxedConnUnavailable("the session is over")
            if self._offer_came is None:
                self._offer_came = trio.Event()
            await self._offer_came.wait()
        return self._offered.pop(0)

    def offer(self, stream: Stream) -> bool:
        """Queue a stream of the peer for :meth:`accept_stream`. False when too many are queued already, or
        the session is over: the caller then resets it."""
        if self.ending is not None or len(self._offered) >= MAX_STREAMS:
            return False
        self._offered.append(stream)
        self._wake_acceptor()
        return True

    def withdraw_offers(self) -> None:
        """Release the streams that were not accepted. Called after :attr:`ending` is set."""
        while self._offered:
            self._offered.pop().release()
        self._wake_acceptor()

    def _wake_acceptor(self) -> None:
        if self._offer_came is not None:
            self._offer_came.set()
            self._offer_came = None

    def get_transport_addresses(self) -> list[Multiaddr]:
        """The remote addresses of the connection below."""
        return self.secured_conn.get_transport_addresses()

    def get_connection_type(self) -> ConnectionType:
        """Direct or relayed, as the connection below says."""
        return self.secured_conn.get_connection_type()

    def get_remote_address(self) -> tuple[str, int] | None:
        """The TCP address at the other end."""
        return self._remote
