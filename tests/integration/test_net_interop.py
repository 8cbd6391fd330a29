"""A stock py-libp2p host, noise and yamux and all, talks with ours both ways."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import trio
from net_support import SECONDS, Node, running

from mlnet.rpc import mlnet_pb2


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


def test_the_wire_form_of_a_frame_is_stable() -> None:
    frame = mlnet_pb2.Frame(sequences=[1], hops=3, to="p")
    frame.envelopes.add(yaml="a", signature=b"b")
    assert frame.SerializeToString().hex() == "0a060a016112016212010122017030 03".replace(" ", "")
