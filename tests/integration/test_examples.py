"""The programs in ``examples/``, as the documents have a reader run them, on one network."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from support.cluster import ROOT, Mission, mission

from mlnet.errors import TaskCancelled, TooFewNodes

EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.timeout(300)


async def run(net: Mission, example: str, *arguments: str) -> tuple[int, str, str]:
    """An example in a directory of its own: exit status, standard output, standard error."""
    directory = net.base / Path(example).stem
    directory.mkdir()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / example), *arguments),
        env=net.environment,
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(250):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_every_example_does_what_it_says() -> None:
    async with mission(0) as net:
        # They start at the same time, so that neither joins the other: what send.py hands in makes them meet.
        told, _ = await asyncio.gather(net.start_one("--tasks", "4"), net.start_one("--tasks", "4"))
        (other,) = [node for node in net.nodes if node is not told]
        socket = str(told.data_dir / "api.sock")
        assert await run(net, "send.py", socket, other.address) == (0, "taken, and not passed on\n", "")

        # One of them trains. The tasks of the others ask for more than a node has: no trainer is started.
        huge = {"cpus": 65536}
        hasty = str(net.definition(waiting_period="2s", requirements=huge))
        patient = str(net.definition(requirements=huge))
        submitted, watched, limited = await asyncio.gather(
            run(net, "submit.py", told.address, str(net.definition(max_nodes=2))),
            run(net, "watch.py", told.address, hasty),
            run(net, "custom_client.py", told.address, patient, "--seconds", "1"),
        )

    status, out, err = submitted
    assert status == 0, err
    assert out.startswith("completed held-out accuracy 0.")
    assert "Linear(in_features=64, out_features=128, bias=True)" in out

    status, out, err = watched
    assert status == TooFewNodes.exit_code, err
    reports = [json.loads(line) for line in out.splitlines()]
    assert "processors" in next(report["reason"] for report in reports if report["what"] == "note")
    assert reports[-1]["phase"] == "ended"
    assert err.startswith("failed: ")

    status, out, err = limited
    assert (status, out) == (TaskCancelled.exit_code, "cancelled no model after 1 s\n"), err


def test_every_example_is_run() -> None:
    here = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in here] == []
