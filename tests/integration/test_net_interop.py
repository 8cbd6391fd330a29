"""A stock py-libp2p host, noise and yamux and all, talks with ours both ways."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
import trio
from support.network import SECONDS, Node, join, nodes, running

from mlnet.errors import PeerUnreachable
from mlnet.identity.keys import Identity
from mlnet.net.transport import ping_identify
from mlnet.net.types import Limits
from mlnet.v1 import peer_pb2


def in_trio(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(SECONDS):
            await work()

    trio.run(bounded)


async def test_a_stock_host_dials_ours_and_is_served_by_grpc() -> None:
    from libp2p import new_host
    from libp2p.custom_types import TProtocol
    from libp2p.peer.peerinfo import info_from_p2p_addr
    from multiaddr import Multiaddr

    answers: list[bytes] = []

    async with running(Node()) as node:
        address = node.address

        async def client() -> None:
            host = new_host()
            async with host.run(listen_addrs=[Multiaddr("/ip4/127.0.0.1/tcp/0")]):
                info = info_from_p2p_addr(Multiaddr(address))
                await host.connect(info)
                stream = await host.new_stream(info.peer_id, [TProtocol("/mlnet/grpc/1.0.0")])
                await stream.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
                answers.append(await stream.read(9))
                await stream.reset()
                # Without this, libp2p leaves the socket to the garbage collector.
                await host.close()

        await asyncio.to_thread(in_trio, client)
    # The server's SETTINGS frame: type 4 on stream 0.
    assert answers[0][3] == 4
    assert answers[0][5:9] == bytes(4)


async def test_ours_dials_a_stock_host() -> None:
    from libp2p import new_host
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.custom_types import TProtocol
    from multiaddr import Multiaddr

    loop = asyncio.get_running_loop()
    listening: asyncio.Future[str] = loop.create_future()
    received: asyncio.Future[bytes] = loop.create_future()
    done = threading.Event()

    async def server() -> None:
        host = new_host(key_pair=create_new_key_pair())

        async def on_stream(stream: object) -> None:
            data = await stream.read(24)  # type: ignore[attr-defined]
            loop.call_soon_threadsafe(received.set_result, data)

        host.set_stream_handler(TProtocol("/mlnet/grpc/1.0.0"), on_stream)
        async with host.run(listen_addrs=[Multiaddr("/ip4/127.0.0.1/tcp/0")]):
            address = next(iter(host.get_network().listeners.values())).get_addrs()[0]
            loop.call_soon_threadsafe(listening.set_result, f"{address}/p2p/{host.get_id()}")
            await trio.to_thread.run_sync(done.wait)
            await host.close()

    thread = asyncio.ensure_future(asyncio.to_thread(in_trio, server))
    try:
        async with asyncio.timeout(SECONDS), running(Node()) as node:
            peer = await node.network.connect(await listening)
            sent = node.network.send(node.envelope("x"), peer, timeout=SECONDS)
            assert await received == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            sent.cancel()
    finally:
        done.set()
        await thread


async def test_nodes_ping_and_identify_each_other() -> None:
    async with nodes(2) as (a, b):
        await join(a, b)
        assert await a.network.ping(b.id) > 0
        identified = await b.network.identify(a.id)
        assert identified.agent == ping_identify.AGENT
        assert {"/mlnet/grpc/1.0.0", ping_identify.PING, ping_identify.IDENTIFY} <= set(identified.protocols)
        assert [f"{address}/p2p/{a.id}" for address in identified.addresses] == a.network.addresses()
        assert identified.observed.startswith("/ip4/127.0.0.1/tcp/")


async def test_a_peer_that_cannot_be_reached_cannot_be_asked() -> None:
    async with nodes(1, Limits(dial_seconds=0.2)) as (a,):
        with pytest.raises(PeerUnreachable, match="does not speak"):
            await a.network.ping(Identity.generate().peer_id)


async def test_a_stock_host_and_ours_ping_and_identify_each_other() -> None:
    from libp2p import new_host
    from libp2p.custom_types import TProtocol
    from libp2p.host.ping import PingService
    from libp2p.identity.identify.identify import parse_identify_response
    from libp2p.peer.peerinfo import info_from_p2p_addr
    from multiaddr import Multiaddr

    loop = asyncio.get_running_loop()
    connected: asyncio.Future[str] = loop.create_future()
    asked = threading.Event()
    seen: dict[str, object] = {}

    async with running(Node()) as node:
        address = node.address

        async def client() -> None:
            host = new_host()
            async with host.run(listen_addrs=[Multiaddr("/ip4/127.0.0.1/tcp/0")]):
                info = info_from_p2p_addr(Multiaddr(address))
                await host.connect(info)
                seen["pings"] = await PingService(host).ping(info.peer_id, 3)
                stream = await host.new_stream(info.peer_id, [TProtocol(ping_identify.IDENTIFY)])
                identified = parse_identify_response(await stream.read(ping_identify.MAX_IDENTIFY_BYTES))
                await stream.close()
                seen["agent"], seen["protocols"] = identified.agent_version, set(identified.protocols)
                loop.call_soon_threadsafe(connected.set_result, str(host.get_id()))
                await trio.to_thread.run_sync(asked.wait)
                await host.close()

        thread = asyncio.ensure_future(asyncio.to_thread(in_trio, client))
        try:
            async with asyncio.timeout(SECONDS):
                peer = await connected
                assert await node.network.ping(peer) > 0
                identified = await node.network.identify(peer)
        finally:
            asked.set()
            await thread
    assert len(seen["pings"]) == 3  # type: ignore[arg-type]
    assert seen["agent"] == ping_identify.AGENT
    assert {"/mlnet/grpc/1.0.0", ping_identify.PING, ping_identify.IDENTIFY} <= seen["protocols"]  # type: ignore[operator]
    assert "libp2p" in identified.agent
    assert {ping_identify.PING, ping_identify.IDENTIFY} <= set(identified.protocols)
    assert identified.observed.startswith("/ip4/127.0.0.1/tcp/")


def test_the_wire_form_of_a_frame_is_stable() -> None:
    frame = peer_pb2.ExchangeRequest(sequences=[1], hops=3, to="p")
    frame.envelopes.add(yaml="a", signature=b"b")
    assert frame.SerializeToString().hex() == "0a060a016112016212010 11a01702803".replace(" ", "")
