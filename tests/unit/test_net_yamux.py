"""Sessions over streams in memory, on a clock that jumps; the other side is ours, libp2p's own Yamux, or
raw frames."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamReset,
)
from libp2p.stream_muxer.yamux.yamux import Yamux

from mlnet.net.session import INITIAL_WINDOW, MAX_STREAMS, Ending
from mlnet.net.yamux import YamuxSession
from mlnet.net.yamux_stream import MAX_FRAME, MAX_WINDOW, YamuxStream

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


@pytest.mark.parametrize(
    "make",
    [lambda c: YamuxSession(c, PEER), lambda c: Yamux(c, PEER, is_initiator=False)],
    ids=["ours", "libp2p"],
)
def test_bytes_and_half_closes_cross_both_ways(make: Callable[[Any], Any]) -> None:
    payload = bytes(range(256)) * 12_000

    async def test() -> None:
        async with sessions(make) as (one, other):
            mine = await one.open_stream()
            await mine.write(b"hello")
            theirs = await other.accept_stream()
            assert await theirs.read(5) == b"hello"
            results: dict[str, bytes] = {}

            async def send(stream: Any) -> None:
                await stream.write(payload)
                await stream.close()

            async def receive(name: str, stream: Any) -> None:
                results[name] = await read_all(stream)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, mine)
                nursery.start_soon(send, theirs)
                nursery.start_soon(receive, "mine", mine)
                nursery.start_soon(receive, "theirs", theirs)
            assert results == {"mine": payload, "theirs": payload}
            assert mine.is_closed
            assert one.stream_count == 0

    run(test)


@pytest.mark.parametrize(
    "make",
    [lambda c: YamuxSession(c, PEER), lambda c: Yamux(c, PEER, is_initiator=False)],
    ids=["ours", "libp2p"],
)
def test_the_other_side_opens_streams_too(make: Callable[[Any], Any]) -> None:
    async def test() -> None:
        async with sessions(make) as (one, other):
            theirs = await other.open_stream()
            await theirs.write(b"hello")
            mine = await one.accept_stream()
            assert await mine.read(5) == b"hello"
            await mine.write(b"back")
            assert await theirs.read(4) == b"back"

    run(test)


def test_a_reader_may_pause_for_minutes() -> None:
    async def test() -> None:
        async with sessions() as (one, other):
            mine = await one.open_stream()
            payload = bytes(2 * INITIAL_WINDOW)
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    await mine.write(payload)
                    await mine.close()

                nursery.start_soon(send)
                theirs = await other.accept_stream()
                await trio.sleep(300)
                assert await read_all(theirs) == payload

    run(test)


def test_a_stalled_stream_does_not_hold_up_another() -> None:
    async def test() -> None:
        async with sessions() as (one, other), trio.open_nursery() as nursery:
            stalled, live = await one.open_stream(), await one.open_stream()
            nursery.start_soon(stalled.write, bytes(4 * MAX_WINDOW))
            await live.write(b"x")
            await other.accept_stream()
            theirs = await other.accept_stream()
            assert await theirs.read() == b"x"
            nursery.cancel_scope.cancel()

    run(test)


def test_what_the_reader_has_not_taken_is_bounded_by_the_window() -> None:
    async def test() -> None:
        async with sessions() as (one, other), trio.open_nursery() as nursery:
            mine = await one.open_stream()
            nursery.start_soon(mine.write, bytes(8 * MAX_WINDOW))
            theirs = await other.accept_stream()
            await trio.testing.wait_all_tasks_blocked()
            assert theirs._buffered == INITIAL_WINDOW
            await theirs.read()
            await trio.testing.wait_all_tasks_blocked()
            assert theirs._buffered == MAX_WINDOW
            nursery.cancel_scope.cancel()

    run(test)


def test_a_cancelled_write_leaves_the_session_whole() -> None:
    async def test() -> None:
        async with sessions() as (one, other):
            for _ in range(5):
                stream = await one.open_stream()
                with trio.move_on_after(1):
                    await stream.write(bytes(4 * MAX_WINDOW))
                await stream.reset()
            stream = await one.open_stream()
            await stream.write(b"whole")
            for _ in range(5):
                await other.accept_stream()
            assert await (await other.accept_stream()).read() == b"whole"

    run(test)


def test_a_reset_ends_both_sides() -> None:
    async def test() -> None:
        async with sessions() as (one, other):
            mine = await one.open_stream()
            theirs = await other.accept_stream()
            await theirs.reset()
            with pytest.raises(MuxedStreamReset):
                await mine.read()
            with pytest.raises(MuxedStreamReset):
                await mine.write(b"x")
            with pytest.raises(MuxedStreamReset):
                await theirs.read()
            assert one.stream_count == other.stream_count == 0

    run(test)


def test_nothing_is_written_after_our_close() -> None:
    async def test() -> None:
        async with sessions() as (one, _):
            stream = await one.open_stream()
            await stream.close()
            with pytest.raises(MuxedStreamClosed):
                await stream.write(b"x")

    run(test)


def test_the_end_of_the_session_wakes_everybody() -> None:
    async def test() -> None:
        async with sessions() as (one, other):
            stream = await one.open_stream()
            woken: list[str] = []

            async def expect(error: type[BaseException], wait: Callable[[], Awaitable[object]]) -> None:
                with pytest.raises(error):
                    await wait()
                woken.append(error.__name__)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(expect, MuxedStreamReset, stream.read)
                nursery.start_soon(expect, MuxedStreamReset, lambda: stream.write(bytes(4 * MAX_WINDOW)))
                nursery.start_soon(expect, MuxedConnUnavailable, one.accept_stream)
                await trio.testing.wait_all_tasks_blocked()
                await other.close()
            assert len(woken) == 3
            assert one.is_closed
            with pytest.raises(MuxedConnUnavailable):
                await one.open_stream()

    run(test)


def test_one_stream_too_many_is_an_error_at_once() -> None:
    async def test() -> None:
        async with sessions() as (one, _):
            streams = [await one.open_stream() for _ in range(MAX_STREAMS)]
            with pytest.raises(MuxedConnUnavailable, match="streams are open"):
                await one.open_stream()
            await streams[0].reset()
            await one.open_stream()

    run(test)


def test_a_flood_of_new_streams_is_reset() -> None:
    async def test() -> None:
        async with raw() as (session, peer):
            for index in range(MAX_STREAMS + 5):
                await peer.send_all(frame(WINDOW, SYN, 2 * index + 1, 0))
            answers = b""
            while len(answers) < 12 * (MAX_STREAMS + 5):
                answers += await peer.receive_some()
            flags = [struct.unpack_from("!BBHII", answers, 12 * i)[2] for i in range(MAX_STREAMS + 5)]
            assert flags == [ACK] * MAX_STREAMS + [RST] * 5
            assert session.stream_count == MAX_STREAMS

    run(test)


@pytest.mark.parametrize(
    "hostile",
    [
        frame(DATA, SYN, 1, INITIAL_WINDOW) + bytes(INITIAL_WINDOW) + frame(DATA, 0, 1, 1) + b"x",
        frame(DATA, 0, 1, MAX_WINDOW + 1),
        frame(WINDOW, SYN, 1, 0xFFFFFFFF),
        frame(WINDOW, SYN, 2, 0),
        frame(WINDOW, SYN, 1, 0) * 2,
        b"\1" + frame(PING, SYN, 0, 0)[1:],
        frame(7, 0, 0, 0),
        b"GET / HTTP/1.1\r\n\r\n",
        frame(GO_AWAY, 0, 0, 0),
    ],
    ids=[
        "past-window",
        "huge-frame",
        "window-overflow",
        "our-numbers",
        "twice",
        "version",
        "type",
        "http",
        "go-away",
    ],
)
def test_a_peer_that_breaks_the_rules_loses_its_session_at_once(hostile: bytes) -> None:
    async def test() -> None:
        async with raw() as (session, peer):
            with trio.fail_after(1):
                await peer.send_all(hostile)
                await session.event_closed.wait()
            assert session.secured_conn.closed  # type: ignore[attr-defined]

    run(test)


def test_a_peer_cannot_open_the_sessions_own_number() -> None:
    async def test() -> None:
        async with raw(is_initiator=True) as (session, peer):
            with trio.fail_after(1):
                await peer.send_all(frame(WINDOW, SYN, 0, 0))
                await session.event_closed.wait()
            assert session.ending is Ending.PROTOCOL

    run(test)


def test_streams_may_be_opened_in_any_order_of_their_numbers() -> None:
    """go-yamux takes the number of a stream first, and sends the frame that opens it later."""

    async def test() -> None:
        async with raw() as (session, peer):
            for number in (5, 1, 3):
                await peer.send_all(frame(WINDOW, SYN, number, 0))
                stream = await session.accept_stream()
                assert stream.number == number
            # Not even one that is over is held against the peer: yamux does not forbid it.
            await peer.send_all(frame(WINDOW, RST, 1, 0) + frame(WINDOW, SYN, 1, 0))
            assert (await session.accept_stream()).number == 1
            assert session.stream_count == 3

    run(test)


def test_the_code_of_a_reset_is_no_window() -> None:
    """go-yamux sends an error code of 32 bits where other window updates have the increment."""

    async def test() -> None:
        async with raw() as (session, peer):
            await peer.send_all(frame(WINDOW, SYN, 1, 0))
            stream = await session.accept_stream()
            await peer.send_all(frame(WINDOW, RST, 1, 0xFFFFFFFF))
            with pytest.raises(MuxedStreamReset):
                await stream.read(1)
            assert session.ending is None

    run(test)


def test_pings_are_answered() -> None:
    async def test() -> None:
        async with raw() as (_, peer):
            await peer.send_all(frame(PING, SYN, 0, 7))
            assert await peer.receive_some() == frame(PING, ACK, 0, 7)

    run(test)


def test_a_silent_peer_is_noticed() -> None:
    async def test() -> None:
        async with raw() as (session, _):
            started = trio.current_time()
            await session.event_closed.wait()
            assert trio.current_time() - started == pytest.approx(5.0)
            assert "nothing heard" in session.end_reason

    run(test)


def test_a_peer_that_answers_pings_stays() -> None:
    async def test() -> None:
        async with sessions() as (one, other):
            await trio.sleep(600)
            assert not one.is_closed
            assert not other.is_closed

    run(test)


def test_a_peer_that_does_not_read_cannot_make_us_queue_without_end() -> None:
    async def test() -> None:
        left, right = trio.testing.memory_stream_pair()
        secured = Secured(left, False)
        blocked = trio.Event()
        secured.write = lambda data: blocked.wait()  # type: ignore[method-assign]
        session = YamuxSession(secured, PEER)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.start)
            pings = frame(PING, SYN, 0, 0) * 1000
            with trio.fail_after(3):
                for _ in range(200):
                    if session.is_closed:
                        break
                    await right.send_all(pings)
                    await trio.testing.wait_all_tasks_blocked()
            assert session.is_closed
            nursery.cancel_scope.cancel()

    run(test)


def test_frames_fill_a_noise_message() -> None:
    async def test() -> None:
        async with raw() as (session, peer):
            stream: YamuxStream = await session.open_stream()
            await peer.receive_some()
            await stream.write(bytes(MAX_FRAME + 1))
            data = b""
            while len(data) < MAX_FRAME + 1 + 24:
                data += await peer.receive_some()
            assert struct.unpack_from("!BBHII", data) == (0, DATA, 0, stream.number, MAX_FRAME)
            assert len(data[: 12 + MAX_FRAME]) == 65_535 - 16

    run(test)


def test_bytes_that_nobody_reads_are_bounded_over_all_streams() -> None:
    async def test() -> None:
        left, right = trio.testing.memory_stream_pair()
        counters: Counter[str] = Counter()
        session = YamuxSession(Secured(left, False), PEER, max_waiting=250_000, counters=counters)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.start)
            for number in (1, 3, 5):
                await right.send_all(frame(DATA, SYN, number, 100_000) + bytes(100_000))
            await trio.testing.wait_all_tasks_blocked()
            # Two fit; the third is reset, and the others go on.
            assert session.waiting == 200_000
            assert counters["streams_crowded"] == 1
            assert session.stream_count == 2
            first = await session.accept_stream()
            assert len(await first.read(60_000)) == 60_000
            assert session.waiting == 140_000
            await first.reset()
            assert session.waiting == 100_000
            assert counters["bytes_in"] == 3 * 100_012
            await session.close()
            assert session.waiting == 0
            nursery.cancel_scope.cancel()

    run(test)
