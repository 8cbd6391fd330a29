"""Have a model trained: python examples/submit.py PEER [FILE].

PEER is the address that `mlnet-node start` prints, FILE a task definition.
"""

import asyncio
import sys
from pathlib import Path

import mlnet


async def main(peer: str, file: str = "client-task-definition.yaml") -> None:
    """Submit a task, wait for its end, and print where the model is."""
    options = mlnet.ClientOptions(Path("client"), mlnet.WireOptions(peers=(peer,)))
    async with mlnet.connected(options) as client:
        submission = await client.submit(Path(file), waiting_period="30s")
        result = await submission.result()
    print(result.state, result.reason or f"held-out accuracy {result.accuracy.held_out:.3f}")
    if result.model is not None:
        print(mlnet.load_model(Path(result.model.path)))  # a torch module


asyncio.run(main(*sys.argv[1:]))
