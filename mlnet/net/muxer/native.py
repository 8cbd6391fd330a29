"""Sessions whose bytes move in a native thread: noise, yamux and the copying to local sockets.

libp2p dials, proves identities and negotiates. Then the socket and the two keys of the connection go to a
``Reactor`` (``ext/session/session.pyx``), and each stream is a descriptor from there on. Everything in this
module runs in the trio thread; none of it sees a byte of a spliced stream.

Why: in Python a stream of 1 MiB messages moves at a third of the speed, and a call takes three times as long
(README, docs/adr/0007-native-session.md).
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final

import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.security.noise.io import NoiseTransportReadWriter
from libp2p.security.secure_session import SecureSession
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamReset

from mlnet.net.muxer import _session, aead
from mlnet.net.muxer.base import MAX_STREAMS, Ending
from mlnet.net.muxer.native_stream import NativeStream, NativeStreamOwner

if TYPE_CHECKING:
    from libp2p.abc import ISecureConn
    from libp2p.connection_types import ConnectionType
    from libp2p.peer.id import ID
    from multiaddr import Multiaddr

    from mlnet.net.types import Limits

logger = logging.getLogger(__name__)
MAX_WINDOW = 4 << 20
"""Bytes to which a stream's window grows while its reader keeps up. A stream moves at most a window per round
trip: 335 Mbit/s at 100 ms, half of it with half the window. Each stream that nobody reads may hold that much,
within Limits.tunnel_bytes_per_connection."""
CLOSE_SECONDS = 1.0
"""Time for the native side to confirm the end; it writes for at most half a second (CLOSE_TIMEOUT in
``ext/session/internal.h``)."""
_REASONS: Final = {
    3: (Ending.CLOSED, "closed by us"),
    4: (Ending.GONE, "the peer closed the connection"),
    5: (Ending.GONE, "the connection broke"),
    6: (Ending.PROTOCOL, "a message that the peer did not seal"),
    7: (Ending.PROTOCOL, "a frame that violates yamux"),
    8: (Ending.SILENT, "no answer to a ping"),
    9: (Ending.FLOOD, "too many frames of no use, or answers that the peer does not read"),
    11: (Ending.GONE, "the peer said goodbye"),
}
"""By the numbers of ``ext/session/session.h``, which tests compare."""


class NativeSession(NativeStreamOwner):
    """A connection that a :class:`NativeReactor` carries from :meth:`start` on.

    Args:
        reactor: moves the bytes.
        conn: the noise session; see :func:`can_carry`.
        peer_id: the peer that it proved.
        remote: the TCP address at the other end; None when it is not known.
    """

    def __init__(
        self, reactor: NativeReactor, conn: ISecureConn, peer_id: ID, *, remote: tuple[str, int] | None = None
    ) -> None:
        super().__init__(conn, peer_id, remote=remote)
        self.reactor = reactor
        self._number: int | None = None
        self._streams: dict[int, NativeStream] = {}

    @property
    def stream_count(self) -> int:
        """Open streams, of both sides."""
        return len(self._streams)

    async def start(self) -> None:
        """Hand the connection over and wait for its end; libp2p starts it in a task of its own."""
        try:
            try:
                self._number = self.reactor.add(self)
            except OSError as error:
                self.on_end(Ending.GONE, f"it could not be carried: {error}")
                return
            finally:
                # Also on failure: libp2p waits for it before it looks whether the session is open.
                self.event_started.set()
            await self.event_closed.wait()
        finally:
            if not self.event_closed.is_set():
                with trio.CancelScope(shield=True):
                    await self.close()

    async def close(self) -> None:
        """Say goodbye, write what is queued for at most half a second, and end."""
        if self.ending is None:
            self.ending, self.end_reason = Ending.CLOSED, "closed by us"
            if self._number is None:
                await self.secured_conn.close()
                self.event_closed.set()
            else:
                self.reactor.native.close(self._number, 0)
        with trio.move_on_after(CLOSE_SECONDS):
            await self.event_closed.wait()

    def on_end(self, ending: Ending, reason: str) -> None:
        """The native side is done with it."""
        if self.ending is None:
            self.ending, self.end_reason = ending, reason
        self.withdraw_offers()
        self.event_closed.set()

    async def open_stream(self) -> NativeStream:
        """A new stream.

        Raises:
            MuxedConnUnavailable: the session is over, or has too many streams.
        """
        await trio.lowlevel.checkpoint()
        if self.ending is not None or self._number is None:
            raise MuxedConnUnavailable("the session is over")
        try:
            number, descriptor = self.reactor.native.open(self._number)
        except BlockingIOError as error:
            raise MuxedConnUnavailable(f"{MAX_STREAMS} streams are open") from error
        except OSError as error:
            raise MuxedConnUnavailable(f"no stream can be opened: {error.strerror}") from error
        return self._add_stream(number, descriptor)

    def _add_stream(self, number: int, descriptor: int) -> NativeStream:
        stream = self._streams[number] = NativeStream(self, number, descriptor)
        return stream

    def on_stream(self, number: int, descriptor: int) -> None:
        """The peer has opened a stream."""
        if self.ending is not None:
            os.close(descriptor)
            return
        stream = self._add_stream(number, descriptor)
        if not self.offer(stream):
            self.reset_stream(stream)
            stream.release()

    def on_stream_end(self, number: int, reason: int) -> None:
        """A stream is over."""
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.on_end(reason)

    def catch_up(self) -> None:
        """Process the native thread's pending events now, instead of when its descriptor is readable."""
        self.reactor.catch_up()

    def reset_stream(self, stream: NativeStream) -> None:
        """End a stream at once."""
        if self._number is not None:
            self.reactor.native.reset(self._number, stream.number)

    def splice_stream(self, stream: NativeStream, pair: int, descriptor: int) -> None:
        """Hand a socket to the native thread in place of the stream's own end; both are closed if the stream
        is over."""
        if self._number is None:
            raise MuxedStreamReset("the session did not start")
        self.reactor.native.splice(self._number, stream.number, pair, descriptor)


