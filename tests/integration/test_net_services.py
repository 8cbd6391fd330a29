"""Dial-back, blobs, forwarded streams, and other ways in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest
from support.network import SECONDS, Node, accepted, join, nodes, running

from mlnet.errors import DataError, LocalProtocolError, PeerUnreachable, TransportError
from mlnet.identity.keys import Identity
from mlnet.net.types import CHUNK_BYTES, REDIS_PROTOCOL, Limits
from mlnet.v1 import peer_pb2, peer_pb2_grpc

DIGEST = "ab" * 32
Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(answer: bytes) -> Connected:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    return serve


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, and a mark behind the end of it: so the end is seen before the answer ends."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write(b"<end>")
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def unix_server(serve: Connected, path: Path) -> AsyncIterator[Path]:
    server = await asyncio.start_unix_server(serve, path)
    try:
        yield path
    finally:
        server.close()
        await server.wait_closed()


# --- dial-back


@pytest.mark.parametrize("answer", [b"+PONG\r\n", b"-NOAUTH Authentication required.\r\n"])
async def test_an_open_port_is_open(answer: bytes) -> None:
    async with nodes(2) as (a, b):
        await join(a, b)
        server = await asyncio.start_server(answering(answer), "127.0.0.1", 0)
        async with server:
            found = await a.network.dial_back(b.id, server.sockets[0].getsockname()[1], 10)
        assert (found.open, found.host, found.reason) == (True, "127.0.0.1", "")


async def test_a_port_that_is_no_redis_is_not_open() -> None:
    async with nodes(2) as (a, b):
        await join(a, b)
        other = "something else"
        for answer, reason in ((b"HTTP/1.1 400\r\n", other), (b"x" * 10_000, other), (b"", "closed")):
            server = await asyncio.start_server(answering(answer), "127.0.0.1", 0)
            async with server:
                found = await a.network.dial_back(b.id, server.sockets[0].getsockname()[1], 10)
            assert not found.open
            assert reason in found.reason


async def test_a_closed_port_a_silent_port_and_a_system_port_are_not_open() -> None:
    async with nodes(2) as (a, b):
        await join(a, b)
        # A socket that does not listen refuses, and keeps the port from others.
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            assert "refused" in (await a.network.dial_back(b.id, closed.getsockname()[1], 10)).reason
        with socket.create_server(("127.0.0.1", 0)) as silent:
            found = await a.network.dial_back(b.id, silent.getsockname()[1], 1.0)
            assert "no answer" in found.reason
        assert "1024" in (await a.network.dial_back(b.id, 22, 10)).reason


async def test_nobody_to_dial_back_is_a_reason_not_an_error() -> None:
    async with nodes(1) as (a,):
        found = await a.network.dial_back(Identity.generate().peer_id, 5000, 1.0)
        assert not found.open
        assert "cannot be reached" in found.reason


async def test_dial_backs_are_bounded_in_rate() -> None:
    async with nodes(2, Limits(dial_backs_per_minute=9)) as (a, b):
        await join(a, b)
        reasons = [(await a.network.dial_back(b.id, 1, 10)).reason for _ in range(6)]
        assert ["1024" in reason for reason in reasons[:3]] == [True] * 3
        assert "too many" in reasons[5]


# --- blobs


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 17])
async def test_a_blob_arrives_whole(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    path = tmp_path / "blob"
    path.write_bytes(content)
    async with nodes(2) as (a, b):
        await join(a, b)
        b.blobs[a.id, DIGEST] = path
        pieces: list[bytes] = []
        size = await a.network.fetch_blob(
            b.id, DIGEST, max_bytes=1 << 30, timeout=SECONDS, sink=pieces.append
        )
        assert b"".join(pieces) == content
        assert size == len(content)
        assert all(len(piece) <= CHUNK_BYTES for piece in pieces)


async def test_a_blob_is_served_to_whom_the_handler_says_only(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"content")
    async with nodes(3) as (a, b, c):
        await join(a, b)
        await join(c, b)
        b.blobs[a.id, DIGEST] = path
        for node, digest in ((c, DIGEST), (a, "cd" * 32), (a, "../../etc/passwd"), (a, DIGEST.upper())):
            with pytest.raises(DataError, match="does not serve"):
                await node.network.fetch_blob(
                    b.id, digest, max_bytes=99, timeout=SECONDS, sink=lambda _: None
                )


async def test_a_blob_larger_than_allowed_is_refused_before_any_of_it(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(bytes(1000))
    async with nodes(2) as (a, b):
        await join(a, b)
        b.blobs[a.id, DIGEST] = path
        pieces: list[bytes] = []
        with pytest.raises(DataError, match="1000 bytes, more than the 999"):
            await a.network.fetch_blob(b.id, DIGEST, max_bytes=999, timeout=SECONDS, sink=pieces.append)
        assert pieces == []


async def test_a_blob_that_cannot_be_read_is_not_there(tmp_path: Path) -> None:
    async with nodes(2) as (a, b):
        await join(a, b)
        b.blobs[a.id, DIGEST] = tmp_path / "gone"
        with pytest.raises(DataError, match="cannot be read"):
            await a.network.fetch_blob(b.id, DIGEST, max_bytes=99, timeout=SECONDS, sink=lambda _: None)


async def test_a_fetch_goes_on_where_it_stopped(tmp_path: Path) -> None:
    content = os.urandom(8 * CHUNK_BYTES)
    path = tmp_path / "blob"
    path.write_bytes(content)
    async with nodes(2) as (a, b):
        await join(a, b)
        b.blobs[a.id, DIGEST] = path
        received = bytearray()
        breaking: list[asyncio.Future[None]] = []

        def sink(piece: bytes) -> None:
            if not received:
                # The connection breaks after the first piece.
                breaking.append(asyncio.ensure_future(b.network._host.disconnect(a.id)))
            received.extend(piece)

        await a.network.fetch_blob(b.id, DIGEST, max_bytes=1 << 30, timeout=SECONDS, sink=sink)
        await asyncio.gather(*breaking)
        assert bytes(received) == content


async def test_a_fetch_from_nobody_ends_at_its_deadline() -> None:
    async with nodes(1) as (a,):
        with pytest.raises(TransportError, match=r"within 0\.5 s"):
            await a.network.fetch_blob(
                Identity.generate().peer_id, DIGEST, max_bytes=9, timeout=0.5, sink=lambda _: None
            )


# --- forwarded streams


async def test_a_forwarded_stream_carries_bytes_and_half_closes(tmp_path: Path) -> None:
    async with nodes(2) as (a, b), unix_server(echo, tmp_path / "echo") as target:
        await join(a, b)
        b.targets[a.id, REDIS_PROTOCOL, "task 1"] = target
        path = await a.network.forward(b.id, REDIS_PROTOCOL, "task 1")
        payload = os.urandom(3_000_000)

        async def talk() -> bytes:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(payload)
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            return answer

        async with asyncio.timeout(SECONDS):
            assert set(await asyncio.gather(talk(), talk())) == {payload + b"<end>"}
        assert b.admitted == [(a.id, REDIS_PROTOCOL, "task 1")] * 2
        await a.network.unforward(path)
        with pytest.raises(OSError, match=r"No such file|refused"):
            await asyncio.open_unix_connection(path)


async def test_a_stream_that_is_not_admitted_is_closed(tmp_path: Path) -> None:
    async with nodes(2) as (a, b), unix_server(echo, tmp_path / "echo") as target:
        await join(a, b)
        b.targets[a.id, REDIS_PROTOCOL, "task 1"] = target
        for protocol, preamble in ((REDIS_PROTOCOL, "task 2"), ("/mlnet/unknown/1.0.0", "task 1")):
            path = await a.network.forward(b.id, protocol, preamble)
            reader, writer = await asyncio.open_unix_connection(path)
            async with asyncio.timeout(SECONDS):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            writer.close()


async def test_a_forwarded_connection_dials_a_peer_that_is_not_connected(tmp_path: Path) -> None:
    async with nodes(2, Limits(min_neighbours=0)) as (a, b), unix_server(echo, tmp_path / "echo") as target:
        a.network.add_addresses(b.id, b.network.addresses())
        b.targets[a.id, REDIS_PROTOCOL, ""] = target
        path = await a.network.forward(b.id, REDIS_PROTOCOL, "")
        assert a.peers == set()
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"x")
        writer.write_eof()
        async with asyncio.timeout(SECONDS):
            assert await reader.read() == b"x<end>"
        writer.close()
        assert a.peers == {b.id}


async def test_a_preamble_is_bounded() -> None:
    async with nodes(1) as (a,):
        with pytest.raises(LocalProtocolError, match="1024"):
            await a.network.forward(Identity.generate().peer_id, REDIS_PROTOCOL, "x" * 1025)


async def test_a_target_that_is_gone_closes_the_stream(tmp_path: Path) -> None:
    async with nodes(2) as (a, b):
        await join(a, b)
        b.targets[a.id, REDIS_PROTOCOL, ""] = tmp_path / "gone"
        path = await a.network.forward(b.id, REDIS_PROTOCOL, "")
        reader, writer = await asyncio.open_unix_connection(path)
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()


# --- other ways in


def envelope(yaml: str, signature: bytes = b"") -> peer_pb2.SendRequest:
    return peer_pb2.SendRequest(envelope=peer_pb2.Envelope(yaml=yaml, signature=signature))


async def test_two_nodes_know_each_other_by_ipv6() -> None:
    async with running(Node(), listen=("/ip6/::1/tcp/0",)) as a, running(Node(), peers=(a.address,)) as b:
        await b.until_connected(a)
        assert b.network.remote_ips(a.id) == {"::1"}
        assert (await b.network.identify(a.id)).observed.startswith("/ip6/::1/tcp/")
        server = await asyncio.start_server(answering(b"+PONG\r\n"), "::1", 0)
        async with server:
            found = await b.network.dial_back(a.id, server.sockets[0].getsockname()[1], SECONDS)
        assert (found.open, found.host, found.reason) == (True, "::1", "")


async def test_a_name_is_dialled_at_all_its_addresses() -> None:
    async with nodes(2) as (a, b):
        number = a.address.split("/")[4]
        with pytest.raises(PeerUnreachable, match=r"there is no host named nobody_1\.invalid"):
            await b.network.connect(f"/dns/nobody_1.invalid/tcp/{number}/p2p/{a.id}")
        await b.network.connect(f"/dns/localhost/tcp/{number}/p2p/{a.id}")
        await b.until_connected(a)


async def test_a_stranger_at_the_unix_socket_is_nobody() -> None:
    """Who connects to the server's socket by another way than the tunnel is neither a peer nor a tool."""
    async with running(Node()) as node:
        channel = grpc.aio.insecure_channel(f"unix:{node.network._rpc_socket}")
        stub = peer_pb2_grpc.PeerServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Send(envelope(yaml="x", signature=bytes(64)), timeout=SECONDS)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        await channel.close(None)
        assert node.received == []


