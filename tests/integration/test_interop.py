"""A node talks with go-libp2p and js-libp2p: whoever dials, and whoever opens the streams."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import pytest_asyncio
from support.interop import (
    BUILDERS,
    Peer,
    PeerError,
    Target,
    built,
    digest,
    echo,
    exchange,
    running_peer,
    targets,
    write_descriptors,
)
from support.network import SECONDS, Node, accepted, running

from mlnet.errors import TransportError
from mlnet.net.muxer.select import implementation
from mlnet.net.transport import ping_identify
from mlnet.net.types import REDIS_PROTOCOL, Limits

# The first test of each implementation waits for its build.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(1000)]

PROTOCOLS = {"/mlnet/grpc/1.0.0", REDIS_PROTOCOL, ping_identify.PING, ping_identify.IDENTIFY}
AGENTS = {"go": "go-libp2p", "js": "js-libp2p"}
STREAMS = 100
MIB = 1 << 20
UNREAD = 8 * MIB
"""More than windows and sockets hold while nobody reads."""


class Pair(NamedTuple):
    """A node and a connected peer of another implementation."""

    node: Node
    peer: Peer
    targets: dict[str, Target]


@pytest.fixture(scope="module", params=list(BUILDERS))
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def command(language: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return built(language, tmp_path_factory)


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_descriptors(tmp_path_factory.mktemp("descriptors") / "mlnet.binpb")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def peer(command: list[str], descriptors: Path) -> AsyncIterator[Peer]:
    async with running_peer(command, descriptors) as peer:
        yield peer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lively_peer(command: list[str], descriptors: Path) -> AsyncIterator[Peer]:
    """A peer that asks often whether we live."""
    async with running_peer(command, descriptors, keepalive=0.05) as peer:
        yield peer


@pytest.fixture(params=["native", "python"])
def muxing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who moves the node's bytes."""
    if request.param == "native":
        pytest.importorskip("mlnet.net.muxer._session", reason="the native session was not built")
    monkeypatch.setenv("MLNET_EXTENSIONS", "require" if request.param == "native" else "skip")
    assert implementation() == request.param


@pytest_asyncio.fixture(loop_scope="module", params=["node dials", "peer dials"])
async def pair(
    request: pytest.FixtureRequest, muxing: None, peer: Peer, tmp_path: Path
) -> AsyncIterator[Pair]:
    limits = Limits(spliced_streams_per_peer=STREAMS, handshake_seconds=SECONDS)
    node = Node()
    # The node ends first, and with it whatever a failed test has left open.
    with targets(node, peer.id, tmp_path) as found:
        async with running(node, limits=limits):
            await connect(node, peer, request.param)
            yield Pair(node, peer, found)


@contextlib.asynccontextmanager
async def both_ways(peer: Peer, limits: Limits) -> AsyncIterator[tuple[Node, Node]]:
    """A node that has dialled a peer, and one that the peer has dialled."""
    async with running(Node(), limits=limits) as one, running(Node(), limits=limits) as other:
        await connect(one, peer, "node dials")
        await connect(other, peer, "peer dials")
        yield one, other


async def connect(node: Node, peer: Peer, how: str) -> None:
    if how == "node dials":
        assert await node.network.connect(peer.address) == peer.id
        await peer.do("until connected", peer=node.id)
    else:
        await peer.do("dial", address=node.address)
    await node.until(lambda: peer.id in node.peers)


