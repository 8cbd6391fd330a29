"""A yamux session, wire compatible with /yamux/1.0.0 (hashicorp/yamux ``spec.md``), with every queue and
window bounded.

It replaces libp2p 0.8.1's own. There a write fails when the reader pauses for five seconds, a peer may send
past the window without limit, one stream too many blocks silently, a cancelled write leaves half a frame on
the wire, and a frozen peer is never noticed. :func:`mlnet.net.transport.libp2p_patches.repair_muxer` puts it
in place.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from typing import TYPE_CHECKING

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamReset

from mlnet.net.muxer.base import MAX_STREAMS, Ending
from mlnet.net.muxer.yamux_stream import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    MAX_WINDOW,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    ProtocolViolation,
    YamuxStream,
    YamuxStreamOwner,
    frame,
)

if TYPE_CHECKING:
    from libp2p.abc import ISecureConn
    from libp2p.peer.id import ID

logger = logging.getLogger(__name__)

_MAX_QUEUED = 256 * 1024
"""Bytes of frames that may wait for the connection before senders are held back: an initial window, so that
one stream can fill it. More would delay the frames of other streams behind it."""
_MAX_QUEUED_CONTROL = 1 << 20
"""Bytes of control frames beyond that. They never wait, or two sides that both wait for the other's window
update would deadlock; a peer that makes us queue a megabyte of them (87,000 pings) does not read, and loses
its session."""
_CLOSE_SECONDS = 0.5
"""Time to write what is queued; the same in the native session (CLOSE_TIMEOUT)."""


class _Goodbye(Exception):
    """The peer closes the session."""


class YamuxSession(YamuxStreamOwner):
    """A multiplexed connection over a secured one.

    Args:
        conn: the noise session.
        peer_id: the peer that it proved.
        remote: the TCP address at the other end; None when it is not known.
        ping_seconds: pause between pings.
        ping_timeout: seconds of silence after a ping at which the peer counts as dead.
        max_waiting: received bytes that no reader has taken; the stream that exceeds it is reset.
        counters: incremented for bytes, pings and refused streams; shared by the sessions of a host.
    """

    def __init__(
        self,
        conn: ISecureConn,
        peer_id: ID,
        *,
        remote: tuple[str, int] | None = None,
        ping_seconds: float = 2.0,
        ping_timeout: float = 3.0,
        max_waiting: int = 32 << 20,
        counters: Counter[str] | None = None,
    ) -> None:
        super().__init__(conn, peer_id, remote=remote)
        self._counters = Counter[str]() if counters is None else counters
        self._max_waiting = max_waiting
        self.waiting = 0
        self._ping_seconds, self._ping_timeout = ping_seconds, ping_timeout
        # yamux: the side that dialled uses odd stream ids, the other even ones.
        self._next = 1 if conn.is_initiator else 2
        self._streams: dict[int, YamuxStream] = {}
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._queue_changed = trio.Event()
        self._heard = trio.Event()
        self._scope = trio.CancelScope()
        self._overrun = False

    @property
    def stream_count(self) -> int:
        """Open streams, of both sides."""
        return len(self._streams)

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
                if self._overrun:
                    await self._end(Ending.FLOOD, "the peer does not read")
                # Does nothing when the session has ended for another reason.
                await self._end(Ending.CLOSED, "the host stops")

    async def close(self) -> None:
        """Say goodbye, flush what is queued for at most half a second, and end."""
        if self.ending is None:
            self.send_control(frame(GO_AWAY, 0, 0, 0))
            with trio.move_on_after(_CLOSE_SECONDS):
                while self._queued and self.ending is None:
                    await self._queue_changed.wait()
        await self._end(Ending.CLOSED, "closed by us")

    async def _end(self, ending: Ending, reason: str) -> None:
        if self.ending is None:
            self.ending, self.end_reason = ending, reason
            self.withdraw_offers()
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

    async def open_stream(self) -> YamuxStream:
        """A new stream.

        Raises:
            MuxedConnUnavailable: the session is over, or has too many streams.
        """
        await trio.lowlevel.checkpoint()
        if self.ending is not None:
            raise MuxedConnUnavailable("the session is over")
        if sum(number % 2 == self._next % 2 for number in self._streams) >= MAX_STREAMS:
            raise MuxedConnUnavailable(f"{MAX_STREAMS} streams are open")
        stream = YamuxStream(self, self._next)
        self._next += 2
        self._streams[stream.number] = stream
        self.send_control(frame(WINDOW_UPDATE, SYN, stream.number, 0))
        return stream

    def forget_if_closed(self, stream: YamuxStream) -> None:
        """Forget a stream on which neither side can send any more."""
        if stream.is_closed:
            self._streams.pop(stream.number, None)

    def send_control(self, data: bytes) -> None:
        """Queue a frame without payload, without waiting. A peer that lets a megabyte of these pile up loses
        its session."""
        if self.ending is not None:
            return
        if self._queued > _MAX_QUEUED + _MAX_QUEUED_CONTROL:
            self._overrun = True
            self._scope.cancel()
            return
        self._queue.append(data)
        self._queued += len(data)
        self._wake_queue()

    async def send(self, data: bytes) -> None:
        """Queue a frame, after waiting for room. Once queued, it is written as a whole, even if its sender is
        cancelled: half a frame would break the session for all streams."""
        while self._queued > _MAX_QUEUED and self.ending is None:
            await self._queue_changed.wait()
        if self.ending is not None:
            raise MuxedStreamReset("the session is over")
        self._queue.append(data)
        self._queued += len(data)
        self._wake_queue()
        await trio.lowlevel.checkpoint()

    def _wake_queue(self) -> None:
        self._queue_changed.set()
        self._queue_changed = trio.Event()

    async def _write_loop(self) -> None:
        try:
            while self.ending is None:
                if not self._queue:
                    await self._queue_changed.wait()
                    continue
                # One write for all that waits: noise then seals fewer, larger messages.
                batch = b"".join(self._queue)
                self._queue.clear()
                await self.secured_conn.write(batch)
                self._counters["bytes_out"] += len(batch)
                self._queued -= len(batch)
                self._wake_queue()
        except Exception as error:  # noqa: BLE001 - libp2p, noise and trio raise many kinds; each ends this session only
            await self._end(Ending.GONE, f"writing failed: {error!r}")

    async def _ping_loop(self) -> None:
        number = 0
        while self.ending is None:
            await trio.sleep(self._ping_seconds)
            number += 1
            self._counters["pings"] += 1
            # Any byte counts as an answer: a peer that sends data is alive, and its pong may wait behind that
            # data.
            heard = self._heard = trio.Event()
            self.send_control(frame(PING, SYN, 0, number))
            with trio.move_on_after(self._ping_timeout):
                await heard.wait()
            if not heard.is_set():
                await self._end(Ending.SILENT, f"nothing heard for {self._ping_timeout:g} s after a ping")

    async def _read_loop(self) -> None:
        buffer = bytearray()
        try:
            while self.ending is None:
                data = await self.secured_conn.read(None)
                if not data:
                    await self._end(Ending.GONE, "end of file")
                    return
                self._heard.set()
                self._counters["bytes_in"] += len(data)
                buffer += data
                self._handle(buffer)
        except _Goodbye:
            await self._end(Ending.GONE, "the peer said goodbye")
        except ProtocolViolation as error:
            await self._end(Ending.PROTOCOL, str(error))
        except Exception as error:  # noqa: BLE001 - hostile bytes meet several parsers; this session ends
            await self._end(Ending.GONE, f"reading ended: {error!r}")

    def _handle(self, buffer: bytearray) -> None:
        """Take the complete frames from the front of the buffer."""
        position = 0
        while len(buffer) - position >= HEADER.size:
            version, kind, flags, number, length = HEADER.unpack_from(buffer, position)
            if version or kind > GO_AWAY:
                raise ProtocolViolation("unknown version or type")
            end = position + HEADER.size
            payload = b""
            if kind == DATA:
                if length > MAX_WINDOW:
                    raise ProtocolViolation("a frame larger than any window")
                if len(buffer) - end < length:
                    break
                payload = bytes(buffer[end : end + length])
                end += length
            position = end
            if kind == PING:
                if flags & SYN:
                    self.send_control(frame(PING, ACK, 0, length))
            elif kind == GO_AWAY:
                raise _Goodbye
            else:
                self._handle_stream(kind, flags, number, length, payload)
        del buffer[:position]

    def _handle_stream(self, kind: int, flags: int, number: int, length: int, payload: bytes) -> None:
        if flags & SYN and not self._accept(number):
            return
        stream = self._streams.get(number)
        if stream is None:
            return  # frames may still be on their way when we reset a stream
        if kind == DATA:
            stream.on_data(payload)
            if self.waiting > self._max_waiting:
                self._counters["streams_crowded"] += 1
                self.send_control(frame(WINDOW_UPDATE, RST, number, 0))
                stream.on_reset()
        elif length and not flags & RST:  # with RST it is go-yamux's error code
            stream.on_window(length)
        if flags & FIN:
            stream.on_finish()
        if flags & RST:
            stream.on_reset()
        self.forget_if_closed(stream)

    def _accept(self, number: int) -> bool:
        # Not in order: go-yamux takes the number of a stream first and sends the frame that opens it later.
        if number % 2 == self._next % 2 or not number or number in self._streams:
            raise ProtocolViolation("a stream number that it may not use")
        inbound = sum(other % 2 == number % 2 for other in self._streams)
        if inbound >= MAX_STREAMS:
            self._counters["streams_refused"] += 1
            self.send_control(frame(WINDOW_UPDATE, RST, number, 0))
            return False
        stream = self._streams[number] = YamuxStream(self, number)
        self.send_control(frame(WINDOW_UPDATE, ACK, number, 0))
        self._counters["streams_accepted"] += 1
        if not self.offer(stream):
            del self._streams[number]
            self.send_control(frame(WINDOW_UPDATE, RST, number, 0))
            return False
        return True
