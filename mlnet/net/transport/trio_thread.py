"""Calls between the user's asyncio loop and a trio loop in a thread of its own.

py-libp2p runs under trio only, grpc.aio under asyncio only. trio's guest mode would run both in one thread,
so that a handshake in Python delays every gRPC call, and the reverse (docs/adr/0003-trio-thread.md).

Nothing is shared under locks: state belongs to one side, and the other side calls. A call wakes two threads,
so none stands in the path of a message's bytes; those go through sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar, TypeVarTuple

import trio

from mlnet.errors import TransportError

logger = logging.getLogger(__name__)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
JOIN_SECONDS = 5.0
"""Time for the trio loop to unwind after it was cancelled: the host's SHUTDOWN_SECONDS, and some for cleanup.
"""


class TrioThread:
    """Runs an async function under trio in a thread until :meth:`stop`.

    Args:
        main: gets the nursery for all background tasks; calls ``started`` once it serves; runs until it is
            cancelled.
    """

    def __init__(self, main: Callable[[trio.Nursery, Callable[[], None]], Awaitable[None]]) -> None:
        self._main = main
        # A daemon: when a stop fails, the thread must not keep the interpreter from ending.
        self._thread = threading.Thread(target=self._run, name="mlnet-libp2p", daemon=True)
        self._nursery: trio.Nursery | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started: asyncio.Future[None] | None = None
        self._ended: asyncio.Event = asyncio.Event()
        self.failure: BaseException | None = None

    async def start(self) -> None:
        """Start the thread and wait until its function serves; what that raises before then is raised
        here."""
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.create_future()
        self._thread.start()
        await self._started

    async def stop(self) -> None:
        """Cancel everything in the trio loop and wait for the thread's end, at most five seconds."""
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._cancel)
        if self._thread.ident is not None:
            try:
                async with asyncio.timeout(JOIN_SECONDS):
                    await self._ended.wait()
            except TimeoutError:
                logger.error("the libp2p thread did not end within %g s", JOIN_SECONDS)
                return
            self._thread.join(JOIN_SECONDS)

    def _cancel(self) -> None:
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def _run(self) -> None:
        try:
            trio.run(self._trio_main)
        except BaseException as error:  # noqa: BLE001 - it is raised or logged in the other thread
            self.failure = error
        # The last act of the thread, also when trio.run failed: whoever waits for _ended is woken in any
        # case.
        self.notify(self._on_end)

    async def _trio_main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await self._main(nursery, lambda: self.notify(self._on_started))
            nursery.cancel_scope.cancel()

    def _on_started(self) -> None:
        if self._started is not None and not self._started.done():
            self._started.set_result(None)

    def _on_end(self) -> None:
        self._ended.set()
        if self._started is not None and not self._started.done():
            failure = self.failure
            # A nursery wraps what its tasks raise. The caller of start() wants the PortInUse inside.
            while isinstance(failure, BaseExceptionGroup):
                failure = failure.exceptions[0]
            self._started.set_exception(failure or TransportError("the libp2p thread ended at its start"))
        elif self.failure is not None:
            logger.critical(
                "the libp2p thread has failed; this node is off the network", exc_info=self.failure
            )

    def notify(self, function: Callable[[*Ts], object], *args: *Ts) -> None:
        """From any thread: call ``function`` on the asyncio loop soon. Does nothing when that loop is
        closed."""
        if self._loop is not None:
            # RuntimeError: the loop is closed. There is nobody left to tell.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(function, *args)

    async def ask(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """From trio: call ``function`` on the asyncio loop and wait for its result."""
        token = trio.lowlevel.current_trio_token()
        answered = trio.Event()
        results: list[T] = []
        errors: list[BaseException] = []

        def call() -> None:
            try:
                results.append(function(*args))
            except Exception as error:  # noqa: BLE001 - it is raised in the other thread
                errors.append(error)
            # RunFinishedError: the thread has ended, and with it the waiting task.
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(answered.set)

        self.notify(call)
        await answered.wait()
        if errors:
            raise errors[0]
        return results[0]

    async def call(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """From asyncio: run an async function under trio and wait for its result.

        Cancelling the wait cancels the function.

        Raises:
            TransportError: the trio loop does not run, or has ended.
        """
        token = self._token
        if token is None:
            raise TransportError("the network is not running")

        async def work() -> T:
            return await function(*args)

        call = _Call(self, work)
        # The thread may end with the call unfinished; without this wait its caller would hang.
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            token.run_sync_soon(call.spawn, self._nursery)
            await asyncio.wait((call.future, ended), return_when=asyncio.FIRST_COMPLETED)
        except trio.RunFinishedError as error:
            raise TransportError("the network has stopped") from error
        except asyncio.CancelledError:
            call.future.cancel()
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(call.scope.cancel)
            raise
        finally:
            ended.cancel()
        if not call.future.done():
            raise TransportError("the network has stopped")
        return call.future.result()


class _Call(Generic[T]):
    """One call from asyncio to trio."""

    def __init__(self, thread: TrioThread, work: Callable[[], Awaitable[T]]) -> None:
        self._thread, self._work = thread, work
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.scope = trio.CancelScope()

    def spawn(self, nursery: trio.Nursery | None) -> None:
        if nursery is None or nursery.cancel_scope.cancel_called:
            self._thread.notify(self._fail, TransportError("the network stops"))
        else:
            nursery.start_soon(self._run)

    async def _run(self) -> None:
        finish: Callable[[], None] = partial(self._fail, TransportError("the network stops"))
        try:
            with self.scope:
                finish = partial(self._succeed, await self._work())
        except Exception as error:  # noqa: BLE001 - it is raised in the other thread
            finish = partial(self._fail, error)
        finally:
            self._thread.notify(finish)

    def _succeed(self, result: T) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def _fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)
