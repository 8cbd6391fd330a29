"""Sessions of the native byte path: their ends, and peers that break the rules or flood."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_encrypt as seal

pytest.importorskip("mlnet.net.muxer._session", reason="the native byte path was not built")

from support.native import (
    ACK,
    CRYPTO,
    DATA,
    EOF,
    FIN_FLAG,
    FLOOD,
    GOODBYE,
    LOCAL,
    ONE,
    OTHER,
    PING,
    PROTOCOL,
    RESET,
    RST,
    SILENT,
    SYN,
    WINDOW,
    Side,
    drain,
    facing_peer,
    frame,
    in_thread,
    reactor,
    read_all,
    sides,
    tcp_pair,
)

from mlnet.net.muxer import native
from mlnet.net.muxer.base import INITIAL_WINDOW


def test_closing_says_goodbye_and_flushes_what_was_written() -> None:
    with sides() as (one, other):
        number, left = one.open()
        left.sendall(bytes(200_000))
        _, right = other.accept()
        one.reactor.close(one.session, 0)
        assert len(read_all(right)) == 200_000
        assert other.end_of(number) == RESET
        assert other.end() == GOODBYE
        assert one.end() == LOCAL
        left.close()
        right.close()


def test_what_came_with_the_handshake_is_not_lost() -> None:
    side = Side(reactor())
    ours, theirs = tcp_pair()
    early = frame(DATA, SYN | FIN_FLAG, 1, 5, b"early")
    side.session = side.reactor.add(ours.detach(), False, OTHER, 0, ONE, 0, early)
    _, sock = side.accept()
    assert read_all(sock) == b"early"
    sock.close()
    theirs.close()
    side.close()


def test_a_silent_peer_is_noticed_and_a_pinged_one_stays() -> None:
    with facing_peer(ping_seconds=0.1, ping_timeout=0.3) as (side, peer):
        for _ in range(3):
            number = peer.until(PING, SYN)[3]
            peer.send(frame(PING, ACK, 0, number))
        started = time.monotonic()
        assert side.end() == SILENT
        assert time.monotonic() - started < 2.0


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(frame(DATA, 0, 1, 0).replace(b"\0", b"\1", 1), id="version"),
        pytest.param(frame(9, 0, 1, 0), id="type"),
        pytest.param(frame(DATA, 16, 1, 0), id="flags"),
        pytest.param(frame(WINDOW, SYN, 2, 0), id="our numbers"),
        pytest.param(frame(WINDOW, SYN, 0, 0), id="number 0"),
        pytest.param(frame(WINDOW, SYN, 1, 0) * 2, id="a stream twice"),
        pytest.param(frame(DATA, SYN, 1, INITIAL_WINDOW + 1), id="past the window"),
        pytest.param(frame(WINDOW, SYN, 1, 0xFFFFFFFF), id="window overflow"),
        pytest.param(frame(DATA, SYN | FIN_FLAG, 1, 0) + frame(DATA, 0, 1, 1, b"x"), id="data after its end"),
    ],
)
def test_a_peer_that_breaks_the_rules_loses_its_session_at_once(frames: bytes) -> None:
    with facing_peer() as (side, peer):
        peer.send(frames)
        assert side.end() == PROTOCOL


@pytest.mark.parametrize(
    "message",
    [b"\0\0", b"\0\5hello", b"\0\20" + bytes(16), b"\0\40" + bytes(32)],
    ids=["empty", "short", "tag", "zeros"],
)
def test_what_the_peer_did_not_seal_ends_the_session(message: bytes) -> None:
    with facing_peer() as (side, peer):
        peer.socket.sendall(message)
        assert side.end() == CRYPTO


def test_a_replayed_message_ends_the_session() -> None:
    with facing_peer() as (side, peer):
        message = seal(frame(PING, SYN, 0, 1), None, bytes(12), ONE)
        peer.socket.sendall((len(message).to_bytes(2, "big") + message) * 2)
        assert side.end() == CRYPTO


def test_an_end_in_the_middle_of_a_message_is_an_end() -> None:
    with facing_peer() as (side, peer):
        peer.socket.sendall(b"\7\7some")
        peer.socket.shutdown(socket.SHUT_WR)
        assert side.end() == EOF


def test_a_flood_of_frames_of_no_use_is_cut() -> None:
    with facing_peer() as (side, peer), in_thread(lambda: drain(peer.socket)):
        with contextlib.suppress(OSError):
            for _ in range(200):
                peer.send(frame(PING, SYN, 0, 1) * 5000)
        assert side.end() == FLOOD


def test_a_peer_that_does_not_read_cannot_make_us_queue_without_end() -> None:
    with facing_peer() as (side, peer):
        with contextlib.suppress(OSError):
            for _ in range(13):
                peer.send(frame(PING, SYN, 0, 1) * 5000)
            for number in range(1, 60_001, 2):
                peer.send(frame(WINDOW, SYN | RST, number, 0))
        assert side.end() == FLOOD


def test_a_rate_is_kept() -> None:
    with sides(bytes_per_second=1 << 20) as (one, other):
        _, left = one.open()
        _, right = other.accept()
        started = time.monotonic()
        with left, right, in_thread(lambda: left.sendall(bytes(3 << 20))):
            size = 0
            while size < 3 << 20:
                size += len(right.recv(1 << 20))
        # The first second's share comes at once.
        assert time.monotonic() - started > 1.5


def test_the_reasons_are_those_of_the_native_side() -> None:
    assert set(native._REASONS) == {LOCAL, EOF, 5, CRYPTO, PROTOCOL, SILENT, FLOOD, GOODBYE}
