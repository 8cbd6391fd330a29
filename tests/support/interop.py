"""Peers of other libp2p implementations: building them, and driving one by lines of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import queue
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from support.network import Node

from mlnet.net.types import REDIS_PROTOCOL
from mlnet.v1 import peer_pb2 as pb

SOURCES = Path(__file__).parents[1] / "interop"
BUILD_SECONDS = 900.0
"""A first build downloads and compiles a hundred packages."""
ANSWER_SECONDS = 40.0
"""A peer gives up after 30 s by itself, and says so."""
END_SECONDS = 10.0
_NO_NETWORK = re.compile(
    r"dial tcp|no such host|network is unreachable|connection refused|i/o timeout|TLS handshake timeout"
    r"|module lookup disabled|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|ETIMEDOUT|ENOTCACHED"
    r"|ERR_SOCKET_TIMEOUT"
)


# --- building


def build_go(target: Path) -> list[str]:
    """Build the Go peer; the command that runs it."""
    binary = target / "peer"
    _build("go", ["go", "build", "-mod=readonly", "-ldflags=-s -w", "-o", str(binary), "."], SOURCES / "go")
    return [str(binary)]


def build_js(target: Path) -> list[str]:
    """Install the dependencies of the JavaScript peer into a copy of it; the command that runs it."""
    _find("node")
    for name in ("package.json", "package-lock.json", "peer.mjs", "wire.mjs"):
        shutil.copy(SOURCES / "js" / name, target)
    _build("npm", ["npm", "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"], target)
    return ["node", str(target / "peer.mjs")]


BUILDERS = {"go": build_go, "js": build_js}


def built(language: str, factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs the peer of a language; it is built once a run, whichever process asks first."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (shared / f"{language}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        target, command = shared / language, shared / f"{language}.json"
        if not command.exists():
            target.mkdir(exist_ok=True)
            command.write_text(json.dumps(BUILDERS[language](target)))
        return list(map(str, json.loads(command.read_text())))


def _find(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")


def _build(tool: str, command: list[str], directory: Path) -> None:
    """Skips only where the dependencies are neither here nor to be had; any other failure is one."""
    _find(tool)
    result = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    if result.returncode:
        output = result.stdout + result.stderr
        reason = next((line for line in output.splitlines() if _NO_NETWORK.search(line)), None)
        if reason is not None:
            pytest.skip(f"the dependencies of tests/interop cannot be downloaded: {reason[-300:]}")
        pytest.fail(f"{' '.join(command)} failed:\n{output[-5000:]}")


def write_descriptors(path: Path) -> Path:
    """What the peers need to know of our messages."""
    files = FileDescriptorSet()
    pb.DESCRIPTOR.CopyToProto(files.file.add())
    path.write_bytes(files.SerializeToString())
    return path


# --- driving


class PeerError(Exception):
    """What a peer said instead of an answer."""


class Peer:
    """A process of another implementation.

    Attributes:
        id: its peer id.
        address: where it listens.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._asking = asyncio.Lock()
        self._frozen = False
        self.id = self.address = ""

    async def start(self) -> None:
        hello = await self._read()
        self.id, self.address = hello["id"], hello["addresses"][0]
        if "/p2p/" not in self.address:
            self.address += f"/p2p/{self.id}"

    async def do(self, command: str, **arguments: Any) -> dict[str, Any]:
        """The answer to a command.

        Raises:
            PeerError: it failed there.
        """
        assert self._process.stdin is not None
        async with self._asking:
            self._process.stdin.write(json.dumps({"do": command, **arguments}).encode() + b"\n")
            answer = await self._read()
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    async def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                line = await self._process.stdout.readline()
        except TimeoutError:
            self._process.kill()  # else the next test would read this answer
            raise
        assert line, "the peer has ended; what it said is above"
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def freeze(self) -> None:
        """Stop the process, as by a debugger, until its end; returns once it has stopped."""
        self._frozen = True
        self._process.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(os.waitid, os.P_PID, self._process.pid, os.WSTOPPED)

    async def stop(self) -> None:
        """End the input, upon which the process ends, unless it is frozen."""
        assert self._process.stdin is not None
        if self._frozen:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            await self._process.wait()
            return
        self._process.stdin.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                status = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise
        assert status == 0


