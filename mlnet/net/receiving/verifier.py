"""Runs the user's verification of envelopes in threads, where that pays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from mlnet.identity.envelope import Envelope

THREADS = 2
"""Threads that verify. The signature check releases the GIL, parsing does not, so more threads would wait for
the interpreter."""
FEW_ENVELOPES = 2
FEW_BYTES = 16_384
"""Batches of at most so many envelopes and characters are verified on the event loop: that takes less time
than the way to a thread and back."""


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
            A future with one result of ``verify`` for each envelope. It is done already when the batch is
            small. It is cancelled when the verifier stops; cancelling it drops the results.
        """
        loop = asyncio.get_running_loop()
        # A cancelled future instead of an exception: its waiters end the same way as those of batches that
        # stop() cancels.
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
        """Cancel the waiting batches, and wait for those under way: at most one in each thread."""
        self._stopped = True
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)
