"""``mlnet-node peers``: its options. Nothing heavy is loaded before it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from mlnet.cli.options import Ca, Json, Node, Token

SHORT_HELP = "Show the peers of a running node."


def command(
    connected: Annotated[bool, typer.Option("--connected", help="Only those with a connection.")] = False,
    node: Node = None,
    token: Token = None,
    ca: Ca = None,
    json: Json = False,
) -> None:
    """Show the peers that a running node knows: where they are, how far, and what their clocks show."""
    from mlnet.cli import node_views
    from mlnet.cli.remote import Address

    node_views.peers(Address(node, token, ca), connected_only=connected, json=json)
