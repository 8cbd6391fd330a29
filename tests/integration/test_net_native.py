"""Streams of the native byte path: two reactors, or one and a peer that seals its frames by hand."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time

import pytest

pytest.importorskip("mlnet.net.muxer._session", reason="the native byte path was not built")

from support.native import (
    ACK,
    CROWDED,
    DATA,
    FIN,
    FIN_FLAG,
    LOCAL,
    PING,
    RESET,
    RST,
    SECONDS,
    SYN,
    WINDOW,
    facing_peer,
    frame,
    in_thread,
    read_all,
    sides,
)
from support.network import open_sockets

from mlnet.net.muxer import _session
from mlnet.net.muxer.base import INITIAL_WINDOW


@pytest.mark.parametrize("size", [0, 1, 65_507, 65_508, 3_000_000])
def test_bytes_and_half_closes_cross_both_ways(size: int) -> None:
    payload, answer = os.urandom(size), os.urandom(size + 7)
    with sides() as (one, other):
        number, left = one.open()
        _, right = other.accept()

        def serve() -> None:
            received.append(read_all(right))
            right.sendall(answer)
            right.shutdown(socket.SHUT_WR)

        received: list[bytes] = []
        with left, right, in_thread(serve):
            left.sendall(payload)
            left.shutdown(socket.SHUT_WR)
            assert read_all(left) == answer
        assert received == [payload]
        assert one.end_of(number) == other.end_of(number) == FIN


def test_a_stalled_stream_holds_up_no_other_and_what_it_has_is_bounded() -> None:
    with sides() as (one, other):
        _, stalled = one.open()
        other.accept()
        stalled.setblocking(False)
        sent = 0
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                sent += stalled.send(bytes(1 << 16))
            except BlockingIOError:
                if not select.select([], [stalled], [], 0.3)[1]:
                    break
            assert time.monotonic() < deadline
        # A window, and what the sockets at both ends hold.
        assert sent < INITIAL_WINDOW + (2 << 20)
        _, left = one.open()
        _, right = other.accept()
        for _ in range(100):
            left.sendall(b"ping")
            assert right.recv(4) == b"ping"
        for sock in (stalled, left, right):
            sock.close()


def test_the_window_grows_with_what_the_reader_takes_to_its_bound() -> None:
    with facing_peer(max_window=1 << 20) as (side, peer):
        peer.send(frame(WINDOW, SYN, 1, 0))
        _, sock = side.accept()
        allowed, granted = INITIAL_WINDOW, 0
        total = 0
        for _ in range(60):
            size = min(60_000, allowed)
            peer.send(frame(DATA, 0, 1, size, bytes(size)))
            allowed -= size
            total += size
            got = 0
            while got < size:
                got += len(sock.recv(size - got))
            peer.socket.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                while True:
                    kind, _, _, more = peer.read()
                    if kind == WINDOW:
                        allowed += more
                        granted += more
            peer.socket.settimeout(SECONDS)
        assert total > 3 * INITIAL_WINDOW
        outstanding = INITIAL_WINDOW + granted - total
        assert INITIAL_WINDOW < outstanding <= 1 << 20
        sock.close()


def test_a_reset_is_told_and_ends_both_ends() -> None:
    with sides() as (one, other):
        number, left = one.open()
        left.sendall(b"x")
        _, right = other.accept()
        assert right.recv(1) == b"x"
        assert one.reactor.reset(one.session, number)
        assert one.end_of(number) == LOCAL
        assert other.end_of(number) == RESET
        assert left.recv(1) == b""
        assert right.recv(1) == b""
        assert not one.reactor.reset(one.session, number)
        left.close()
        right.close()


def test_a_reader_that_is_gone_resets_the_stream() -> None:
    with sides() as (one, other):
        number, left = one.open()
        other.accept()[1].close()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(1000):
                left.sendall(bytes(1 << 16))
        assert one.end_of(number) in (RESET, FIN)
        left.close()


def test_another_socket_takes_the_place_of_a_streams_own() -> None:
    with sides() as (one, other):
        _, left = one.open()
        number, right = other.accept()
        left.sendall(b"first, and then the rest")
        assert right.recv(5) == b"first"
        # The rest lies in the pair: it must come out of the new socket, and nothing twice.
        select.select([right], [], [], SECONDS)
        mine, theirs = socket.socketpair()
        mine.settimeout(SECONDS)
        assert other.reactor.splice(other.session, number, right.detach(), theirs.detach())
        left.sendall(bytes(500_000))
        left.shutdown(socket.SHUT_WR)
        assert read_all(mine) == b", and then the rest" + bytes(500_000)
        mine.sendall(b"answer")
        mine.close()
        assert read_all(left) == b"answer"
        assert other.end_of(number) == FIN
        left.close()


def test_splicing_a_stream_that_is_over_closes_both_sockets() -> None:
    with sides() as (one, other):
        number, left = one.open()
        _, right = other.accept()
        one.reactor.reset(one.session, number)
        assert other.end_of(number) == RESET
        mine, theirs = socket.socketpair()
        mine.settimeout(SECONDS)
        assert not other.reactor.splice(other.session, number, right.detach(), theirs.detach())
        assert mine.recv(1) == b""
        left.close()
        mine.close()


def test_one_stream_too_many_is_an_error_at_once_and_reset_for_the_peer() -> None:
    with facing_peer(max_streams=3) as (side, peer):
        for number in (1, 3, 5, 7):
            peer.send(frame(WINDOW, SYN, number, 0))
        assert peer.until(WINDOW, RST)[2] == 7
        opened = [side.open()[1] for _ in range(3)]
        with pytest.raises(BlockingIOError):
            side.reactor.open(side.session)
        for sock in [*opened, *(side.accept()[1] for _ in range(3))]:
            sock.close()
        assert side.reactor.counters()["streams_refused"] == 1


def test_streams_may_be_opened_in_any_order() -> None:
    with facing_peer() as (side, peer):
        for number in (9, 1, 5, 3, 7):
            peer.send(frame(DATA, SYN | FIN_FLAG, number, 2, b"%02d" % number))
        for number in (9, 1, 5, 3, 7):
            stream, sock = side.accept()
            assert stream == number
            assert read_all(sock) == b"%02d" % number
            sock.close()


def test_the_number_in_a_reset_is_no_window() -> None:
    with facing_peer() as (side, peer):
        peer.send(frame(WINDOW, SYN, 1, 0), frame(WINDOW, RST, 1, 0xFFFFFFFF), frame(PING, SYN, 0, 7))
        assert peer.until(PING, ACK)[3] == 7
        assert side.reactor.counters()["sessions"] == 1


def test_a_session_that_hoards_loses_streams_and_not_its_neighbours_memory() -> None:
    with facing_peer(session_memory=50_000) as (side, peer):
        sockets = []
        allowed = dict.fromkeys((1, 3, 5), INITIAL_WINDOW)
        for number in allowed:
            peer.send(frame(WINDOW, SYN, number, 0))
            sockets.append(side.accept()[1])
        flags = 0
        while not flags & RST:
            # As much as the windows allow, which is more than the sockets hold.
            for number in allowed:
                while allowed[number] >= 60_000:
                    peer.send(frame(DATA, 0, number, 60_000, bytes(60_000)))
                    allowed[number] -= 60_000
            kind, flags, number, more = peer.read()
            if kind == WINDOW:
                allowed[number] += more
        assert side.until(lambda one: one.kind == _session.STREAM_ENDED).reason == CROWDED
        assert side.reactor.counters()["streams_crowded"] >= 1
        for sock in sockets:
            sock.close()


def test_a_stream_whose_user_is_gone_does_not_linger_for_a_silent_peer() -> None:
    with facing_peer() as (side, peer):
        peer.send(frame(WINDOW, SYN, 1, 0))
        side.accept()[1].close()
        assert peer.until(WINDOW, FIN_FLAG)[2] == 1
        # The peer has not closed its side; what it sends now has no reader.
        peer.send(frame(DATA, 0, 1, 3, b"hey"))
        assert peer.until(WINDOW, RST)[2] == 1


def test_memory_and_descriptors_come_back() -> None:
    with sides() as (one, other):
        number, first = one.open()
        other.accept()[1].close()
        first.close()
        assert one.end_of(number) == FIN
        assert other.end_of(number) == FIN
        before = open_sockets()
        for _ in range(200):
            number, left = one.open()
            left.sendall(b"hello")
            left.shutdown(socket.SHUT_WR)
            _, right = other.accept()
            assert read_all(right) == b"hello"
            right.close()
            assert read_all(left) == b""
            left.close()
            assert one.end_of(number) == FIN
            assert other.end_of(number) == FIN
        assert open_sockets() <= before
        assert one.reactor.counters()["memory"] <= 1 << 20
