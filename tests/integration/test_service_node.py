"""What a real node answers at its API: a plain stub at its socket, one node for all tests."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import pytest_asyncio
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from support import any_request
from support.network import Node, running

import mlnet
from mlnet.driver.messenger import WireOptions
from mlnet.driver.options import NodeOptions
from mlnet.errors import ConfigError, HashMismatch, NotFound, PeerUnreachable, ServiceError, StorageError
from mlnet.identity.keys import Identity
from mlnet.net.transport.reach import REACHED
from mlnet.node import server as node_server
from mlnet.node.ledger import Receipt
from mlnet.service import forwarding
from mlnet.service.blob_store import BlobStore, Writing
from mlnet.service.options import ApiOptions
from mlnet.service.server import ApiServers
from mlnet.service.serving import serving
from mlnet.status.details import error_of
from mlnet.v1 import blobs_pb2, blobs_pb2_grpc, node_pb2, node_pb2_grpc, peer_pb2, peer_pb2_grpc, tasks_pb2

SECONDS = 20.0
LOCAL = "/ip4/127.0.0.1/tcp/0"
pytestmark = pytest.mark.asyncio(loop_scope="module")


class World(NamedTuple):
    """A node and its API, a peer that is connected with it, and a channel to the socket."""

    server: node_server.NodeServer
    api: ApiServers
    peer: Node
    channel: grpc.aio.Channel
    blobs: Any

    @property
    def node(self) -> Any:
        return node_pb2_grpc.NodeServiceStub(self.channel)  # type: ignore[no-untyped-call]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world() -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="mlnet-") as base:
        options = NodeOptions(Path(base) / "node", WireOptions(listen=(LOCAL,)), disk=4 << 20)
        async with (
            node_server.running(options) as server,
            serving(server, ApiOptions()) as api,
            running(Node(), peers=(server.wire.addresses()[0],)) as peer,
            grpc.aio.insecure_channel(f"unix:{api.socket}") as channel,
        ):
            async with asyncio.timeout(SECONDS):
                await peer.until(lambda: server.peer_id in peer.peers)
            blobs = blobs_pb2_grpc.BlobsServiceStub(channel)  # type: ignore[no-untyped-call]
            yield World(server, api, peer, channel, blobs)


async def failure(answer: Any) -> Exception:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer
    return error_of(caught.value)


async def answered(channel: grpc.aio.Channel, method: Any, request: bytes) -> tuple[grpc.StatusCode, str]:
    """The code and the words with which any method ends for one request."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    kinds: dict[tuple[bool, bool], Any] = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }
    made = kinds[method.client_streaming, method.server_streaming](path)
    call = made(iter((request,)) if method.client_streaming else request, timeout=SECONDS)
    try:
        if not method.server_streaming:
            await call
            return grpc.StatusCode.OK, ""
        while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
            pass
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


