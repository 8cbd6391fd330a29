"""How gRPC through mlnet's tunnel compares with gRPC over TCP, and with other tunnels over libp2p.

Prints a table in Markdown, or one JSON document ``{row: {peer: value}}``. Each peer is a server and a client
in a process of its own; they take turns with each row, round by round, and medians count. Two columns are
Go's, where there is a Go compiler.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import msgspec
from benchmarks import exchange
from benchmarks.children import Child, Failed, running
from benchmarks.measure import machine
from benchmarks.sealing import sealing
from benchmarks.tunnel_table import (
    BARE,
    BULK,
    BULK_CPU,
    DIRECT,
    GO_DIRECT,
    GO_TUNNEL,
    IDLE,
    NATIVE,
    P50,
    P99,
    PYTHON,
    RATES,
    SEALING,
    SETUP,
    STOCK,
    Peer,
    Table,
    render,
)

WORKER = Path(__file__).with_name("tunnel_worker.py")
GO_SOURCES = Path(__file__).with_name("go")
GO_BUILD_SECONDS = 600.0
MIB = 1 << 20
MB = 1e6


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: turns of each peer.
        calls: one after the other.
        warm_up: calls before the first round.
        seconds: of each rate, and about of each stream.
        setups: connections made one after the other.
        idle: connections that are held at a time.
        first_idle: such connections before; they pay for what all share.
        envelopes: from one node to the other, each way of signing.
        sealed: messages sealed and opened, with nothing else around it.
        settle: seconds until memory is read: long enough for a ping.
        names: the peers; empty for all.
        fresh: memory is read in processes that have done nothing else.
    """

    rounds: int = 5
    calls: int = 800
    warm_up: int = 300
    seconds: float = 0.6
    setups: int = 3
    idle: int = 300
    first_idle: int = 20
    envelopes: int = 8000
    sealed: int = 2000
    settle: float = 2.5
    names: tuple[str, ...] = ()
    fresh: bool = True


QUICK = Effort(
    rounds=1,
    calls=20,
    warm_up=3,
    seconds=0.05,
    setups=1,
    idle=4,
    first_idle=1,
    envelopes=300,
    sealed=20,
    settle=0.0,
    names=(DIRECT, NATIVE),
    fresh=False,
)


class Pair:
    """The two processes of a column."""

    def __init__(self, peer: Peer, server: Child, client: Child) -> None:
        self.peer, self.server, self.client = peer, server, client
        self._address = server.greeting["address"]
        self.kind = ""
        self._messages = 8

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, peer: Peer) -> AsyncIterator[Self]:
        """Start them."""
        async with (
            running([*peer.command, "server", peer.way], peer.env) as server,
            running([*peer.command, "client", peer.way], peer.env) as client,
        ):
            yield cls(peer, server, client)

    async def connect(self, effort: Effort) -> None:
        """Connect, and find out how long a stream takes about a round's time."""
        answer = await self.client.ask("connect", address=self._address, calls=effort.warm_up)
        self.kind = answer["kind"]
        took = (await self.client.ask("bulk", messages=self._messages))["seconds"]
        self._messages = min(256, max(4, int(self._messages * effort.seconds / took)))

    async def latency(self, effort: Effort) -> dict[str, float]:
        """Calls one after the other."""
        answer = await self.client.ask("latency", calls=effort.calls)
        return {P50: answer["p50"], P99: answer["p99"]}

    async def rate(self, effort: Effort, flight: int) -> dict[str, float]:
        """Calls beside one another."""
        answer = await self.client.ask("rate", flight=flight, seconds=effort.seconds)
        return {RATES[flight]: answer["rate"]}

    async def bulk(self, effort: Effort) -> dict[str, float]:
        """A stream, and the processor time of both ends."""
        before = await self._cpu()
        took = (await self.client.ask("bulk", messages=self._messages))["seconds"]
        size = self._messages * MIB / MB
        return {BULK: size / took, BULK_CPU: (await self._cpu() - before) * 1e3 / size}

    async def setup(self, effort: Effort) -> dict[str, float]:
        """New connections."""
        answer = await self.client.ask("setup", address=self._address, times=effort.setups)
        return {SETUP: answer["seconds"] * 1e3}

    async def _cpu(self) -> float:
        answers = [await child.ask("cpu") for child in (self.server, self.client)]
        return float(sum(answer["cpu"] for answer in answers))


PARTS: tuple[Callable[[Pair, Effort], Awaitable[dict[str, float]]], ...] = (
    Pair.latency,
    *(functools.partial(Pair.rate, flight=flight) for flight in RATES),
    Pair.bulk,
    Pair.setup,
)


async def grown(pair: Pair, effort: Effort, *, bare: bool) -> float:
    """KB that each of many idle connections takes in the server."""
    server, client = pair.server, pair.client
    address = (await server.ask("bare"))["address"] if bare else server.greeting["address"]
    sizes = []
    idle = min(effort.idle, pair.peer.most_idle)
    for count, settle in ((effort.first_idle, 0.0), (idle, effort.settle)):
        await client.ask("hold", address=address, count=count)
        await asyncio.sleep(settle)
        sizes.append((await server.ask("memory"))["rss"])
    return float(sizes[1] - sizes[0]) / 1024 / idle


