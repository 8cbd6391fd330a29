"""The programs in ``examples/``, as the documents have a reader run them, on one network."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from support.cluster import EXAMPLE, ROOT, Mission, mission

from mlnet.errors import TaskCancelled, TooFewNodes

EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.timeout(300)


async def run(net: Mission, example: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """An example in a directory of its own: exit status, standard output, standard error."""
    directory = net.base / Path(example).stem
    directory.mkdir()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / example), *arguments),
        env=net.environment | environment,
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
        told, _ = await asyncio.gather(
            net.start_one("--tasks", "4", "--dataset-root", str(EXAMPLE.parent)),
            net.start_one("--tasks", "4"),
        )
        (other,) = [node for node in net.nodes if node is not told]
        socket = str(told.data_dir / "api.sock")
        assert await run(net, "send.py", socket, other.address) == (0, "taken, and not passed on\n", "")
        # A node is no member of its own tasks.
        await net.start_one("--tasks", "4", peers=[told.address])

        # One of them trains. The tasks of the others ask for more than a node has: no trainer is started.
        huge = {"cpus": 65536}
        hasty, soon = (str(net.definition(waiting_period="2s", requirements=huge)) for _ in range(2))
        patient = str(net.definition(requirements=huge))
        submitted, stubbed, watched, limited = await asyncio.gather(
            run(net, "submit.py", str(net.definition(max_nodes=2)), MLNET_NODE=socket),
            run(net, "stub.py", socket, soon),
            run(net, "watch.py", hasty, MLNET_NODE=socket),
            run(net, "custom_client.py", told.address, patient, "--seconds", "1"),
        )
        assert list((net.base / "submit").glob("mlnet-*/model.safetensors"))

    status, out, err = submitted
    assert status == 0, err
    assert out.splitlines()[0].startswith("task ")
    assert " completed, held-out accuracy 0." in out
    assert "Linear(in_features=64, out_features=128, bias=True)" in out

    status, out, err = stubbed
    assert status == 0, err
    lines = [line.split() for line in out.splitlines()[:-1]]
    assert [int(number) for number, _ in lines] == list(range(1, len(lines) + 1))
    assert (lines[0][1], lines[-1][1]) == ("phase", "ended")

    status, out, err = watched
    assert status == TooFewNodes.exit_code, err
    assert "does not take part: " in out
    assert out.splitlines()[-1].partition(" ")[2].startswith("failed ")

    status, out, err = limited
    assert (status, out) == (TaskCancelled.exit_code, "cancelled no model after 1 s\n"), err


def test_every_example_is_run() -> None:
    here = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in here] == []
