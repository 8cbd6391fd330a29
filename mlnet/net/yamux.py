"""A yamux session, wire compatible with /yamux/1.0.0 (hashicorp/yamux ``spec.md``), with every queue and window bounded.

It replaces libp2p 0.8.1's own, in which a write fails when the reader pauses for five seconds, a peer may send past the
window without limit, a stream too many blocks without a word, a cancelled write leaves half a frame on the wire, and a frozen peer is
never noticed. :func:`mlnet.net.repairs.repair_muxer` puts it in place.
"""

from __future__ import annotations

import logging
import struct
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

import trio
from libp2p.abc import IMuxedConn, IMuxedStream
from libp2p.exceptions import BaseLibp2pError
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamReset,
)

if TYPE_CHECKING:
    from libp2p.abc import ISecureConn
    from libp2p.connection_types import ConnectionType
    from libp2p.peer.id import ID
    from multiaddr import Multiaddr

logger = logging.getLogger(__name__)

_HEADER = struct.Struct("!BBHII")
_DATA, _WINDOW_UPDATE, _PING, _GO_AWAY = range(4)
_SYN, _ACK, _FIN, _RST = 1, 2, 4, 8
INITIAL_WINDOW = 256 * 1024
"""Bytes that a new stream may send; the protocol fixes it."""
MAX_WINDOW = 1 << 20
"""Bytes granted to a stream whose reader keeps up."""
MAX_FRAME = 65_507
"""Payload of our largest frame: with its header it fills one noise message exactly."""
MAX_STREAMS = 256
"""Streams that each side may have open."""
_MAX_QUEUED = 256 * 1024
_MAX_QUEUED_CONTROL = 1 << 20
_CLOSE_SECONDS = 0.5


class _ProtocolViolation(Exception):
    """The peer broke the yamux rules; the session ends."""


def _frame(kind: int, flags: int, stream: int, length: int) -> bytes:
    return _HEADER.pack(0, kind, flags, stream, length)


class Stream(IMuxedStream):
    """One stream of a session. One task may read and one may write at a time."""

    def __init__(self, session: Session, number: int) -> None:
        self.muxed_conn: Session = session
        self.number = number
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._receive_window = INITIAL_WINDOW
        self._ungranted = 0
        self._send_window = INITIAL_WINDOW
        self._changed = trio.Event()
        self._write_closed = self._read_closed = self._reset = False

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
        """Let the peer send as much as the application has taken, in steps; the window grows with the first of them."""
        self._ungranted += consumed
        if self._ungranted < INITIAL_WINDOW // 2:
            return
        target = MAX_WINDOW - self._buffered
        increment = max(0, target - self._receive_window)
        self._ungranted = 0
        self._receive_window += increment
        if increment:
            self.muxed_conn.send_control(_frame(_WINDOW_UPDATE, 0, self.number, increment))

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
            size = min(len(view), self._send_window, MAX_FRAME)
            self._send_window -= size
            await self.muxed_conn.send(_frame(_DATA, 0, self.number, size) + view[:size])
            view = view[size:]

    async def close(self) -> None:
        """Close this side only: the peer reads an end of file, and may still send."""
        if not self._write_closed and not self._reset:
            self._write_closed = True
            self.muxed_conn.send_control(_frame(_WINDOW_UPDATE, _FIN, self.number, 0))
            self.muxed_conn.forget_if_closed(self)
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        """End the stream for both sides at once."""
        if not self.is_closed:
            self.muxed_conn.send_control(_frame(_WINDOW_UPDATE, _RST, self.number, 0))
        self.on_reset()
        self.muxed_conn.forget_if_closed(self)
        await trio.lowlevel.checkpoint()

    def set_deadline(self, ttl: int) -> None:
        """Not part of yamux: use a cancel scope."""
        raise NotImplementedError("yamux streams have no deadline; use a cancel scope")

    def get_remote_address(self) -> tuple[str, int] | None:
        """The TCP address at the other end."""
        return self.muxed_conn.get_remote_address()

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def on_data(self, payload: bytes) -> None:
        """The session received a data frame."""
        if len(payload) > self._receive_window:
            raise _ProtocolViolation("it sent past the window")
        if payload and not self._read_closed:
            self._receive_window -= len(payload)
            self._chunks.append(payload)
            self._buffered += len(payload)
            self._wake()

    def on_window(self, increment: int) -> None:
        """The peer allows more bytes."""
        self._send_window += increment
        if self._send_window > 0xFFFFFFFF:
            raise _ProtocolViolation("its window overflows")
        self._wake()

    def on_finish(self) -> None:
        """The peer has closed its side."""
        self._read_closed = True
        self._wake()

    def on_reset(self) -> None:
        """The peer has reset the stream, or the session is over."""
        self._reset = True
        self._wake()


