"""Submit a task and look at each event: python examples/watch.py [FILE].

Each event becomes a line on standard output. When the node is restarted meanwhile, the events go on.
"""

from __future__ import annotations

import asyncio
import sys

import mlnet
from mlnet.sdk import events


def describe(event: events.TaskEvent) -> str:
    """One line for people."""
    match event:
        case events.PhaseEntered(phase=phase, waiting=waiting):
            return f"{phase}: waits for {waiting}"
        case events.NodeAnswered(peer=peer, refusal=refusal):
            return f"{peer} {f'does not take part: {refusal}' if refusal else 'takes part'}"
        case events.TrainingAdvanced(progress=progress):
            return f"step {progress.step} of {progress.steps}, loss {progress.loss}"
        case events.TaskEnded(state=state, reason=reason):
            return f"{state} {reason}"
        case _:
            return type(event).__name__


async def main(file: str = "client-task-definition.yaml") -> int:
    """Submit a task and print its course; the exit code of the error that it ended with, or 0."""
    async with mlnet.AsyncClient() as client:
        task = await client.submit(file)
        async for event in task.watch():
            print(event.revision, describe(event), flush=True)
        result = await task.result()
    return 0 if result.error is None else result.error.exit_code


sys.exit(asyncio.run(main(*sys.argv[1:])))
