"""What a step of training costs when the gradients go by way of the tunnel.

Two hosts - network namespaces that are joined by a veth pair - with a node each train the example's model,
and one with wide layers, with and without ``--tunnel-training``. A task of few epochs is subtracted from one
of many, so that only steps are left. Needs the right to make network namespaces.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from benchmarks.measure import machine
from support.cluster import Mission, mission
from support.two_hosts import Unavailable, on, two_hosts

from mlnet.util import yaml12, yaml_writer

WAYS = {"direct": (), "tunnel": ("--tunnel-training",)}
ROWS, SEGMENTS_IN_TEN, BATCH = 1797, 8, 64
HELD_BACK = 0.1


@dataclass(frozen=True)
class Model:
    """What is trained.

    Attributes:
        widths: of the hidden layers.
        few: epochs of the task that is subtracted.
        many: epochs of the other one.
    """

    widths: tuple[int, int]
    few: int
    many: int

    @property
    def name(self) -> str:
        """With the bytes of gradients of a step."""
        first, second = self.widths
        size = 4 * (64 * first + first + first * second + second + second * 10 + 10)
        return f"{first} and {second} hidden units, {size / 1e6:.2g} MB of gradients"


MODELS = (Model((128, 64), 20, 320), Model((1024, 1024), 4, 34))


def steps(epochs: int) -> float:
    """Steps of so many epochs over the rows that train."""
    return epochs * -(-ROWS * SEGMENTS_IN_TEN / 10 * (1 - HELD_BACK) // BATCH)


async def seconds(net: Mission, host: str, model: Model, epochs: int) -> float:
    """From the start of training to its end."""
    file = net.definition(max_nodes=2)
    task: Any = yaml12.load(file.read_text())
    task["ml"]["optimizer"]["epochs"] = epochs
    for layer, width in zip(task["ml"]["model"]["hidden-units"], model.widths, strict=False):
        layer["nodes"] = width
    file.write_text(yaml_writer.dump_block(task))
    process = await net.spawn("submit", str(file), "--peer", net.peers[0], "--json", prefix=on(host))
    out, err = await process.communicate()
    if process.returncode:
        raise RuntimeError(err.decode())
    return float(json.loads(out)["seconds"]["training"])


async def step(way: str, model: Model, *, quick: bool) -> float:
    """Milliseconds of a step."""
    few, many = (1, 3) if quick else (model.few, model.many)
    with two_hosts() as (hosts, _):
        async with mission(0) as net:
            for host in hosts:
                await net.start_one(*WAYS[way], prefix=on(host), listen=None)
            short = await seconds(net, hosts[1], model, few)
            long = await seconds(net, hosts[1], model, many)
    return (long - short) / (steps(many) - steps(few)) * 1e3


async def measure(rounds: int, models: Iterable[Model], *, quick: bool) -> dict[str, dict[str, float]]:
    """Medians, by model and way."""
    values: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for model in models:
            for way in WAYS:
                took = await step(way, model, quick=quick)
                values.setdefault(model.name, {}).setdefault(way, []).append(took)
    return {
        name: {way: statistics.median(times) for way, times in ways.items()} for name, ways in values.items()
    }


def render(rows: dict[str, dict[str, float]]) -> str:
    """A table in Markdown."""
    lines = ["| model | step, ms | by way of the tunnel, ms | |", "|---|---|---|---|"]
    for name, ways in rows.items():
        ratio = ways["tunnel"] / ways["direct"]
        lines.append(f"| {name} | {ways['direct']:.2f} | {ways['tunnel']:.2f} | {ratio:.2f} times |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--quick", action="store_true", help="show that it works; the figures mean nothing")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of everything (%(default)s)")
    options = parser.parse_args()
    try:
        rows = asyncio.run(measure(options.rounds, MODELS, quick=options.quick))
    except Unavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if options.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(rows)).decode() + "\n")
        return 0
    head = ", ".join(f"{name} {value}" for name, value in machine().items())
    sys.stdout.write(f"{head}; load {os.getloadavg()[0]:.1f}\n\n{render(rows)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
