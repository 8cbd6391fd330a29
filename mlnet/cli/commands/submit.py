"""``mlnet-node submit``: its options. Nothing heavy is loaded before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlnet.cli.arguments import definition_file, parse_peer_id
from mlnet.cli.options import (
    Ca,
    DataDir,
    Definition,
    Json,
    Node,
    Output,
    Patience,
    Peer,
    ShowMessages,
    Strings,
    Token,
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
        Token,
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
    detach: Annotated[
        bool,
        typer.Option("--detach", help="Print the id of the task, and leave it to the node that runs here."),
    ] = False,
    node: Node = None,
    token: Token = None,
    ca: Ca = None,
) -> None:
    """Have a model trained by the network, and show how.

    Without --peer the node that runs here (or --node) carries the task: Ctrl-C asks whether to detach or to
    cancel. With --peer this command joins the network itself: Enter ends the wait for nodes, Ctrl-C cancels.
    """
    if not peer and resume is None:
        alone = {"--data-dir": data_dir, "--show-messages": show_messages, "--patience": patience != 1.0}
        _refuse(
            [name for name, given in alone.items() if given], "is for a client without a node; add --peer"
        )
        raise typer.Exit(
            _hand_over((node, token, ca), file, output, waiting_period, allow_node, detach=detach, json=json)
        )
    _refuse(["--detach"] if detach else [], "is for the node that runs here; leave out --peer and --resume")
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


def _refuse(options: list[str], why: str) -> None:
    if options:
        raise typer.BadParameter(why, param_hint=options[0])


def _hand_over(
    named: tuple[str | None, str | None, Path | None],
    file: Path | None,
    output: Path | None,
    waiting_period: str | None,
    allowed: list[str] | None,
    *,
    detach: bool,
    json: bool,
) -> int:
    """Have the node that runs here carry a task; the exit code."""
    from mlnet.sdk.target import find

    socket = find(named[0], token=named[1]).socket
    if socket is not None and not socket.exists():
        raise typer.BadParameter(
            f"no node runs here ({socket} does not exist); give the address of one, as its `mlnet-node start`"
            " prints it, or start one",
            param_hint="--peer",
        )
    from mlnet.cli import handover
    from mlnet.cli.remote import Address

    job = handover.Handover(definition_file(file), output, waiting_period, tuple(allowed or ()))
    carry_out = handover.detach if detach else handover.carry_out
    return carry_out(Address(*named), job, json=json)
