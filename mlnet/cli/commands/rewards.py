"""``mlnet-node rewards``: its options. Nothing heavy is loaded before it runs."""

from __future__ import annotations

from mlnet.cli.options import DataDir, Json

SHORT_HELP = "Show what this node has earned."


def command(data_dir: DataDir = None, json: Json = False) -> None:
    """Show what this node has earned."""
    from mlnet.cli import predict as reading

    reading.print_rewards(data_dir, json=json)
