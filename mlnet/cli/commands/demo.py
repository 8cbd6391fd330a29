"""``mlnet-node demo``: its options. Nothing heavy is loaded before it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from mlnet.cli.arguments import definition_file
from mlnet.cli.options import Definition, Json, Output, ShowMessages, WaitingPeriod

SHORT_HELP = "Run a whole network on this machine for one task."


def command(
    file: Definition = None,
    nodes: Annotated[int, typer.Option(min=1, max=64, help="How many nodes to start, each a process.")] = 5,
    output: Output = None,
    waiting_period: WaitingPeriod = "2m",
    json: Json = False,
    show_messages: ShowMessages = False,
) -> None:
    """Run a whole network on this machine, have it train one model, and stop it."""
    from mlnet.cli import ending
    from mlnet.cli.demo import demonstrate
    from mlnet.sdk.display import Display

    async def carried_out(display: Display, controls: ending.Controls) -> ending.Result:
        job = ending.Job(definition_file(file), output, waiting_period, show_messages=show_messages)
        return await demonstrate(job, nodes, display, controls)

    raise typer.Exit(ending.carry_out(carried_out, json=json))
