"""One event loop in a thread of its own, for all blocking clients of the process: they work where a loop runs
in the thread that calls them, too, as in a notebook."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from concurrent.futures import CancelledError
from typing import Any, TypeVar

T = TypeVar("T")
_CLOSE_SECONDS = 5.0


class LoopThread:
    """A loop and its thread, which ends with the process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_on_error)
        threading.Thread(target=self._loop.run_forever, name="mlnet-client", daemon=True).start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns or raises. Interrupted (Ctrl-C), it is cancelled."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                future.cancel()
            raise

    def iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """What an asynchronous generator yields, as it comes."""
        try:
            while (item := self.run(_next(items))) is not _END:
                yield item  # type: ignore[misc] # it is not the end
        finally:
            closing = asyncio.run_coroutine_threadsafe(items.aclose(), self._loop)
            try:
                closing.result(_CLOSE_SECONDS)
            except (TimeoutError, CancelledError, RuntimeError):
                closing.cancel()


_END = object()


async def _next(items: AsyncGenerator[T, None]) -> T | object:
    return await anext(items, _END)


@functools.lru_cache(maxsize=1)
def _of_process(_: int) -> LoopThread:
    return LoopThread()


def shared() -> LoopThread:
    """The loop of this process; a forked child has another one."""
    return _of_process(os.getpid())


def _on_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # grpc.aio has one queue for all loops of a process: a loop that is woken for what another one has taken
    # finds nothing there, and grpc lets the error of that through (https://github.com/grpc/grpc/issues/25364).
    if not isinstance(context.get("exception"), BlockingIOError):
        loop.default_exception_handler(context)
