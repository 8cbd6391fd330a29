"""For tests of the Python byte path: sessions over streams in memory, on a clock that jumps; the other side
is ours, libp2p's own Yamux, or raw frames."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedStreamEOF

from mlnet.net.muxer.yamux import YamuxSession

PEER = ID(b"peer")
DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8


class Secured:
    """What a noise session is to yamux."""

    def __init__(self, stream: Any, is_initiator: bool) -> None:
        self.stream, self.is_initiator = stream, is_initiator
        self.frozen = trio.Event()
        self.closed = False

    async def read(self, n: int | None = None) -> bytes:
        return bytes(await self.stream.receive_some(n))

    async def write(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def close(self) -> None:
        self.closed = True
        await self.stream.aclose()

    def get_remote_address(self) -> tuple[str, int]:
        return ("192.0.2.1", 4001)

    def get_transport_addresses(self) -> list[Any]:
        return []


def frame(kind: int, flags: int, stream: int, length: int) -> bytes:
    return struct.pack("!BBHII", 0, kind, flags, stream, length)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(1000):
            await test()

    trio.run(bounded, clock=trio.testing.MockClock(autojump_threshold=0))


@asynccontextmanager
async def sessions(
    make: Callable[[Secured], Any] = lambda secured: YamuxSession(secured, PEER),  # type: ignore[arg-type]
) -> AsyncIterator[tuple[YamuxSession, Any]]:
    left, right = trio.testing.memory_stream_pair()
    one, other = YamuxSession(Secured(left, True), PEER), make(Secured(right, False))  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.start)
        nursery.start_soon(other.start)
        await one.event_started.wait()
        await other.event_started.wait()
        yield one, other
        await one.close()
        await other.close()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def raw(is_initiator: bool = False) -> AsyncIterator[tuple[YamuxSession, trio.abc.Stream]]:
    """A session that answers, and the bytes at its other end."""
    left, right = trio.testing.memory_stream_pair()
    session = YamuxSession(Secured(left, is_initiator), PEER)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.start)
        await session.event_started.wait()
        yield session, right
        nursery.cancel_scope.cancel()


async def read_all(stream: Any, pause: float = 0.0) -> bytes:
    data = b""
    while True:
        await trio.sleep(pause)
        try:
            data += await stream.read(1 << 20)
        except MuxedStreamEOF:
            return data
