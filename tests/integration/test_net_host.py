"""The libp2p host: what its repairs are for, who may connect, and stock libp2p at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from libp2p.stream_muxer.exceptions import MuxedStreamError
from support.host import Events, hosting, runtime, tcp_port
from support.network import LOOPBACK, SECONDS, Node, accepted, join, nodes, open_sockets, running

from mlnet.errors import ConfigError, PeerUnreachable, PortInUse
from mlnet.identity.keys import Identity
from mlnet.net import network
from mlnet.net.network import Network
from mlnet.net.transport import ping_identify
from mlnet.net.transport.host import Host
from mlnet.net.types import Limits


async def test_a_host_accepts_more_than_three_hundred_connections_in_its_life() -> None:
    async with hosting() as (server, events, peer), hosting() as (client, client_events, _):
        for _ in range(320):
            await client.dial(peer, server.listen_addresses)
            await client_events.until_up(1)
            await events.until_up(1)
            await client.disconnect(peer)
            await client_events.until_up(0)
            await events.until_up(0)
        assert sum(up for _, _, up in events.connections) == 320


async def test_a_peer_is_redialled_at_once_after_a_failed_dial() -> None:
    async with hosting() as (client, _, _):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        identity = Identity.generate()
        for _ in range(2):
            with pytest.raises(PeerUnreachable, match=f"127.0.0.1/tcp/{port}"):
                await client.dial(identity.peer_id, [f"/ip4/127.0.0.1/tcp/{port}"])
        node = Node(identity)
        async with running(node, listen=(f"/ip4/127.0.0.1/tcp/{port}",)):
            await client.dial(identity.peer_id, [f"/ip4/127.0.0.1/tcp/{port}"])


async def test_a_dial_does_not_wait_for_a_head_start_of_other_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With head starts of an hour, both libp2p's and ours, a dial that waited for one would not end."""
    monkeypatch.setattr("libp2p.network.swarm._HAPPY_EYEBALLS_DELAY", 3600.0)
    monkeypatch.setattr("mlnet.net.transport.dialling.HEAD_START_SECONDS", 3600.0)
    async with hosting() as (server, _, peer), hosting() as (client, _, _):
        dead = "/ip4/127.0.0.1/tcp/1"
        async with asyncio.timeout(SECONDS):
            await client.dial(peer, [dead, *server.listen_addresses, dead])


async def test_another_identity_at_an_address_is_not_the_peer() -> None:
    async with hosting() as (server, _, _), hosting() as (client, events, _):
        with pytest.raises(PeerUnreachable, match="cannot be reached"):
            await client.dial(Identity.generate().peer_id, server.listen_addresses)
        assert events.up == 0


async def test_a_host_does_not_connect_to_itself() -> None:
    async with hosting() as (host, events, peer):
        with pytest.raises(PeerUnreachable):
            await host.dial(peer, host.listen_addresses)
        await events.until_up(0)
        assert events.twins == []


async def test_two_hosts_with_one_identity_are_both_told() -> None:
    identity = Identity.generate()
    async with (
        hosting(identity=identity) as (one, first, peer),
        hosting(identity=identity) as (other, second, _),
    ):
        with pytest.raises(PeerUnreachable, match="another process answers there with the identity"):
            await other.dial(peer, one.listen_addresses)
        await first.until(lambda: first.twins == ["127.0.0.1"])
        await second.until(lambda: second.twins == ["127.0.0.1"])


async def test_a_silent_address_ends_with_the_dial_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with hosting(Limits(dial_seconds=0.3)) as (client, _, _):
            with pytest.raises(PeerUnreachable, match=r"no answer within 0\.3 s"):
                await client.dial(
                    Identity.generate().peer_id, [f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}"]
                )


