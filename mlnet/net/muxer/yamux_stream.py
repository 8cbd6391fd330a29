"""One stream of a yamux session: its flow control windows, and the bytes that its reader has not taken
yet."""

from __future__ import annotations

import contextlib
import select
import struct
from abc import abstractmethod
from collections import deque

import trio
from libp2p.stream_muxer.exceptions import (
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamError,
    MuxedStreamReset,
)

from mlnet.net.muxer.base import INITIAL_WINDOW, Session, Stream

# version, type, flags, stream id, length: 12 bytes in network order (hashicorp/yamux spec.md).
HEADER = struct.Struct("!BBHII")
# Types and flags of frames, by the same specification.
DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
MAX_WINDOW = 1 << 20
"""Bytes granted to a stream whose reader keeps up: 84 Mbit/s at a round trip of 100 ms. A quarter of the
native session's, as Python moves fewer bytes anyway."""
MAX_FRAME = 65_507
"""Payload of our largest frame. With 12 bytes of header and 16 of authentication tag it fills one noise
message of 65,535 bytes; a larger one would be split over two."""


class ProtocolViolation(Exception):
    """The peer violated yamux; the session ends and the peer is scored down."""


def frame(kind: int, flags: int, stream: int, length: int) -> bytes:
    """The header of a frame."""
    return HEADER.pack(0, kind, flags, stream, length)


class YamuxStreamOwner(Session):
    """What a stream needs of its session.

    Attributes:
        waiting: received bytes of all streams that no reader has taken yet.
    """

    waiting: int

    @abstractmethod
    def send_control(self, data: bytes) -> None:
        """Queue a frame without payload. It does not wait for room."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Queue a frame; returns when the queue has room again."""

    @abstractmethod
    def forget_if_closed(self, stream: YamuxStream) -> None:
        """Forget a stream on which neither side can send any more."""


