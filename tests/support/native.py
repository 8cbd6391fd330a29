"""For tests of the native byte path: reactors in pairs, and a peer that seals its frames by hand."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nacl.bindings import crypto_aead_chacha20poly1305_ietf_decrypt as unseal
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_encrypt as seal

from mlnet.net.muxer import _session, native  # noqa: F401 - which chooses the library that encrypts
from mlnet.net.muxer.base import MAX_STREAMS

ONE, OTHER = bytes(range(32)), bytes(range(32, 64))
SECONDS = 20.0
FIN, RESET, LOCAL, EOF, CRYPTO, PROTOCOL, SILENT, FLOOD, CROWDED, GOODBYE = 1, 2, 3, 4, 6, 7, 8, 9, 10, 11
DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN_FLAG, RST = 1, 2, 4, 8


def frame(kind: int, flags: int, stream: int, length: int, payload: bytes = b"") -> bytes:
    return struct.pack("!BBHII", 0, kind, flags, stream, length) + payload


class News(NamedTuple):
    """What a reactor tells."""

    kind: int
    session: int
    stream: int
    descriptor: int
    reason: int


@dataclass
class Side:
    """A reactor, and what it has told."""

    reactor: _session.Reactor
    session: int = 0
    news: list[News] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)

    def until(self, wanted: Callable[[News], bool]) -> News:
        """The first news like this; it is taken away."""
        end = time.monotonic() + SECONDS
        while True:
            for one in self.news:
                if wanted(one):
                    self.news.remove(one)
                    return one
            assert time.monotonic() < end, f"not told; only {self.news}"
            select.select([self.reactor.event_fd], [], [], 1.0)
            self.news += (News(*one) for one in self.reactor.take())

    def accept(self) -> tuple[int, socket.socket]:
        told = self.until(lambda one: one.kind == _session.STREAM)
        return told.stream, self._blocking(told.descriptor)

    def open(self) -> tuple[int, socket.socket]:
        stream, descriptor = self.reactor.open(self.session)
        return stream, self._blocking(descriptor)

    def end_of(self, stream: int) -> int:
        return self.until(lambda one: one.kind == _session.STREAM_ENDED and one.stream == stream).reason

    def end(self) -> int:
        return self.until(
            lambda one: one.kind == _session.SESSION_ENDED and one.session == self.session
        ).reason

    def close(self) -> None:
        self.reactor.stop()
        for one in self.news:
            if one.descriptor >= 0:
                os.close(one.descriptor)
        for sock in self.sockets:
            sock.close()

    def _blocking(self, descriptor: int) -> socket.socket:
        made = socket.socket(fileno=descriptor)
        made.settimeout(SECONDS)
        self.sockets.append(made)
        return made


def reactor(**changed: Any) -> _session.Reactor:
    settings: dict[str, Any] = {
        "max_window": 4 << 20,
        "max_streams": MAX_STREAMS,
        "max_memory": 64 << 20,
        "session_memory": 16 << 20,
        "bytes_per_second": 0,
        "ping_seconds": 60.0,
        "ping_timeout": 60.0,
    }
    return _session.Reactor(**{**settings, **changed})


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    return one, other


@contextlib.contextmanager
def sides(**changed: Any) -> Iterator[tuple[Side, Side]]:
    """Two reactors with a session between them; the first has dialled."""
    one, other = Side(reactor(**changed)), Side(reactor(**changed))
    left, right = tcp_pair()
    one.session = one.reactor.add(left.detach(), True, ONE, 0, OTHER, 0, b"")
    other.session = other.reactor.add(right.detach(), False, OTHER, 0, ONE, 0, b"")
    try:
        yield one, other
    finally:
        one.close()
        other.close()


class Peer:
    """A peer that seals by hand, and keeps no rules."""

    def __init__(self, side: Side) -> None:
        ours, self.socket = tcp_pair()
        self.socket.settimeout(SECONDS)
        self._sealed = self._opened = 0
        self._buffer = b""
        side.session = side.reactor.add(ours.detach(), False, OTHER, 0, ONE, 0, b"")

    def send(self, *frames: bytes) -> None:
        nonce = bytes(4) + self._sealed.to_bytes(8, "little")
        self._sealed += 1
        message = seal(b"".join(frames), None, nonce, ONE)
        self.socket.sendall(len(message).to_bytes(2, "big") + message)

    def read(self) -> tuple[int, int, int, int]:
        """The next frame's type, flags, stream and length; payload is left in ``payload``."""
        head = self._take(12)
        _, kind, flags, stream, length = struct.unpack("!BBHII", head)
        self.payload = self._take(length) if kind == DATA else b""
        return kind, flags, stream, length

    def until(self, *wanted: int) -> tuple[int, int, int, int]:
        while (found := self.read())[: len(wanted)] != wanted:
            pass
        return found

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            message = self._exactly(int.from_bytes(self._exactly(2), "big"))
            nonce = bytes(4) + self._opened.to_bytes(8, "little")
            self._opened += 1
            self._buffer += unseal(message, None, nonce, OTHER)
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data


@contextlib.contextmanager
def facing_peer(**changed: Any) -> Iterator[tuple[Side, Peer]]:
    side = Side(reactor(**changed))
    peer = Peer(side)
    try:
        yield side, peer
    finally:
        peer.socket.close()
        side.close()


def read_all(sock: socket.socket) -> bytes:
    parts = []
    while data := sock.recv(1 << 20):
        parts.append(data)
    return b"".join(parts)


@contextlib.contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[None]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join(SECONDS)
    assert not thread.is_alive()


def drain(sock: socket.socket) -> None:
    """Read until the end, or an error."""
    with contextlib.suppress(OSError):
        while sock.recv(1 << 16):
            pass
