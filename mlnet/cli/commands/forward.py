"""``mlnet-node forward``: its options. Nothing heavy is loaded before it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from mlnet.cli.options import DataDir

SHORT_HELP = "Open a peer's gRPC service here."


def command(
    peer: Annotated[
        str,
        typer.Argument(
            metavar="PEER",
            help="Multiaddr of the peer, which ends in /p2p/ID; or its id, or a beginning or end of that, if "
            "the node that runs here knows it.",
        ),
    ],
    local: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="To listen on, on loopback; port 0 takes a free one.")
    ] = "127.0.0.1:0",
    data_dir: DataDir = None,
) -> None:
    """Open the gRPC service that a peer has for peers at an address of this machine, through libp2p, until
    Ctrl-C. grpcurl, ghz and stubs then call it as if they were a peer; each connection is one stream."""
    import asyncio

    from mlnet.cli.forward import forward
    from mlnet.driver.directories import default_data_dir

    raise typer.Exit(asyncio.run(forward(peer, local, data_dir or default_data_dir("node"))))
