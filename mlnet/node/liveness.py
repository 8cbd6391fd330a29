"""Watches the other members' connections while the trainers meet.

From the first step on the trainers notice a loss themselves: gloo reports a dead rank within a tenth of a
second. Before that they only wait for each other, until the rendezvous times out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from mlnet.errors import TrainingError
from mlnet.net.network import Network


@asynccontextmanager
async def watched(
    network: Network, peers: Iterable[str], seconds: float
) -> AsyncIterator[Callable[[], None]]:
    """End the block with an error when a member is lost. The value, when called, ends the watch.

    Args:
        network: knows who is connected.
        peers: the members.
        seconds: time for a member to come back.

    Raises:
        TrainingError: a member is lost; it says which.
    """
    try:
        async with asyncio.TaskGroup() as group:
            watches = [group.create_task(_watch(network, peer, seconds)) for peer in peers]

            def enough() -> None:
                for watch in watches:
                    watch.cancel()

            try:
                yield enough
            finally:
                enough()
    except BaseExceptionGroup as errors:
        # A task group wraps what its tasks raise; callers expect the plain error.
        raise errors.exceptions[0] from None


async def _watch(network: Network, peer: str, seconds: float) -> None:
    await network.lost(peer, seconds)
    raise TrainingError(f"{peer} is lost: its connection broke and was not restored within {seconds:g} s")
