"""The events of a task as server-sent events (text/event-stream), as EventSource reads them.

An event's id is its revision. A browser that lost the stream states the last one that it has seen, and goes
on after it without a gap or a repetition. Comments keep a silent stream alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from typing import Any

import grpc
import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mlnet.dashboard.answers import BadRequest, described
from mlnet.errors import Overloaded
from mlnet.sdk.connection import NodeConnection
from mlnet.sdk.plain import to_plain
from mlnet.v1 import tasks_pb2

MAX_STREAMS = 32
"""Streams that are open at the same time; a browser keeps at most six to one server."""
IDLE_SECONDS = 30.0
"""Without an event or a bookmark, which comes after 10 s, the node's stream counts as broken."""
SEND_SECONDS = 30.0
"""For the browser to take a piece of the stream; one that takes nothing is let go."""
RETRY_SECONDS = 2.0
BUSY_SECONDS = 10.0
MAX_REVISION = (1 << 53) - 1
"""The largest whole number that JavaScript counts with."""


def frame(event: tasks_pb2.Event) -> bytes:
    """An event with its revision as id."""
    plain = to_plain(event)
    plain["kind"] = event.WhichOneof("kind") or "unknown"
    return b"id: %d\ndata: %b\n\n" % (event.revision, msgspec.json.encode(plain))


def signal(name: str, value: object) -> bytes:
    """What is not an event of the task: it has no id, so that the browser goes on from the last event."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(value))


def comment(revision: int) -> bytes:
    """A bookmark: the stream is alive, and this is the latest event."""
    return b": %d\n\n" % revision


def last_seen(header: str | None) -> int:
    """The revision in ``Last-Event-ID``; 0 without one.

    Raises:
        BadRequest: it is none of ours.
    """
    if not header:
        return 0
    if not (header.isascii() and header.isdecimal()) or len(header) > 16 or int(header) > MAX_REVISION:
        raise BadRequest("Last-Event-ID is not the number of an event")
    return int(header)


async def frames(connection: NodeConnection, task: str, after: int) -> AsyncGenerator[bytes]:
    """The events of a task after a revision, as frames; the last one says why, if they end too early."""
    yield b"retry: %d\n\n" % int(1000 * RETRY_SECONDS)
    request = tasks_pb2.WatchRequest(task=task, from_revision=after + 1)
    waiting = ""
    try:
        async with aclosing(connection.stream(connection.tasks.Watch, request, IDLE_SECONDS)) as answers:
            async for one in answers:
                if one.WhichOneof("content") == "event":
                    if one.event.revision > after:
                        after = one.event.revision
                        yield frame(one.event)
                    continue
                yield comment(after)
                if one.bookmark.waiting != waiting:
                    waiting = one.bookmark.waiting
                    yield signal("waiting", {"waiting": waiting})
    except (grpc.RpcError, TimeoutError) as failure:
        _, body = described(connection.error(failure))
        yield signal("problem", body)


class Streams:
    """Counts the streams that are open, and ends them with the server."""

    def __init__(self, most: int = MAX_STREAMS) -> None:
        self._most = most
        self._closing = asyncio.Event()
        self.open = 0

    def response(self, pieces: AsyncGenerator[bytes]) -> EventStream:
        """A response that streams.

        Raises:
            Overloaded: too many are open.
        """
        if self.open >= self._most:
            raise Overloaded(
                f"{self.open} pages follow tasks already, and no more are served; close one",
                retry_after=BUSY_SECONDS,
            )
        return EventStream(pieces, self)

    async def closing(self) -> None:
        """Return when the server ends."""
        await self._closing.wait()

    def close(self) -> None:
        """End all streams."""
        self._closing.set()


class EventStream(Response):
    """A stream of events until its source, the browser or the server ends it.

    Args:
        pieces: what is sent, piece by piece.
        streams: counts it, and ends it with the server.
    """

    media_type = "text/event-stream"

    def __init__(self, pieces: AsyncGenerator[bytes], streams: Streams) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._pieces, self._streams = pieces, streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what comes."""
        self._streams.open += 1
        try:
            await first(self._pump(send), gone(receive), self._streams.closing())
        finally:
            self._streams.open -= 1

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._pieces) as pieces:
            async for piece in pieces:
                async with asyncio.timeout(SEND_SECONDS):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def gone(receive: Receive) -> None:
    """Return when the browser has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def first(*awaited: Coroutine[Any, Any, None]) -> None:
    """Run until one of them ends, and end the others."""
    running = [asyncio.ensure_future(one) for one in awaited]
    try:
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    for one in done:
        with suppress(TimeoutError, OSError):  # the browser takes nothing, or is gone
            one.result()