async def test_calls_find_their_way_whatever_the_directory_is_called() -> None:
    odd = Path(tempfile.mkdtemp(prefix="a b%20ü#?,;"))
    one, other = Node(), Node()
    try:
        async with running(one), running(other, runtime_dir=odd / "run"):
            await join(one, other)
            assert await accepted(one.network.send(one.envelope("hello"), other.id, timeout=SECONDS))
            assert await accepted(other.network.send(other.envelope("hello"), one.id, timeout=SECONDS))
    finally:
        shutil.rmtree(odd)


async def test_a_node_whose_runtime_directory_is_removed_is_not_deaf() -> None:
    async with running(Node()) as one, running(Node()) as other, running(Node()) as third:
        await join(one, other)
        assert await accepted(one.network.send(one.envelope("before"), other.id, timeout=SECONDS))
        for node in (one, other):
            shutil.rmtree(node.runtime_dir)
        await join(third, other)
        for sender, to in ((one, other), (other, one), (third, other), (other, third)):
            assert await accepted(sender.network.send(sender.envelope(f"to {to.id}"), to.id, timeout=SECONDS))
        path = await other.network.forward(third.id, REDIS_PROTOCOL, "nothing")
        assert path.is_socket()
        assert path.parent != other.runtime_dir
        await other.network.unforward(path)
    assert not path.parent.exists()


class Told(logging.Handler):
    """Counts what a logger says of twins."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0
        self.twice = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        assert "runs with this one's identity" in record.getMessage()
        self.times += 1
        if self.times == 2:
            self.twice.set()


async def test_a_copy_on_another_machine_is_told_by_what_peers_know() -> None:
    identity, told = Identity.generate(), Told()
    logging.getLogger("mlnet.net.peers.twins").addHandler(told)
    async with running(Node(identity)) as one, running(Node(identity)) as copy:
        copy.network.known_at([one.address, "/ip4/127.0.0.1/tcp/1", "/dns4/localhost/tcp/1", "garbage"])
        async with asyncio.timeout(SECONDS):
            await told.twice.wait()
        copy.network.known_at([copy.address])
    logging.getLogger("mlnet.net.peers.twins").removeHandler(told)
    assert told.times == 2
