"""Does a node grow under hours of churn and hostility?

Several real nodes exchange envelopes, gossip and blobs while peers come, work, leave, die and freeze, and
strangers send garbage, stall, open streams and cut them::

    python tests/soak/run.py [--seconds 3600] [--nodes 3] [--guests 3] [--seed 1] [--pause 0.5] [--json FILE]

Every figure of every node is sampled. The first ten minutes, but at most half, are warm-up; of the rest, the
lower quartile of the last third may not exceed that of the first third by more than the bound in
:data:`BOUNDS`. After the churn, the connections must be those between the nodes again, and of what the nodes
sent one another nearly all must have arrived. Exit code 1 where one of these fails. The choices are those of
the seed; the timing is the machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from soak.churn import Churn, Process

BLOB_BYTES = 16 << 20
WARM_UP_SECONDS = 600.0
"""How long the allocator takes until it has arenas for every thread and burst; at most half of a run."""
SAMPLES = 120
FIRST_SECONDS = 1.0
"""The shortest time between two samples."""
SETTLE_SECONDS = 60.0
LEAST_ARRIVED = 0.99
BOUNDS: Mapping[str, tuple[float, float]] = {
    "rss_mib": (12.0, 0.10),
    "descriptors": (12, 0.10),
    "threads": (4, 0.10),
    "tasks": (24, 0.10),
    "sessions": (4, 0.10),
    "streams": (16, 0.10),
}
"""What the last third may have more than the first: so much, and so large a part of the first."""
Sample = dict[str, Any]


def quartile(values: Sequence[float]) -> float:
    """The lower quartile: what is there when little goes on, which is where a leak shows."""
    return values[0] if len(values) < 2 else statistics.quantiles(values, n=4, method="inclusive")[0]


def warm(curve: Sequence[Sample]) -> Sequence[Sample]:
    """What comes after the warm-up."""
    start = min(WARM_UP_SECONDS, curve[-1]["second"] / 2)
    return [sample for sample in curve if sample["second"] >= start]


def growth(curve: Sequence[float]) -> tuple[float, float]:
    """The lower quartiles of the first and the last third."""
    third = max(1, len(curve) // 3)
    return quartile(curve[:third]), quartile(curve[-third:])


def judge(samples: Mapping[str, Sequence[Sample]]) -> list[str]:
    """What has grown beyond its bound, by node."""
    complaints = []
    for node, curve in samples.items():
        for figure, (more, part) in BOUNDS.items():
            first, last = growth([sample[figure] for sample in warm(curve)])
            bound = first + max(more, part * first)
            if last > bound:
                complaints.append(f"{node}: {figure} grew from {first:g} to {last:g}, more than {bound:g}")
    return complaints


def table(samples: Mapping[str, Sequence[Sample]], rows: int = 12) -> list[str]:
    """The curve of each node, thinned out."""
    lines = [f"{'node':<8}{'second':>8}" + "".join(f"{figure:>13}" for figure in BOUNDS)]
    for node, curve in samples.items():
        for sample in curve[:: max(1, len(curve) // rows)]:
            figures = "".join(f"{sample[figure]:>13g}" for figure in BOUNDS)
            lines.append(f"{node:<8}{sample['second']:>8.0f}{figures}")
    return lines


class Soak:
    """One run.

    Args:
        options: of the command line.
        folder: for files that are needed meanwhile.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        self._blob = folder / "blob"
        self._blob.write_bytes(bytes(BLOB_BYTES))
        self._nodes: list[Process] = []
        self.samples: dict[str, list[Sample]] = {}
        self._started = time.monotonic()
        self._over = asyncio.Event()

    async def run(self) -> tuple[list[str], Churn]:
        """Let it happen; what is wrong, and what was done."""
        seed, count = self._options.seed, self._options.nodes
        async with contextlib.AsyncExitStack() as stack:
            for number in range(count):
                node = await Process.start(f"node {seed} {number}", self._blob)
                stack.push_async_callback(node.end)
                self._nodes.append(node)
                self.samples[f"node {number}"] = []
            for number, node in enumerate(self._nodes):
                for other in self._nodes[:number]:
                    await node.do("connect", address=other.address)
                others = [other.peer for other in self._nodes if other is not node]
                await node.do("work", peers=others, every=0.2)
            churn = Churn(self._nodes, seed, self._blob, self._options.guests)
            sampling = asyncio.create_task(self._sample_on())
            self._started = time.monotonic()
            await churn.run(self._options.seconds, self._options.pause)
            self._over.set()
            await sampling
            return judge(self.samples) + await self._settle(), churn

    async def _sample_on(self) -> None:
        pause = max(FIRST_SECONDS, self._options.seconds / SAMPLES)
        while not self._over.is_set():
            await self._sample()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._over.wait()

    async def _sample(self) -> None:
        for curve, node in zip(self.samples.values(), self._nodes, strict=True):
            sample = await node.do("sample")
            curve.append({"second": round(time.monotonic() - self._started, 1), **sample})

    async def _settle(self) -> list[str]:
        """Now that nobody else is there: nothing may be left of the others."""
        for node in self._nodes:
            await node.do("rest")
        complaints: list[str] = []
        end = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < end:
            await self._sample()
            last = {name: curve[-1] for name, curve in self.samples.items()}
            complaints = [
                f"{name}: {sample['sessions']:g} connections and {sample['handshakes']:g} handshakes are left"
                for name, sample in last.items()
                if sample["sessions"] != len(self._nodes) - 1 or sample["handshakes"]
            ]
            if not complaints:
                break
            await asyncio.sleep(FIRST_SECONDS)
        for name, sample in last.items():
            counts = sample["counts"]
            lost = counts["acknowledged"] < LEAST_ARRIVED * counts["sent"]
            if lost or counts["failed"] > 1 + (1 - LEAST_ARRIVED) * counts["fetched"]:
                complaints.append(f"{name}: of what it sent and fetched, too little arrived: {counts}")
        return complaints


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run, report; the exit code."""
    parser = argparse.ArgumentParser(description="Churn and hostility, and whether a node grows by them.")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--guests", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.5, help="between two deeds, on average")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlnet-") as folder:
        soak = Soak(options, Path(folder))
        complaints, churn = asyncio.run(soak.run())
    say("\n".join(table(soak.samples)))
    for name, curve in soak.samples.items():
        say(f"{name}: {curve[-1]['counts']}")
    say(f"done to them: {dict(churn.done.most_common())}")
    for complaint in complaints:
        say(f"FAILED {complaint}")
    if options.json:
        document = {
            "seconds": options.seconds,
            "seed": options.seed,
            "samples": soak.samples,
            "done": churn.done,
            "complaints": complaints,
        }
        options.json.write_text(json.dumps(document, indent=1))
    say("nothing has grown beyond its bound" if not complaints else f"{len(complaints)} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
