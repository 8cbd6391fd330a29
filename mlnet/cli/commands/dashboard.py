"""``mlnet-node dashboard``: its options. Nothing heavy is loaded before it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from mlnet.cli.options import Ca, Node, Token

SHORT_HELP = "Show a running node on a page in the browser."


def command(
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the page is served: a loopback address.")
    ] = "127.0.0.1:8080",
    node: Node = None,
    token: Token = None,
    ca: Ca = None,
) -> None:
    """Serve a page that shows a running node, its peers and its tasks, until Ctrl-C.

    The address that it prints has a token, without which the page shows nothing.
    """
    import asyncio

    from mlnet.cli import dashboard
    from mlnet.sdk import target

    raise typer.Exit(asyncio.run(dashboard.show(target.find(node, token=token, ca=ca), listen)))
