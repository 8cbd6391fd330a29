"""A client without a node, with limits of its own: python examples/custom_client.py --help.

It joins the network itself, takes only the nodes that it trusts, has half of the usual patience with silent
ones, and cancels a task that has no model in time.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import mlnet


async def run(arguments: argparse.Namespace) -> mlnet.AsyncResult:
    """Submit the task; its result."""
    async with mlnet.AsyncClient.embedded(
        [arguments.peer],
        data_dir="client",
        deadline_factor=0.5,
        notice=lambda text: print(text, file=sys.stderr),
    ) as client:
        task = await client.submit(arguments.file, allowed_nodes=arguments.allow_node)
        try:
            async with asyncio.timeout(arguments.seconds):
                return await task.result()
        except TimeoutError:
            await task.cancel(f"no model after {arguments.seconds:g} s")
            return await task.result()


def main() -> int:
    """Run the command line; the exit code of the error that the task ended with, or 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("peer", help="address that `mlnet-node start` prints")
    parser.add_argument("file", type=Path, help="task definition")
    parser.add_argument("--seconds", type=float, default=600.0, help="after which the task is cancelled")
    parser.add_argument("--allow-node", action="append", default=[], metavar="ID", help="a node to trust")
    result = asyncio.run(run(parser.parse_args()))
    print(result.state, result.reason or f"held-out accuracy {result.accuracy.held_out}")
    return 0 if result.error is None else result.error.exit_code


sys.exit(main())
