"""Watch a task from its announcement to its end: python examples/watch.py PEER [FILE].

Each report of the client's state machine becomes one JSON line on standard output: a phase and what it waits
for, an answer, the committee, the decision, the progress of training, the rewards.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import mlnet
from mlnet.protocol.commands import Report


def show(report: Report) -> None:
    """Print one report. It is called on the event loop, so it must not block for long."""
    print(json.dumps({"what": report.what, **report.data}, default=str), flush=True)


async def main(peer: str, file: str = "client-task-definition.yaml") -> int:
    """Submit a task and print its course; the exit code of the error that it ended with, or 0."""
    options = mlnet.ClientOptions(Path("client"), mlnet.WireOptions(peers=(peer,)))
    async with mlnet.connected(options, notice=lambda text: print(text, file=sys.stderr)) as client:
        submission = await client.submit(Path(file), observe=show)
        result = await submission.result()
    if result.error is None:
        return 0
    print(f"{result.state}: {result.reason}", file=sys.stderr)
    return result.error.exit_code


sys.exit(asyncio.run(main(*sys.argv[1:])))
