"""Hostile connections over real sockets: idle ones, slow ones, garbage, too many, and the way back in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator

import pytest
import trio.testing
from host_support import Events, hosting, tcp_port
from net_support import SECONDS, nodes

from mlnet.errors import PeerUnreachable
from mlnet.net.door import Failure, Refusal
from mlnet.net.host import Host
from mlnet.net.interface import Limits
from mlnet.net.links import Turned

HELLO = b"\x13/multistream/1.0.0\n"
# Not the address that the nodes of a machine have: who sends from here is a stranger.
STRANGER = "127.0.0.2"
PATIENT = Limits(handshake_seconds=60.0, handshakes=8, handshakes_per_second=10_000.0, address_score=1e9)


def knock(host: Host, source: str = STRANGER) -> socket.socket:
    return socket.create_connection(
        ("127.0.0.1", tcp_port(host)), source_address=(source, 0), timeout=SECONDS
    )


@contextlib.contextmanager
def sources(count: int) -> Iterator[list[str]]:
    yield [f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(count)]


async def settled(host: Host) -> None:
    """Wait until the host has done all that it does about what has happened."""
    await host._thread.call(trio.testing.wait_all_tasks_blocked)


async def ends(connection: socket.socket) -> bytes:
    """What the host says on a connection until it ends."""
    connection.setblocking(False)
    loop, data = asyncio.get_running_loop(), b""
    async with asyncio.timeout(SECONDS):
        with contextlib.suppress(ConnectionError):
            while more := await loop.sock_recv(connection, 65536):
                data += more
    connection.close()
    return data


@contextlib.asynccontextmanager
async def stubborn(host: Host) -> AsyncIterator[None]:
    """Forty connections that say nothing, and are there again as soon as they are closed."""

    async def one(source: str) -> None:
        while True:
            with knock(host, source) as connection:
                await ends(connection)

    tasks = [asyncio.create_task(one(f"127.0.3.{number}")) for number in range(1, 41)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_idle_connections_from_many_addresses_do_not_keep_a_peer_out() -> None:
    async with hosting(PATIENT) as (server, events, peer), hosting() as (client, _, _):
        with contextlib.ExitStack() as stack, sources(300) as strangers:
            for source in strangers:
                stack.enter_context(knock(server, source))
            await client.dial(peer, server.listen_addresses)
            await events.until_up(1)
            assert server._door.under_way <= PATIENT.handshakes


async def test_an_attacker_that_comes_again_and_again_does_not_keep_a_peer_out() -> None:
    limits = Limits(handshake_seconds=60.0, handshakes=16)
    async with hosting(limits) as (server, events, peer), stubborn(server):
        for _ in range(3):
            async with hosting() as (client, _, _):
                await client.dial(peer, server.listen_addresses)
                await events.until_up(1)
            await events.until_up(0)
        assert server._door.failed[Failure.EVICTED] > 0


async def test_a_slow_handshake_is_cut_and_its_address_shut_out_until_the_ban_expires() -> None:
    limits = Limits(handshake_seconds=0.4, address_score=1.5, ban_seconds=1.0)
    async with hosting(limits) as (server, events, peer), hosting() as (client, _, _):
        for _ in range(2):
            with knock(server) as slow:
                slow.sendall(HELLO[:5])
                # A byte every now and then must not buy more time.
                drip = asyncio.create_task(dripping(slow))
                await ends(slow)
                drip.cancel()
                await settled(server)
        assert server._door.failed == {Failure.EXPIRED: 2}
        assert await ends(knock(server)) == b""
        assert server._door.refused[Refusal.BANNED] == 1
        # Nobody else pays for it.
        await client.dial(peer, server.listen_addresses)
        await events.until_up(1)
        # The ban ends by itself: the host speaks to that address again.
        async with asyncio.timeout(SECONDS):
            while True:
                again = knock(server)
                again.shutdown(socket.SHUT_WR)
                if await ends(again):
                    break


async def dripping(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            await asyncio.sleep(0.05)
            connection.send(b"m")


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(200),
        os.urandom(64) + bytes(4096),
        b"\xff" * 64,
        # A line of 2**62 bytes.
        b"\xff\xff\xff\xff\xff\xff\xff\xff\x3f" + bytes(4096),
        HELLO + b"\x0f/nosuch/1.0.0\n" * 64,
        HELLO + b"\x07/noise\n" + struct.pack(">H", 65535) + bytes(65535),
    ],
    ids=["http", "noise", "varint", "endless line", "proposals", "zeros for keys"],
)
async def test_garbage_is_scored_and_ends_at_once(garbage: bytes) -> None:
    async with hosting(Limits(handshake_seconds=60.0, address_score=1.0)) as (server, _, _):
        bad = knock(server)
        bad.sendall(garbage)
        await ends(bad)
        await settled(server)
        assert server._door.failed == {Failure.GARBAGE: 1}
        assert await ends(knock(server)) == b""
        assert server._door.refused == {Refusal.BANNED: 1}


async def test_a_ban_spares_the_peers_that_are_connected_from_that_address() -> None:
    """One bad neighbour behind a NAT: its site is slowed down, and nobody there loses a connection."""
    limits = Limits(handshake_seconds=60.0, address_score=1.0, ban_seconds=3600.0)
    async with hosting(limits) as (server, events, peer), hosting() as (client, _, _):
        await client.dial(peer, server.listen_addresses)
        await events.until_up(1)
        with knock(server, "127.0.0.1") as bad:
            bad.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(200))
            await ends(bad)
        await settled(server)
        assert server._door.banned == 1
        async with hosting() as (neighbour, _, _):
            await neighbour.dial(peer, server.listen_addresses)
            await events.until_up(2)
        await events.until_up(1)


async def test_a_flood_of_connections_of_one_address_is_closed_at_once() -> None:
    async with hosting(Limits(handshakes_per_second=1.0)) as (server, _, _):
        connections = [knock(server) for _ in range(20)]
        answers = await asyncio.gather(*map(first_byte, connections))
        assert sum(map(bool, answers)) == 4
        assert server._door.refused == {Refusal.RATE: 16}
        for connection in connections:
            connection.close()


async def first_byte(connection: socket.socket) -> bytes:
    connection.setblocking(False)
    async with asyncio.timeout(SECONDS):
        try:
            return await asyncio.get_running_loop().sock_recv(connection, 1)
        except ConnectionError:
            return b""


async def test_too_many_connections_of_an_address_are_told_to_go_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Four fit (this machine has four times the bound); the fifth is answered, not left in silence."""
    async with contextlib.AsyncExitStack() as stack:
        server, events, peer = await stack.enter_async_context(hosting(Limits(connections_per_address=1)))
        clients: list[tuple[Host, Events]] = []
        for _ in range(5):
            client, client_events, _ = await stack.enter_async_context(hosting())
            clients.append((client, client_events))
        for client, _ in clients[:4]:
            await client.dial(peer, server.listen_addresses)
        await events.until_up(4)
        late, late_events = clients[4]
        with caplog.at_level(logging.DEBUG, "mlnet.net.host"):
            with contextlib.suppress(PeerUnreachable):
                await late.dial(peer, server.listen_addresses)
            await late_events.until_up(0)
        assert "goodbye" in caplog.text
        assert server._links.turned == {Turned.ADDRESS: 1}
        assert events.up == 4