@contextlib.asynccontextmanager
async def running_peer(
    command: list[str], descriptors: Path, *, keepalive: float | None = None
) -> AsyncIterator[Peer]:
    """Run a peer. Its temporary files, also those that a crash leaves, go with it.

    ``keepalive``: seconds between its yamux pings, if not those of its library.
    """
    options = [] if keepalive is None else [str(round(keepalive * 1000))]
    with tempfile.TemporaryDirectory(prefix="mlnet-") as directory:
        process = await asyncio.create_subprocess_exec(
            *command,
            str(descriptors),
            *options,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            limit=16 << 20,
            env={**os.environ, "TMPDIR": directory},
        )
        peer = Peer(process)
        try:
            await peer.start()
            yield peer
            await peer.stop()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


# --- what a spliced stream leads to on our side; threads, so that the loop is free


class _Handler(socketserver.BaseRequestHandler):
    server: Target

    def finish(self) -> None:
        self.server.ended.put(None)


class Echo(_Handler):
    """Sends back what comes."""

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(1 << 18):
                self.request.sendall(data)


class Late(_Handler):
    """Sends back what came, once its end has come too."""

    def handle(self) -> None:
        question = b""
        while data := self.request.recv(1 << 18):
            question += data
        self.request.sendall(question)


class Reset(_Handler):
    """Closes with bytes unread, which the other side sees as a reset."""

    def handle(self) -> None:
        self.request.recv(1, socket.MSG_PEEK)
        self.request.close()


class Target(socketserver.ThreadingUnixStreamServer):
    """A unix socket; ``ended`` gets an item for each connection that has ended."""

    request_queue_size = 256
    daemon_threads = False
    block_on_close = True

    def __init__(self, path: Path, handler: type[_Handler]) -> None:
        super().__init__(str(path), handler)
        self.ended: queue.SimpleQueue[None] = queue.SimpleQueue()


@contextlib.contextmanager
def targets(node: Node, peer: str, directory: Path) -> Iterator[dict[str, Target]]:
    """Let a peer open streams with the preambles ``echo``, ``late`` and ``reset``."""
    with contextlib.ExitStack() as stack:
        found: dict[str, Target] = {}
        for name, handler in (("echo", Echo), ("late", Late), ("reset", Reset)):
            path = directory / name
            server = found[name] = stack.enter_context(Target(path, handler))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            node.targets[(peer, REDIS_PROTOCOL, name)] = path
        yield found


# --- what opens such streams from our side


async def exchange(path: Path, data: bytes) -> bytes:
    """Send all of ``data`` and the end, and read until the other end."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:

        async def send() -> None:
            writer.write(data)
            writer.write_eof()
            await writer.drain()

        _, received = await asyncio.gather(send(), reader.read())
        return received
    finally:
        writer.close()


async def echo(path: Path, size: int) -> None:
    """Send random bytes and the end; the same must come back, then the other end."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    block = os.urandom(1 << 20)
    sent, received = hashlib.sha256(), hashlib.sha256()

    async def send() -> None:
        for number in range(0, size, len(block)):
            data = number.to_bytes(8, "big") + block[8 : min(len(block), size - number)]
            sent.update(data)
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def receive() -> int:
        count = 0
        while data := await reader.read(1 << 18):
            received.update(data)
            count += len(data)
        return count

    try:
        _, count = await asyncio.gather(send(), receive())
        assert count == size
        assert sent.digest() == received.digest()
    finally:
        writer.close()


async def digest(sock: socket.socket) -> dict[str, Any]:
    """Read all that a socket has, until its end or a reset, and close it: how much it was, and its hash."""
    received, count = hashlib.sha256(), 0
    with sock, contextlib.suppress(ConnectionError):
        while data := await asyncio.get_running_loop().sock_recv(sock, 1 << 18):
            received.update(data)
            count += len(data)
    return {"bytes": count, "sha256": received.hexdigest()}
