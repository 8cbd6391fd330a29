"""When a peer counts as lost: not as long as it is there, comes back or can be dialled."""

from __future__ import annotations

import asyncio

import pytest

from mlnet.errors import PeerUnreachable
from mlnet.net.peers.liveness import Liveness

SHORT = 0.05
pytestmark = pytest.mark.timeout(20)


class Peers:
    """Connections and dials; ``reachable`` peers answer."""

    def __init__(self, limit: int = 8) -> None:
        self.connected: set[str] = set()
        self.reachable: set[str] = set()
        self.dialled = asyncio.Event()
        self.liveness = Liveness(self.connected, self.dial, limit)

    async def dial(self, peer: str) -> None:
        self.dialled.set()
        if peer not in self.reachable:
            raise PeerUnreachable(f"{peer} is not reachable")
        self.come(peer)

    def come(self, peer: str) -> None:
        self.connected.add(peer)
        self.liveness.on_peer(peer, True)

    def go(self, peer: str) -> None:
        self.connected.discard(peer)
        self.liveness.on_peer(peer, False)


async def test_a_peer_that_goes_and_cannot_be_dialled_is_lost() -> None:
    peers = Peers()
    peers.come("a")
    watch = asyncio.create_task(peers.liveness.lost("a", SHORT))
    await asyncio.sleep(0)
    assert not watch.done()
    peers.go("a")
    await watch
    assert peers.dialled.is_set()


async def test_a_peer_that_had_gone_before_anybody_waited_is_lost() -> None:
    peers = Peers()
    peers.come("a")
    peers.go("a")
    await peers.liveness.lost("a", SHORT)


async def test_a_peer_that_hangs_when_it_is_dialled_is_lost() -> None:
    peers = Peers()

    async def hang(_: str) -> None:
        await asyncio.Event().wait()

    liveness = Liveness(peers.connected, hang, 8)
    liveness.on_peer("a", True)
    await liveness.lost("a", SHORT)


async def test_a_peer_that_can_be_dialled_is_not_lost() -> None:
    peers = Peers()
    peers.come("a")
    peers.reachable.add("a")
    watch = asyncio.create_task(peers.liveness.lost("a", 60))
    await asyncio.sleep(0)
    peers.go("a")
    await peers.dialled.wait()
    assert "a" in peers.connected
    assert not watch.done()
    peers.reachable.clear()
    watch.cancel()


async def test_a_peer_that_comes_back_by_itself_is_not_lost() -> None:
    peers = Peers()
    peers.come("a")
    watch = asyncio.create_task(peers.liveness.lost("a", 60))
    await asyncio.sleep(0)
    peers.go("a")
    await peers.dialled.wait()
    peers.come("a")
    peers.dialled.clear()
    await asyncio.sleep(0)
    assert not watch.done()
    peers.go("a")
    await peers.dialled.wait()  # it is watched on
    watch.cancel()


async def test_a_peer_that_was_never_there_is_not_lost() -> None:
    peers = Peers()
    watch = asyncio.create_task(peers.liveness.lost("a", 0.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not watch.done()
    assert not peers.dialled.is_set()
    peers.come("a")
    peers.go("a")
    await watch


async def test_the_peers_that_are_remembered_are_limited() -> None:
    peers = Peers(limit=2)
    for peer in "abc":
        peers.come(peer)
        peers.go(peer)
    watch = asyncio.create_task(peers.liveness.lost("a", 0.0))
    await peers.liveness.lost("b", 0.0)
    assert not watch.done()
    watch.cancel()
