"""The rows and columns of tunnel.py, the goals, and how they are shown."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks import exchange
from benchmarks.children import Failed

DIRECT, NATIVE, PYTHON = "grpcio, direct", "mlnet", "mlnet, Python session"
STOCK, GO_DIRECT, GO_TUNNEL = "py-libp2p", "grpc-go, direct", "go-libp2p"
P50, P99 = "call of 300 bytes, p50, us", "call of 300 bytes, p99, us"
RATES = {flight: f"calls a second, {flight} in flight" for flight in (1, 16, 64)}
BULK, BULK_CPU = "stream of 1 MiB messages, MB/s", "the same, processor-ms a MB"
SEALING = "sealing and opening alone, processor-ms a MB"
SETUP = "dial, handshake, first call, ms"
IDLE, BARE = "idle connection, KB of the node", "idle session without a host, KB"


@dataclass(frozen=True)
class Peer:
    """One column.

    Attributes:
        name: its head.
        command: of its processes, but for ``server`` or ``client`` and the way.
        way: what the processes are told.
        base: the column to compare with.
        env: for the processes.
        most_idle: connections that its server can hold.
    """

    name: str
    command: tuple[str, ...]
    way: str
    base: str = DIRECT
    env: dict[str, str] = field(default_factory=dict)
    most_idle: int = 1000


@dataclass(frozen=True)
class Goal:
    """What the column :data:`NATIVE` is to reach: at least, or at most, so many times another column, or so
    much where there is none."""

    row: str
    at_least: bool
    value: float
    base: str = ""


GOALS = (
    Goal(P50, False, 1.2, DIRECT),
    Goal(RATES[16], True, 1.0, DIRECT),
    Goal(RATES[64], True, 1.1, DIRECT),
    Goal(BULK, True, 1.0, GO_TUNNEL),
    Goal(BULK, True, 0.4, DIRECT),
    Goal(BULK_CPU, False, 1.2),
    Goal(exchange.ROWS[True], True, 15_000.0),
    Goal(BARE, False, 8.0),
)


class Table:
    """What was measured, and why not."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, dict[int, float]]] = {}
        self.notes: list[str] = []

    def add(self, peer: str, values: Mapping[str, float], number: int = 0) -> None:
        """Take the values of a round."""
        for row, value in values.items():
            self._values.setdefault(row, {}).setdefault(peer, {})[number] = value

    @contextlib.contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """Note why something could not be measured."""
        try:
            yield
        except Failed as error:
            self.notes.append(f"{what}: {error}")

    def medians(self) -> dict[str, dict[str, float]]:
        """By row and peer."""
        return {
            row: {peer: statistics.median(values.values()) for peer, values in peers.items()}
            for row, peers in self._values.items()
        }

    def ratio(self, row: str, peer: str, base: str) -> float | None:
        """The median of the ratios within each round: whatever slows a round down slows both."""
        values, bases = (self._values.get(row, {}).get(name, {}) for name in (peer, base))
        ratios = [value / bases[number] for number, value in values.items() if bases.get(number)]
        return statistics.median(ratios) if ratios else None


def render(table: Table, peers: Sequence[Peer]) -> str:
    """A table of all, each with its ratio to the direct connection, and one of the goals."""
    medians = table.medians()
    shown = [peer for peer in peers if any(peer.name in row for row in medians.values())]
    lines = ["| | " + " | ".join(peer.name for peer in shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for row, values in medians.items():
        cells = []
        for peer in shown:
            ratio = None if peer.name == peer.base else table.ratio(row, peer.name, peer.base)
            cells.append(figure(values.get(peer.name)) + (f" ({ratio:.2f})" if ratio else ""))
        lines.append(f"| {row} | {' | '.join(cells)} |")
    lines += ["", "| goal | wanted | measured | |", "|---|---|---|---|"]
    for goal in GOALS:
        value = (
            table.ratio(goal.row, NATIVE, goal.base) if goal.base else medians.get(goal.row, {}).get(NATIVE)
        )
        if value is None:
            continue
        met = value >= goal.value if goal.at_least else value <= goal.value
        what = f"{goal.row}, of {goal.base}" if goal.base else goal.row
        wanted = f"{'>=' if goal.at_least else '<='} {goal.value:g}"
        lines.append(f"| {what} | {wanted} | {figure(value)} | {'met' if met else 'not met'} |")
    return "\n".join(lines)


def figure(value: float | None) -> str:
    """Four digits at least; nothing for nothing."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
