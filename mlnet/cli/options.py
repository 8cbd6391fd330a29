"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlnet.cli.arguments import DEFAULT_FILE

Strings = list[str] | None
Definition = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE", help=f"The task definition. Default: ./{DEFAULT_FILE}, else the packaged example."
    ),
]
Peer = Annotated[
    Strings,
    typer.Option(metavar="ADDRESS", help="Address of a node, as its `start` prints it; repeatable."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Directory for identity, journals and ledger. Default: ~/.local/share/mlnet."),
]
Output = Annotated[
    Path | None, typer.Option(help="New or empty directory for model and result.json. Default: ./mlnet-TASK.")
]
WaitingPeriod = Annotated[
    str | None,
    typer.Option(
        help="Time to wait for nodes, such as 90s, and before that for a peer to answer at all (at least "
        "15 s). Default: cluster.waiting-period of the definition."
    ),
]
Patience = Annotated[
    float,
    typer.Option(
        min=0.01, max=1000.0, metavar="FACTOR", help="Factor by which all deadlines are multiplied."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
ShowMessages = Annotated[
    bool, typer.Option("--show-messages", help="Show each message as YAML on standard error.")
]
Redis = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Redis or Valkey server program. Default: the one that is found."),
]
RedisPorts = Annotated[
    str | None, typer.Option(metavar="LOW-HIGH", help="Ports for Redis servers. Default: any free port.")
]
Node = Annotated[
    str | None,
    typer.Option(
        envvar="MLNET_NODE",
        metavar="SOCKET|DIR|HOST:PORT",
        help="The node to ask: its socket, data directory or address. Default: the one that runs here with "
        "the default data directory.",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(envvar="MLNET_TOKEN", metavar="TOKEN", help="For HOST:PORT: the content of its api.token."),
]
Ca = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="For HOST:PORT: certificates to trust, PEM. Default: the system's."),
]
JsonLines = Annotated[bool, typer.Option("--json", help="Print a line of JSON for each event.")]
