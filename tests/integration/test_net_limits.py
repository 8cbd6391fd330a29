"""Hostile connections over real sockets: idle ones, slow ones, garbage, too many, and the way back in."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator

import pytest
import trio.testing
from libp2p.peer.id import ID
from support.host import hosting, tcp_port
from support.hostile_peer import DATA, GO_AWAY, RST, STRANGER, SYN, WINDOW, frame, stranger
from support.network import SECONDS, nodes

from mlnet.identity.keys import Identity
from mlnet.net.muxer.base import Ending
from mlnet.net.transport.admission import Failure, Refusal
from mlnet.net.transport.connections import Turned
from mlnet.net.transport.host import Host
from mlnet.net.transport.inbound_streams import Kind
from mlnet.net.types import Limits

HELLO = b"\x13/multistream/1.0.0\n"
LINGERING = 0.2
"""Seconds; libp2p keeps a connection for 0.1 s after its end."""
PATIENT = Limits(handshake_seconds=60.0, handshakes=8, handshakes_per_second=10_000.0, address_score=1e9)


def knock(host: Host, source: str = STRANGER) -> socket.socket:
    return socket.create_connection(
        ("127.0.0.1", tcp_port(host)), source_address=(source, 0), timeout=SECONDS
    )


@contextlib.contextmanager
def sources(count: int) -> Iterator[list[str]]:
    yield [f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(count)]


async def settled(host: Host, seconds: float = 0.0) -> None:
    """Wait until the host has done all that it does about what has happened, and what it does within so many
    seconds after."""
    await host._thread.call(trio.testing.wait_all_tasks_blocked, seconds)


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
            assert server._admission.under_way <= PATIENT.handshakes


async def test_an_attacker_that_comes_again_and_again_does_not_keep_a_peer_out() -> None:
    limits = Limits(handshake_seconds=60.0, handshakes=16)
    async with hosting(limits) as (server, events, peer), stubborn(server):
        for _ in range(3):
            async with hosting() as (client, _, _):
                await client.dial(peer, server.listen_addresses)
                await events.until_up(1)
            await events.until_up(0)
        assert server._admission.failed[Failure.EVICTED] > 0


async def test_a_slow_handshake_is_cut_and_its_address_shut_out_until_the_ban_expires() -> None:
    limits = Limits(handshake_seconds=2.0, address_score=0.9, ban_seconds=3.0)
    async with hosting(limits) as (server, events, peer), hosting() as (client, _, _):
        with knock(server) as slow:
            slow.sendall(HELLO[:5])
            # A byte every now and then must not buy more time.
            drip = asyncio.create_task(dripping(slow))
            await ends(slow)
            drip.cancel()
            await settled(server)
        assert server._admission.failed == {Failure.EXPIRED: 1}
        assert await ends(knock(server)) == b""
        assert server._admission.refused[Refusal.BANNED] == 1
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
            await asyncio.sleep(0.2)
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
        assert server._admission.failed == {Failure.GARBAGE: 1}
        assert await ends(knock(server)) == b""
        assert server._admission.refused == {Refusal.BANNED: 1}


async def test_a_ban_spares_the_peers_that_are_connected_from_that_address() -> None:
    """One bad neighbour behind a NAT: its site is slowed down, and nobody there loses a connection."""
    limits = Limits(handshake_seconds=60.0, address_score=0.2, ban_seconds=3600.0)
    async with hosting(limits) as (server, events, peer), hosting() as (client, _, _):
        await client.dial(peer, server.listen_addresses)
        await events.until_up(1)
        with knock(server, "127.0.0.1") as bad:
            bad.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(200))
            await ends(bad)
        await settled(server)
        assert server._admission.banned == 1
        async with hosting() as (neighbour, _, _):
            await neighbour.dial(peer, server.listen_addresses)
            await events.until_up(2)
        await events.until_up(1)


async def test_a_flood_of_connections_of_one_address_is_closed_at_once() -> None:
    async with hosting(Limits(handshakes_per_second=1.0)) as (server, _, _):
        connections = [knock(server) for _ in range(20)]
        answers = await asyncio.gather(*map(first_byte, connections))
        assert sum(map(bool, answers)) == 4
        assert server._admission.refused == {Refusal.RATE: 16}
        for connection in connections:
            connection.close()


async def first_byte(connection: socket.socket) -> bytes:
    connection.setblocking(False)
    async with asyncio.timeout(SECONDS):
        try:
            return await asyncio.get_running_loop().sock_recv(connection, 1)
        except ConnectionError:
            return b""


def address(host: Host, peer: str) -> str:
    return f"{host.listen_addresses[0]}/p2p/{peer}"


async def test_too_many_connections_of_an_address_are_told_to_go_away() -> None:
    async with hosting(Limits(connections_per_address=3)) as (server, events, peer), stranger() as bad:
        for _ in range(3):
            await bad.dial(address(server, peer))
        await events.until_up(3)
        late = await bad.dial(address(server, peer))
        assert (GO_AWAY, 0, 0, 0) in await late.frames()
        assert server._connections.turned == {Turned.ADDRESS: 1}
        assert events.up == 3
        # Nobody else pays for it.
        async with hosting() as (client, _, _):
            await client.dial(peer, server.listen_addresses)
            await events.until_up(4)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x09" * 12,
        frame(WINDOW, SYN, 2, 0),
        frame(DATA, SYN, 1, 0x7FFFFFFF),
        frame(DATA, SYN, 1, 300_000, bytes(300_000)),
        frame(WINDOW, SYN, 1, 0) + frame(WINDOW, SYN, 1, 0),
    ],
    ids=["version", "stream of ours", "oversized frame", "past the window", "stream twice"],
)
async def test_a_peer_that_breaks_the_rules_is_scored_down_and_so_is_its_address(garbage: bytes) -> None:
    limits = Limits(address_score=1.0)
    async with hosting(limits) as (server, events, peer), stranger() as bad:
        identity = Identity.generate()
        connection = await bad.dial(address(server, peer), identity=identity)
        await events.until_up(1)
        await connection.send(garbage)
        await connection.frames()
        await events.until(lambda: bool(events.garbage))
        assert [peer for peer, _ in events.garbage] == [identity.peer_id]
        assert server._endings == {Ending.PROTOCOL: 1}
        assert server._admission.bans == 1


async def test_a_peer_that_breaks_the_rules_again_is_shut_out() -> None:
    async with nodes(1) as (good,), stranger() as bad:
        identity = Identity.generate()
        for _ in range(2):
            connection = await bad.dial(good.address, identity=identity)
            await good.until(lambda: identity.peer_id in good.peers)
            await connection.send(b"\x09" * 12)
            await good.until_alone()
        connection = await bad.dial(good.address, identity=identity)
        assert (GO_AWAY, 0, 0, 0) in await connection.frames()
        found = await good.network.metrics()
        assert found.value("mlnet_connections_turned_away_total", "banned") == 1
        assert found.value("mlnet_peer_bans_total") == found.value("mlnet_banned_peers") == 1
        # That is a peer's bound, not yet that of the address that other peers may share.
        assert found.value("mlnet_address_bans_total") == 0


async def test_streams_that_never_say_what_they_are_for_are_bounded_and_expire() -> None:
    limits = Limits(nameless_streams_per_peer=4, handshake_seconds=2.0)
    async with hosting(limits) as (server, events, peer), stranger() as bad:
        connection = await bad.dial(address(server, peer))
        await events.until_up(1)
        await connection.send(b"".join(frame(WINDOW, SYN, number, 0) for number in range(1, 25, 2)))
        resets = 0
        while resets < 12:
            resets += sum(bool(flags & RST) for _, flags, _, _ in await connection.frames(1))
        assert server._inbound.refused == 8
        assert server._inbound.failed == 4
        assert not +server._inbound.open
        assert events.up == 1


async def test_streams_of_one_address_are_bounded_together() -> None:
    limits = Limits(streams_per_address=3, handshake_seconds=60.0)
    async with hosting(limits) as (server, events, peer), stranger() as bad:
        for _ in range(5):
            connection = await bad.dial(address(server, peer))
            await connection.send(frame(WINDOW, SYN, 1, 0))
        await events.until_up(5)
        resets = 0
        while not resets:
            resets += sum(bool(flags & RST) for _, flags, _, _ in await connection.frames(1))
        await settled(server)
        assert server._inbound.refused == 2
        assert server._inbound.open[Kind.NAMELESS] == 3


async def test_nothing_is_remembered_of_a_peer_that_has_gone() -> None:
    """Another identity costs nothing: what is kept for each of them, an attacker can have kept for ever."""
    # A search stops this process for seconds, in which nobody here answers a ping.
    limits = Limits(ping_seconds=3600.0)
    async with hosting(limits) as (server, events, peer), stranger() as bad:
        names: set[object] = set()
        for count in range(30):
            identity = Identity.generate()
            names |= {identity.peer_id, ID.from_base58(identity.peer_id).to_bytes()}
            connection = await bad.dial(address(server, peer), identity=identity)
            await events.until_up(1)
            if not count:
                # The search finds a peer that is here.
                assert any(one is server._connections._by_peer for one in holders(names))
            await connection.close()
            await events.until_up(0)
        del identity, connection
        events.connections.clear()
        bad.forget()
        await settled(server, LINGERING)
        await bad.settled(LINGERING)
        assert holders(names) == []


def holders(names: set[object]) -> list[object]:
    """All that holds one of these names. No other test used them, so what others left is not found."""
    gc.collect()
    return [one for one in gc.get_objects() if one is not names and not names.isdisjoint(strings_in(one))]


def strings_in(holder: object) -> Iterator[str | bytes]:
    """The strings that an object refers to, also those in a dict or tuple that holds nothing but such and
    that the collector therefore does not know."""
    held = gc.get_referents(holder)
    if issubclass(type(holder), dict):
        held += dict.keys(holder)  # type: ignore[arg-type]  # left out where all are strings
    for one in held:
        if type(one) in {str, bytes}:
            yield one
        elif type(one) in {dict, tuple} and not gc.is_tracked(one):
            yield from strings_in(one)
