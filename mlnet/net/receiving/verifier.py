"""Runs the user's verification of envelopes off the event loop, where that pays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from mlnet.identity.envelope import Envelope

THREADS = 2
"""More would not help: a batch holds the interpreter for part of its time."""
FEW_ENVELOPES = 2
FEW_BYTES = 16_384
"""What is verified on the event loop: less than the way to a thread and back takes."""


class Verifier:
    """Verifies batches.

    Args:
        verify: see :class:`mlnet.net.types.Handlers`.
    """

    def __init__(self, verify: Callable[[Sequence[Envelope]], Sequence[object]]) -> None:
        self._verify = verify
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="mlnet-verify")
        self._stopped = False

    def start(self, envelopes: Sequence[Envelope]) -> asyncio.Future[Sequence[object]]:
        """Verify a batch.

        Returns:
            For each envelope, what ``verify`` says of it. Done already when there is little to do. It is
            cancelled when the verifier stops; cancelling it drops the result.
        """
        loop = asyncio.get_running_loop()
        if self._stopped:
            stopped: asyncio.Future[Sequence[object]] = loop.create_future()
            stopped.cancel()
            return stopped
        if len(envelopes) <= FEW_ENVELOPES and sum(len(one.yaml) for one in envelopes) <= FEW_BYTES:
            done: asyncio.Future[Sequence[object]] = loop.create_future()
            done.set_result(self._verify(envelopes) if envelopes else ())
            return done
        return loop.run_in_executor(self._pool, self._verify, envelopes)

    async def stop(self) -> None:
        """Drop what waits, and wait for what runs: a batch for each thread."""
        self._stopped = True
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)
