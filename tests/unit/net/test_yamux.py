"""Streams of a session in Python, and the end of it."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamClosed,
    MuxedStreamReset,
)
from libp2p.stream_muxer.yamux.yamux import Yamux
from support.yamux import PEER, SYN, WINDOW, Secured, frame, read_all, run, sessions

from mlnet.net.muxer.base import INITIAL_WINDOW
from mlnet.net.muxer.yamux import YamuxSession
from mlnet.net.muxer.yamux_stream import MAX_WINDOW


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


def test_a_stream_that_comes_while_the_session_ends_is_not_accepted() -> None:
    class Late(Secured):
        """A connection on which the peer still opens a stream while it is being closed."""

        async def read(self, n: int | None = None) -> bytes:
            await self.frozen.wait()
            return frame(WINDOW, SYN, 2, 0)

        async def close(self) -> None:
            self.frozen.set()
            await trio.testing.wait_all_tasks_blocked()
            await super().close()

    async def test() -> None:
        left, _ = trio.testing.memory_stream_pair()
        session = YamuxSession(Late(left, True), PEER)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.start)
            await session.event_started.wait()
            await session.close()
            assert session.stream_count == 0
            with pytest.raises(MuxedConnUnavailable):
                await session.accept_stream()

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


def test_a_socket_that_is_gone_with_bytes_undelivered_resets_the_stream() -> None:
    """Also when the error of the socket was told to whoever wrote: the reader finds an end of file then."""

    def make(connection: Any) -> YamuxSession:
        return YamuxSession(connection, PEER)

    async def test() -> None:
        async with sessions(make) as (one, other):
            mine = await one.open_stream()
            await mine.write(bytes(INITIAL_WINDOW))
            theirs = await other.accept_stream()
            ours, target = socket.socketpair()
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            ours.setblocking(False)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(theirs.splice, trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
                await trio.testing.wait_all_tasks_blocked()
                target.close()
                assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
                with pytest.raises(MuxedStreamReset):
                    await mine.read()
            # No end of file came before it, which a quicker reader would have taken for the truth.
            assert not mine._read_closed

    for _ in range(8):  # trio wakes the tasks of the two directions in an order of its own choice
        run(test)
