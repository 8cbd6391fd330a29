"""How much a node bears: ghz against a real node, and against a bare grpc.aio server beside it.

::

    python tests/load/run.py [--scenario NAME] [--way WAY] [--shape SHAPE] [--seconds 3] [--rounds 3]
                             [--short] [--json]

Each scenario is a configuration of ghz in this directory. The bare server answers with the same messages:
what it reaches is what gRPC in Python can do on this machine at this moment. Both are measured in turn, and
what counts is their ratio within a round. Exit code 1 where a call failed, or where a ratio misses its goal.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from benchmarks.measure import machine
from load import calls, ghz, scenarios
from load.figures import Comparison, Figures, row, table
from load.nodes import Way, nodes
from load.processes import Server, echo, processor_seconds
from load.scenarios import SCENARIOS, SHAPES, Scenario

WARM_UP_SECONDS = 1.0


class Load:
    """Runs one scenario.

    Args:
        program: ghz.
        scenario: what is called.
        ways: to the nodes.
        bare: the bare server, in the clear and over TLS.
        options: of the command line.
    """

    def __init__(
        self,
        program: Path,
        scenario: Scenario,
        ways: Mapping[str, Way],
        bare: tuple[Server, Server],
        options: argparse.Namespace,
    ) -> None:
        self._program, self._scenario, self._ways, self._bare = program, scenario, ways, bare
        self._options = options
        self._configuration = calls.configuration(scenario.name)

    async def run(self) -> list[Comparison]:
        """All shapes of load by all ways that are wanted."""
        found = []
        for way in (way for way in self._scenario.ways if way in self._ways):
            if not self._options.short:
                await self.warm_up(way)
            for shape in self._scenario.shapes(way):
                if shape in self._options.shape:
                    found.append(await self.compare(way, shape))
                    sys.stderr.write(f"{row(found[-1])}\n")
        return found

    async def compare(self, way: str, shape: str) -> Comparison:
        """The node and the bare server in turn."""
        bare, ours = self._bare[way == scenarios.TLS], self._ways[way].server
        pairs = [
            (await self._figures(way, shape, bare), await self._figures(way, shape, ours))
            for _ in range(self._options.rounds)
        ]
        wanted = way != scenarios.FORWARD and not self._options.short
        least = self._scenario.least.get(shape) if wanted else None
        return Comparison(self._scenario.name, way, shape, pairs, least)

    async def warm_up(self, way: str) -> None:
        """Let both answer for a moment, so that what is made once is made."""
        for server in (self._bare[way == scenarios.TLS], self._ways[way].server):
            await ghz.run(self._program, self.arguments(way, "50", WARM_UP_SECONDS, server), WARM_UP_SECONDS)

    def arguments(self, way: str, shape: str, seconds: float, server: Server) -> list[str]:
        """The command line of ghz."""
        return [
            *("--config", f"tests/load/{self._scenario.name}.json"),
            *scenarios.options(shape, self._scenario.rate, seconds),
            *self._ways[way].options(self._configuration),
            server.address,
        ]

    async def _figures(self, way: str, shape: str, server: Server) -> Figures:
        arguments = self.arguments(way, shape, self._options.seconds, server)
        before = processor_seconds(server.pid)
        report = await ghz.run(self._program, arguments, self._options.seconds)
        return Figures.of(report, processor_seconds(server.pid) - before, self._scenario.expected)


def batches(wanted: Sequence[Scenario]) -> list[list[Scenario]]:
    """Scenarios that one bare server can answer: of each method one."""
    made: list[dict[str, Scenario]] = []
    for scenario in wanted:
        call = calls.configuration(scenario.name)["call"]
        free = next((batch for batch in made if call not in batch), None)
        if free is None:
            made.append(free := {})
        free[call] = scenario
    return [list(batch.values()) for batch in made]


def recorded(scenario: Scenario, ways: Mapping[str, Way]) -> dict[str, Any]:
    """What a node answers, for the bare server."""
    configuration = calls.configuration(scenario.name)
    way = next(ways[name] for name in scenario.ways if name in ways)
    return {"call": configuration["call"], **calls.recorded(partial(way.ask, configuration))}


async def measure(options: argparse.Namespace, program: Path, directory: Path) -> list[Comparison]:
    """Start everything, and run what is wanted."""
    found: list[Comparison] = []
    wanted = [one for one in SCENARIOS if one.name in options.scenario]
    tasks = any(one.of_tasks for one in wanted)
    sent = scenarios.SENT_SHORT if options.short else scenarios.SENT
    async with nodes(options.way, directory, sent, tasks=tasks) as ways:
        secure = ways.get(scenarios.TLS)
        pair = (secure.certificate, secure.key) if secure is not None else ()
        for batch in batches([one for one in wanted if any(way in ways for way in one.ways)]):
            told = [await asyncio.to_thread(recorded, scenario, ways) for scenario in batch]
            async with echo(told, directory, *pair) as bare:
                for scenario in batch:
                    load = Load(program, scenario, ways, bare, options)
                    found += await load.run()
    return found


def verdict(found: Sequence[Comparison]) -> list[str]:
    """Everything that is not as it should be."""
    return [complaint for one in found for complaint in one.complaints]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    names = [one.name for one in SCENARIOS]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scenario", action="append", choices=names, help="repeatable; default: all")
    parser.add_argument("--way", action="append", choices=scenarios.EVERY_WAY, help="likewise")
    parser.add_argument("--shape", action="append", choices=SHAPES, help="likewise")
    parser.add_argument("--seconds", type=float, default=3.0, help="of one run")
    parser.add_argument("--rounds", type=int, default=3, help="of node and bare server in turn")
    parser.add_argument("--short", action="store_true", help="a few calls, a few seconds, no goals")
    parser.add_argument("--json", action="store_true", help="all figures as JSON")
    options = parser.parse_args(arguments)
    if options.short:
        options.seconds, options.rounds = 0.7, 1
        options.scenario = options.scenario or list(scenarios.SHORT)
        options.way, options.shape = options.way or [scenarios.DIRECT], options.shape or ["50"]
    options.scenario, options.way = options.scenario or names, options.way or scenarios.EVERY_WAY
    options.shape = options.shape or SHAPES
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, judge."""
    options = parse(arguments)
    try:
        program = ghz.build()
    except ghz.NoGhz as error:
        sys.stderr.write(f"{error}\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="ml-") as directory:
        found = asyncio.run(measure(options, program, Path(directory)))
    complaints = verdict(found)
    if options.json:
        document = {"machine": machine(), "comparisons": found, "complaints": complaints}
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(document)).decode() + "\n")
    else:
        sys.stdout.write(f"{table(found)}\n")
        sys.stderr.writelines(f"{complaint}\n" for complaint in complaints)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