async def test_idle_connections_do_not_keep_a_peer_out() -> None:
    limits = Limits(handshakes=8, handshakes_per_second=1000.0, address_score=1000.0, handshake_seconds=60.0)
    async with hosting(limits) as (server, events, peer), hosting() as (client, _, _):
        with contextlib.ExitStack() as stack:
            for _ in range(300):
                stack.enter_context(
                    socket.create_connection(("127.0.0.1", tcp_port(server)), source_address=("127.0.0.2", 0))
                )
            await client.dial(peer, server.listen_addresses)
            await events.until_up(1)
            assert server._admission.under_way <= 8


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), b"\x13/multistream/1.0.0\n\x07/noise\n" + bytes(3000)],
)
async def test_garbage_ends_its_own_connection_only(garbage: bytes) -> None:
    async with hosting(Limits(handshake_seconds=1.0)) as (server, events, peer), hosting() as (client, _, _):
        await client.dial(peer, server.listen_addresses)
        reader, writer = await asyncio.open_connection("127.0.0.1", tcp_port(server))
        writer.write(garbage)
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()
        assert events.up == 1


async def test_the_oldest_of_too_many_connections_of_a_peer_goes() -> None:
    async with contextlib.AsyncExitStack() as stack:
        server, events, peer = await stack.enter_async_context(hosting(Limits(connections_per_peer=2)))
        identity = Identity.generate()
        clients = []
        for _ in range(3):
            directory = stack.enter_context(runtime())
            client_events = Events()
            client = Host(
                identity.seed,
                listen=LOOPBACK,
                runtime=directory,
                rpc_socket=directory.name("g"),
                limits=Limits(),
                events=client_events,
            )
            await client.start()
            stack.push_async_callback(client.stop)
            await client.dial(peer, server.listen_addresses)
            clients.append(client_events)
        await clients[0].until_up(0)
        await events.until_up(2)


async def test_a_banned_peer_cannot_connect_until_the_ban_expires() -> None:
    async with hosting() as (server, events, peer), hosting() as (client, client_events, client_id):
        await server.disconnect(client_id, 3600.0)
        # The handshake succeeds before the server looks at who it is, and hangs up.
        with contextlib.suppress(PeerUnreachable):
            await client.dial(peer, server.listen_addresses)
        await client_events.until_up(0)
        assert events.connections == []
        await server.disconnect(client_id, 0.001)
        await asyncio.to_thread(threading.Event().wait, 0.01)
        await client.dial(peer, server.listen_addresses)
        await events.until_up(1)


async def test_a_peer_has_a_bounded_number_of_ping_streams() -> None:
    limits = Limits(wellknown_streams_per_peer=3)
    async with hosting(limits) as (server, _, peer), hosting() as (client, _, _):
        await client.dial(peer, server.listen_addresses)

        async def is_answered() -> bool:
            stream = await client._outbound.open_stream(peer, ping_identify.PING, None)
            if stream is None:
                # The reset came before the answer that named the protocol was read.
                return False
            try:
                await stream.write(bytes(ping_identify.PING_BYTES))
                return await stream.read(ping_identify.PING_BYTES) == bytes(ping_identify.PING_BYTES)
            except MuxedStreamError:
                return False

        assert [await client._thread.call(is_answered) for _ in range(5)] == [True] * 3 + [False] * 2


async def test_a_frozen_peer_is_noticed() -> None:
    """A process that is stopped keeps its TCP connections open; only its silence tells."""
    program = textwrap.dedent(
        f"""
        import asyncio, sys
        sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
        from support.network import Node, running
        async def main():
            async with running(Node()) as node:
                print(node.address, flush=True)
                await asyncio.Event().wait()
        asyncio.run(main())
        """
    )
    limits = Limits(ping_seconds=0.2, ping_timeout_seconds=0.5)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        address = await process.stdout.readline()
        async with nodes(1, limits) as (a,):
            await a.network.connect(address.decode().strip())
            await a.until(lambda: bool(a.peers))
            process.send_signal(signal.SIGSTOP)
            await a.until_alone()
    finally:
        process.kill()
        await process.communicate()


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    async with running(Node()) as node:
        listen = node.address.partition("/p2p/")[0]
        other = Node()
        network = Network(other.identity, other.handlers(), listen=[listen], runtime_dir=tmp_path / "run")
        with pytest.raises(PortInUse, match="port is in use"):
            await network.start()
        assert list((tmp_path / "run").iterdir()) == []


