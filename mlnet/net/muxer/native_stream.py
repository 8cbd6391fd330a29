"""One stream of a native session: one end of a socket pair whose other end is the native thread's.

It is read and written here until a socket takes its place; from then on the native thread copies.
"""

from __future__ import annotations

import contextlib
import socket
from abc import abstractmethod
from typing import Final

import trio
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamEOF, MuxedStreamReset

from mlnet.net.muxer.base import Session, Stream

READ_BYTES = 65_536
"""Bytes asked of a socket when the caller does not say. Negotiation and preambles need far less, and bulk
data is spliced."""
_FIN: Final = 1
"""Reason of an end that both sides wanted, by the numbers of ``ext/session/session.h``."""


class NativeStreamOwner(Session):
    """What a stream needs of its session."""

    @abstractmethod
    def catch_up(self) -> None:
        """Process the native thread's pending events now."""

    @abstractmethod
    def reset_stream(self, stream: NativeStream) -> None:
        """Tell the peer that the stream is over."""

    @abstractmethod
    def splice_stream(self, stream: NativeStream, pair: int, descriptor: int) -> None:
        """Make the native thread copy between the stream and a descriptor from now on."""


class NativeStream(Stream):
    """A stream that is one end of a pair of sockets, until another socket takes its place."""

    def __init__(self, session: NativeStreamOwner, number: int, descriptor: int) -> None:
        self.muxed_conn: NativeStreamOwner = session
        self.number = number
        plain = socket.socket(fileno=descriptor)
        self._socket: trio.SocketStream | None = trio.SocketStream(trio.socket.from_stdlib_socket(plain))
        self._write_closed = self._read_closed = False
        self._ended = trio.Event()
        self._reason = 0

    @property
    def is_closed(self) -> bool:
        """Whether it is over, and its descriptor closed."""
        return self._socket is None

    def on_end(self, reason: int) -> None:
        """The native side has ended the stream. After a reset, unread data is dropped as well."""
        self._reason = reason
        self._ended.set()
        if reason != _FIN:
            self.release()

    async def read(self, n: int | None = None) -> bytes:
        """At least one byte and at most ``n`` (None: some).

        Raises:
            MuxedStreamEOF: the peer has closed its side.
            MuxedStreamReset: the stream was reset or its session ended.
        """
        if n == 0:
            return b""
        if self._socket is None:
            raise MuxedStreamEOF("it was read to its end") if self._read_closed else MuxedStreamReset("reset")
        try:
            data = await self._socket.receive_some(READ_BYTES if n is None or n < 0 else n)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise MuxedStreamReset("the stream was reset") from error
        if data:
            return bytes(data)
        # A reset looks like an end of file here: only the native thread's event tells them apart.
        self.muxed_conn.catch_up()
        if self._reason not in (0, _FIN):
            self.release()
            raise MuxedStreamReset("the stream was reset")
        self._read_closed = True
        if self._write_closed:
            self.release()
        raise MuxedStreamEOF("the peer has closed its side")

    async def write(self, data: bytes) -> None:
        """Send all of ``data``, waiting as long as the peer's reader needs.

        Raises:
            MuxedStreamClosed: this side was closed.
            MuxedStreamReset: the stream was reset or its session ended.
        """
        if self._write_closed:
            raise MuxedStreamClosed("this side was closed")
        if self._socket is None:
            raise MuxedStreamReset("the stream was reset")
        try:
            await self._socket.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise MuxedStreamReset("the stream was reset") from error

    async def close(self) -> None:
        """Close this side only: the peer reads an end of file, and may still send."""
        if self._socket is None or self._write_closed:
            await trio.lowlevel.checkpoint()
            return
        self._write_closed = True
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._socket.send_eof()
        if self._read_closed:
            self.release()

    async def reset(self) -> None:
        """End the stream for both sides at once."""
        self.muxed_conn.reset_stream(self)
        self.release()
        await trio.lowlevel.checkpoint()

    def release(self) -> None:
        """Close the descriptor."""
        if self._socket is not None:
            self._socket.socket.close()
            self._socket = None

    async def splice(self, sock: trio.SocketStream) -> None:
        """Let the native thread copy both ways until both are done; see :meth:`Stream.splice`."""
        mine, self._socket = self._socket, None
        if mine is None:
            await sock.aclose()
            return
        self.muxed_conn.splice_stream(self, mine.socket.detach(), sock.socket.detach())
        try:
            await self._ended.wait()
        finally:
            # Cancelled: the native thread must stop copying, or it would keep both ends open.
            if not self._ended.is_set():
                self.muxed_conn.reset_stream(self)