METHODS = [
    method
    for module in (blobs_pb2, node_pb2, peer_pb2, tasks_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
FAULTS = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
async def test_no_request_is_a_fault_of_the_node(world: World, method: Any, data: st.DataObject) -> None:
    request = data.draw(any_request.requests(method.input_type))
    code, words = await answered(world.channel, method, request.SerializeToString())
    assert code not in FAULTS, words


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
async def test_what_is_no_request_is_the_fault_of_its_caller(world: World, method: Any) -> None:
    code, words = await answered(world.channel, method, b"\xff")
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words.startswith("the request is not as proto/mlnet/v1 has it: Error parsing message")


# --- NodeService


async def test_a_node_says_who_it_is_and_what_it_offers(world: World) -> None:
    status = await world.node.Status(node_pb2.StatusRequest(), timeout=SECONDS)
    assert (status.peer, status.version) == (world.server.peer_id, mlnet.__version__)
    assert list(status.addresses) == list(world.server.wire.addresses())
    standing = world.server.wire.network.standing(status.addresses[0])
    assert (status.reached, status.connected_peers) == (standing == REACHED, 1)
    assert (status.most_memberships, status.disk) == (1, 4 << 20)
    assert status.memory >= 1 << 20
    assert status.threads >= 1
    assert status.started_at.ToSeconds() > 1_700_000_000
    assert not status.memberships


async def test_a_node_says_whom_it_knows_and_how_far_away_they_are(world: World) -> None:
    request = node_pb2.PingRequest(peer=world.peer.id[-8:], count=3)
    answer = await world.node.Ping(request, timeout=SECONDS)
    assert answer.peer == world.peer.id
    assert len(answer.round_trips) == 3
    assert all(0 < trip.ToMicroseconds() < 10_000_000 for trip in answer.round_trips)
    peers = await world.node.Peers(node_pb2.PeersRequest(connected_only=True), timeout=SECONDS)
    (peer,) = peers.peers
    assert (peer.id, peer.connected) == (world.peer.id, True)
    assert peer.round_trip == answer.round_trips[-1]
    assert not peer.HasField("clock_offset")


async def test_a_peer_that_is_not_there_is_named(world: World) -> None:
    stranger = Identity.generate().peer_id
    nowhere = f"/ip4/127.0.0.1/tcp/1/p2p/{stranger}"
    ping = world.node.Ping
    cases: dict[str, tuple[type[Exception], str]] = {
        nowhere: (PeerUnreachable, "refused; nothing listens there"),
        "abcdefgh": (NotFound, "knows no peer 'abcdefgh'; name its multiaddr"),
        "abc": (ConfigError, "name 4 characters of its id, or its multiaddr"),
        world.server.peer_id: (ConfigError, "that is this node itself"),
        "/ip4/127.0.0.1": (ConfigError, "/p2p/"),
    }
    for named, (kind, words) in cases.items():
        error = await failure(ping(node_pb2.PingRequest(peer=named), timeout=SECONDS))
        assert type(error) is kind, named
        assert words in str(error)
    error = await failure(ping(node_pb2.PingRequest(peer=world.peer.id, count=101), timeout=SECONDS))
    assert "at most 100 pings are made in one call" in str(error)


async def test_what_was_earned_is_summed_by_its_state(world: World) -> None:
    for number, state in enumerate(("settled", "claimed", "settled")):
        amount = 10**number
        world.server.ledger.record(
            Receipt(f"{number:064}", world.peer.id, state, amount, 1000, {}, 1000 * number, ())  # type: ignore[arg-type]
        )
    ledger = await world.node.Ledger(node_pb2.LedgerRequest(), timeout=SECONDS)
    assert (ledger.settled_micro, ledger.claimed_micro) == (101, 10)
    assert [receipt.task for receipt in ledger.receipts] == [f"{number:064}" for number in (2, 1, 0)]
    latest = ledger.receipts[0]
    assert (latest.client, latest.settled, latest.payment_micro) == (world.peer.id, True, 1000)
    assert latest.recorded_at.ToMilliseconds() == 2000


async def test_the_bounds_are_there_with_what_is_used_of_them(world: World) -> None:
    answer = await world.node.Limits(node_pb2.LimitsRequest(), timeout=SECONDS)
    limits = {limit.name: limit for limit in answer.limits}
    assert list(limits) == sorted(limits)
    assert (limits["connections"].most, limits["connections"].used) == (1024, 1)
    assert (limits["api_calls"].most, limits["api_calls"].used) == (1024, 1)
    assert limits["api_streams"].used == 0
    assert (limits["memberships"].most, limits["memberships"].used) == (1, 0)
    assert (limits["tunnel_bytes"].unit, limits["tunnel_bytes"].most) == ("bytes", 256 << 20)
    assert not limits["connections_per_peer"].HasField("used")


# --- what every caller finds, and no peer


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_describes_every_service(world: World, version: str) -> None:
    method: Any = world.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = [one async for one in method(iter([request]), timeout=SECONDS)]
    names = {service.name for service in answer.list_services_response.service}
    assert {"mlnet.v1.NodeService", "mlnet.v1.BlobsService", "mlnet.v1.PeerService"} <= names
    assert {"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} <= names
    for name in names:
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
        (answer,) = [one async for one in method(iter([request]), timeout=SECONDS)]
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(data)
            for data in answer.file_descriptor_response.file_descriptor_proto
        ]
        assert name in {f"{file.package}.{service.name}" for file in files for service in file.service}


async def test_each_service_is_healthy(world: World) -> None:
    stub: Any = health_pb2_grpc.HealthStub(world.channel)
    for name in ("", "mlnet.v1.NodeService", "mlnet.v1.BlobsService", "mlnet.v1.PeerService"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=SECONDS)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_peers_reach_what_is_for_peers_and_nothing_else(world: World) -> None:
    """By way of `forward`, which makes a stock channel a peer."""
    notices: list[str] = []
    address = world.server.wire.addresses()[0]
    async with (
        forwarding.forwarding(address, "127.0.0.1:0", notices.append) as place,
        grpc.aio.insecure_channel(place) as channel,
    ):
        stub: Any = peer_pb2_grpc.PeerServiceStub(channel)  # type: ignore[no-untyped-call]
        # Peers may make this call, tools may not.
        answer = await stub.DialBack(peer_pb2.DialBackRequest(port=22, timeout_ms=100), timeout=SECONDS)
        assert (answer.open, answer.host) == (False, "127.0.0.1")
        paths = [
            "/grpc.health.v1.Health/Check",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/mlnet.v1.NodeService/Status",
            "/mlnet.v1.BlobsService/Stat",
            "/mlnet.v1.TasksService/List",
        ]
        for path in paths:
            method: Any = channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await method(b"", timeout=SECONDS)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED, path
    assert notices == []


async def test_forward_listens_on_loopback_only(world: World) -> None:
    with pytest.raises(ConfigError, match="can be reached by others"):
        async with forwarding.forwarding(world.peer.address, "0.0.0.0:0", print):
            pass


async def test_forward_asks_the_node_that_is_named_and_says_where_it_listens(world: World) -> None:
    world.server.wire.network.add_addresses(world.peer.id, [world.peer.address])
    words = ["forward", world.peer.id[-8:], "--node", str(world.server.state.directory), "--json"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mlnet", *words, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(SECONDS):
            said = json.loads(await process.stdout.readline())
            assert (said["peer"], said["service"]) == (world.peer.id, "mlnet.v1.PeerService")
            host, _, port = said["address"].rpartition(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def test_a_peer_that_does_not_answer_is_not_forwarded_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    nobody = f"/ip4/127.0.0.1/tcp/{port}/p2p/{Identity.generate().peer_id}"
    with pytest.raises(PeerUnreachable):
        async with forwarding.forwarding(nobody, "127.0.0.1:0", print):
            pass


# --- BlobsService


def hashed(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def pieces(
    content: bytes, offset: int = 0, sha256: str = "", piece: int = 1 << 20
) -> Iterator[blobs_pb2.BlobsServicePutRequest]:
    first = {"sha256": sha256 or hashed(content), "size": len(content)}
    for start in range(offset, max(len(content), 1), piece):
        data = content[start : start + piece]
        yield blobs_pb2.BlobsServicePutRequest(offset=start, data=data, **first)  # type: ignore[arg-type]
        first = {}


async def stored(world: World, content: bytes) -> tuple[int, bool]:
    answer = await world.blobs.Stat(blobs_pb2.StatRequest(sha256=hashed(content)), timeout=SECONDS)
    return answer.stored, answer.complete


async def got(world: World, content: bytes, offset: int = 0) -> bytes:
    request = blobs_pb2.BlobsServiceGetRequest(sha256=hashed(content), offset=offset)
    return b"".join([piece.data async for piece in world.blobs.Get(request, timeout=SECONDS)])


@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 17])
async def test_a_file_is_put_once_and_got_from_any_byte(world: World, size: int) -> None:
    content = os.urandom(size)
    assert await stored(world, content) == (0, False)
    for _ in range(2):
        answer = await world.blobs.Put(pieces(content), timeout=SECONDS)
        assert answer.size == size
    assert await stored(world, content) == (size, True)
    assert await got(world, content) == content
    assert await got(world, content, size // 2) == content[size // 2 :]
    error = await failure(world.blobs.Get(request(content, size + 1), timeout=SECONDS).read())
    assert isinstance(error, ServiceError)
    assert error.status == "OUT_OF_RANGE"


def request(content: bytes, offset: int) -> blobs_pb2.BlobsServiceGetRequest:
    return blobs_pb2.BlobsServiceGetRequest(sha256=hashed(content), offset=offset)


async def test_a_put_that_broke_off_goes_on_where_it_was(world: World) -> None:
    content = os.urandom(300_000)
    cut = (piece for piece in list(pieces(content, piece=100_000))[:2])
    error = await failure(world.blobs.Put(cut, timeout=SECONDS))
    assert "200000 of 300000 bytes came; they are kept for a day" in str(error)
    assert await stored(world, content) == (200_000, False)
    missing = await failure(world.blobs.Get(request(content, 0), timeout=SECONDS).read())
    assert isinstance(missing, NotFound)
    ahead = await failure(world.blobs.Put(pieces(content, 250_000), timeout=SECONDS))
    assert "200000 bytes of" in str(ahead)
    await world.blobs.Put(pieces(content, 150_000), timeout=SECONDS)
    assert await got(world, content) == content


async def test_a_caller_that_hangs_up_leaves_what_came(world: World) -> None:
    content = os.urandom(200_000)

    async def half() -> AsyncIterator[blobs_pb2.BlobsServicePutRequest]:
        yield next(pieces(content, piece=100_000))
        await asyncio.Event().wait()

    call = world.blobs.Put(half(), timeout=SECONDS)
    async with asyncio.timeout(SECONDS):
        while await stored(world, content) != (100_000, False):
            pass
        busy = await failure(world.blobs.Put(pieces(content), timeout=SECONDS))
        assert isinstance(busy, ServiceError)
        assert "another call stores" in str(busy)
        assert busy.retry_after == 1.0
        call.cancel()
        done = False
        while not done:  # until the node has noticed
            try:
                await world.blobs.Put(pieces(content, 100_000), timeout=SECONDS)
                done = True
            except grpc.aio.AioRpcError as error:
                done = error.code() is not grpc.StatusCode.UNAVAILABLE
    assert await got(world, content) == content


async def test_a_caller_that_hangs_up_while_its_file_is_opened_leaves_it_to_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(100)
    entered, goes_on = threading.Event(), threading.Event()
    begin = BlobStore.begin

    def slow(store: BlobStore, sha256: str, size: int, offset: int) -> Writing:
        entered.set()
        assert goes_on.wait(SECONDS)
        return begin(store, sha256, size, offset)

    with monkeypatch.context() as patched:
        patched.setattr(BlobStore, "begin", slow)
        call = world.blobs.Put(pieces(content), timeout=SECONDS)
        assert await asyncio.to_thread(entered.wait, SECONDS)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        while world.api.bounds.streams.used:  # noqa: ASYNC110 - until the node has noticed
            await asyncio.sleep(0)
        goes_on.set()
    async with asyncio.timeout(SECONDS):
        done = False
        while not done:  # until the thread has closed the file
            try:
                await world.blobs.Put(pieces(content), timeout=SECONDS)
                done = True
            except grpc.aio.AioRpcError as error:
                done = error.code() is not grpc.StatusCode.UNAVAILABLE
    assert await got(world, content) == content


@pytest.mark.parametrize(
    ("requests", "kind", "message"),
    [
        (lambda: iter(()), ConfigError, "the stream is empty"),
        (lambda: pieces(b"x", sha256="../../etc/passwd"), ConfigError, "'../../etc/passwd' is no SHA-256"),
        (lambda: pieces(b"x", sha256="ab" * 32), HashMismatch, f"has the hash {hashed(b'x')}, not abab"),
        (lambda: pieces(bytes(5 << 20), piece=1000), StorageError, "start the node with a larger --disk"),
        (
            lambda: iter(
                (blobs_pb2.BlobsServicePutRequest(sha256=hashed(b"ab"), size=1, data=b"ab"),),
            ),
            ConfigError,
            "more came than the 1 bytes that were announced",
        ),
        (
            lambda: iter(
                (
                    blobs_pb2.BlobsServicePutRequest(sha256=hashed(b"abc"), size=3, data=b"a"),
                    blobs_pb2.BlobsServicePutRequest(offset=2, data=b"c"),
                )
            ),
            ConfigError,
            "a piece is for offset 2; the next one belongs at 1",
        ),
    ],
)
async def test_what_cannot_be_stored_is_refused(
    world: World, requests: Any, kind: type[Exception], message: str
) -> None:
    error = await failure(world.blobs.Put(requests(), timeout=SECONDS))
    assert type(error) is kind
    assert message in str(error)
