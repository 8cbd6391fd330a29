"""What Prometheus is told, and how hostile requests are answered."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlnet.cli import app
from mlnet.cli import metrics as exposing
from mlnet.cli.metrics import MAX_CONNECTIONS, MetricsServer, exposition
from mlnet.errors import ConfigError, PortInUse, TransportError
from mlnet.net.metric import Metric, Metrics, single

SECONDS = 20.0
SOME = Metrics(
    (
        single("mlnet_handshakes", "Under way.", 3),
        Metric("mlnet_connections_total", "Ended.", {"gone": 2, "silent": 0}, "reason"),
    )
)


async def some() -> Metrics:
    return SOME


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[MetricsServer]:
    server = MetricsServer("127.0.0.1:0", some)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def port(server: MetricsServer) -> int:
    return int(server.url.split(":")[2].partition("/")[0])


async def ask(server: MetricsServer, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
    try:
        writer.write(request)
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(ConnectionError):
                return await reader.read()
            return b""
    finally:
        writer.close()


def test_the_text_is_what_prometheus_reads() -> None:
    families = {family.name: family for family in text_string_to_metric_families(exposition(SOME).decode())}
    assert families["mlnet_handshakes"].type == "gauge"
    assert [sample.value for sample in families["mlnet_handshakes"].samples] == [3]
    ended = families["mlnet_connections"]
    assert ended.type == "counter"
    assert {sample.labels["reason"]: sample.value for sample in ended.samples} == {"gone": 2, "silent": 0}
    assert {sample.name for sample in ended.samples} == {"mlnet_connections_total"}


async def test_a_request_is_answered_with_metrics_of_node_and_process() -> None:
    async with serving() as server:
        head, _, body = (await ask(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).partition(
            b"\r\n\r\n"
        )
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=")
        names = {family.name for family in text_string_to_metric_families(body.decode())}
        assert {"mlnet_handshakes", "mlnet_build_info", "process_resident_memory_bytes"} <= names
        assert f"Content-Length: {len(body)}".encode() in head


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"rubbish\r\n\r\n", b"405"),
        (b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 10_000, b""),
        (b"x" * 100_000, b""),
    ],
    ids=["path", "method", "rubbish", "long head", "no end"],
)
async def test_other_requests_are_refused(request_: bytes, status: bytes) -> None:
    async with serving() as server:
        answer = await ask(server, request_)
        assert answer.partition(b" ")[2][:3] == status
        assert (await ask(server, b"HEAD /metrics HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\n")


async def test_a_slow_request_is_cut_and_too_many_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposing, "REQUEST_SECONDS", 0.3)
    async with serving() as server:
        answers = await asyncio.gather(*(ask(server, b"GET") for _ in range(MAX_CONNECTIONS + 4)))
        assert answers == [b""] * (MAX_CONNECTIONS + 4)
        assert b"200 OK" in await ask(server, b"GET /metrics HTTP/1.1\r\n\r\n")


async def test_a_node_that_does_not_run_is_not_measured() -> None:
    async def ending() -> Metrics:
        raise TransportError("the network has stopped")

    server = MetricsServer("127.0.0.1:0", ending)
    await server.start()
    assert b" 503 " in await ask(server, b"GET /metrics HTTP/1.1\r\n\r\n")
    await server.stop()


@pytest.mark.parametrize(
    ("address", "hint"),
    [("9464", "HOST:PORT"), ("127.0.0.1:x", "HOST:PORT"), ("192.0.2.1:0", "a local address")],
)
async def test_an_address_that_cannot_be_used_is_named(address: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        await MetricsServer(address, some).start()


async def test_metrics_by_ipv6() -> None:
    server = MetricsServer("[::1]:0", some)
    await server.start()
    try:
        assert server.url.startswith("http://[::1]:")
        number = int(server.url.rpartition(":")[2].partition("/")[0])
        reader, writer = await asyncio.open_connection("::1", number)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert b"200 OK" in await reader.read()
        writer.close()
    finally:
        await server.stop()


async def test_a_taken_port_is_named() -> None:
    async with serving() as server:
        with pytest.raises(PortInUse, match="in use"):
            await MetricsServer(f"127.0.0.1:{port(server)}", some).start()


def test_the_command_ends_with_the_exit_code_of_a_taken_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        arguments = ["mlnet-node", "start", "--data-dir", str(tmp_path), "--metrics", address]
        monkeypatch.setattr("sys.argv", arguments)
        with pytest.raises(SystemExit) as end:
            app.main()
    assert end.value.code == PortInUse.exit_code
    assert f"--metrics {address}: the port is in use" in capfd.readouterr().err
