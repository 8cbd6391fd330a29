"""A task's server: strangers, gates, replication, its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.redis import MEMORY, NAMESPACE, OTHER_TASK, TASK, ask, role, running, start, stranger

from mlnet.errors import PortInUse, StoreError
from mlnet.store import RedisServer, find_binary, ping, resp
from mlnet.util import hosts


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with running() as made:
        yield made


def files(directory: str) -> list[str]:
    return sorted(path.name for path in Path(directory).iterdir())


async def test_a_stranger_gets_noauth_and_nothing_else(server: RedisServer) -> None:
    commands = [
        *("PING", "INFO", "ROLE", "COMMAND", "DBSIZE", "FLUSHALL", "SHUTDOWN", "CLIENT LIST", "CONFIG GET *"),
        *("GET a", "SET a 1", "XREAD STREAMS a 0", "EVAL x 0", "FCALL mlnet_set 0", "ACL WHOAMI", "HELLO 3"),
        *(
            "SUBSCRIBE a",
            "MULTI",
            "PSYNC ? -1",
            "SYNC",
            "REPLCONF capa eof",
            "REPLICAOF NO ONE",
            "MODULE LIST",
        ),
    ]
    for text in commands:
        line = await stranger(server.port, *text.split())
        assert line.startswith((b"-NOAUTH", b"-ERR unknown command")), text
    for login in (("AUTH", "x"), ("AUTH", "default", ""), ("AUTH", "admin", "admin"), ("AUTH", "store", "")):
        assert (await stranger(server.port, *login)).startswith(b"-WRONGPASS"), login


async def test_the_unix_socket_alone_opens_nothing_either(server: RedisServer) -> None:
    assert "NOAUTH" in str(await ask(server.unix_socket, "PING"))


async def test_the_store_gate_reaches_this_tasks_keys_only(server: RedisServer) -> None:
    gate = server.gate_path("store")
    key = f"{NAMESPACE}:k:a"
    assert isinstance(await ask(gate, "XADD", key, "*", "v", "1"), bytes)
    assert await ask(gate, "EXISTS", key) == 1
    for name in ("a", f"mlnet:{OTHER_TASK}:1:k:a", f"mlnet:{TASK}"):
        assert "NOPERM" in str(await ask(gate, "XADD", name, "*", "v", "1")), name
    changes = [f"{NAMESPACE}:changes", f"mlnet:{OTHER_TASK}:1:k:a"]
    assert "NOPERM" in str(await ask(gate, "FCALL", "mlnet_set", 2, *changes, "client", 1, "x"))


@pytest.mark.parametrize("purpose", ["store", "replica", "progress"])
async def test_no_gate_administers(server: RedisServer, purpose: str) -> None:
    gate = server.gate_path(purpose)
    commands = [
        *(
            "INFO",
            "FLUSHALL",
            "SHUTDOWN",
            "CLIENT LIST",
            "CONFIG GET *",
            "ACL LIST",
            "REPLICAOF NO ONE",
            "EVAL x 0",
        ),
        *(
            "FUNCTION LIST",
            "SET a 1",
            "SAVE",
            "DEBUG SLEEP 0",
            "MONITOR",
            "SUBSCRIBE a",
            "KEYS *",
            "MODULE LIST",
        ),
    ]
    for text in commands:
        answer = await ask(gate, *text.split())
        assert "NOPERM" in str(answer) or "unknown command" in str(answer), text


async def test_the_progress_gate_reads_the_progress_only(server: RedisServer) -> None:
    await ask(server.gate_path("store"), "XADD", f"{NAMESPACE}:progress", "*", "p", "1")
    gate = server.gate_path("progress")
    assert isinstance(await ask(gate, "XREAD", "STREAMS", f"{NAMESPACE}:progress", "0"), list)
    assert "NOPERM" in str(await ask(gate, "XREAD", "STREAMS", f"{NAMESPACE}:k:a", "0"))
    assert "NOPERM" in str(await ask(gate, "XADD", f"{NAMESPACE}:progress", "*", "p", "1"))


async def test_the_replica_gate_reads_no_keys(server: RedisServer) -> None:
    assert await ask(server.gate_path("replica"), "PING") == b"PONG"
    assert "NOPERM" in str(await ask(server.gate_path("replica"), "EXISTS", f"{NAMESPACE}:k:a"))


async def test_a_gate_passes_on_the_end_of_a_half(server: RedisServer) -> None:
    reader, writer = await asyncio.open_unix_connection(server.gate_path("store"))
    writer.write(resp.command("PING"))
    writer.write_eof()
    async with asyncio.timeout(5):
        assert (await reader.read()).startswith(b"+PONG")
    writer.close()


async def test_a_gate_that_does_not_exist_is_refused(server: RedisServer) -> None:
    with pytest.raises(StoreError, match=r"no gate for '\.\./x'"):
        server.gate_path("../x")


async def test_a_slave_has_the_masters_keys_until_it_is_promoted(server: RedisServer) -> None:
    key = f"{NAMESPACE}:k:a"
    await ask(server.gate_path("store"), "XADD", key, "*", "v", "1")
    async with running() as slave:
        await slave.replicate_from(server.gate_path("replica"), timeout=10)
        assert (await role(server), await role(slave)) == ("master", "slave")
        assert await ask(slave.gate_path("store"), "EXISTS", key) == 1
        assert "READONLY" in str(await ask(slave.gate_path("store"), "XADD", key, "*", "v", "2"))
        await slave.promote()
        assert await role(slave) == "master"
        assert isinstance(await ask(slave.gate_path("store"), "XADD", key, "*", "v", "2"), bytes)


async def test_replication_crosses_any_splice_and_changes_its_master(server: RedisServer) -> None:
    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from mlnet.store.gates import splice

        far = await asyncio.open_unix_connection(server.gate_path("replica"))
        await splice((reader, writer), far)
        far[1].close()
        writer.close()

    key = f"{NAMESPACE}:k:a"
    await ask(server.gate_path("store"), "XADD", key, "*", "v", "1")
    with tempfile.TemporaryDirectory() as short:
        tunnel = await asyncio.start_unix_server(forward, Path(short) / "tunnel.sock")
        async with running() as first, running() as slave:
            await slave.replicate_from(first.gate_path("replica"), timeout=10)
            assert await ask(slave.gate_path("store"), "EXISTS", key) == 0
            await slave.replicate_from(Path(short) / "tunnel.sock", timeout=10)
            assert await ask(slave.gate_path("store"), "EXISTS", key) == 1
        tunnel.close()


async def test_replication_that_does_not_come_up_says_why(server: RedisServer, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"not replicated after 0\.3 s.*no way to the master"):
        await server.replicate_from(tmp_path / "nobody.sock", timeout=0.3)
    assert await role(server) == "master"


async def test_the_relay_admits_our_own_server_only(server: RedisServer) -> None:
    from mlnet.store import gates

    relay = gates.relay(server.gate_path("replica"), "replica", "right", 4)
    host, port = await relay.listen_loopback()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(resp.command("PING") + resp.command("AUTH", "replica", "wrong") + resp.command("PING"))
    async with asyncio.timeout(5):
        assert await reader.read() == b"+PONG\r\n"
    writer.close()
    await relay.close()


async def test_a_hostile_master_cannot_open_its_slave(server: RedisServer) -> None:
    """Whatever comes over the master's link is carried out with all rights - if it has a name."""
    script = resp.command("ACL", "SETUSER", "default", "on", "nopass", "~*", "+@all")
    script += resp.command("CONFIG", "SET", "masterauth", "x") + resp.command("SET", "x", "1")
    asked = asyncio.Event()

    async def master(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = resp.Decoder(reader)
        while (words := await decoder.read()) and isinstance(words, list) and words[0] != b"PSYNC":
            writer.write(b"+OK\r\n")
        # An empty database in the format of version 9, without checksum.
        rdb = b"REDIS0009\xff" + bytes(8)
        writer.write(b"+FULLRESYNC %s 0\r\n$%d\r\n" % (b"a" * 40, len(rdb)) + rdb + script)
        writer.write(resp.command("REPLCONF", "GETACK", "*"))
        while (words := await decoder.read()) and isinstance(words, list):
            if words[:2] == [b"REPLCONF", b"ACK"] and int(bytes(words[2])) >= len(script):  # type: ignore[arg-type]
                asked.set()
            # A master that is gone is no master: it goes on until the replica leaves it.
            writer.write(resp.command("PING"))
        writer.close()

    with tempfile.TemporaryDirectory() as short:
        hostile = await asyncio.start_unix_server(master, Path(short) / "m.sock")
        await server.replicate_from(Path(short) / "m.sock", timeout=10)
        async with asyncio.timeout(10):
            await asked.wait()
        assert (await stranger(server.port, "PING")).startswith(b"-NOAUTH")
        hostile.close()
        await server.promote()


async def test_stop_leaves_no_process_and_no_file() -> None:
    with tempfile.TemporaryDirectory(prefix="mlnet-") as directory:
        server = await start(Path(directory))
        assert files(directory) == [*("progress.sock", "redis.sock", "replica.sock", "store.sock")]
        pid = server._process.pid
        await server.stop()
        await server.stop()
        assert files(directory) == []
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        with pytest.raises(
            StoreError, match=r"server ended \(exit status 0\)|no Redis server answers"
        ) as caught:
            await server.promote()
        assert "<lua>" not in str(caught.value), "what every server complains of explains nothing"


async def test_a_killed_parent_takes_its_server_along() -> None:
    code = (
        "import asyncio, pathlib, sys\nfrom support import redis\n"
        "async def main():\n"
        "    server = await redis.start(pathlib.Path(sys.argv[1]))\n"
        "    print(server.port, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with tempfile.TemporaryDirectory(prefix="mlnet-") as directory:
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
        argv = [sys.executable, "-c", code, directory]
        parent = await asyncio.create_subprocess_exec(*argv, env=env, stdout=asyncio.subprocess.PIPE)
        assert parent.stdout is not None
        async with asyncio.timeout(30):
            port = int(await parent.stdout.readline())
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            parent.send_signal(signal.SIGKILL)
            await parent.wait()
            # The kernel closes the server's sockets, first those that listen, when the server ends.
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
        writer.close()
        with pytest.raises(StoreError, match="cannot be pinged"):
            await ping("127.0.0.1", port)


async def test_a_range_of_ports_is_used_up(server: RedisServer) -> None:
    with tempfile.TemporaryDirectory(prefix="mlnet-") as directory:
        with pytest.raises(PortInUse, match=f"none of the ports {server.port}-{server.port} is free"):
            await start(Path(directory), ports=(server.port, server.port))
        assert files(directory) == []


async def test_the_first_free_port_of_a_range_is_taken() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        tempfile.TemporaryDirectory(prefix="mlnet-") as directory,
    ):
        low = taken.getsockname()[1]
        server = await start(Path(directory), ports=(low, min(low + 50, 65535)))
        assert low < server.port <= low + 50
        await server.stop()


async def test_a_program_that_is_no_server_is_told_apart(tmp_path: Path) -> None:
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\necho 'no such thing here'\nexit 3\n")
    program.chmod(0o755)
    with tempfile.TemporaryDirectory(prefix="mlnet-") as directory:
        for binary, words in (
            (program, "did not start: no such thing here"),
            (tmp_path / "none", "FileNotFound"),
        ):
            with pytest.raises(StoreError, match=words):
                await RedisServer.start(binary, Path(directory), task=TASK, ports=None, max_memory=MEMORY)


@pytest.mark.parametrize("task", ["", "../x", "5E" * 32, "5e" * 32 + "\n", "*"])
async def test_what_is_no_task_id_gets_no_server(tmp_path: Path, task: str) -> None:
    with pytest.raises(StoreError, match="is not a task id"):
        await RedisServer.start(find_binary(None), tmp_path, task=task, ports=None, max_memory=MEMORY)


async def test_a_path_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="too long for a unix socket"):
        await RedisServer.start(
            find_binary(None), tmp_path / ("x" * 90), task=TASK, ports=None, max_memory=MEMORY
        )