class YamuxStream(Stream):
    """One stream of a session. One task may read and one may write at a time."""

    def __init__(self, session: YamuxStreamOwner, number: int) -> None:
        self.muxed_conn: YamuxStreamOwner = session
        self.number = number
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._receive_window = INITIAL_WINDOW
        self._ungranted = 0
        self._send_window = INITIAL_WINDOW
        self._changed = trio.Event()
        self._write_closed = self._read_closed = self._reset = False
        self._delivering = False

    @property
    def is_closed(self) -> bool:
        """Whether neither side can send any more."""
        return self._reset or (self._write_closed and self._read_closed)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def read(self, n: int | None = None) -> bytes:
        """At least one byte and at most ``n`` (None: all that is there).

        Raises:
            MuxedStreamEOF: the peer has closed its side.
            MuxedStreamReset: the stream was reset or its session ended.
        """
        while not self._buffered:
            if self._reset:
                raise MuxedStreamReset("the stream was reset")
            if self._read_closed:
                raise MuxedStreamEOF("the peer has closed its side")
            await self._changed.wait()
        data = self._take(n)
        if not self._reset:
            self.muxed_conn.waiting -= len(data)
        # No window for a side that has closed: the peer would take the update for a stream that it has
        # forgotten.
        if not (self._read_closed or self._reset):
            self._grant(len(data))
        return data

    def _take(self, n: int | None) -> bytes:
        if n is None or n < 0 or n >= self._buffered:
            data = b"".join(self._chunks)
            self._chunks.clear()
            self._buffered = 0
            return data
        parts: list[bytes] = []
        missing = n
        while missing:
            chunk = self._chunks.popleft()
            if len(chunk) > missing:
                self._chunks.appendleft(chunk[missing:])
                chunk = chunk[:missing]
            parts.append(chunk)
            missing -= len(chunk)
        self._buffered -= n
        return b"".join(parts)

    def _grant(self, consumed: int) -> None:
        """Grant the peer what the application has taken, in steps of half an initial window: a window update
        for every small read would cost more than the data. The first step raises the window to MAX_WINDOW."""
        self._ungranted += consumed
        if self._ungranted < INITIAL_WINDOW // 2:
            return
        target = MAX_WINDOW - self._buffered
        increment = max(0, target - self._receive_window)
        self._ungranted = 0
        self._receive_window += increment
        if increment:
            self.muxed_conn.send_control(frame(WINDOW_UPDATE, 0, self.number, increment))

    async def write(self, data: bytes) -> None:
        """Send all of ``data``, waiting as long as the peer's reader needs.

        Raises:
            MuxedStreamClosed: this side was closed.
            MuxedStreamReset: the stream was reset or its session ended.
        """
        view = memoryview(data)
        while view:
            while not self._send_window and not self._reset:
                await self._changed.wait()
            if self._reset:
                raise MuxedStreamReset("the stream was reset")
            if self._write_closed:
                raise MuxedStreamClosed("this side was closed")
            # The window is taken before the frame waits for room: another writer must not spend it meanwhile.
            size = min(len(view), self._send_window, MAX_FRAME)
            self._send_window -= size
            await self.muxed_conn.send(frame(DATA, 0, self.number, size) + view[:size])
            view = view[size:]

    async def close(self) -> None:
        """Close this side only: the peer reads an end of file, and may still send."""
        if not self._write_closed and not self._reset:
            self._write_closed = True
            self.muxed_conn.send_control(frame(WINDOW_UPDATE, FIN, self.number, 0))
            self.muxed_conn.forget_if_closed(self)
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        """End the stream for both sides at once."""
        if not self.is_closed:
            self.muxed_conn.send_control(frame(WINDOW_UPDATE, RST, self.number, 0))
        self.on_reset()
        self.muxed_conn.forget_if_closed(self)
        await trio.lowlevel.checkpoint()

    async def splice(self, sock: trio.SocketStream) -> None:
        """Copy both ways until both are done; see :meth:`Stream.splice`."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._fill, sock)
                nursery.start_soon(self._drain, sock)
        finally:
            with trio.CancelScope(shield=True):
                if not self.is_closed:
                    await self.reset()
                await sock.aclose()

    async def _fill(self, source: trio.SocketStream) -> None:
        try:
            while data := await source.receive_some(MAX_FRAME):
                await self.write(bytes(data))
            # Whichever call comes first takes a socket's error; the other one reads an end of file. So the
            # end of a socket that is gone with bytes undelivered is a reset, whichever task sees it first.
            if self._delivering and _is_gone(source):
                await self.reset()
            else:
                await self.close()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self.reset()
        except MuxedStreamError:
            await source.aclose()

    async def _drain(self, target: trio.SocketStream) -> None:
        try:
            while True:
                data = await self.read(MAX_WINDOW)
                self._delivering = True
                await target.send_all(data)
                self._delivering = False
        except MuxedStreamEOF:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await target.send_eof()
        except MuxedStreamError:
            await target.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self.reset()

    def on_data(self, payload: bytes) -> None:
        """The session received a data frame."""
        if len(payload) > self._receive_window:
            raise ProtocolViolation("it sent past the window")
        # Data after the peer's own FIN is dropped.
        if payload and not self._read_closed:
            self._receive_window -= len(payload)
            self._chunks.append(payload)
            self._buffered += len(payload)
            self.muxed_conn.waiting += len(payload)
            self._wake()

    def on_window(self, increment: int) -> None:
        """The peer allows more bytes."""
        self._send_window += increment
        if self._send_window > 0xFFFFFFFF:
            raise ProtocolViolation("its window overflows")
        self._wake()

    def on_finish(self) -> None:
        """The peer has closed its side."""
        self._read_closed = True
        self._wake()

    def on_reset(self) -> None:
        """The peer has reset the stream, or the session is over."""
        if not self._reset:
            self.muxed_conn.waiting -= self._buffered
        self._reset = True
        self._wake()


def _is_gone(sock: trio.SocketStream) -> bool:
    """Whether nobody will read or write at the other end; a half that is closed does not count."""
    poll = select.poll()
    poll.register(sock.socket.fileno(), 0)
    return any(found & (select.POLLHUP | select.POLLERR) for _, found in poll.poll(0))
