"""``mlnet-node status``: its options. Nothing heavy is loaded before it runs."""

from __future__ import annotations

from mlnet.cli.options import Ca, Json, Node, Token

SHORT_HELP = "Show who a running node is and what it does."


def command(node: Node = None, token: Token = None, ca: Ca = None, json: Json = False) -> None:
    """Show who a running node is, where it listens, its peers and its tasks."""
    from mlnet.cli import node_views
    from mlnet.cli.remote import Address

    node_views.status(Address(node, token, ca), json=json)
