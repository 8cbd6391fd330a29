"""Real servers for the tests of the store."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from mlnet.errors import StoreError
from mlnet.store import RedisServer, find_binary, resp

TASK = "5e" * 32
OTHER_TASK = "00" * 32
NAMESPACE = f"mlnet:{TASK}:1"
MEMORY = 64 << 20


async def start(directory: Path, ports: tuple[int, int] | None = None) -> RedisServer:
    """A server on loopback with all its gates."""
    server = await RedisServer.start(
        find_binary(None), directory, task=TASK, ports=ports, max_memory=MEMORY, host="127.0.0.1"
    )
    for purpose in ("store", "replica", "progress"):
        await server.gate(purpose)
    return server


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[RedisServer]:
    """A server in a directory of its own, whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="mlnet-") as directory:
        server = await start(Path(directory))
        try:
            yield server
        finally:
            await server.stop()


async def role(server: RedisServer) -> str:
    """What a server is now: ``master`` or ``slave``."""
    reply = await server._admin(("ROLE",))
    assert isinstance(reply, list)
    assert isinstance(reply[0], bytes)
    return reply[0].decode()


async def ask(path: Path, *parts: str | bytes | int) -> resp.Reply | str:
    """A server's reply through a gate; the text of the error if it is one."""
    async with resp.RespConnection.open(path) as connection:
        try:
            return await connection.call(*parts, timeout=5)
        except StoreError as error:
            return str(error)


async def stranger(port: int, *parts: str | bytes | int) -> bytes:
    """The first line that a server answers on its open port."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(resp.command(*parts))
        async with asyncio.timeout(5):
            return await reader.readline()
    finally:
        writer.close()
