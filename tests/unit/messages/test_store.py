"""What is said of Redis servers: how they start, answer and replicate."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace as Has
from typing import Any, cast

import pytest
from support.message_cases import Case, check

from mlnet.errors import StoreError
from mlnet.store import binary, connection, resp, server
from mlnet.store.ping import ping as ping_server
from mlnet.store.server import RedisServer

TASK = "ab" * 32


def awaited(make: Callable[[Path], Awaitable[object]]) -> Case:
    async def result(directory: Path) -> object:
        return await make(directory)

    return lambda directory: asyncio.run(result(directory))


def start(text: str, ports: tuple[int, int] | None = None, free: bool = True) -> Case:
    """The start of a server that is this shell script."""

    async def started(directory: Path) -> object:
        program = directory / "server"
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o700)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server, "START_TIMEOUT", 5.0 if "echo" in text or "tr" in text else 0.2)
            if not free:
                patch.setattr(server, "free_ports", lambda *_: iter(()))
            return await RedisServer.start(program, directory, task=TASK, ports=ports, max_memory=1 << 20)

    return awaited(started)


def without_descriptors(directory: Path) -> object:
    async def spawn(*_: object, **__: object) -> object:
        raise OSError(24, "Too many open files")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "spawn", spawn)
        return start("exit 1")(directory)


def test_starts(tmp_path: Path) -> None:
    def old(directory: Path) -> None:
        program = directory / "server"
        program.write_text("#!/bin/sh\necho Redis server v=6.2.14 sha=0:0\n")
        program.chmod(0o700)
        binary.check_version(program)

    check(
        "redis-starts",
        {
            "an old server": old,
            "no free port": start("exit 1", free=False),
            "no free port of a range": start("exit 1", (7000, 7009), free=False),
            "no process": without_descriptors,
            "a server that is never up": start("exec sleep 60"),
            "a program that writes without an end": start("exec tr '\\0' x </dev/zero"),
            "a server that takes no commands": start("echo Ready to accept connections; exec sleep 60"),
        },
        tmp_path,
    )


async def unheard(_: Path) -> object:
    """A listener that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        try:
            return await ping_server("127.0.0.1", port, samples=9, timeout=0.1)
        except StoreError as error:
            return str(error).replace(str(port), "PORT")


async def asked(directory: Path, *, ends: bool) -> object:
    """A command to a server at a unix socket that does not answer, or breaks the connection."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.set_result(writer)

    served: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    listening = await asyncio.start_unix_server(serve, directory / "s")
    try:
        async with resp.RespConnection.open(directory / "s") as opened:
            await served
            if ends:
                opened._decoder._reader.set_exception(ConnectionResetError(104, "Connection reset by peer"))
            return await opened.call("PING", timeout=0.1 if not ends else 5.0)
    finally:
        served.result().close()
        await served.result().wait_closed()
        listening.close()


def test_answers(tmp_path: Path) -> None:
    def broken_pipe(_: Path) -> object:
        async def call() -> object:
            writer = Has(write=raising(ConnectionResetError("Connection lost")))
            return await resp.RespConnection(asyncio.StreamReader(), cast(Any, writer)).call(
                "PING", timeout=5.0
            )

        return asyncio.run(call())

    def too_large(_: Path) -> object:
        one, other = socket.socketpair()
        with other, connection._Socket(fileno=one.detach()) as bounded:
            bounded.budget = connection.ReplyBudget()
            bounded.budget.grant(time.monotonic() + 5, 3)
            other.send(b"+PONG\r\n")
            return bounded.recv(100)

    async def role(_: Path) -> object:
        async def admin(*_: object) -> object:
            return b"OK"

        return await RedisServer._replica_state(cast(Any, Has(_admin=admin)))

    async def replicated(directory: Path) -> None:
        """The relay leads to nothing, and the server goes on trying."""

        async def nothing(*_: object) -> None:
            return None

        async def state() -> tuple[str, int]:
            return "connect", 0

        config = Has(relay_password="secret", names={"REPLICAOF": "REPLICAOF"})
        made = Has(_replication=asyncio.Lock(), _leave_master=nothing, _admin=nothing, _replica_state=state)
        made._config = config
        try:
            await RedisServer.replicate_from(cast(Any, made), directory / "gone", 0.1)
        finally:
            await made._relay.close()

    check(
        "redis-answers",
        {
            "no answer to pings": awaited(unheard),
            "no answer to a command": awaited(lambda directory: asked(directory, ends=False)),
            "a broken connection": awaited(lambda directory: asked(directory, ends=True)),
            "a connection that was closed": broken_pipe,
            "a large answer": too_large,
            "a role that is none": awaited(role),
            "a master that is not reached": awaited(replicated),
        },
        tmp_path,
    )


def raising(error: Exception) -> Callable[..., object]:
    def function(*_: object, **__: object) -> object:
        raise error

    return function
