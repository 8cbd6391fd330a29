"""The servers of the API around a servicer of the tests: errors, places, tokens, TLS, and the end."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from mlnet.errors import (
    ConfigError,
    MlnetError,
    NotFound,
    Overloaded,
    PortInUse,
    TaskError,
    TransportError,
    Unauthenticated,
)
from mlnet.service import place
from mlnet.service.bounds import Bounds
from mlnet.service.options import ApiOptions
from mlnet.service.server import ApiServers
from mlnet.status.details import error_of

SECONDS = 20.0
LOOPBACK = "127.0.0.1:0"


class Parrot:
    """Answers what it is told to, whichever way it is called."""

    service = "tests.Parrot"

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[None] = asyncio.Queue()
        self.ended: asyncio.Queue[None] = asyncio.Queue()

    def add_to(self, server: grpc.aio.Server) -> None:
        handlers: dict[str, Any] = {
            "Say": grpc.unary_unary_rpc_method_handler(self.say),
            "Repeat": grpc.unary_stream_rpc_method_handler(self.repeat),
            "Write": grpc.stream_stream_rpc_method_handler(self.write),
            "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(self.service, handlers),))

    async def say(self, request: bytes, context: Any) -> bytes:
        raise_named(request)
        return request

    async def repeat(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield request
        raise_named(request)
        if request == b"forever":
            await self.wait(request, context)
        yield request

    async def write(self, requests: AsyncIterator[bytes], context: Any) -> None:
        async for request in requests:
            raise_named(request)
            await context.write(request)

    async def wait(self, request: bytes, context: Any) -> bytes:
        self.waiting.put_nowait(None)
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.put_nowait(None)
        return request


def raise_named(request: bytes) -> None:
    if request == b"defect":
        raise KeyError("the secret of the house")
    if request == b"missing":
        raise NotFound("there is no such thing")
    if request == b"wrong":
        raise TaskError("ml.epochs", "is 0", "write 1")


@asynccontextmanager
async def served(
    options: ApiOptions | None = None, directory: Path | None = None, bounds: Bounds | None = None
) -> AsyncIterator[tuple[ApiServers, Parrot]]:
    with tempfile.TemporaryDirectory(prefix="mlnet-") as base:
        (Path(base) / "run").mkdir(mode=0o700)
        parrot = Parrot()
        servers = ApiServers(directory or Path(base), Path(base) / "run", options or ApiOptions(), [parrot])
        if bounds is not None:
            servers.bounds = bounds
        await servers.start()
        try:
            yield servers, parrot
        finally:
            await servers.stop()
            assert not servers.socket.exists()


@asynccontextmanager
async def owner(servers: ApiServers) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"unix:{servers.socket}") as channel:
        yield channel


def call(channel: grpc.aio.Channel, method: str = "Say", request: bytes = b"hello", **options: Any) -> Any:
    kind = {"Say": channel.unary_unary, "Wait": channel.unary_unary, "Repeat": channel.unary_stream}[method]
    path = options.pop("path", f"/tests.Parrot/{method}")
    made: Any = kind(path, request_serializer=bytes, response_deserializer=bytes)
    return made(request, timeout=options.pop("timeout", SECONDS), **options)


async def failure(answer: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (ended(answer) if hasattr(answer, "read") else answer)
    return caught.value


async def ended(stream: Any) -> None:
    library: Any = grpc.aio  # its stubs know no EOF
    while await stream.read() is not library.EOF:
        pass


def retry_after(error: grpc.aio.AioRpcError) -> float:
    call: Any = error  # a call, too, which the stubs do not know
    status: Any = rpc_status.from_call(call)
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    return float(retry.retry_delay.ToNanoseconds() / 1e9)


# --- errors


@pytest.mark.parametrize("method", ["Say", "Repeat"])
async def test_an_error_that_leaves_a_method_is_a_status(method: str) -> None:
    async with served() as (servers, _), owner(servers) as channel:
        error = error_of(await failure(call(channel, method, b"missing")))
        assert (type(error), str(error)) == (NotFound, "there is no such thing")
        wrong = error_of(await failure(call(channel, method, b"wrong")))
        assert isinstance(wrong, TaskError)
        assert (wrong.path, wrong.problem, wrong.fix) == ("ml.epochs", "is 0", "write 1")


async def test_a_method_that_writes_its_answers_fails_likewise() -> None:
    async with served() as (servers, _), owner(servers) as channel:
        made: Any = channel.stream_stream(
            "/tests.Parrot/Write", request_serializer=bytes, response_deserializer=bytes
        )

        async def two() -> AsyncIterator[bytes]:
            yield b"one"
            yield b"missing"

        stream = made(two(), timeout=SECONDS)
        assert await stream.read() == b"one"
        assert type(error_of(await failure(stream))) is NotFound


@pytest.mark.parametrize("method", ["Say", "Repeat"])
async def test_a_defect_is_told_to_the_log_and_not_to_the_caller(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served() as (servers, _), owner(servers) as channel:
        error = await failure(call(channel, method, b"defect"))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert error.details() == "an unexpected error, which the node's log describes"
        assert "secret" not in str(error.trailing_metadata())
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "the secret of the house" in str(record.exc_info)
    assert f"/tests.Parrot/{method} failed" in record.getMessage()


async def test_a_message_that_is_too_large_is_refused() -> None:
    async with served() as (servers, _), owner(servers) as channel:
        assert (
            await failure(call(channel, request=bytes(2 << 20)))
        ).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await call(channel) == b"hello"


# --- deadlines and places


@pytest.mark.parametrize("method", ["Wait", "Repeat"])
async def test_work_ends_with_the_deadline_of_the_caller(method: str) -> None:
    async with served() as (servers, parrot), owner(servers) as channel, asyncio.timeout(SECONDS):
        error = await failure(call(channel, method, b"forever", timeout=0.2))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await parrot.ended.get()


@pytest.mark.parametrize("method", ["Wait", "Repeat"])
async def test_work_ends_when_the_caller_hangs_up(method: str) -> None:
    async with served() as (servers, parrot), owner(servers) as channel, asyncio.timeout(SECONDS):
        answer = call(channel, method, b"forever")
        if method == "Repeat":
            assert await answer.read() == b"forever"
        await parrot.waiting.get()
        answer.cancel()
        await parrot.ended.get()
        assert servers.bounds.calls.used <= 1  # its place is free as soon as its task has ended
        assert await call(channel) == b"hello"
        assert servers.bounds.streams.used == servers.bounds.calls.used == 0


async def test_calls_beyond_the_bound_are_refused_at_once_and_told_when_to_come_again() -> None:
    async with served(bounds=Bounds(calls=4)) as (servers, parrot), owner(servers) as channel:
        held = [asyncio.ensure_future(failure(call(channel, "Wait", timeout=5.0))) for _ in range(2)]
        async with asyncio.timeout(SECONDS):
            await parrot.waiting.get()
            await parrot.waiting.get()
        started = time.perf_counter()
        error = await failure(call(channel))
        assert time.perf_counter() - started < 1.0
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.details() == "2 calls of one caller are under way already"
        assert retry_after(error) == 0.1
        assert isinstance(error_of(error), Overloaded)
        # Nobody who has a place lost it.
        codes = {error.code() for error in await asyncio.gather(*held)}
        assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED}
        await parrot.ended.get()
        await parrot.ended.get()
        assert await call(channel) == b"hello"


async def test_streams_have_places_of_their_own() -> None:
    async with served(bounds=Bounds(streams=2)) as (servers, _), owner(servers) as channel:
        watching = call(channel, "Repeat", b"forever")
        assert await watching.read() == b"forever"
        error = await failure(call(channel, "Repeat"))
        assert (error.code(), retry_after(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, 5.0)
        assert await call(channel) == b"hello"
        watching.cancel()


# --- the end


async def test_streams_are_told_that_the_node_is_being_stopped() -> None:
    async with served() as (servers, _), owner(servers) as channel:
        watching = call(channel, "Repeat", b"forever")
        assert await watching.read() == b"forever"
        ending = asyncio.ensure_future(servers.stop())
        error = await failure(watching)
        assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "the node is being stopped")
        assert isinstance(error_of(error), TransportError)
        async with asyncio.timeout(SECONDS):
            await ending


async def test_health_says_whether_the_node_serves() -> None:
    status = health_pb2.HealthCheckResponse
    async with served() as (servers, _), owner(servers) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", "tests.Parrot"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=SECONDS)
            assert answer.status == status.SERVING
        unknown = await failure(stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=SECONDS))
        assert unknown.code() is grpc.StatusCode.NOT_FOUND
        watching = stub.Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        assert (await watching.read()).status == status.SERVING
        ending = asyncio.ensure_future(servers.stop())
        assert (await watching.read()).status == status.NOT_SERVING
        async with asyncio.timeout(SECONDS):
            await ending


# --- the socket


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def open_to_all(directory: Path) -> None:
    directory.chmod(0o755)


async def test_the_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    (tmp_path / place.NAME).write_text("what an earlier process has left")
    async with served(directory=tmp_path) as (servers, _), owner(servers) as channel:
        assert stat.S_IMODE(servers.socket.stat().st_mode) == 0o600
        assert names(tmp_path) == [place.NAME]
        assert await call(channel) == b"hello"
    assert names(tmp_path) == []


async def test_a_directory_may_be_called_anything(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100) / os.fsdecode(b"a b%20\xff#?")
    deep.mkdir(parents=True)
    async with served(directory=deep) as (servers, _):
        assert stat.S_ISSOCK(servers.socket.stat().st_mode)
        descriptor = os.open(deep, os.O_PATH | os.O_DIRECTORY)
        try:
            target = f"unix:/proc/self/fd/{descriptor}/{place.NAME}"
            async with grpc.aio.insecure_channel(target) as channel:
                assert await call(channel) == b"hello"
        finally:
            os.close(descriptor)


async def test_a_file_system_without_sockets_gets_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        @staticmethod
        def mkdtemp(**_: object) -> str:
            raise OSError(95, "Operation not supported")

    monkeypatch.setattr(place, "tempfile", Refusing)
    async with served(directory=tmp_path) as (servers, _), owner(servers) as channel:
        assert servers.socket.is_symlink()
        assert stat.S_IMODE(servers.socket.stat().st_mode) == 0o600
        assert await call(channel) == b"hello"
    assert names(tmp_path) == []


# --- TCP


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def test_an_address_asks_for_the_token_whatever_is_called(tmp_path: Path) -> None:
    async with served(ApiOptions(LOOPBACK), tmp_path) as (servers, _):
        file = tmp_path / "api.token"
        assert servers.token_file == file
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        token = file.read_text().strip()
        async with grpc.aio.insecure_channel(servers.address) as channel:
            assert await call(channel, metadata=bearer(token)) == b"hello"
            assert [one async for one in call(channel, "Repeat", metadata=bearer(token))] == [b"hello"] * 2
            health: Any = health_pb2_grpc.HealthStub(channel)
            refused = [
                call(channel),
                call(channel, "Repeat"),
                call(channel, metadata=bearer(token[:-1])),
                call(channel, metadata=(("authorization", token),)),
                health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS),
                call(channel, path="/no.Such/Method"),
            ]
            for one in refused:
                error = await failure(one)
                assert error.code() is grpc.StatusCode.UNAUTHENTICATED
                assert "authorization: Bearer TOKEN" in (error.details() or "")
                assert str(tmp_path) not in (error.details() or "")
                assert isinstance(error_of(error), Unauthenticated)
            # The name of a scheme may be written in any case.
            assert await call(channel, metadata=(("authorization", f"bearer {token}"),)) == b"hello"
            # Whoever sends a token is told that it is wrong, and not that there is none.
            wrong = await failure(call(channel, metadata=bearer("guess")))
            assert (wrong.details() or "").startswith("this is not the node's token")
        async with owner(servers) as channel:
            assert await call(channel) == b"hello"
    async with served(ApiOptions(LOOPBACK), tmp_path) as (_, _):
        assert file.read_text().strip() == token


async def test_wrong_tokens_are_bounded_and_right_ones_are_not(tmp_path: Path) -> None:
    async with served(ApiOptions(LOOPBACK), tmp_path) as (servers, _):
        token = (tmp_path / "api.token").read_text().strip()
        async with grpc.aio.insecure_channel(servers.address) as channel:
            errors = [await failure(call(channel, metadata=bearer("guess"))) for _ in range(30)]
            codes = [error.code() for error in errors]
            assert codes[0] is grpc.StatusCode.UNAUTHENTICATED
            limited = [error for error in errors if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED]
            assert limited
            assert retry_after(limited[0]) == 0.2
            assert await call(channel, metadata=bearer(token)) == b"hello"


async def test_an_open_address_asks_for_nothing(tmp_path: Path) -> None:
    async with served(ApiOptions(LOOPBACK, open=True), tmp_path) as (servers, _):
        assert servers.token_file is None
        async with grpc.aio.insecure_channel(servers.address) as channel:
            assert await call(channel) == b"hello"
    assert not (tmp_path / "api.token").exists()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key, made as the error message says."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    directory = tmp_path_factory.mktemp("pair")
    with pytest.raises(ConfigError) as caught:
        ApiOptions("0.0.0.0:0").check()
    line = str(caught.value).partition("which this makes: ")[2].replace("DNS:HOST", "IP:127.0.0.1")
    subprocess.run(line.split(), cwd=directory, check=True, capture_output=True, timeout=60)
    return directory / "api.crt", directory / "api.key"


async def test_tls_is_served_with_the_certificate(pair: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = pair
    async with served(ApiOptions(LOOPBACK, cert, key), tmp_path) as (servers, _):
        token = (tmp_path / "api.token").read_text().strip()
        credentials = grpc.ssl_channel_credentials(cert.read_bytes())
        async with grpc.aio.secure_channel(servers.address, credentials) as channel:
            assert await call(channel, metadata=bearer(token)) == b"hello"
            assert (await failure(call(channel))).code() is grpc.StatusCode.UNAUTHENTICATED
        async with grpc.aio.insecure_channel(servers.address) as channel:
            error = await failure(call(channel, metadata=bearer(token), timeout=5.0))
            assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


Make = Callable[[Path, Path], ApiOptions]


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda cert, key: ApiOptions(cert=cert), ConfigError, "--api-cert is for an address; add one"),
        (lambda cert, key: ApiOptions(open=True), ConfigError, "--api-open is for an address; add one"),
        (lambda cert, key: ApiOptions(LOOPBACK, cert), ConfigError, "go together; add --api-key"),
        (lambda cert, key: ApiOptions("0.0.0.0:0"), ConfigError, "who could read the token on its way"),
        (
            lambda cert, key: ApiOptions("*:0", cert, key, open=True),
            ConfigError,
            "lets everybody in who reaches",
        ),
        (lambda cert, key: ApiOptions(LOOPBACK, key, cert), ConfigError, "are not a certificate and its key"),
        (
            lambda cert, key: ApiOptions(LOOPBACK, cert, key.with_name("none")),
            ConfigError,
            "cannot be read: No such",
        ),
        (lambda cert, key: ApiOptions("localhost"), ConfigError, "is not HOST:PORT"),
    ],
)
async def test_options_that_do_not_fit_are_refused_with_the_fix(
    make: Make, kind: type[MlnetError], message: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        async with served(make(*pair), tmp_path):
            pass
    assert not (tmp_path / place.NAME).exists()


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    async with served(ApiOptions(LOOPBACK, open=True)) as (servers, _):
        with pytest.raises(PortInUse, match=f"--api {servers.address}: the port is in use"):
            async with served(ApiOptions(servers.address, open=True), tmp_path):
                pass


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        ("short", 0o600, "holds no token of 32 to 256"),
        ("x" * 300, 0o600, "holds no token of 32 to 256"),
        ("x" * 43, 0o644, "other users can read .*; run: chmod 600"),
    ],
)
async def test_a_token_file_that_is_no_good_is_named(
    content: str, mode: int, message: str, tmp_path: Path
) -> None:
    (tmp_path / "api.token").write_text(content)
    (tmp_path / "api.token").chmod(mode)
    with pytest.raises(ConfigError, match=message):
        async with served(ApiOptions(LOOPBACK), tmp_path):
            pass


async def test_an_operator_may_bring_a_token_of_his_own(tmp_path: Path) -> None:
    (tmp_path / "api.token").write_text("correct-horse-battery-staple-and-more\n")
    (tmp_path / "api.token").chmod(0o600)
    async with (
        served(ApiOptions(LOOPBACK), tmp_path) as (servers, _),
        grpc.aio.insecure_channel(servers.address) as channel,
    ):
        metadata = bearer("correct-horse-battery-staple-and-more")
        assert await call(channel, metadata=metadata) == b"hello"


async def test_callers_by_ipv6_have_an_address() -> None:
    async with (
        served(ApiOptions("[::1]:0", open=True), bounds=Bounds(streams=2)) as (servers, _),
        grpc.aio.insecure_channel(servers.address) as channel,
        owner(servers) as other,
    ):
        watching = call(channel, "Repeat", b"forever")
        assert await watching.read() == b"forever"
        assert (await failure(call(channel, "Repeat"))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        # The owner is another caller, and has a share of his own.
        assert [one async for one in call(other, "Repeat")] == [b"hello"] * 2
        watching.cancel()