def _noise(conn: object) -> tuple[SecureSession, Any, trio.SocketStream] | None:
    """The parts of a noise connection over TCP with ChaCha20-Poly1305; None for any other."""
    # These are private parts of libp2p 0.8.1. Whatever is not exactly what we know goes to the session in
    # Python.
    if not isinstance(conn, SecureSession) or type(conn.conn) is not NoiseTransportReadWriter:
        return None
    raw: object = conn.conn.read_writer.read_write_closer
    tcp = raw.stream if isinstance(raw, RawConnection) else raw
    protocol = conn.conn.noise_state.noise_protocol
    if not isinstance(tcp, TrioTCPStream) or not isinstance(tcp.stream, trio.SocketStream):
        return None
    if not protocol.name.endswith(b"_25519_ChaChaPoly_SHA256"):
        return None
    return conn, protocol, tcp.stream


class _HandedOver(SecureSession):
    """What libp2p still asks of a secured connection once its socket and its keys have gone to the native
    thread, without the state of the handshake."""

    def __init__(self, conn: SecureSession) -> None:
        # Deliberately without super().__init__(), which keeps the state of the handshake: some kilobytes for
        # every idle connection.
        self.is_initiator = conn.is_initiator
        self._remote, self._kind = conn.get_remote_address(), conn.get_connection_type()
        self._addresses = conn.get_transport_addresses()

    def get_remote_address(self) -> tuple[str, int] | None:
        """The TCP address at the other end."""
        return self._remote

    def get_transport_addresses(self) -> list[Multiaddr]:
        """The same as a multiaddr."""
        return self._addresses

    def get_connection_type(self) -> ConnectionType:
        """Direct or relayed."""
        return self._kind


def can_carry(conn: object) -> bool:
    """Whether the native thread can carry a secured connection."""
    return _noise(conn) is not None


class NativeReactor:
    """The native thread of a host, and the sessions that are told of its events.

    Args:
        limits: bounds on memory, rate and silence.

    Raises:
        OSError: the thread cannot be started.
    """

    def __init__(self, limits: Limits) -> None:
        self.native = _session.Reactor(
            max_window=MAX_WINDOW,
            max_streams=MAX_STREAMS,
            max_memory=limits.tunnel_bytes,
            session_memory=limits.tunnel_bytes_per_connection,
            bytes_per_second=limits.bytes_per_second,
            ping_seconds=limits.ping_seconds,
            ping_timeout=limits.ping_timeout_seconds,
        )
        self._sessions: dict[int, NativeSession] = {}
        self._scope = trio.CancelScope()

    def start(self) -> None:
        """Begin to pass events to the sessions. It goes on while everything else is being cancelled."""
        logger.debug("%s encrypts", aead.NAME)
        # A system task: sessions that close during shutdown wait for their last event.
        trio.lowlevel.spawn_system_task(self._run)

    async def _run(self) -> None:
        with self._scope:
            while True:
                await trio.lowlevel.wait_readable(self.native.event_fd)
                self.catch_up()

    def stop(self) -> None:
        """End the thread and what is left of the sessions."""
        self._scope.cancel()
        self.native.stop()
        for session in self._sessions.values():
            session.on_end(Ending.CLOSED, "the host stops")
        self._sessions.clear()

    def add(self, session: NativeSession) -> int:
        """Take a connection from libp2p; its number.

        Raises:
            OSError: it cannot be taken.
        """
        parts = _noise(session.secured_conn)
        if parts is None:
            raise OSError("it is not noise over TCP")
        conn, protocol, stream = parts
        sealing, opening = protocol.cipher_state_encrypt, protocol.cipher_state_decrypt
        # What the handshake has read beyond its end belongs to the session; both are taken before the socket
        # is gone.
        unread, rest = conn._drain(None), _HandedOver(conn)
        # From here on the descriptor is ours: trio would close it with its stream.
        descriptor = stream.socket.detach()
        try:
            number = self.native.add(
                descriptor,
                session.is_initiator,
                bytes(sealing.k),
                sealing.n,
                bytes(opening.k),
                opening.n,
                unread,
            )
        except OSError:
            os.close(descriptor)
            raise
        self._sessions[number] = session
        session.secured_conn = rest
        return number

    def catch_up(self) -> None:
        """Pass on all events since the last call."""
        while news := self.native.take():
            for kind, number, stream, descriptor, reason in news:
                session = self._sessions.get(number)
                if session is None:
                    if descriptor >= 0:
                        os.close(descriptor)
                elif kind == _session.STREAM:
                    session.on_stream(stream, descriptor)
                elif kind == _session.STREAM_ENDED:
                    session.on_stream_end(stream, reason)
                else:
                    del self._sessions[number]
                    session.on_end(*_REASONS.get(reason, (Ending.GONE, f"reason {reason}")))

    def counters(self) -> dict[str, int]:
        """What the thread has counted."""
        return self.native.counters()
