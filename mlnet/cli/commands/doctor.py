"""``mlnet-node doctor``: its options. Nothing heavy is loaded before it runs."""

from __future__ import annotations

import typer

from mlnet.cli.arguments import parse_ports
from mlnet.cli.options import DataDir, Json, Redis, RedisPorts

SHORT_HELP = "Check whether a node can run here."


def command(
    data_dir: DataDir = None,
    redis: Redis = None,
    redis_ports: RedisPorts = None,
    json: Json = False,
) -> None:
    """Check whether a node can run here, and say what to do if not. Exit code 0 if it can, else 3."""
    from mlnet.cli import doctor as examination
    from mlnet.driver.directories import default_data_dir

    ports = parse_ports(redis_ports) if redis_ports else None
    raise typer.Exit(examination.doctor(data_dir or default_data_dir("node"), redis, ports, json=json))