async def begin_echo(node: Node, peer: Peer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream to the peer's echo with more on its way than is read."""
    path = await node.network.forward(peer.id, REDIS_PROTOCOL, "echo")
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(bytes(64 * MIB))
    async with asyncio.timeout(SECONDS):
        await reader.readexactly(1)
    return reader, writer


async def begin_holding(node: Node, peer: Peer) -> socket.socket:
    """Where a stream of the peer's ends on our side, with more to come than fits before it is read."""
    # Not in tmp_path, which may be longer than the path of a socket can be.
    with tempfile.TemporaryDirectory(prefix="mi-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "s"
        listener.setblocking(False)
        listener.bind(str(path))
        listener.listen()
        node.targets[(peer.id, REDIS_PROTOCOL, "hold")] = path
        await peer.do("hold", peer=node.id, preamble="hold", bytes=UNREAD)
        async with asyncio.timeout(SECONDS):
            unread, _ = await asyncio.get_running_loop().sock_accept(listener)
    return unread


async def remainder(reader: asyncio.StreamReader) -> int:
    """How many bytes come until a stream ends, or breaks."""
    count = 0
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 18):
            count += len(data)
    return count


def message(node: Node, text: str) -> dict[str, str]:
    envelope = node.envelope(text)
    return {"yaml": envelope.yaml, "signature": base64.b64encode(envelope.signature).decode()}


async def test_each_pings_and_identifies_the_other(pair: Pair, language: str) -> None:
    node, peer, _ = pair
    pings = await peer.do("ping", peer=node.id, count=3)
    assert len(pings["microseconds"]) == 3
    theirs = await peer.do("identify", peer=node.id)
    assert theirs["agent"] == ping_identify.AGENT
    assert set(theirs["protocols"]) >= PROTOCOLS
    assert node.address.partition("/p2p/")[0] in theirs["addresses"]

    assert await node.network.ping(peer.id) > 0
    ours = await node.network.identify(peer.id)
    assert AGENTS[language] in ours.agent
    assert set(ours.protocols) >= PROTOCOLS
    assert peer.address.partition("/p2p/")[0] in ours.addresses
    assert ours.observed.startswith("/ip4/127.0.0.1/tcp/")


async def test_a_grpc_client_of_the_peer_calls_the_nodes_service(pair: Pair) -> None:
    node, peer, _ = pair

    async def call(method: str, *messages: dict[str, Any]) -> dict[str, Any]:
        return await peer.do(
            "call", peer=node.id, method=f"/mlnet.v1.PeerService/{method}", messages=messages
        )

    large = "large" + "x" * (MIB - 5)
    assert await call("Send", {"envelope": message(node, "one")}) == {"messages": [{"accepted": True}]}
    assert await call("Send", {"envelope": message(node, large)}) == {"messages": [{"accepted": True}]}
    frames = [
        {"envelopes": [message(node, "two"), message(node, "three")], "sequences": ["7", "9"]},
        {"envelopes": [message(node, "four")], "sequences": ["12"]},
    ]
    answers = (await call("Exchange", *frames))["messages"]
    acknowledged = [one["sequence"] for frame in answers for one in frame["acknowledgements"]]
    assert acknowledged == ["7", "9", "12"]
    assert node.received == [(text, peer.id, False) for text in ("one", large, "two", "three", "four")]

    refused = await call("Send", {"envelope": message(node, "garbage")})
    assert (refused["code"], refused["details"]) == (
        grpc.StatusCode.INVALID_ARGUMENT.value[0],
        "it is garbage",
    )
    too_large = await call("Send", {"envelope": message(node, "x" * (2 * MIB))})
    assert too_large["code"] == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


async def test_the_node_calls_a_grpc_server_of_the_peer(pair: Pair) -> None:
    node, peer, _ = pair
    texts = [f"{node.id} {number}" for number in range(200)] + [f"{node.id} large".ljust(MIB, "x")]
    sent = [node.network.send(node.envelope(text), peer.id, timeout=SECONDS) for text in texts]
    assert all([await accepted(future) for future in sent])
    received = (await peer.do("received"))["received"]
    assert sorted(text for text in received if text.startswith(node.id)) == sorted(texts)
    # A call that the peer's server does not implement ends with its status.
    answer = await node.network.dial_back(peer.id, 4001, SECONDS)
    assert not answer.open
    assert "DialBack" in answer.reason


async def test_64_mib_cross_each_way_of_a_stream(pair: Pair, request: pytest.FixtureRequest) -> None:
    """Whoever dialled opens the stream."""
    node, peer, _ = pair
    if "peer dials" in request.node.callspec.id:
        await peer.do("echo", peer=node.id, preamble="echo", count=1, bytes=64 * MIB)
    else:
        await echo(await node.network.forward(peer.id, REDIS_PROTOCOL, "echo"), 64 * MIB)


async def test_a_stream_that_is_closed_one_way_carries_the_other(pair: Pair) -> None:
    node, peer, _ = pair
    await peer.do("echo", peer=node.id, preamble="late", count=1, bytes=MIB)
    await peer.do("echo", peer=node.id, preamble="late", count=1, bytes=0)
    path = await node.network.forward(peer.id, REDIS_PROTOCOL, "late")
    for question in (bytes(range(256)) * 4096, b""):
        async with asyncio.timeout(SECONDS):
            assert await exchange(path, question) == question


async def test_a_reset_ends_its_own_stream_only(pair: Pair) -> None:
    node, peer, found = pair
    # The opener resets.
    await peer.do("reset", peer=node.id, preamble="echo")
    await asyncio.to_thread(found["echo"].ended.get, timeout=SECONDS)
    # The other side resets, also while the opener sends all that the window lets it.
    path = await node.network.forward(peer.id, REDIS_PROTOCOL, "reset")
    for size in (1, *[4 * MIB] * 10):
        assert await peer.do("end", peer=node.id, preamble="reset", bytes=size) == {"end": "reset"}
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(SECONDS):
                assert await exchange(path, bytes(size)) == b""
    # Nobody admits it.
    assert await peer.do("end", peer=node.id, preamble="unknown", bytes=1) == {"end": "reset"}
    # The session has come to no harm.
    await peer.do("echo", peer=node.id, preamble="echo", count=1, bytes=1000)
    await echo(await node.network.forward(peer.id, REDIS_PROTOCOL, "echo"), 1000)
    assert node.changes == [(peer.id, True)]


async def test_a_hundred_streams_are_open_at_once(pair: Pair) -> None:
    node, peer, _ = pair
    await peer.do("echo", peer=node.id, preamble="echo", count=STREAMS, bytes=10_000)
    path = await node.network.forward(peer.id, REDIS_PROTOCOL, "echo")
    open_streams = [await asyncio.open_unix_connection(str(path)) for _ in range(STREAMS)]
    try:
        async with asyncio.timeout(SECONDS):
            for number, (_, writer) in enumerate(open_streams):
                writer.write(number.to_bytes(2, "big"))
            for number, (reader, _) in enumerate(open_streams):
                assert await reader.readexactly(2) == number.to_bytes(2, "big")
            for _, writer in open_streams:
                writer.write_eof()
            for reader, _ in open_streams:
                assert await reader.read() == b""
    finally:
        for _, writer in open_streams:
            writer.close()


async def test_a_stream_that_nobody_reads_holds_up_itself_only(
    pair: Pair, request: pytest.FixtureRequest
) -> None:
    node, peer, _ = pair
    data = os.urandom(UNREAD)
    path = await node.network.forward(peer.id, REDIS_PROTOCOL, "hold")
    sending = asyncio.ensure_future(exchange(path, data))
    with await begin_holding(node, peer) as unread:
        await peer.do("until stalled", peer=node.id)

        if "peer dials" in request.node.callspec.id:
            await peer.do("echo", peer=node.id, preamble="echo", count=1, bytes=16 * MIB)
        else:
            async with asyncio.timeout(SECONDS):
                await echo(await node.network.forward(peer.id, REDIS_PROTOCOL, "echo"), 16 * MIB)
        # Nobody has read what is held, and there is more than the windows take.
        stalled = await peer.do("until stalled", peer=node.id)
        assert max(stalled["received"], stalled["sent"]) < UNREAD
        assert not sending.done()

        async with asyncio.timeout(SECONDS):
            read = await peer.do("read", peer=node.id)
            assert read == {"bytes": UNREAD, "sha256": hashlib.sha256(data).hexdigest()}
            assert await sending == b""
            assert await digest(unread) == await peer.do("until read", peer=node.id)
    assert node.changes == [(peer.id, True)]


async def test_the_node_answers_the_keepalives_of_the_peer(muxing: None, lively_peer: Peer) -> None:
    async with both_ways(lively_peer, Limits()) as nodes:
        for node in nodes:
            await lively_peer.do("until answered", peer=node.id, count=5)
            await lively_peer.do("ping", peer=node.id, count=1)
            assert node.changes == [(lively_peer.id, True)]


async def test_the_peer_answers_the_keepalives_of_the_node(muxing: None, peer: Peer) -> None:
    async with both_ways(peer, Limits(ping_seconds=0.05, ping_timeout_seconds=5.0)) as nodes:
        for node in nodes:
            await peer.do("until asked", peer=node.id, count=3)
            # There is never more than one under way: the first two were answered.
            assert (await node.network.metrics()).value("mlnet_transport_events_total", "pings") >= 3
            assert await node.network.ping(peer.id) > 0
            assert node.changes == [(peer.id, True)]


async def test_a_frozen_peer_is_noticed(muxing: None, command: list[str], descriptors: Path) -> None:
    """A process that is stopped keeps its connections open; only its silence tells."""
    # A peer that is merely slow has time to answer.
    limits = Limits(ping_seconds=0.2, ping_timeout_seconds=3.0)
    async with running_peer(command, descriptors) as peer, both_ways(peer, limits) as nodes:
        echoing = [await begin_echo(node, peer) for node in nodes]
        holding = [await begin_holding(node, peer) for node in nodes]
        for node in nodes:  # so that the connection of the next call is up
            assert "DialBack" in (await node.network.dial_back(peer.id, 4001, SECONDS)).reason
        await peer.freeze()
        async with asyncio.timeout(SECONDS):
            pings = [asyncio.ensure_future(node.network.ping(peer.id)) for node in nodes]
            calls = [asyncio.ensure_future(node.network.dial_back(peer.id, 4001, SECONDS)) for node in nodes]
            for node, ping, call, (reader, writer), unread in zip(
                nodes, pings, calls, echoing, holding, strict=True
            ):
                await node.until_alone()
                assert node.changes == [(peer.id, True), (peer.id, False)]
                with pytest.raises(TransportError):
                    await ping
                assert not (await call).open
                assert await remainder(reader) < 64 * MIB
                writer.close()
                assert (await digest(unread))["bytes"] < UNREAD
                ended = await node.network.metrics()
                assert ended.value("mlnet_connections_ended_total", "silent") == 1


async def test_one_stream_too_many_is_refused(muxing: None, peer: Peer, tmp_path: Path) -> None:
    node, limits = Node(), Limits(spliced_streams_per_peer=3)
    with targets(node, peer.id, tmp_path):
        async with running(node, limits=limits):
            await connect(node, peer, "peer dials")
            with pytest.raises(PeerError):
                await peer.do("echo", peer=node.id, preamble="echo", count=4, bytes=0)
            assert len(node.admitted) == 3
            await peer.do("echo", peer=node.id, preamble="echo", count=3, bytes=0)


async def test_whoever_hangs_up_the_other_notices(muxing: None, peer: Peer) -> None:
    async with running(Node()) as node:
        await connect(node, peer, "peer dials")
        await peer.do("hang up", peer=node.id)
        await node.until_alone()
        await connect(node, peer, "node dials")
    await peer.do("until gone", peer=node.id)
