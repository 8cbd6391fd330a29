"""``mlnet-node forward``: its options. Nothing heavy is loaded before it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from mlnet.cli.options import Ca, Node, Token

SHORT_HELP = "Open a peer's gRPC service here."


def command(
    peer: Annotated[
        str,
        typer.Argument(
            metavar="PEER",
            help="Multiaddr of the peer, which ends in /p2p/ID; or its id, or a beginning or end of that, if "
            "the node that is asked (--node) knows it.",
        ),
    ],
    local: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="To listen on, on loopback; port 0 takes a free one.")
    ] = "127.0.0.1:0",
    node: Node = None,
    token: Token = None,
    ca: Ca = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print a line of JSON with address, peer and service once it listens."),
    ] = False,
) -> None:
    """Open the gRPC service that a peer has for peers at an address of this machine, through libp2p, until
    Ctrl-C. grpcurl, ghz and stubs then call it as if they were a peer; each connection is one stream."""
    import asyncio

    from mlnet.cli.forward import forward
    from mlnet.cli.remote import Address

    raise typer.Exit(asyncio.run(forward(peer, local, Address(node, token, ca), json=json)))
