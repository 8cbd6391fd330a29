"""What a peer may make a session in Python do: bounds, the rules of yamux, and silence."""

from __future__ import annotations

import struct
from collections import Counter

import pytest
import trio
import trio.testing
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamReset
from support.yamux import ACK, DATA, GO_AWAY, PEER, PING, RST, SYN, WINDOW, Secured, frame, raw, run, sessions

from mlnet.net.muxer.base import INITIAL_WINDOW, MAX_STREAMS, Ending
from mlnet.net.muxer.yamux import YamuxSession
from mlnet.net.muxer.yamux_stream import MAX_FRAME, MAX_WINDOW, YamuxStream


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
