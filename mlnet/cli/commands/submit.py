"""``mlnet-node submit``: its options. Nothing heavy is loaded before it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from mlnet.cli.arguments import definition_file, parse_peer_id
from mlnet.cli.options import (
    DataDir,
    Definition,
    Json,
    Output,
    Patience,
    Peer,
    ShowMessages,
    Strings,
    WaitingPeriod,
)

SHORT_HELP = "Have a model trained by the network."


def command(
    peer: Peer = None,
    file: Definition = None,
    output: Output = None,
    waiting_period: WaitingPeriod = None,
    allow_node: Annotated[
        Strings,
        typer.Option(
            parser=parse_peer_id,
            metavar="PEER",
            help="Node that may take part; repeatable. Default: all nodes.",
        ),
    ] = None,
    data_dir: DataDir = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="Resume an unfinished task, named by the beginning of its id."),
    ] = None,
    patience: Patience = 1.0,
    json: Json = False,
    show_messages: ShowMessages = False,
) -> None:
    """Have a model trained by the network, and show how. Enter ends the wait for nodes; Ctrl-C cancels."""
    if not peer and resume is None:
        raise typer.BadParameter(
            "give the address of a node, as its `mlnet-node start` prints it",
            param_hint="--peer",
        )
    from mlnet.cli import ending
    from mlnet.sdk.display import Display

    async def carried_out(display: Display, controls: ending.Controls) -> ending.Result:
        from mlnet.cli.submit import submit
        from mlnet.driver.directories import default_data_dir
        from mlnet.driver.messenger import WireOptions
        from mlnet.driver.options import ClientOptions
        from mlnet.protocol.deadlines import Deadlines

        options = ClientOptions(
            data_dir=data_dir or default_data_dir("client"),
            wire=WireOptions(peers=tuple(peer or ())),
            deadlines=Deadlines().scaled(patience),
            allowed=frozenset(allow_node) if allow_node else None,
        )
        job = ending.Job(definition_file(file), output, waiting_period, resume, show_messages=show_messages)
        return await submit(options, job, display, controls)

    raise typer.Exit(ending.carry_out(carried_out, json=json))