async def test_an_address_that_is_not_ours_is_named(tmp_path: Path) -> None:
    node = Node()
    network = Network(
        node.identity, node.handlers(), listen=["/ip4/192.0.2.1/tcp/0"], runtime_dir=tmp_path / "run"
    )
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        await network.start()


async def test_a_runtime_directory_must_be_short_and_private(tmp_path: Path) -> None:
    node = Node()
    long = Network(node.identity, node.handlers(), runtime_dir=tmp_path / ("x" * 100))
    with pytest.raises(ConfigError, match="too long"):
        await long.start()
    (tmp_path / "open").mkdir(mode=0o755)
    public = Network(node.identity, node.handlers(), runtime_dir=tmp_path / "open")
    with pytest.raises(ConfigError, match="chmod 700"):
        await public.start()


async def test_all_interfaces_are_told_instead_of_the_wildcard() -> None:
    async with running(Node(), listen=("/ip4/0.0.0.0/tcp/0",)) as node:
        addresses = node.network.addresses()
        assert not any("0.0.0.0" in address for address in addresses)
        assert addresses[-1].startswith("/ip4/127.0.0.1/tcp/")
        async with nodes(1) as (other,):
            for address in addresses:
                assert await other.network.connect(address) == node.id


async def test_ipv6_works_where_there_is_ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with running(Node(), listen=("/ip6/::1/tcp/0",)) as a, running(Node()) as b:
        await join(b, a)
        assert a.network.remote_ips(b.id) == {"::1"}
        assert await accepted(a.network.send(a.envelope("x"), b.id, timeout=SECONDS))


async def test_connecting_tells_the_address_and_the_peer() -> None:
    async with nodes(2) as (a, b):
        assert await a.network.connect(b.address) == b.id
        await b.until_connected(a)
        assert b.network.remote_ips(a.id) == {"127.0.0.1"}
        assert a.network.remote_ips(Identity.generate().peer_id) == frozenset()
        with pytest.raises(ConfigError, match="p2p"):
            await a.network.connect("/ip4/127.0.0.1/tcp/1")


async def test_nothing_is_logged_at_a_users_level(caplog: pytest.LogCaptureFixture) -> None:
    gc.collect()  # what another test left unfinished is logged when it is collected
    with caplog.at_level(logging.INFO):
        async with nodes(2) as (a, b):
            await join(a, b)
            with pytest.raises(PeerUnreachable):
                await a.network.connect(f"/ip4/127.0.0.1/tcp/1/p2p/{Identity.generate().peer_id}")
            assert await accepted(a.network.send(a.envelope("x"), b.id, timeout=SECONDS))
    assert caplog.records == []


async def test_no_thread_outlives_the_network() -> None:
    before = set(threading.enumerate())
    async with nodes(2) as (a, b):
        await join(a, b)
        started = set(threading.enumerate()) - before
        assert sum(thread.name == "mlnet-libp2p" for thread in started) == 2
    assert not any(thread.name == "mlnet-libp2p" and thread.is_alive() for thread in started)


async def test_a_network_ends_though_a_part_of_it_does_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(network, "STOP_SECONDS", 0.1)
    before = set(threading.enumerate())
    async with asyncio.timeout(SECONDS), nodes(2) as (a, b):
        await join(a, b)
        monkeypatch.setattr(a.network._channels, "stop", never)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the channels to peers did not end within 0.1 s"
    ]
    assert not any(thread.name == "mlnet-libp2p" for thread in set(threading.enumerate()) - before)


async def test_children_inherit_no_socket() -> None:
    before = open_sockets()
    async with nodes(2) as (a, b):
        await join(a, b)
        assert await accepted(a.network.send(a.envelope("x"), b.id, timeout=SECONDS))
        listing = (
            "import os; fds = os.scandir('/proc/self/fd');"
            "print(*(os.readlink(fd.path) for fd in fds if os.path.exists(fd.path)))"
        )
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", listing, stdout=subprocess.PIPE, close_fds=False
        )
        output, _ = await child.communicate()
        assert b"pipe:" in output
        assert not {what for what in output.decode().split() if what.startswith("socket:")} - before
