"""How many calls are carried out at a time. What comes beyond is refused at once, and told when to come
again."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from mlnet.errors import ConfigError, MlnetError, Overloaded, TransportError
from mlnet.service.callers import address_of
from mlnet.service.errors import UNEXPECTED, refuse

logger = logging.getLogger(__name__)
MAX_CALLS = 1024
"""Calls with one answer. Each may hold a request of a megabyte."""
MAX_STREAMS = 4096
"""Calls with many requests or answers, most of which wait."""
SHARE = 0.5
"""Of one caller. Callers are told apart by address: on one machine all are one, but for the owner at the unix
socket."""
STREAM_RETRY_SECONDS = 5.0
CALL_RETRY_SECONDS = 0.1


class Slots:
    """Places for calls of one kind.

    Args:
        what: such calls, for people.
        most: at a time.
        retry_after: seconds after which a place may be free.

    Attributes:
        used: places that are taken.
    """

    def __init__(self, what: str, most: int, retry_after: float) -> None:
        self.what, self.most, self.retry_after = what, most, retry_after
        self.used = 0
        self._by_caller: Counter[str] = Counter()

    @property
    def most_by_caller(self) -> int:
        """Places that one caller may take."""
        return max(1, int(self.most * SHARE))

    def take(self, caller: str) -> None:
        """Take a place.

        Raises:
            Overloaded: there is none.
        """
        if self.used >= self.most:
            raise Overloaded(f"{self.most} {self.what} are under way already", retry_after=self.retry_after)
        if self._by_caller[caller] >= self.most_by_caller:
            raise Overloaded(
                f"{self.most_by_caller} {self.what} of one caller are under way already",
                retry_after=self.retry_after,
            )
        self.used += 1
        self._by_caller[caller] += 1

    def give_back(self, caller: str) -> None:
        """Free a place."""
        self.used -= 1
        self._by_caller[caller] -= 1
        if not self._by_caller[caller]:
            del self._by_caller[caller]


class Bounds:
    """The places for calls of both kinds, and what goes round each call: a place, and errors as statuses.

    Attributes:
        calls: with one answer.
        streams: with many.
        stopping: the node is being stopped; streams end.
    """

    def __init__(self, calls: int = MAX_CALLS, streams: int = MAX_STREAMS) -> None:
        self.calls = Slots("calls", calls, CALL_RETRY_SECONDS)
        self.streams = Slots("streams", streams, STREAM_RETRY_SECONDS)
        self.stopping = False
        self._open: set[asyncio.Task[Any]] = set()

    def around(self, method: str, streaming: bool, context: Any) -> Call:
        """What goes round one call."""
        return Call(self, self.streams if streaming else self.calls, self._open, method, context)

    def stop(self) -> None:
        """End all streams, whose callers are told why."""
        self.stopping = True
        for task in self._open:
            task.cancel()


class Call:
    """One call, from its place to its status. A class and no generator: it is on the path of every call."""

    __slots__ = ("_bounds", "_caller", "_context", "_method", "_open", "_slots")

    def __init__(
        self, bounds: Bounds, slots: Slots, tasks: set[asyncio.Task[Any]], method: str, context: Any
    ) -> None:
        self._bounds, self._slots, self._open = bounds, slots, tasks
        self._method, self._context = method, context
        self._caller: str | None = None

    async def __aenter__(self) -> None:
        caller = address_of(self._context)
        try:
            if self._bounds.stopping:
                raise TransportError("the node is being stopped")
            self._slots.take(caller)
        except MlnetError as error:
            await refuse(self._context, error)
        self._caller = caller
        if self._slots is self._bounds.streams:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - this is a coroutine
            self._open.add(task)

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if self._caller is not None:
            self._slots.give_back(self._caller)
            if self._slots is self._bounds.streams:
                self._open.discard(asyncio.current_task())
        if error is None:
            return False
        if isinstance(error, MlnetError):
            await refuse(self._context, error)
        if isinstance(error, DecodeError):
            await refuse(self._context, ConfigError(f"the request is not as proto/mlnet/v1 has it: {error}"))
        if isinstance(error, asyncio.CancelledError) and self._bounds.stopping and not self._context.done():
            await refuse(self._context, TransportError("the node is being stopped"))
        if isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError | grpc.aio.BaseError):
            logger.error("%s failed", self._method, exc_info=error)
            await self._context.abort(grpc.StatusCode.INTERNAL, UNEXPECTED)
        return False
