"""A whole task in which two clocks are wrong, and addresses that answer nothing: real processes."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from support.cluster import Mission, mission

from mlnet.identity.keys import Identity

pytestmark = pytest.mark.timeout(240)
HOUR = 3_600_000


def wrong_clock(net: Mission, name: str, milliseconds: int) -> tuple[str, ...]:
    """What is put before a command so that its clock is off."""
    library, file = net.base / "clock.so", net.base / name
    if not library.exists():
        source = Path(__file__).parent.parent / "support" / "clock.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    file.write_text(str(milliseconds))
    return ("env", f"LD_PRELOAD={library}", f"TEST_CLOCK={file}")


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
async def test_a_task_of_a_client_and_a_node_whose_clocks_are_hours_off() -> None:
    async with mission(2) as net:
        late = await net.start_one(prefix=wrong_clock(net, "late", -3 * HOUR))
        net.nodes.append(late)
        file = net.definition(max_nodes=3, min_nodes=3)
        process = await net.spawn(
            "submit",
            str(file),
            "--peer",
            net.peers[0],
            "--json",
            "--output",
            "out",
            prefix=wrong_clock(net, "early", 5 * HOUR),
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        assert len(json.loads(out)["nodes"]) == 3
        assert "h ahead of" in err.decode() or "h behind" in err.decode()
        assert " h ahead of this machine's" in late.log.read_text()
        assert " h behind this machine's" in net.nodes[0].log.read_text()


async def test_submit_says_at_once_what_an_address_answers_and_waits_for_a_node_to_start_there() -> None:
    async with mission(0) as net:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
            where = f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}"
            node = Identity.load_or_create(net.base / "node" / "identity.key")
            file = str(net.definition(max_nodes=3))
            client = await net.spawn("submit", file, "--peer", f"{where}/p2p/{node.peer_id}")
            await until(client, "refused; nothing listens there")
            await until(client, "waits for a peer to answer, for at most 1:00")
        started = await net.start_one(data_dir=net.base / "node", listen=where)
        await until(client, "1  Gather")
        client.send_signal(signal.SIGINT)  # so early that the node has not answered, and may not have heard
        await client.communicate()
        assert client.returncode == 130
        assert "over, cancelled" in started.log.read_text()


async def until(process: asyncio.subprocess.Process, words: str) -> None:
    """Read what it says until it has said that."""
    assert process.stderr is not None
    said = b""
    async with asyncio.timeout(60):
        while words not in said.decode():
            line = await process.stderr.readline()
            assert line, said.decode()
            said += line
