"""What a run of ghz has shown, how a node compares with the bare server, and the table of it. No I/O."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

OK = "OK"


class Figures(msgspec.Struct, frozen=True):
    """One run.

    Attributes:
        calls: that have ended, in any way.
        rate: calls a second.
        p50: milliseconds.
        p95: likewise.
        p99: likewise.
        errors: how many calls ended so, by status code and message.
        processor: microseconds of the server's processor time for each call.
    """

    calls: int
    rate: float
    p50: float
    p95: float
    p99: float
    errors: Mapping[str, int]
    processor: float

    @classmethod
    def of(cls, report: Mapping[str, Any], processor_seconds: float, expected: str = OK) -> Figures:
        """From the report of ghz.

        Args:
            report: of ghz.
            processor_seconds: of the server, meanwhile.
            expected: the status code that is no error.
        """
        latencies = {
            entry["percentage"]: entry["latency"] / 1e6 for entry in report.get("latencyDistribution") or ()
        }
        codes: Mapping[str, int] = report.get("statusCodeDistribution") or {}
        said: Mapping[str, int] = report.get("errorDistribution") or {}
        wrong = {
            text: number
            for code in codes.keys() - {expected}
            # What was said is worth more than the code.
            for text, number in (_of(code, said) or {code: codes[code]}).items()
        }
        calls = int(report["count"])
        return cls(
            calls,
            float(report["rps"]),
            latencies.get(50, 0.0),
            latencies.get(95, 0.0),
            latencies.get(99, 0.0),
            wrong,
            processor_seconds * 1e6 / max(1, calls),
        )


def _of(code: str, said: Mapping[str, int]) -> dict[str, int]:
    return {text: number for text, number in said.items() if f"code = {code} " in text}


class Comparison(msgspec.Struct, frozen=True):
    """One scenario, one way to the node, one shape of load.

    Attributes:
        scenario: name of the configuration.
        way: how the calls reach the node.
        shape: how many at a time, or how often.
        rounds: of each, the bare server's and the node's figures, taken one right after the other.
        least: the least part of the bare server's rate that is wanted; None where none is.
    """

    scenario: str
    way: str
    shape: str
    rounds: Sequence[tuple[Figures, Figures]]
    least: float | None = None

    @property
    def rate_ratio(self) -> float:
        """The node's rate as a part of the bare server's: the median of the rounds."""
        return statistics.median(ours.rate / bare.rate if bare.rate else 0.0 for bare, ours in self.rounds)

    @property
    def processor_ratio(self) -> float:
        """The node's processor time for a call as a multiple of the bare server's: likewise."""
        return statistics.median(
            ours.processor / bare.processor if bare.processor else 0.0 for bare, ours in self.rounds
        )

    @property
    def errors(self) -> dict[str, int]:
        """Of both, in all rounds."""
        counted: dict[str, int] = {}
        for pair in self.rounds:
            for figures in pair:
                for code, number in figures.errors.items():
                    counted[code] = counted.get(code, 0) + number
        return counted

    @property
    def complaints(self) -> list[str]:
        """What is not as it should be."""
        where = f"{self.scenario}, {self.way}, {self.shape}"
        found = [f"{where}: {number} calls ended: {code}" for code, number in self.errors.items()]
        if not all(figures.calls for pair in self.rounds for figures in pair):
            found.append(f"{where}: no call ended")
        if self.least is not None and self.rate_ratio < self.least:
            found.append(f"{where}: {self.rate_ratio:.2f} of the bare rate, less than {self.least:g}")
        return found

    def median(self, figure: str, *, bare: bool = False) -> float:
        """A figure of the node, or of the bare server, over the rounds."""
        values: list[float] = [getattr(pair[0 if bare else 1], figure) for pair in self.rounds]
        return statistics.median(values)


HEAD = (
    "| call | way | in flight, rate | calls/s | of bare | p50, ms | p95, ms | p99, ms | errors"
    " | processor, us/call | of bare |"
)


def row(one: Comparison) -> str:
    """A line of the table, in Markdown."""
    wanted = "" if one.least is None else f" (>= {one.least:g})"
    cells = (
        one.scenario,
        one.way,
        one.shape,
        f"{one.median('rate'):,.0f}",
        f"{one.rate_ratio:.2f}{wanted}",
        *(f"{one.median(name):.1f}" for name in ("p50", "p95", "p99")),
        str(sum(one.errors.values())),
        f"{one.median('processor'):,.0f}",
        f"{one.processor_ratio:.2f}",
    )
    return f"| {' | '.join(cells)} |"


def table(comparisons: Sequence[Comparison]) -> str:
    """All lines, in Markdown."""
    return "\n".join((HEAD, "|---" * HEAD.count(" | ") + "|---|", *map(row, comparisons)))
