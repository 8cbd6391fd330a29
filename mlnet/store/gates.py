"""Sockets that log in to a server for whoever connects to them, and from then on only copy bytes."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from mlnet.errors import StoreError
from mlnet.store import resp
from mlnet.util import hosts, sockets

CHUNK = 1 << 16
LOGIN_TIMEOUT = 5.0
MAX_HANDSHAKE = 1024

Ends: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def splice(one: Ends, other: Ends) -> None:
    """Copy bytes both ways until both ends have ended their half, or one of them fails."""
    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(one[0], other[1]))
            both.create_task(_copy(other[0], one[1]))


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while chunk := await source.read(CHUNK):
        sink.write(chunk)
        await sink.drain()
    sink.write_eof()


class Listener:
    """Accepts a bounded number of connections and ends them all when it closes.

    Args:
        serve: what to do with one; it is closed afterwards.
        limit: connections at a time; more are closed at once.
    """

    def __init__(self, serve: Callable[[Ends], Awaitable[None]], limit: int) -> None:
        self._serve = serve
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.way: sockets.Way | None = None
        """Leads to its unix socket."""
        self.problem = ""
        """What went wrong with the last connection; empty when nothing did."""

    async def listen_unix(self, path: Path) -> None:
        """Listen at a unix socket that this user alone may use."""
        self._server = await asyncio.start_unix_server(self._accept, path)
        os.chmod(path, 0o600)  # noqa: PTH101 - the linter takes a Path's for slow
        self.way = sockets.Way(path)

    async def listen_loopback(self) -> tuple[str, int]:
        """Listen at this machine's own address: it, and the TCP port."""
        self._server = await asyncio.start_server(self._accept, hosts.loopback(), 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    async def close(self) -> None:
        """Accept no more, and end what there is."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.way is not None:
            self.way.close()
            self.way = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= self._limit:
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._run((reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Not in the task: one that is cancelled before its first step closes nothing.
        task.add_done_callback(lambda _: writer.close())

    async def _run(self, ends: Ends) -> None:
        try:
            self.problem = ""
            await self._serve(ends)
        except (OSError, StoreError) as error:
            self.problem = str(error) or type(error).__name__


def gate(target: str, user: str, password: str, limit: int) -> Listener:
    """A listener whose connections reach a server as one of its users, without knowing the password."""

    async def serve(client: Ends) -> None:
        server = await asyncio.open_unix_connection(target)
        try:
            async with asyncio.timeout(LOGIN_TIMEOUT):
                server[1].write(resp.command("AUTH", user, password))
                await resp.Decoder(server[0], MAX_HANDSHAKE).read()
            await splice(client, server)
        finally:
            server[1].close()

    return Listener(serve, limit)


def relay(target: Path, user: str, password: str, limit: int) -> Listener:
    """A listener for a server that wants to replicate the one behind a unix socket.

    A server dials its master by TCP only, and anyone on this machine may dial a TCP port: so it logs in here.
    The unix socket leads to the master's own gate, which logs in there.
    """

    async def serve(replica: Ends) -> None:
        decoder = resp.Decoder(replica[0], MAX_HANDSHAKE)
        async with asyncio.timeout(LOGIN_TIMEOUT):
            await _expect(decoder, b"PING")
            replica[1].write(b"+PONG\r\n")
            await _expect(decoder, b"AUTH", user.encode(), password.encode())
        try:
            master = await asyncio.open_unix_connection(target)
        except OSError as error:
            raise StoreError(f"no way to the master: {error.strerror}") from error
        try:
            replica[1].write(b"+OK\r\n")
            await splice(replica, master)
        finally:
            master[1].close()
        raise StoreError("the master's side closed the connection")

    return Listener(serve, limit)


async def _expect(decoder: resp.Decoder, *wanted: bytes) -> None:
    got = await decoder.read()
    words = b"\0".join(word for word in got if isinstance(word, bytes)) if isinstance(got, list) else b""
    if not hmac.compare_digest(words, b"\0".join(wanted)):
        raise StoreError("a connection that is not our server's")
