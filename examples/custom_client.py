"""A client with limits of its own: python examples/custom_client.py --help.

It stops waiting when enough nodes have answered, takes only the nodes that it trusts, has half of the usual
patience with silent ones, and cancels a task that has no model in time.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import mlnet
from mlnet.protocol.commands import Report
from mlnet.protocol.deadlines import Deadlines


async def run(arguments: argparse.Namespace) -> mlnet.Result:
    """Submit the task; its result."""
    enough = asyncio.Event()
    answered: set[str] = set()

    def observe(report: Report) -> None:
        if report.what == "answer":
            answered.add(str(report.data["peer"]))
            if len(answered) >= arguments.nodes:
                enough.set()

    options = mlnet.ClientOptions(
        Path("client"),
        mlnet.WireOptions(peers=(arguments.peer,)),
        deadlines=Deadlines().scaled(0.5),
        allowed=frozenset(arguments.allow_node) or None,
    )
    async with mlnet.connected(options) as client:
        submission = await client.submit(arguments.file, observe=observe)
        result = asyncio.create_task(submission.result())
        waiting = asyncio.create_task(enough.wait())
        try:
            async with asyncio.timeout(arguments.seconds):
                await asyncio.wait((result, waiting), return_when=asyncio.FIRST_COMPLETED)
                submission.close_enrolment()  # does nothing where the waiting period is over
                return await asyncio.shield(result)
        except TimeoutError:
            submission.cancel(f"no model after {arguments.seconds:g} s")
            return await result
        finally:
            waiting.cancel()


def main() -> int:
    """Run the command line; the exit code of the error that the task ended with, or 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("peer", help="address that `mlnet-node start` prints")
    parser.add_argument("file", type=Path, help="task definition")
    parser.add_argument("--nodes", type=int, default=2, help="answers that end the waiting period")
    parser.add_argument("--seconds", type=float, default=600.0, help="after which the task is cancelled")
    parser.add_argument("--allow-node", action="append", default=[], metavar="ID", help="a node to trust")
    result = asyncio.run(run(parser.parse_args()))
    print(result.state, result.reason or f"held-out accuracy {result.accuracy.held_out}")
    return 0 if result.error is None else result.error.exit_code


sys.exit(main())
