"""The native byte path by itself: two reactors, or one and a peer that seals its frames by hand."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_encrypt as seal

pytest.importorskip("mlnet.net._session", reason="the native byte path was not built")

from native_support import (
    ACK,
    CROWDED,
    CRYPTO,
    DATA,
    EOF,
    FIN,
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
    SECONDS,
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

from mlnet.net import _session, native
from mlnet.net.session import INITIAL_WINDOW

TESTS = str(Path(__file__).parent.parent)


# --- streams


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


# --- sessions


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


def test_memory_and_descriptors_come_back() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with sides() as (one, other):
        number, first = one.open()
        other.accept()[1].close()
        first.close()
        assert one.end_of(number) == FIN
        assert other.end_of(number) == FIN
        before = descriptors()
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
        assert descriptors() == before
        assert one.reactor.counters()["memory"] <= 1 << 20


@pytest.mark.parametrize("library", ["libcrypto", "libsodium"])
def test_both_libraries_speak_with_another_implementation(library: str) -> None:
    code = f"""
from mlnet.net import aead
{"aead._libcrypto = lambda: None" if library == "libsodium" else ""}
if aead.load_aead() != {library!r}:
    raise SystemExit(77)
import sys
sys.path.insert(0, {TESTS!r})
sys.path.insert(0, {TESTS!r} + '/integration')
import test_net_native as tests
tests.test_bytes_and_half_closes_cross_both_ways(300_000)
tests.test_streams_may_be_opened_in_any_order()
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    if done.returncode == 77:
        pytest.skip("this interpreter's OpenSSL cannot be reached")
    assert done.returncode == 0


# --- the process around it

_TRAFFIC = """
import os, socket, sys, threading, time
sys.path.insert(0, {directory!r})
import native_support as tests
one, other = tests.Side(tests.reactor()), tests.Side(tests.reactor())
left, right = tests.tcp_pair()
one.session = one.reactor.add(left.detach(), True, tests.ONE, 0, tests.OTHER, 0, b"")
other.session = other.reactor.add(right.detach(), False, tests.OTHER, 0, tests.ONE, 0, b"")
_, writer = one.open()
_, reader = other.accept()
moved = threading.Event()
def write():
    try:
        while True:
            writer.sendall(bytes(200_000))
    except OSError:
        pass
def read():
    try:
        while reader.recv(1 << 20):
            moved.set()
    except OSError:
        pass
for work in (write, read):
    threading.Thread(target=work, daemon=True).start()
assert moved.wait(20)
"""

_ENDINGS = {
    "return": "",
    "exit": "raise SystemExit(0)",
    "stop": "one.reactor.stop(); other.reactor.stop()",
    "fork": """
for _ in range(10):
    child = os.fork()
    if not child:
        try:
            one.reactor.open(one.session)
        except OSError:
            os._exit(0)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
moved.clear()
assert moved.wait(20)
""",
}


@pytest.mark.parametrize("how", _ENDINGS)
def test_a_process_ends_cleanly_under_full_traffic(how: str) -> None:
    code = _TRAFFIC.format(directory=TESTS) + _ENDINGS[how]
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=60, check=False)
    assert done.returncode == 0


def test_a_forked_child_does_not_keep_a_connection_up() -> None:
    """The parent is killed, its child lives on, and the peer sees the end."""
    with facing_peer() as (_, _), socket.create_server(("127.0.0.1", 0)) as server:
        code = f"""
import os, socket, sys, time
sys.path.insert(0, {TESTS!r})
import native_support as tests
made = tests.reactor()
connection = socket.create_connection({server.getsockname()!r})
made.add(connection.detach(), True, tests.ONE, 0, tests.OTHER, 0, b"")
if os.fork() == 0:
    time.sleep({SECONDS})
    os._exit(0)
print("up", flush=True)
time.sleep({SECONDS})
"""
        parent = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
        )
        assert parent.stdout is not None
        try:
            connection, _ = server.accept()
            connection.settimeout(5.0)
            assert parent.stdout.readline() == b"up\n"
            parent.kill()
            with contextlib.suppress(ConnectionError):
                assert connection.recv(1) == b""
            connection.close()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)
            parent.wait()
            parent.stdout.close()


def test_the_reasons_are_those_of_the_native_side() -> None:
    assert set(native._REASONS) == {LOCAL, EOF, 5, CRYPTO, PROTOCOL, SILENT, FLOOD, GOODBYE}
