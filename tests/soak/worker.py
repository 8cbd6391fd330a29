"""One process of the soak test: a real network that works, measures itself, and does what it is told on
standard input, a line of JSON each."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import hashlib
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
from support.network import Node, running

from mlnet.errors import MlnetError
from mlnet.identity.envelope import Envelope
from mlnet.identity.keys import Identity
from mlnet.net.types import Limits

SEND_SECONDS = 30.0
FETCH_SECONDS = 60.0
LIMITS = Limits(seen=512)
"""What a node remembers of envelopes fills up in the warm-up: growth up to a bound is no leak."""
ENVELOPE_BYTES = (200, 20_000)
"""From the smallest to the largest that is sent now and then."""


class Worker(Node):
    """A node that counts what comes, so that nothing is kept, and works on what it is told.

    Args:
        seed: of its identity and its choices.
        blob: what it serves to whoever asks.
    """

    def __init__(self, seed: str, blob: Path) -> None:
        super().__init__(Identity.from_seed(hashlib.sha256(seed.encode()).digest()))
        self._random = random.Random(seed)
        self._blob = blob
        self._tasks: set[asyncio.Task[None]] = set()
        self._number = 0
        self.counts = dict.fromkeys(
            ("received", "gossip", "sent", "acknowledged", "published", "fetched", "failed", "cut"), 0
        )

    def _on_envelope(self, envelope: Envelope, source: str, gossip: bool) -> bool:
        self.counts["gossip" if gossip else "received"] += 1
        return True

    def _find_blob(self, peer: str, digest: str) -> Path | None:
        return self._blob

    async def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry a command out; its answer."""
        match command["do"]:
            case "connect":
                try:
                    await self.network.connect(command["address"])
                except MlnetError as error:
                    return {"error": str(error)}
            case "work":
                for job in (self._send, self._publish, self._fetch, self._cut):
                    self._start(self._repeat(job, command["peers"], command["every"]))
            case "rest":
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
            case "sample":
                return await self._sample()
        return {}

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _repeat(self, job: Callable[[str], Any], peers: list[str], every: float) -> None:
        """Do a job again and again, with chosen peers; ``every`` is the mean pause of the most frequent."""
        pause = {self._send: 1, self._publish: 5, self._fetch: 25, self._cut: 25}[job] * every
        while True:
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * pause)
            await job(self._random.choice(peers))

    def _text(self) -> str:
        self._number += 1
        size = ENVELOPE_BYTES[self._random.random() < 0.1]
        return f"{self.id} {self._number} ".ljust(size, "x")

    async def _send(self, peer: str) -> None:
        self.counts["sent"] += 1
        arrived = await self.network.send(self.envelope(self._text()), peer, timeout=SEND_SECONDS)
        self.counts["acknowledged"] += arrived

    async def _publish(self, _: str) -> None:
        self.counts["published"] += 1
        self.network.publish(self.envelope(self._text()))

    async def _fetch(self, peer: str) -> None:
        if await self._fetched(peer, FETCH_SECONDS):
            self.counts["fetched"] += 1
        else:
            self.counts["failed"] += 1

    async def _cut(self, peer: str) -> None:
        """Begin a transfer, and let go of it in the middle."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._random.uniform(0.01, 0.2)):
                await self._fetched(peer, FETCH_SECONDS)
        self.counts["cut"] += 1

    async def _fetched(self, peer: str, seconds: float) -> bool:
        size = self._blob.stat().st_size
        seen = 0

        def sink(chunk: bytes) -> None:
            nonlocal seen
            seen += len(chunk)

        try:
            await self.network.fetch_blob(peer, "ab" * 32, max_bytes=size, timeout=seconds, sink=sink)
        except MlnetError:
            return False
        return seen == size

    async def _sample(self) -> dict[str, Any]:
        _give_back()
        metrics = await self.network.metrics()
        return {
            **_process(),
            "tasks": len(asyncio.all_tasks()) + await self.network._host._thread.call(_trio_tasks),
            "sessions": metrics.value("mlnet_connections", "inbound")
            + metrics.value("mlnet_connections", "outbound"),
            "streams": metrics.value("mlnet_streams"),
            "handshakes": metrics.value("mlnet_handshakes"),
            "counts": self.counts,
            "metrics": {
                f"{metric.name} {label}".strip(): value
                for metric in metrics.all
                for label, value in metric.samples.items()
            },
        }


def _give_back() -> None:
    """Free what can be freed, so that what is measured is what is kept."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # not every C library has it
        ctypes.CDLL(None).malloc_trim(0)


def _process() -> dict[str, float]:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "rss_mib": round(pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20), 1),
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "threads": sum(1 for _ in Path("/proc/self/task").iterdir()),
    }


async def _trio_tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def main() -> None:
    """Obey standard input until it ends."""
    worker = Worker(sys.argv[1], Path(sys.argv[2]))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async with running(worker, limits=LIMITS):
        answer: dict[str, Any] = {"address": worker.address, "peer": worker.id}
        while True:
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
            line = await reader.readline()
            if not line:
                await worker.obey({"do": "rest"})
                return
            answer = await worker.obey(json.loads(line))


if __name__ == "__main__":
    asyncio.run(main())
