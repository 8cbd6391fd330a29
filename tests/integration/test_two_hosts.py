"""One task over two hosts, each with nodes of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from mission import mission
from two_hosts import LISTEN, Unavailable, on, two_hosts

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Names of the two."""
    try:
        with two_hosts() as names:
            yield names
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("each", "options"), [(3, ()), (2, ("--tunnel-training",))], ids=["direct", "tunnel"]
)
async def test_one_task_over_two_hosts(hosts: list[str], each: int, options: tuple[str, ...]) -> None:
    """By way of the tunnel, each trainer listens on loopback, where the other host cannot reach it."""
    async with mission(0) as net:
        for host in hosts:
            for _ in range(each):
                await net.start_one(*options, prefix=on(host), listen=LISTEN)
        assert all(node.address.startswith("/ip4/10.203.") for node in net.nodes)
        file = net.definition(max_nodes=2 * each)
        process = await net.spawn("submit", str(file), "--peer", net.peers[0], "--json", prefix=on(hosts[1]))
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        result = json.loads(out)
        assert len(result["nodes"]) == 2 * each
        assert set(result["nodes"]) == {node.peer_id for node in net.nodes}
        assert result["accuracy"]["held_out"] > 0.8
