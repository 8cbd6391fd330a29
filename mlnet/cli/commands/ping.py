"""``mlnet-node ping``: its options. Nothing heavy is loaded before it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from mlnet.cli.options import Ca, Json, Node, Token

SHORT_HELP = "Measure the time to a peer and back."


def command(
    peer: Annotated[
        str,
        typer.Argument(
            metavar="PEER", help="A peer id, a beginning or end of one that the node knows, or a multiaddr."
        ),
    ],
    count: Annotated[int, typer.Option(min=1, max=100, metavar="N", help="How often.")] = 3,
    node: Node = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Have a running node measure the time to a peer and back, through libp2p."""
    from mlnet.cli import node_views
    from mlnet.cli.remote import Address

    node_views.ping(Address(node, token, ca), peer, count, json=json)
