"""``mlnet-node simulate``: its options. Nothing heavy is loaded before it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from mlnet.cli.options import Json

SHORT_HELP = "Run the protocol under faults, in virtual time."


def command(
    nodes: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="Nodes in each run. Default: 3 to 10, drawn by the seed."),
    ] = None,
    tasks: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Tasks at the same time. Default: as the fault profile says."),
    ] = None,
    faults: Annotated[
        str, typer.Option(metavar="PROFILE", help="Fault profile, such as calm, loss, chaos or mixed.")
    ] = "mixed",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first run.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How many runs, each with the next seed.")] = 1,
    until: Annotated[
        int | None, typer.Option(min=1, metavar="STEP", help="Show a single run, up to this step.")
    ] = None,
    cluster: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Key of the definition's cluster part; repeatable."),
    ] = None,
    known: Annotated[
        int | None,
        typer.Option(min=0, metavar="NODES", help="Nodes that the client knows. Default: all, at most 1024."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes at the same time. Default: one for each core.")
    ] = None,
    json: Json = False,
) -> None:
    """Run the state machines of nodes and clients under faults, and check what must always hold."""
    from mlnet.simulation.command import SimulationRequest, keys
    from mlnet.simulation.command import simulate as run
    from mlnet.simulation.scenario import Scenario

    scenario = Scenario(seed, faults, nodes, tasks, keys(cluster) if cluster else None, known)
    raise typer.Exit(run(SimulationRequest(scenario, seeds, until, processes, json)))
