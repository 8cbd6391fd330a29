"""Gossip over real connections reaches every node once, whatever the topology."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support.network import SECONDS, Node, accepted, join, nodes

from mlnet.net.types import Limits

LINE = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
RING = [*LINE, (5, 0)]
STAR = [(0, index) for index in range(1, 6)]
FULL = [(one, other) for one in range(4) for other in range(one)]


@pytest.mark.parametrize("edges", [LINE, RING, STAR, FULL], ids=["line", "ring", "star", "full"])
async def test_every_node_gets_an_envelope_once(edges: Sequence[tuple[int, int]]) -> None:
    async with nodes(1 + max(max(edge) for edge in edges)) as all_nodes:
        for one, other in edges:
            await join(all_nodes[one], all_nodes[other])
        for source in (all_nodes[0], all_nodes[-1]):
            source.network.publish(source.envelope(f"from {source.id}"))
        for node in all_nodes:
            others = {f"from {source.id}" for source in (all_nodes[0], all_nodes[-1]) if source is not node}
            await node.until(lambda node=node, others=others: set(node.texts) == others)  # type: ignore[misc]
        await drain(all_nodes)
        for node in all_nodes:
            assert len(node.texts) == len(set(node.texts))
            assert all(gossip for _, _, gossip in node.received)


async def test_a_hub_with_few_neighbours_still_reaches_those_who_have_only_the_hub() -> None:
    async with nodes(6, Limits(max_neighbours=2, min_neighbours=1, hops=4)) as (hub, *leaves):
        for leaf in leaves:
            await join(leaf, hub)
        assert len(hub.network.neighbours()) == 2
    async with nodes(6, Limits(max_neighbours=2)) as (hub, *leaves):
        for leaf in leaves:
            await join(leaf, hub)
            # The leaf's first frame has told the hub how few connections it has.
            assert await accepted(leaf.network.send(leaf.envelope("hello"), hub.id, timeout=SECONDS))
        leaves[0].network.publish(leaves[0].envelope("news"))
        for leaf in leaves[1:]:
            await leaf.until(lambda leaf=leaf: leaf.texts == ["news"])  # type: ignore[misc]


async def test_peers_that_are_learned_of_are_connected_until_there_are_enough() -> None:
    async with nodes(5, Limits(min_neighbours=3)) as (a, *others):
        for other in others:
            a.network.add_addresses(other.id, other.network.addresses())
        await a.until(lambda: len(a.peers) >= 3)
        assert set(a.network.connected_peers()) == a.peers
        assert a.network.known_peers().keys() == {other.id for other in others}


async def drain(all_nodes: Sequence[Node]) -> None:
    """Every connection carries another envelope behind the gossip: when it has arrived, so has what was
    before it."""
    for node in all_nodes:
        for peer in node.network.connected_peers():
            assert await accepted(node.network.send(node.envelope("other"), peer, timeout=SECONDS))
    for node in all_nodes:
        node.received = [entry for entry in node.received if entry[0] != "other"]