async def build_go(folder: Path) -> Path:
    """Compile the Go peer.

    Raises:
        Failed: there is no Go, or it does not compile.
    """
    compiler = shutil.which("go")
    if compiler is None:
        raise Failed("there is no Go compiler")
    target = folder / "benchmarks"
    process = await asyncio.create_subprocess_exec(
        compiler,
        "build",
        "-o",
        str(target),
        ".",
        cwd=GO_SOURCES,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(GO_BUILD_SECONDS):
            _, errors = await process.communicate()
    except TimeoutError:
        raise Failed(f"go build took more than {GO_BUILD_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise Failed(f"go build: {errors.decode(errors='replace').strip()[-200:]}")
    return target


def python_peers() -> list[Peer]:
    """The columns in Python."""
    command = (sys.executable, str(WORKER))
    return [
        Peer(DIRECT, command, "direct"),
        Peer(NATIVE, command, "ours", env={"MLNET_EXTENSIONS": "auto"}),
        Peer(PYTHON, command, "ours", env={"MLNET_EXTENSIONS": "skip"}),
        # It stops to accept at some 250.
        Peer(STOCK, command, "stock", most_idle=200),
    ]


def go_peers(program: Path) -> list[Peer]:
    """The columns in Go."""
    return [
        Peer(GO_DIRECT, (str(program),), "direct", GO_DIRECT),
        Peer(GO_TUNNEL, (str(program),), "libp2p", GO_DIRECT),
    ]


async def measure(peers: Sequence[Peer], effort: Effort, table: Table) -> None:
    """All rounds, then memory."""
    async with contextlib.AsyncExitStack() as stack:
        pairs = []
        for peer in peers:
            with table.noting(peer.name):
                pair = await stack.enter_async_context(Pair.running(peer))
                await pair.connect(effort)
                if peer.name == NATIVE and pair.kind != "native":
                    table.notes.append(f"{NATIVE}: the native session is not built, this is Python's")
                    if PYTHON in [other.name for other in peers]:
                        continue
                pairs.append(pair)
        for number in range(effort.rounds):
            first = number % max(1, len(pairs))
            for part, pair in itertools.product(PARTS, pairs[first:] + pairs[:first]):
                with table.noting(f"{pair.peer.name}, round {number + 1}"):
                    table.add(pair.peer.name, await part(pair, effort), number)
            if NATIVE in [pair.peer.name for pair in pairs]:
                table.add(NATIVE, {SEALING: sealing(effort.sealed)}, number)
        if not effort.fresh:
            for pair in pairs:
                await measure_memory(pair, effort, table)
    await measure_envelopes([pair.peer for pair in pairs if pair.peer.way == "ours"], effort, table)
    if effort.fresh:
        for pair in pairs:
            with table.noting(f"{pair.peer.name}, idle connections"):
                async with Pair.running(pair.peer) as fresh:
                    await measure_memory(fresh, effort, table)


async def measure_envelopes(peers: Sequence[Peer], effort: Effort, table: Table) -> None:
    """Whole nodes, that is: without a column of gRPC alone."""
    async with contextlib.AsyncExitStack() as stack:
        nodes = {}
        for peer in peers:
            with table.noting(f"{peer.name}, envelopes"):
                nodes[peer.name] = await stack.enter_async_context(exchange.Exchange.running(peer.env))
        for number in range(effort.rounds):
            for name, both in nodes.items():
                with table.noting(f"{name}, envelopes, round {number + 1}"):
                    table.add(name, await both.round(effort.envelopes), number)


async def measure_memory(pair: Pair, effort: Effort, table: Table) -> None:
    """The rows about idle connections."""
    with table.noting(f"{pair.peer.name}, idle connections"):
        table.add(pair.peer.name, {IDLE: await grown(pair, effort, bare=False)})
        if pair.peer.way == "ours":
            table.add(pair.peer.name, {BARE: await grown(pair, effort, bare=True)})


async def run(effort: Effort, *, go: bool) -> tuple[Table, list[Peer]]:
    """Measure everything."""
    table, peers = Table(), python_peers()
    with tempfile.TemporaryDirectory() as folder:
        if go:
            with table.noting(f"{GO_DIRECT}, {GO_TUNNEL}"):
                peers += go_peers(await build_go(Path(folder)))
        peers = [peer for peer in peers if not effort.names or peer.name in effort.names]
        await measure(peers, effort, table)
    return table, peers


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--quick", action="store_true", help="show that it works; the figures mean nothing")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"turns of each peer ({Effort.rounds})")
    parser.add_argument(
        "--only", action="append", metavar="PEER", help="measure this column; may be repeated"
    )
    options = parser.parse_args(arguments)
    effort = QUICK if options.quick else Effort()
    if options.rounds:
        effort = replace(effort, rounds=options.rounds)
    if options.only:
        effort = replace(effort, names=tuple(options.only))
    needs_go = not effort.names or not {GO_DIRECT, GO_TUNNEL}.isdisjoint(effort.names)
    table, peers = asyncio.run(run(effort, go=needs_go))
    if options.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(table.medians())).decode() + "\n")
        sys.stderr.write("".join(f"{note}\n" for note in table.notes))
        return 0
    head = ", ".join(f"{name} {value}" for name, value in machine().items())
    sys.stdout.write(f"{head}; load {os.getloadavg()[0]:.1f}\n\n{render(table, peers)}\n")
    sys.stdout.write("".join(f"\n{note}" for note in table.notes) + "\n" if table.notes else "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
