"""Times several ways of doing one thing in turn, and says how they compare."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

Work = Callable[[], object]

ROUNDS = 7
SECONDS = 2.0
"""There are :data:`ROUNDS` at least, and more until this time is over; the shortest of each way counts."""
SHORTEST = 0.002
"""A call that takes less is repeated within a round."""


class Peer(msgspec.Struct, frozen=True):
    """Another way, and how it compares.

    Attributes:
        name: what it is.
        seconds: a call.
        ratio: how many times as long as ours it takes.
        goal: the least ratio that is wanted, if one is.
    """

    name: str
    seconds: float
    ratio: float
    goal: float | None


class Result(msgspec.Struct, frozen=True):
    """One thing that mlnet does."""

    name: str
    threads: int
    seconds: float
    peers: tuple[Peer, ...]


def compare(
    name: str,
    ours: Work,
    peers: Mapping[str, Work],
    *,
    goals: Mapping[str, float] | None = None,
    threads: int = 1,
) -> Result:
    """Time our way and each peer's, round by round, so that what else the machine does meets all of them."""
    ways = {"": ours, **peers}
    repeats = {way: _repeats(work) for way, work in ways.items()}
    best = dict.fromkeys(ways, float("inf"))
    end = time.perf_counter() + SECONDS
    rounds = 0
    while rounds < ROUNDS or time.perf_counter() < end:
        for way, work in ways.items():
            best[way] = min(best[way], _time(work, repeats[way]))
        rounds += 1
    mine = best.pop("")
    return Result(
        name,
        threads,
        mine,
        tuple(Peer(way, took, took / mine, (goals or {}).get(way)) for way, took in best.items()),
    )


def _repeats(work: Work) -> int:
    took = _time(work, 1)
    return max(1, int(SHORTEST / max(took, 1e-7)))


def _time(work: Work, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - start) / repeats


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": cores,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def table(results: list[Result]) -> str:
    """The results in Markdown."""
    lines = [
        "| what | threads | mlnet | compared with | takes | ratio | goal |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        first = f"| {result.name} | {result.threads} | {duration(result.seconds)} |"
        if not result.peers:
            lines.append(f"{first} | | | |")
        for peer in result.peers:
            goal = f"{peer.goal:g}, {'met' if peer.ratio >= peer.goal else 'not met'}" if peer.goal else ""
            lines.append(f"{first} {peer.name} | {duration(peer.seconds)} | {peer.ratio:.2f} | {goal} |")
            first = "| | | |"
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"