class Session(IMuxedConn):
    """A multiplexed connection over a secured one.

    Args:
        conn: the noise session.
        peer_id: the peer that it proved.
        ping_seconds: pause between pings.
        ping_timeout: seconds of silence after a ping at which the peer counts as dead.
    """

    def __init__(
        self, conn: ISecureConn, peer_id: ID, *, ping_seconds: float = 5.0, ping_timeout: float = 8.0
    ) -> None:
        self.secured_conn = conn
        self.peer_id = peer_id
        self.event_started = trio.Event()
        self.event_closed = trio.Event()
        self.end_reason = ""
        self._ping_seconds, self._ping_timeout = ping_seconds, ping_timeout
        self._next = 1 if conn.is_initiator else 2
        self._last_inbound = 0
        self._streams: dict[int, Stream] = {}
        self._new, self._accepted = trio.open_memory_channel[Stream](MAX_STREAMS)
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._queue_changed = trio.Event()
        self._heard = trio.Event()
        self._scope = trio.CancelScope()
        self._ended = False

    @property
    def is_initiator(self) -> bool:
        """Whether we dialled."""
        return self.secured_conn.is_initiator

    @property
    def is_established(self) -> bool:
        """Whether streams can be opened."""
        return self.event_started.is_set() and not self._ended

    @property
    def is_closed(self) -> bool:
        """Whether the session is over."""
        return self.event_closed.is_set()

    @property
    def stream_count(self) -> int:
        """Open streams, of both sides."""
        return len(self._streams)

    def get_transport_addresses(self) -> list[Multiaddr]:
        """The remote addresses of the connection below."""
        return self.secured_conn.get_transport_addresses()

    def get_connection_type(self) -> ConnectionType:
        """Direct or relayed, as the connection below says."""
        return self.secured_conn.get_connection_type()

    def get_remote_address(self) -> tuple[str, int] | None:
        """The TCP address at the other end."""
        return self.secured_conn.get_remote_address()

    async def start(self) -> None:
        """Run the session until it ends; libp2p starts it in a task of its own."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write_loop)
                    nursery.start_soon(self._ping_loop)
                    self.event_started.set()
                    await self._read_loop()
                    nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._end(self.end_reason or "the host stops")

    async def close(self) -> None:
        """Say goodbye, flush what is queued for at most half a second, and end."""
        if not self._ended:
            self.send_control(_frame(_GO_AWAY, 0, 0, 0))
            with trio.move_on_after(_CLOSE_SECONDS):
                while self._queued and not self._ended:
                    await self._queue_changed.wait()
        await self._end("closed by us")

    async def _end(self, reason: str) -> None:
        if not self._ended:
            self._ended = True
            self.end_reason = reason
            self._new.close()
            for stream in list(self._streams.values()):
                stream.on_reset()
            self._streams.clear()
            self._wake_queue()
            try:
                await self.secured_conn.close()
            except (OSError, trio.ClosedResourceError, trio.BrokenResourceError, BaseLibp2pError) as error:
                logger.debug("closing the connection to %s: %r", self.peer_id, error)
            finally:
                self.event_closed.set()

    async def open_stream(self) -> Stream:
        """A new stream.

        Raises:
            MuxedConnUnavailable: the session is over, or has too many streams.
        """
        await trio.lowlevel.checkpoint()
        if self._ended:
            raise MuxedConnUnavailable("the session is over")
        if sum(number % 2 == self._next % 2 for number in self._streams) >= MAX_STREAMS:
            raise MuxedConnUnavailable(f"{MAX_STREAMS} streams are open")
        stream = Stream(self, self._next)
        self._next += 2
        self._streams[stream.number] = stream
        self.send_control(_frame(_WINDOW_UPDATE, _SYN, stream.number, 0))
        return stream

    async def accept_stream(self) -> Stream:
        """The next stream that the peer opens.

        Raises:
            MuxedConnUnavailable: the session is over.
        """
        try:
            return await self._accepted.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError) as error:
            raise MuxedConnUnavailable("the session is over") from error

    def forget_if_closed(self, stream: Stream) -> None:
        """Drop a stream of which neither side can send any more."""
        if stream.is_closed:
            self._streams.pop(stream.number, None)

    def send_control(self, frame: bytes) -> None:
        """Queue a frame without payload; a peer that lets a megabyte of these pile up loses its session."""
        if self._ended:
            return
        if self._queued > _MAX_QUEUED + _MAX_QUEUED_CONTROL:
            self.end_reason = "the peer does not read"
            self._scope.cancel()
            return
        self._queue.append(frame)
        self._queued += len(frame)
        self._wake_queue()

    async def send(self, frame: bytes) -> None:
        """Queue a frame, after waiting for room. A frame that was queued is written whole, whatever happens to its sender."""
        while self._queued > _MAX_QUEUED and not self._ended:
            await self._queue_changed.wait()
        if self._ended:
            raise MuxedStreamReset("the session is over")
        self._queue.append(frame)
        self._queued += len(frame)
        self._wake_queue()
        await trio.lowlevel.checkpoint()

    def _wake_queue(self) -> None:
        self._queue_changed.set()
        self._queue_changed = trio.Event()

    async def _write_loop(self) -> None:
        try:
            while not self._ended:
                if not self._queue:
                    await self._queue_changed.wait()
                    continue
                batch = b"".join(self._queue)
                self._queue.clear()
                await self.secured_conn.write(batch)
                self._queued -= len(batch)
                self._wake_queue()
        except Exception as error:  # noqa: BLE001 - whatever the layers below raise ends this connection and no other
            await self._end(f"writing failed: {error!r}")

    async def _ping_loop(self) -> None:
        number = 0
        while not self._ended:
            await trio.sleep(self._ping_seconds)
            number += 1
            heard = self._heard = trio.Event()
            self.send_control(_frame(_PING, _SYN, 0, number))
            with trio.move_on_after(self._ping_timeout):
                await heard.wait()
            if not heard.is_set():
                await self._end(f"nothing heard for {self._ping_timeout:g} s after a ping")

    async def _read_loop(self) -> None:
        buffer = bytearray()
        try:
            while not self._ended:
                data = await self.secured_conn.read(None)
                if not data:
                    raise _ProtocolViolation("end of file")
                self._heard.set()
                buffer += data
                self._handle(buffer)
        except Exception as error:  # noqa: BLE001 - hostile bytes reach several parsers here; they end this session only
            await self._end(f"reading ended: {error!r}")

    def _handle(self, buffer: bytearray) -> None:
        """Take the complete frames from the front of the buffer."""
        position = 0
        while len(buffer) - position >= _HEADER.size:
            version, kind, flags, number, length = _HEADER.unpack_from(buffer, position)
            if version or kind > _GO_AWAY:
                raise _ProtocolViolation("unknown version or type")
            end = position + _HEADER.size
            payload = b""
            if kind == _DATA:
                if length > MAX_WINDOW:
                    raise _ProtocolViolation("a frame larger than any window")
                if len(buffer) - end < length:
                    break
                payload = bytes(buffer[end : end + length])
                end += length
            position = end
            if kind == _PING:
                if flags & _SYN:
                    self.send_control(_frame(_PING, _ACK, 0, length))
            elif kind == _GO_AWAY:
                raise _ProtocolViolation("the peer said goodbye")
            else:
                self._handle_stream(kind, flags, number, length, payload)
        del buffer[:position]

    def _handle_stream(self, kind: int, flags: int, number: int, length: int, payload: bytes) -> None:
        if flags & _SYN and not self._accept(number):
            return
        stream = self._streams.get(number)
        if stream is None:
            return  # frames may still be on their way when we reset a stream
        if kind == _DATA:
            stream.on_data(payload)
        elif length:
            stream.on_window(length)
        if flags & _FIN:
            stream.on_finish()
        if flags & _RST:
            stream.on_reset()
        self.forget_if_closed(stream)

    def _accept(self, number: int) -> bool:
        if number % 2 == self._next % 2 or number <= self._last_inbound:
            raise _ProtocolViolation("a stream number that it may not use")
        self._last_inbound = number
        inbound = sum(other % 2 == number % 2 for other in self._streams)
        if inbound >= MAX_STREAMS:
            self.send_control(_frame(_WINDOW_UPDATE, _RST, number, 0))
            return False
        stream = self._streams[number] = Stream(self, number)
        self.send_control(_frame(_WINDOW_UPDATE, _ACK, number, 0))
        try:
            self._new.send_nowait(stream)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            del self._streams[number]
            self.send_control(_frame(_WINDOW_UPDATE, _RST, number, 0))
            return False
        return True
