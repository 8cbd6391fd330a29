"""What is done to the nodes of the soak test: peers that come, work, leave, die and freeze, and strangers
who do not play by the rules."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from support.hostile_peer import DATA, FIN, RST, SYN, WINDOW, Stranger, frame

START_SECONDS = 60.0
ANSWER_SECONDS = 60.0
END_SECONDS = 15.0
HELLO = b"\x13/multistream/1.0.0\n"
SOURCES = 48
"""Addresses from which strangers come."""


class Process:
    """A worker in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()
        self.address = self.peer = ""

    @classmethod
    async def start(cls, seed: str, blob: Path) -> Process:
        """Start one, and wait until it listens."""
        program = Path(__file__).with_name("worker.py")
        self = cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, str(program), seed, str(blob)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=1 << 20,
                env={
                    **os.environ,
                    "PYTHONPATH": str(program.parents[1]),
                    "TMPDIR": str(blob.parent),
                },  # who is killed clears nothing away
            )
        )
        try:
            hello = await self._answer(START_SECONDS)
        except BaseException:
            await self.kill()
            raise
        self.address, self.peer = hello["address"], hello["peer"]
        return self

    async def _answer(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(seconds):
            line = await self._process.stdout.readline()
        if not line:
            raise ConnectionError("a worker has died")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def do(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Have it do something; its answer."""
        async with self._turn:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({"do": what, **arguments}).encode() + b"\n")
            return await self._answer(ANSWER_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def end(self) -> None:
        """Close its input, and wait; kill it when that takes too long."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await self._process.wait()
        finally:
            await self.kill()

    async def kill(self) -> None:
        """End it at once."""
        if self._process.returncode is None:
            self.signal(signal.SIGKILL)
            await asyncio.shield(self._process.wait())


class Churn:
    """Does one thing after the other to the nodes, as a seed decides.

    Args:
        nodes: to whom.
        seed: of all choices.
        blob: what guests serve.
        guests: peers beside the nodes, at most.
    """

    def __init__(self, nodes: Sequence[Process], seed: int, blob: Path, guests: int) -> None:
        self._nodes, self._seed, self._blob, self._most = nodes, seed, blob, guests
        self._random = random.Random(seed)
        self._guests: list[Process] = []
        self._alive: set[Process] = set()
        self._arriving = 0
        self._born = 0
        self._under_way: set[asyncio.Task[None]] = set()
        self._stranger = Stranger()
        self.done: Counter[str] = Counter()
        self._deeds: dict[Callable[[], Awaitable[None]], int] = {
            self.garbage: 6,
            self.slow: 6,
            self.idle: 2,
            self.visit: 6,
            self.half_open: 4,
            self.cut_stream: 6,
            self.break_rules: 2,
            self.flood: 1,
            self.guest: 6,
            self.leave: 1,
            self.die: 1,
            self.freeze: 1,
        }

    async def run(self, seconds: float, pause: float) -> None:
        """Go on for a while, a deed every ``pause`` seconds on average; then nobody is left."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        await self._stranger.start()
        try:
            while loop.time() < end:
                (deed,) = self._random.choices([*self._deeds], [*self._deeds.values()])
                task = asyncio.create_task(self._carry_out(deed))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
                await asyncio.sleep(self._random.uniform(0.2, 1.8) * pause)
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)
        finally:
            await self._stranger.stop()
            await asyncio.gather(*(guest.kill() for guest in self._alive))

    async def _carry_out(self, deed: Callable[[], Awaitable[None]]) -> None:
        name = getattr(deed, "__name__", "?")
        try:
            await deed()
        except Exception:  # noqa: BLE001 - a node that has shut the address out hangs up, as it should
            name += ", cut off"
        self.done[name] += 1

    def _node(self) -> Process:
        return self._random.choice(self._nodes)

    def _source(self) -> str:
        return f"127.0.9.{self._random.randrange(1, SOURCES + 1)}"

    @contextlib.asynccontextmanager
    async def _knock(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        port = int(self._node().address.split("/")[4])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(self._source(), 0))
        try:
            yield reader, writer
        finally:
            writer.close()

    # --- strangers who prove no identity

    async def garbage(self) -> None:
        """Anything but the protocol."""
        async with self._knock() as (reader, writer):
            writer.write(
                self._random.choice([b"GET / HTTP/1.1\r\n\r\n", HELLO]) + self._random.randbytes(5000)
            )
            await reader.read()

    async def slow(self) -> None:
        """A handshake that never comes to its end."""
        async with self._knock() as (_, writer):
            for byte in HELLO + b"\x07/noise\n" + bytes(100):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.2)

    async def idle(self) -> None:
        """Ten connections that say nothing."""
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(10):
                reader, _ = await stack.enter_async_context(self._knock())
            await reader.read()

    # --- strangers with an identity

    async def visit(self) -> None:
        """Connect, say nothing, leave."""
        connection = await self._stranger.dial(self._node().address, self._source())
        await asyncio.sleep(self._random.uniform(0, 2))
        await connection.close()

    async def half_open(self) -> None:
        """Open streams, and leave them."""
        connection = await self._stranger.dial(self._node().address, self._source())
        for number in range(1, 61, 2):
            await connection.send(frame(WINDOW, SYN, number, 0))
        await asyncio.sleep(self._random.uniform(0, 8))
        await connection.close()

    async def cut_stream(self) -> None:
        """Open a stream to the gRPC server, say a part, end it in one of three ways."""
        connection = await self._stranger.dial(self._node().address, self._source())
        named = HELLO + b"\x12/mlnet/grpc/1.0.0\n" + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
        for number in range(1, 9, 2):
            await connection.send(frame(DATA, SYN, number, len(named), named))
            part = self._random.randrange(3)
            if part:
                await connection.send(frame(WINDOW, (FIN, RST)[part - 1], number, 0))
        await asyncio.sleep(self._random.uniform(0, 1))
        await connection.close()

    async def break_rules(self) -> None:
        """A frame that yamux does not allow."""
        connection = await self._stranger.dial(self._node().address, self._source())
        await connection.send(self._random.choice([b"\x09" * 12, frame(DATA, SYN, 1, 1 << 30)]))
        await connection.frames()

    async def flood(self) -> None:
        """Pings without end, whose answers are not read."""
        connection = await self._stranger.dial(self._node().address, self._source())
        ping = frame(2, SYN, 0, 1) * 5000
        for _ in range(100):
            await connection.send(ping)
        await connection.close()

    # --- peers

    async def guest(self) -> None:
        """A peer comes, connects and works."""
        if len(self._alive) + self._arriving >= self._most:
            return
        self._arriving += 1
        try:
            self._born += 1
            guest = await Process.start(f"guest {self._seed} {self._born}", self._blob)
        finally:
            self._arriving -= 1
        self._alive.add(guest)
        self._guests.append(guest)
        for node in self._nodes:
            await guest.do("connect", address=node.address)
        await guest.do("work", peers=[node.peer for node in self._nodes], every=0.5)

    def _one_of_the_guests(self) -> Process | None:
        if not self._guests:
            return None
        return self._guests.pop(self._random.randrange(len(self._guests)))

    async def leave(self) -> None:
        """A peer says goodbye."""
        if guest := self._one_of_the_guests():
            await guest.end()
            self._alive.discard(guest)

    async def die(self) -> None:
        """A peer is killed."""
        if guest := self._one_of_the_guests():
            await guest.kill()
            self._alive.discard(guest)

    async def freeze(self) -> None:
        """A peer is frozen: its connections stay open, and nothing comes. Later it goes on, then dies."""
        if guest := self._one_of_the_guests():
            guest.signal(signal.SIGSTOP)
            await asyncio.sleep(self._random.uniform(1, 12))
            guest.signal(signal.SIGCONT)
            await asyncio.sleep(self._random.uniform(0, 5))
            await guest.kill()
            self._alive.discard(guest)
