"""Many runs on all cores, and what they add up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context

from mlnet.simulation.scenario import Run, RunOutcome, Scenario
from mlnet.util import capacity

AT_A_TIME = 16
"""Seeds that a process takes at once."""
MAX_SHOWN = 10
"""Violations that are kept with their dialogue."""


@dataclass
class Summary:
    """What many runs add up to, of one profile.

    Attributes:
        seeds: how many runs.
        steps: of all runs.
        states: tasks by how they ended.
        violations: by invariant.
        messages: a node, over all runs.
        bytes: likewise.
    """

    seeds: int = 0
    steps: int = 0
    states: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    bytes: int = 0

    def add(self, outcome: RunOutcome) -> None:
        """Count a run."""
        self.seeds += 1
        self.steps += outcome.steps
        self.states.update(outcome.states)
        if outcome.violation:
            self.violations[outcome.violation] += 1
        self.messages += outcome.traffic["node_sent"]
        self.bytes += outcome.traffic["node_sent_bytes"]


def outcomes(
    scenario: Scenario,
    seeds: int,
    *,
    processes: int | None = None,
    done: Callable[[int], None] = lambda _: None,
) -> Iterator[RunOutcome]:
    """Run a scenario with consecutive seeds.

    Args:
        scenario: with the first seed.
        seeds: how many.
        processes: at a time; all cores by default, in this process for few seeds.
        done: told how many runs have ended since it was told last.

    Yields:
        Outcomes, in the order of the seeds.
    """
    first = scenario.seed
    chunks = [
        range(start, min(start + AT_A_TIME, first + seeds))
        for start in range(first, first + seeds, AT_A_TIME)
    ]
    workers = min(processes or capacity.processors(), len(chunks))
    if workers <= 1:
        for chunk in chunks:
            for seed in chunk:
                yield Run(replace(scenario, seed=seed)).go()
                done(1)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting: list[Future[list[RunOutcome]]] = [pool.submit(_several, scenario, chunk) for chunk in chunks]
        for chunk, future in zip(chunks, waiting, strict=True):
            yield from future.result()
            done(len(chunk))


def _several(scenario: Scenario, seeds: range) -> list[RunOutcome]:
    return [Run(replace(scenario, seed=seed)).go() for seed in seeds]
