"""The process around the native byte path: the library that encrypts, its ends, and its forks."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlnet.net.muxer._session", reason="the native byte path was not built")

from support.native import SECONDS, facing_peer
from support.native import reactor as make_reactor

TESTS = str(Path(__file__).parent.parent)


@pytest.mark.parametrize("library", ["libcrypto", "libsodium"])
def test_both_libraries_speak_with_another_implementation(library: str) -> None:
    code = f"""
from mlnet.net.muxer import aead
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


_TRAFFIC = """
import os, socket, sys, threading, time
sys.path.insert(0, {directory!r})
from support import native as tests
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
from support import native as tests
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


def test_a_reactor_that_lacks_a_descriptor_says_so_and_keeps_none() -> None:
    code = f"""
import errno, os, resource, sys
sys.path.insert(0, {TESTS!r})
from support import native as tests
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True:
        taken.append(os.dup(0))
except OSError:
    pass
for lacking in (3, 2, 1):
    try:
        tests.reactor()
    except OSError as error:
        assert error.errno == errno.EMFILE, error
    else:
        raise AssertionError("there was a descriptor left")
    os.close(taken.pop())
tests.reactor().stop()
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == 0


def test_two_threads_may_stop_a_reactor_at_once() -> None:
    """As the host's and the main thread do when a process ends; whoever returns finds it stopped."""
    for _ in range(50):
        reactor = make_reactor()
        both = threading.Barrier(2)

        def stop(reactor: Any = reactor, both: threading.Barrier = both) -> None:
            both.wait(SECONDS)
            reactor.stop()
            with pytest.raises(OSError, match="Invalid argument"):
                reactor.add(0, True, bytes(32), 0, bytes(32), 0, b"")

        with ThreadPoolExecutor(2) as threads:
            for done in [threads.submit(stop) for _ in range(2)]:
                done.result(SECONDS)