async def test_a_peer_that_breaks_the_rules_is_scored_down_and_so_is_its_address() -> None:
    async with hosting() as (server, events, _), hosting() as (client, client_events, client_id):
        await server.dial(client_events.peer, client.listen_addresses)
        await events.until_up(1)
        await client._thread.call(break_the_rules, client, events.peer)
        await events.until(lambda: bool(events.garbage))
        assert [peer for peer, _ in events.garbage] == [client_id]


async def break_the_rules(host: Host, peer: str) -> None:
    session = host._links.session(peer)
    assert session is not None
    await session.secured_conn.write(b"\x09" * 12)


async def test_a_peer_that_breaks_the_rules_again_is_shut_out() -> None:
    async with nodes(1) as (good,), hosting() as (bad, events, _):
        addresses = good.network._host.listen_addresses
        for _ in range(2):
            await bad.dial(good.id, addresses)
            await events.until_up(1)
            await bad._thread.call(break_the_rules, bad, good.id)
            await events.until_up(0)
        await good.until_alone()
        with contextlib.suppress(PeerUnreachable):
            await bad.dial(good.id, addresses)
        await events.until_up(0)
        assert good.network._host._links.turned == {Turned.BANNED: 1}
        # That is a peer's bound, not yet that of the address that other peers may share.
        assert good.network._host._door.bans == 0
