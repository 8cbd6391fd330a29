"""Trainers that reach each other by way of their nodes' connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.network import SECONDS, Node, join, nodes

from mlnet.errors import TrainingError
from mlnet.net.types import GLOO_PROTOCOL, Target
from mlnet.node.gloo_tunnel import GlooTunnelServer
from mlnet.training.gloo_tunnel import MAX_RANKS, GlooTunnelClient, address

TASK = "ab" * 32


def published(host: str, port: int) -> bytes:
    """An address as gloo publishes it, among other bytes."""
    noise = b"\2\0\0\0\0\0\0\0vm\x88"
    return noise + b"\2\0" + port.to_bytes(2, "big") + socket.inet_aton(host) + bytes(8) + noise


def test_each_rank_has_an_address_and_each_attempt_a_network() -> None:
    addresses = [address(TASK, 1, rank) for rank in range(MAX_RANKS)]
    assert len(set(addresses)) == MAX_RANKS
    assert len({one.rpartition(".")[0] for one in addresses}) == 1
    assert all(64 <= int(one.split(".")[1]) < 192 for one in addresses)
    assert address(TASK, 2, 0) != address(TASK, 1, 0)
    with pytest.raises(TrainingError, match="at most 250"):
        address(TASK, 1, MAX_RANKS)


class Rank:
    """A node's half, its trainer's half, and an echo where gloo would listen."""

    def __init__(self, node: Node, members: list[str], control: Path) -> None:
        self.gloo_tunnels = GlooTunnelServer(node.network, control, TASK, 1, members)
        self.rank = members.index(node.id)
        self.host = address(TASK, 1, self.rank)
        self.trainer: GlooTunnelClient
        self.port = 0

    async def start(self) -> None:
        self.gloo_tunnels.start()
        server = await asyncio.start_server(self._echo, self.host, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._server = server
        self.trainer = await asyncio.to_thread(
            GlooTunnelClient, self.gloo_tunnels.control, TASK, 1, self.rank, 2
        )

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            writer.write(await reader.read() + b"<end>")
            await writer.drain()

    async def stop(self) -> None:
        self.trainer.close()
        self._server.close()
        await self.gloo_tunnels.stop()


@contextlib.asynccontextmanager
async def ranks(tmp_path: Path) -> AsyncIterator[tuple[Rank, Rank, Node, Node]]:
    async with nodes(2) as (a, b):
        await join(a, b)
        made = [Rank(node, [a.id, b.id], tmp_path / str(index)) for index, node in enumerate((a, b))]
        for node, rank in zip((a, b), made, strict=True):
            await rank.start()
            serve(node, rank.gloo_tunnels)
        try:
            yield made[0], made[1], a, b
        finally:
            for rank in made:
                await rank.stop()


def serve(node: Node, gloo_tunnels: GlooTunnelServer) -> None:
    def find(peer: str, protocol: str, preamble: str) -> Target | None:
        task, _, attempt = preamble.partition(" ")
        return gloo_tunnels.target(peer, attempt) if (protocol, task) == (GLOO_PROTOCOL, TASK) else None

    node.find_target = find  # type: ignore[method-assign]


async def talk(host: str, port: int, payload: bytes) -> bytes:
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(host, port)
        with contextlib.closing(writer):
            writer.write(payload)
            writer.write_eof()
            return await reader.read()


def free_port(host: str) -> int:
    with socket.create_server((host, 0)) as server:
        return int(server.getsockname()[1])


async def test_a_connection_to_the_published_address_reaches_the_other_rank(tmp_path: Path) -> None:
    async with ranks(tmp_path) as (one, other, _, _):
        await asyncio.to_thread(other.trainer.publish, published(other.host, other.port))
        # On one machine the rank's own port is taken, so that this one stands for it.
        port = free_port(other.host)
        await asyncio.to_thread(one.trainer.read, [b"nothing", published(other.host, port)])
        payload = bytes(range(256)) * 4000
        assert await talk(other.host, port, payload) == payload + b"<end>"
        # It is opened once.
        await asyncio.to_thread(one.trainer.read, [published(other.host, port)])
        assert await talk(other.host, port, b"again") == b"again<end>"


async def test_a_rank_on_this_machine_needs_no_way(tmp_path: Path) -> None:
    async with ranks(tmp_path) as (one, other, _, b):
        await asyncio.to_thread(one.trainer.read, [published(other.host, other.port)])
        assert await talk(other.host, other.port, b"direct") == b"direct<end>"
        assert b.admitted == []


async def test_who_is_no_member_or_comes_too_early_gets_nowhere(tmp_path: Path) -> None:
    async with ranks(tmp_path) as (one, other, a, b):
        port = free_port(other.host)
        await asyncio.to_thread(one.trainer.read, [published(other.host, port)])
        with contextlib.suppress(ConnectionError):
            assert await talk(other.host, port, b"x") == b""
        assert b.admitted == [(a.id, GLOO_PROTOCOL, f"{TASK} 1")]
        await asyncio.to_thread(other.trainer.publish, published(other.host, other.port))
        assert other.gloo_tunnels.target(a.id, "1") == (other.host, other.port)
        assert other.gloo_tunnels.target(a.id, "2") is None
        assert other.gloo_tunnels.target("a stranger", "1") is None


async def test_a_node_that_is_gone_is_an_error(tmp_path: Path) -> None:
    async with ranks(tmp_path) as (one, other, _, _):
        await one.gloo_tunnels.stop()
        with pytest.raises(TrainingError, match="node"):
            await asyncio.to_thread(one.trainer.read, [published(other.host, free_port(other.host))])
    with pytest.raises(TrainingError, match="does not answer"):
        GlooTunnelClient(tmp_path / "nobody", TASK, 1, 0, 2)
