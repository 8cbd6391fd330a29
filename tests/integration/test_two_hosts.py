"""One task over two hosts, each with nodes of its own, whatever addresses they have."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.cluster import Mission, NodeProcess, mission
from support.two_hosts import USELESS, Unavailable, address, on, two_hosts

pytestmark = pytest.mark.timeout(240)


@contextmanager
def made(**arguments: Any) -> Iterator[tuple[list[str], int]]:
    """Two hosts, or the reason why the test is skipped."""
    try:
        with two_hosts(**arguments) as (names, number):
            yield names, number
    except Unavailable as error:
        pytest.skip(str(error))


async def trained(net: Mission, hosts: list[str], each: int, *options: str, by: str = "") -> dict[str, Any]:
    """The result of a task that so many nodes on each host carry out.

    Args:
        net: the mission.
        hosts: names.
        each: nodes on each of them.
        options: of the nodes.
        by: how the first node is named to all others, as ``/ip6/ADDRESS`` or ``/dns/NAME``; by its join line
            if it is empty.
    """
    first = await net.start_one(*options, prefix=on(hosts[0]), listen=None)
    peers = [by + first.address[first.address.index("/tcp/") :] if by else first.address]
    await asyncio.gather(
        *(
            net.start_one(*options, prefix=on(host), listen=None, peers=peers)
            for host in [hosts[0]] * (each - 1) + [hosts[1]] * each
        )
    )
    file = net.definition(max_nodes=2 * each)
    process = await net.spawn("submit", str(file), "--peer", *peers, "--json", prefix=on(hosts[1]))
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    result: dict[str, Any] = json.loads(out)
    assert set(result["nodes"]) == {node.peer_id for node in net.nodes}
    assert result["accuracy"]["held_out"] > 0.8
    return result


def reached(node: NodeProcess) -> list[str]:
    """The open ports that a node told the client of, from its log."""
    return re.findall(r"open at (\S+)", node.log.read_text())


async def test_ipv6_alone() -> None:
    with made(families=(6,)) as (hosts, _):
        async with mission(0) as net:
            await trained(net, hosts, 1)
            assert all(node.address.startswith("/ip6/fd5b:") for node in net.nodes)
            assert all(port.startswith("[fd5b:") for node in net.nodes for port in reached(node))


async def test_both_families_joined_by_ipv6() -> None:
    with made(families=(4, 6)) as (hosts, number):
        async with mission(0) as net:
            await trained(net, hosts, 1, by=f"/ip6/{address(number, 1, 6)}")


async def test_an_interface_that_every_host_has_alike_is_not_named() -> None:
    with made(families=(4,), useless=True) as (hosts, number):
        async with mission(0) as net:
            await trained(net, hosts, 2, by=f"/ip4/{address(number, 1, 4)}")
            there = [node for node in net.nodes if f".{number}.2/" in node.address]
            assert len(there) == 2, [node.address for node in net.nodes]
            # The first node had to guess, until the others came.
            assert f"start --peer /ip4/{address(number, 1, 4)}/" in net.nodes[0].log.read_text()
            assert not any(port.startswith(USELESS) for node in net.nodes for port in reached(node))


async def test_a_name_in_place_of_an_address_and_gradients_by_way_of_the_tunnel() -> None:
    """By way of the tunnel, each trainer listens on loopback, where the other host cannot reach it."""
    with made(families=(4, 6), names=("node_1", "node_2")) as (hosts, _):
        async with mission(0) as net:
            await trained(net, hosts, 1, "--tunnel-training", by="/dns/node_1")
