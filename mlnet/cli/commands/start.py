"""``mlnet-node start``: its options. Nothing heavy is loaded before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlnet.cli.arguments import parse_amount, parse_peer_id, parse_ports, parse_size
from mlnet.cli.options import DataDir, Patience, Redis, RedisPorts, ShowMessages, Strings

SHORT_HELP = "Run a node."


def _read(context: typer.Context, config: Path | None) -> Path | None:
    """Take the file's values for the options that the command line leaves out."""
    if config is not None:
        from mlnet.cli.config_file import values

        context.default_map = {**(context.default_map or {}), **values(config, command)}
    return config


def command(
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            is_eager=True,
            callback=_read,
            help="TOML file with any of these options by its long name, such as port = 4001. Options of the "
            "command line win.",
        ),
    ] = None,
    listen: Annotated[
        Strings,
        typer.Option(
            metavar="ADDRESS",
            help="Multiaddr to listen on; repeatable. Default: a free port of all interfaces.",
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="To listen on at all addresses. Default: a free one.")
    ] = None,
    peer: Annotated[
        Strings,
        typer.Option(
            metavar="ADDRESS", help="Address of a node to join, as its `start` prints it; repeatable."
        ),
    ] = None,
    data_dir: DataDir = None,
    api: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Serve the API at this address as well as at the unix socket. Asks for a token, and beyond "
            "loopback for TLS.",
        ),
    ] = None,
    api_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificate of the API's address, PEM.")
    ] = None,
    api_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Private key of that certificate, PEM.")
    ] = None,
    api_open: Annotated[
        bool, typer.Option("--api-open", help="Ask for no token at the API's address, on loopback only.")
    ] = False,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Serve metrics for Prometheus at this address."),
    ] = None,
    dashboard: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Serve a page that shows the node in a browser at this loopback address.",
        ),
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(
            parser=parse_size,
            metavar="SIZE",
            help="Memory for each task, such as 4GiB. Default: half of the machine's.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads for each task. Default: all processors.")
    ] = None,
    disk: Annotated[
        int | None,
        typer.Option(parser=parse_size, metavar="SIZE", help="Disk space for each task. Default: 10GiB."),
    ] = None,
    tasks: Annotated[int, typer.Option(min=1, max=64, help="How many tasks to take at the same time.")] = 1,
    max_parameters: Annotated[int, typer.Option(min=1, help="Largest model to train.")] = 100_000_000,
    least_payment: Annotated[
        int | None,
        typer.Option(
            parser=parse_amount, metavar="AMOUNT", help="Least payment of a task to take. Default: 0."
        ),
    ] = None,
    allow_client: Annotated[
        Strings,
        typer.Option(
            parser=parse_peer_id,
            metavar="PEER",
            help="Client whose tasks are taken; repeatable. Default: all clients.",
        ),
    ] = None,
    redis: Redis = None,
    redis_ports: RedisPorts = None,
    file_root: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Directory that file:// links may read; repeatable. Default: none."),
    ] = None,
    dataset_root: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR", help="Directory from which this node's own tasks may read datasets; repeatable."
        ),
    ] = None,
    output_root: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR", help="Directory to which this node's own tasks may write models; repeatable."
        ),
    ] = None,
    allow_private_links: Annotated[
        bool, typer.Option("--allow-private-links", help="Allow http links to private addresses.")
    ] = False,
    tunnel_training: Annotated[
        bool,
        typer.Option(
            "--tunnel-training", help="Receive gradients through libp2p, on this node's one open port."
        ),
    ] = False,
    patience: Patience = 1.0,
    show_messages: ShowMessages = False,
    parent: Annotated[int | None, typer.Option(hidden=True, help="Process to die with.")] = None,
) -> None:
    """Run a node until Ctrl-C, and print the line with which another machine joins it."""
    if parent is not None:
        from mlnet.util.subprocesses import die_with_parent

        die_with_parent(parent)
    ports = parse_ports(redis_ports) if redis_ports else None

    import asyncio

    from mlnet.cli import start as operating
    from mlnet.data.schemes.base import LinkPolicy
    from mlnet.driver.directories import default_data_dir
    from mlnet.driver.messenger import WireOptions
    from mlnet.driver.options import NodeOptions, offered
    from mlnet.net.transport.listening import everywhere
    from mlnet.protocol.deadlines import Deadlines
    from mlnet.protocol.node import Terms
    from mlnet.service.options import ApiOptions
    from mlnet.service.tasks.asking import Rules

    addresses = (*(listen or ()), *(everywhere(port) if port is not None else ()))
    options = NodeOptions(
        data_dir=data_dir or default_data_dir("node"),
        wire=WireOptions(addresses or WireOptions().listen, tuple(peer or ())),
        terms=Terms(
            offered(memory >> 20 if memory else None, threads),
            tasks,
            max_parameters,
            least_payment or 0,
            frozenset(allow_client or ()),
        ),
        deadlines=Deadlines().scaled(patience),
        redis=redis,
        redis_ports=ports,
        disk=disk or 10 << 30,
        policy=LinkPolicy(tuple(file_root or ()), allow_private_links),
        tunnel_training=tunnel_training,
    )
    api_options = ApiOptions(api, api_cert, api_key, api_open)
    api_options.check()
    rules = Rules(
        tuple(path.absolute() for path in dataset_root or ()),
        tuple(path.absolute() for path in output_root or ()),
        allow_private_links,
    )
    operation = operating.Operation(
        options,
        show_messages=show_messages,
        metrics=metrics,
        api=api_options,
        rules=rules,
        dashboard=dashboard,
    )
    raise typer.Exit(asyncio.run(operation.run()))
