"""``mlnet-node simulate``: runs, a table of what became of them, and the dialogue that led to a violation."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mlnet.errors import ConfigError
from mlnet.simulation.campaign import MAX_SHOWN, Summary, outcomes
from mlnet.simulation.profiles import PROFILES, profile
from mlnet.simulation.scenario import Run, RunOutcome, Scenario

VIOLATED = 1
"""Exit code when an invariant did not hold."""

WIDTH = 120
"""Columns of the table where there is no terminal."""


@dataclass(frozen=True)
class SimulationRequest:
    """What the user wants to see.

    Attributes:
        scenario: with the first seed.
        seeds: how many.
        until: step at which the one run stops and is shown; None for its end.
        processes: at a time; None for all cores.
        json: one document in place of the table.
    """

    scenario: Scenario
    seeds: int = 1
    until: int | None = None
    processes: int | None = None
    json: bool = False


def simulate(request: SimulationRequest) -> int:
    """Carry a request out; the exit code.

    Raises:
        ConfigError: there is no such profile.
    """
    faults = request.scenario.faults
    if faults != "mixed":
        try:
            profile(faults)
        except KeyError:
            names = ", ".join(("mixed", *PROFILES))
            raise ConfigError(
                f"there are no faults {faults!r}; choose one of {names}, hostile:KIND or hostile@SHARE"
            ) from None
    if request.until is not None:
        return _show(request)
    summaries: dict[str, Summary] = {}
    bad: list[RunOutcome] = []
    last: RunOutcome | None = None
    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("", total=request.seeds)
        runs = outcomes(
            request.scenario,
            request.seeds,
            processes=request.processes,
            done=lambda count: bar.advance(task, count),
        )
        for outcome in runs:
            summaries.setdefault(outcome.profile, Summary()).add(outcome)
            last = outcome
            if outcome.violation and len(bad) < MAX_SHOWN:
                bad.append(outcome)
    violations = sum(summary.violations.total() for summary in summaries.values())
    if request.json:
        _print_json(summaries, bad, last if request.seeds == 1 else None)
    else:
        _print_table(summaries, last if request.seeds == 1 else None)
        for outcome in bad:
            _print_violation(outcome, request.scenario)
    return VIOLATED if violations else 0


def _show(request: SimulationRequest) -> int:
    outcome = Run(request.scenario, keep=None).go(request.until)
    sys.stdout.write(f"{outcome.dialogue}\ntrace {outcome.trace} after {outcome.steps} steps\n")
    if outcome.violation:
        sys.stdout.write(f"violation of {outcome.violation!r}: {outcome.problem}\n")
    return VIOLATED if outcome.violation else 0


def _print_violation(outcome: RunOutcome, scenario: Scenario) -> None:
    options = f"--faults {outcome.profile} --seed {outcome.seed}"
    if scenario.nodes is not None:
        options += f" --nodes {scenario.nodes}"
    if scenario.tasks is not None:
        options += f" --tasks {scenario.tasks}"
    if scenario.known is not None:
        options += f" --known {scenario.known}"
    options += "".join(f" --cluster {key}={value}" for key, value in (scenario.cluster or {}).items())
    sys.stdout.write(
        f"\nseed {outcome.seed}, step {outcome.steps}: {outcome.violation!r} does not hold:"
        f" {outcome.problem}\n"
        f"again with: mlnet-node simulate {options} --until {outcome.steps}\n{outcome.dialogue}\n"
    )


def _print_table(summaries: dict[str, Summary], single: RunOutcome | None) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in (
        "faults",
        "seeds",
        "tasks",
        "with a model",
        "failed",
        "client gone",
        "steps",
        "violations",
    ):
        table.add_column(heading, justify="left" if heading == "faults" else "right")
    for name, summary in summaries.items():
        states = summary.states
        table.add_row(
            name,
            str(summary.seeds),
            str(states.total()),
            str(states["completed"]),
            str(states["failed"] + states["cancelled"]),
            str(states["gone"] + states["open"]),
            str(summary.steps),
            ", ".join(f"{count} {kind}" for kind, count in summary.violations.items()) or "0",
        )
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(table)
    if single is None:
        return
    traffic = single.traffic
    console.print(f"trace {single.trace}, {single.steps} steps")
    console.print(
        f"a node sent {traffic['node_sent']} envelopes, {traffic['node_sent_bytes']} bytes; received"
        f" {traffic['node_received']}, {traffic['node_received_bytes']} bytes"
    )
    console.print(
        f"the client sent {traffic['client_sent']} envelopes, {traffic['client_sent_bytes']} bytes; received"
        f" {traffic['client_received']}, {traffic['client_received_bytes']} bytes"
    )
    phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in single.seconds.items())
    console.print(f"virtual time: {phases or 'no phase was reached'}")
    for reason in single.reasons:
        console.print(reason, markup=False)


def _print_json(summaries: dict[str, Summary], bad: list[RunOutcome], single: RunOutcome | None) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    document = {
        "profiles": {
            name: {
                "seeds": summary.seeds,
                "steps": summary.steps,
                "tasks": dict(summary.states),
                "violations": dict(summary.violations),
                "messages_a_node": summary.messages // max(1, summary.seeds),
                "bytes_a_node": summary.bytes // max(1, summary.seeds),
            }
            for name, summary in summaries.items()
        },
        "violations": [msgspec.to_builtins(outcome) for outcome in bad],
        "run": msgspec.to_builtins(single) if single is not None else None,
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 3),
        "max_rss_mib": usage.ru_maxrss // 1024,
    }
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document)).decode() + "\n")


def keys(pairs: list[str]) -> dict[str, object]:
    """Keys of a definition's ``cluster`` part from ``KEY=VALUE``, with short waiting unless it is given.

    Raises:
        ConfigError: one has no value.
    """
    found: dict[str, object] = {"waiting-period": "30s"}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise ConfigError(f"--cluster {pair}: write KEY=VALUE, such as max-nodes=8")
        found[key] = value
    return found
