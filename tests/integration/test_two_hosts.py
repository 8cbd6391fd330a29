"""Two hosts - network namespaces joined by a veth pair - with three nodes each, and one task over both."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from itertools import count

import pytest
from mission import mission

pytestmark = pytest.mark.timeout(240)
_subnets = count(os.getpid() % 200)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Names of the two namespaces; what runs in one reaches the other and nothing else."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("needs ip(8) and the right to make network namespaces")
    number = next(_subnets)
    names = [f"mlnet-{number}-{side}" for side in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip(
            "link",
            "add",
            f"mv{number}a",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "name",
            f"mv{number}b",
            "netns",
            names[1],
        )
        for side, (letter, name) in enumerate(zip("ab", names, strict=True), start=1):
            ip("-n", name, "addr", "add", f"10.203.{number}.{side}/24", "dev", f"mv{number}{letter}")
            ip("-n", name, "link", "set", f"mv{number}{letter}", "up")
            ip("-n", name, "link", "set", "lo", "up")
    except subprocess.CalledProcessError as error:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.decode().strip()}")
    yield names
    for name in names:
        ip("netns", "delete", name)


@pytest.mark.parametrize(
    ("each", "options"), [(3, ()), (2, ("--tunnel-training",))], ids=["direct", "tunnel"]
)
async def test_one_task_over_two_hosts(hosts: list[str], each: int, options: tuple[str, ...]) -> None:
    """By way of the tunnel, each trainer listens on loopback, where the other host cannot reach it."""
    async with mission(0) as net:
        anywhere = "/ip4/0.0.0.0/tcp/0"
        for host in hosts:
            for _ in range(each):
                await net.start_one(*options, prefix=("ip", "netns", "exec", host), listen=anywhere)
        assert all(node.address.startswith("/ip4/10.203.") for node in net.nodes)
        file = net.definition(max_nodes=2 * each)
        process = await net.spawn(
            "submit", str(file), "--peer", net.peers[0], "--json", prefix=("ip", "netns", "exec", hosts[1])
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        result = json.loads(out)
        assert len(result["nodes"]) == 2 * each
        assert set(result["nodes"]) == {node.peer_id for node in net.nodes}
        assert result["accuracy"]["held_out"] > 0.8
