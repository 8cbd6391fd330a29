"""One process of tunnel.py: a gRPC server or client. Takes commands as JSON lines and ends with its input.

Usage: tunnel_worker.py server|client direct|ours|stock
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from benchmarks.tunnel_ways import Direct, Way, channel, server
from benchmarks.worker import Process, serve

if TYPE_CHECKING:
    from benchmarks.tunnel_idle import Bare, Idle

MESSAGE = bytes(1 << 20)
SMALL = bytes(300)
UNARY, STREAM = "/mlnet.Benchmark/Unary", "/mlnet.Benchmark/Stream"
CALL_SECONDS = 20.0
BULK_SECONDS = 60.0


class Handler(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Bytes in, bytes out: no serialisation is measured."""

    def service(self, details: Any) -> Any:
        if details.method == UNARY:
            return grpc.unary_unary_rpc_method_handler(self._unary)
        return grpc.unary_stream_rpc_method_handler(self._stream)

    async def _unary(self, request: bytes, context: Any) -> bytes:
        return request

    async def _stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for _ in range(int(request)):
            yield MESSAGE


class Server(Process):
    """Serves, by one way."""

    def __init__(self, way: Way, folder: Path) -> None:
        self._way, self._socket = way, folder / "grpc"
        self._server = server()
        self._bare: Bare | None = None

    async def start(self) -> dict[str, Any]:
        """Serve."""
        self._server.add_generic_rpc_handlers((Handler(),))
        self._server.add_insecure_port(f"unix:{self._socket}")
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return {"address": await self._way.start(self._socket, port)}

    async def do_bare(self) -> dict[str, Any]:
        """Accept sessions without a host around them."""
        from benchmarks.tunnel_idle import Bare

        self._bare = Bare()
        return {"address": await self._bare.start()}

    async def stop(self) -> None:
        """End."""
        await self._way.stop()
        if self._bare is not None:
            await self._bare.stop()
        await self._server.stop(0)


class Client(Process):
    """Measures, by one way."""

    def __init__(self, way: Way, other: Way) -> None:
        self._way, self._other = way, other
        self._channel: Any = None
        self._idle: Idle | None = None
        self._channels: list[Any] = []

    async def start(self) -> dict[str, Any]:
        """Be ready to dial."""
        for way in (self._way, self._other):
            await way.start(way.folder / "none", 0)
        return {}

    async def do_connect(self, address: str, calls: int) -> dict[str, Any]:
        """Make the connection that the rest uses, and warm it up."""
        self._channel = channel(await self._way.dial(address))
        self._channels.append(self._channel)
        call = self._channel.unary_unary(UNARY)
        for _ in range(calls):
            await call(SMALL, wait_for_ready=True, timeout=CALL_SECONDS)
        return {"kind": self._way.kind()}

    async def do_latency(self, calls: int) -> dict[str, Any]:
        """Microseconds of a call when there is one at a time."""
        call = self._channel.unary_unary(UNARY)
        times = []
        for _ in range(calls):
            start = time.perf_counter()
            await call(SMALL, timeout=CALL_SECONDS)
            times.append(time.perf_counter() - start)
        times.sort()
        return {"p50": times[calls // 2] * 1e6, "p99": times[calls * 99 // 100] * 1e6}

    async def do_rate(self, flight: int, seconds: float) -> dict[str, Any]:
        """Calls a second with so many under way."""
        call = self._channel.unary_unary(UNARY)
        done = 0
        start = time.perf_counter()

        async def work() -> None:
            nonlocal done
            while time.perf_counter() < start + seconds:
                await call(SMALL, timeout=CALL_SECONDS)
                done += 1

        await asyncio.gather(*(work() for _ in range(flight)))
        return {"rate": done / (time.perf_counter() - start)}

    async def do_bulk(self, messages: int) -> dict[str, Any]:
        """Seconds for so many messages of 1 MiB to us."""
        start = time.perf_counter()
        size = 0
        call = self._channel.unary_stream(STREAM)(str(messages).encode(), timeout=BULK_SECONDS)
        async for message in call:
            size += len(message)
        if size != messages * len(MESSAGE):
            raise ValueError(f"{size} bytes came instead of {messages * len(MESSAGE)}")
        return {"seconds": time.perf_counter() - start}

    async def do_setup(self, address: str, times: int) -> dict[str, Any]:
        """Seconds from nothing to the answer of the first call."""
        took = []
        for _ in range(times):
            start = time.perf_counter()
            async with channel(await self._other.dial(address)) as fresh:
                await fresh.unary_unary(UNARY)(SMALL, wait_for_ready=True, timeout=CALL_SECONDS)
                took.append(time.perf_counter() - start)
            await self._other.hang_up()
        return {"seconds": statistics.median(took)}

    async def do_hold(self, address: str, count: int) -> dict[str, Any]:
        """Hold so many idle connections more."""
        if isinstance(self._way, Direct):
            for _ in range(count):
                self._channels.append(channel(address))
                async with asyncio.timeout(CALL_SECONDS):
                    await self._channels[-1].channel_ready()
        else:
            from benchmarks.tunnel_idle import Idle

            self._idle = self._idle or Idle()
            await self._idle.hold(address, count)
        return {}

    async def stop(self) -> None:
        """End."""
        if self._idle is not None:
            await self._idle.stop()
        await asyncio.gather(*(one.close() for one in self._channels))
        await self._way.stop()
        await self._other.stop()


def make(name: str, folder: Path) -> Way:
    """The way of that name."""
    if name == "direct":
        return Direct(folder)
    from benchmarks.tunnel_hosts import Ours, Stock

    return Ours(folder) if name == "ours" else Stock(folder)


def main() -> None:
    role, name = sys.argv[1:]
    logging.disable()  # libp2p reports each connection that ends
    with tempfile.TemporaryDirectory(prefix="mlnet-") as folder:
        path = Path(folder)
        ends = {
            "server": lambda: Server(make(name, path), path),
            "client": lambda: Client(make(name, path), make(name, path)),
        }
        asyncio.run(serve(ends[role]))


if __name__ == "__main__":
    main()