async def test_pings_are_microseconds(server: RedisServer) -> None:
    times = await ping("127.0.0.1", server.port, samples=5, timeout=5)
    assert len(times) == 5
    assert all(1 <= time < 5_000_000 for time in times)


async def test_a_server_is_reached_at_all_addresses_of_both_families() -> None:
    with tempfile.TemporaryDirectory(prefix="mlnet-") as directory:
        server = await RedisServer.start(
            find_binary(None), Path(directory), task=TASK, ports=None, max_memory=MEMORY
        )
        try:
            for host in hosts.LOOPBACK:
                assert len(await ping(host, server.port, samples=2, timeout=5)) == 2
        finally:
            await server.stop()


async def test_a_closed_port_cannot_be_pinged() -> None:
    # A socket that does not listen refuses, and keeps the port from others.
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(StoreError, match=f"port {port} cannot be pinged"):
            await ping("127.0.0.1", port)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "does not answer PING as a Redis server: HTTP/1.1 400"),
        (b"-ERR no\r\n", "does not answer PING"),
        (b"x" * 600, "did not answer PING with a line"),
        (b"", "did not answer PING with a line"),
    ],
)
async def test_what_is_no_redis_server_gives_no_time(answer: bytes, message: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    other = await asyncio.start_server(serve, "127.0.0.1", 0)
    with pytest.raises(StoreError, match=message):
        await ping("127.0.0.1", other.sockets[0].getsockname()[1], timeout=5)
    other.close()


async def test_a_silent_port_ends_the_ping_in_time() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(StoreError, match=r"did not answer 9 pings in 0\.2 s"),
    ):
        await ping("127.0.0.1", listener.getsockname()[1], timeout=0.2)
