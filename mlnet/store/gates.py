"""Sockets that log in to a Redis server on behalf of those who connect, and then only copy bytes.

A peer is admitted by its libp2p identity (the node splices its stream to a gate), so no password ever leaves
the machine. After the login any Redis client and Redis' own replication work unchanged.
"""

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
"""Bytes copied at a time."""
LOGIN_TIMEOUT = 5.0
"""Seconds for a login, which is local; a connection that stays silent would hold a place of its gate."""
MAX_HANDSHAKE = 1024
"""Bytes of a command or reply before the login; an AUTH has about 110."""

Ends: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def splice(one: Ends, other: Ends) -> None:
    """Copy bytes both ways until both sides have sent an end of file, or one of them fails."""
    # A broken connection is a normal end: both sides are closed by the caller.
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
        serve: serves one connection, which is closed afterwards.
        limit: connections at a time; further ones are closed at once.
    """

    def __init__(self, serve: Callable[[Ends], Awaitable[None]], limit: int) -> None:
        self._serve = serve
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.way: sockets.Way | None = None
        """A way to its unix socket that survives the removal of its name; None for TCP."""
        self.problem = ""
        """Why the last connection failed; empty when it did not."""

    async def listen_unix(self, path: Path) -> None:
        """Listen at a unix socket that only this user may connect to."""
        self._server = await asyncio.start_unix_server(self._accept, path)
        os.chmod(path, 0o600)  # noqa: PTH101 - Path.chmod in async code is ASYNC240
        self.way = sockets.Way(path)

    async def listen_loopback(self) -> tuple[str, int]:
        """Listen on the loopback address; return it and the TCP port."""
        self._server = await asyncio.start_server(self._accept, hosts.loopback(), 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    async def close(self) -> None:
        """Stop accepting, and end all connections."""
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
        # Not in the task itself: a task that is cancelled before its first step never runs its finally.
        task.add_done_callback(lambda _: writer.close())

    async def _run(self, ends: Ends) -> None:
        try:
            self.problem = ""
            await self._serve(ends)
        except (OSError, StoreError) as error:
            self.problem = str(error) or type(error).__name__


def gate(target: str, user: str, password: str, limit: int) -> Listener:
    """A listener whose connections are logged in to a server as one of its users, without the password."""

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
    """A listener through which our server replicates a master behind a unix socket.

    A Redis server dials its master by TCP only, and every user of this machine may dial a TCP port: so the
    server has to log in here. The unix socket leads to the master's own gate, which logs in over there.
    """

    async def serve(replica: Ends) -> None:
        decoder = resp.Decoder(replica[0], MAX_HANDSHAKE)
        async with asyncio.timeout(LOGIN_TIMEOUT):
            # What a replica sends first, in this order; everything after the login is passed on unread.
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
    # In constant time: the port is open to all users of this machine, who could otherwise guess byte by byte.
    if not hmac.compare_digest(words, b"\0".join(wanted)):
        raise StoreError("a connection that is not our server's")
