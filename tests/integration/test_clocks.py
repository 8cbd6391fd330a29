"""A whole task in which two clocks are wrong, and addresses that answer nothing: real processes."""

from __future__ import annotations

import json
import shutil
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


async def test_submit_says_at_once_what_an_address_answers() -> None:
    async with mission(0) as net:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
            peer = Identity(bytes(32)).peer_id
            address = f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}/p2p/{peer}"
            status, _, err = await net.run("submit", str(net.definition(max_nodes=3)), "--peer", address)
    assert status == 21
    said = err.index("refused; nothing listens there")
    assert said < err.index("no peer answered within")
    assert "refused" in err[err.index("no peer answered within") :]
