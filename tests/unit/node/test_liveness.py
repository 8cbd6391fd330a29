"""What is said of a task's children that end, and of a node that has no room for a task."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.datasets import definition

from mlnet.driver.options import NodeOptions
from mlnet.errors import MlnetError, StorageError, StoreError, TrainingError
from mlnet.node.task import NodeTask
from mlnet.node.training import TaskTraining
from mlnet.protocol.events import Event, Restarted
from mlnet.task.segments import Segment
from mlnet.training.process import Trainer
from mlnet.util import files
from mlnet.util.subprocesses import how_it_ended, spawn


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exit status 0"),
        (3, "exit status 3"),
        (-signal.SIGKILL, "killed by SIGKILL: out of memory?"),
        (-signal.SIGSEGV, "killed by SIGSEGV"),
        (-200, "killed by signal 200"),
    ],
)
def test_how_a_child_ended(status: int, words: str) -> None:
    assert how_it_ended(status) == words


async def test_a_trainer_that_dies_says_its_last_words_to_all_who_wait() -> None:
    process = await spawn(
        ["/bin/sh", "-c", "echo first >&2; echo no memory >&2; exit 3"],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    trainer = Trainer(process)
    async with asyncio.timeout(10):
        cancelled, first, second = (asyncio.create_task(trainer.died()) for _ in range(3))
        await asyncio.sleep(0)
        cancelled.cancel()
        assert await first == await second == "trainer ended (exit status 3): no memory"
        with pytest.raises(TrainingError, match=r"^the trainer ended \(exit status 3\): no memory$"):
            await trainer.ready()
    await trainer.stop()


async def failing(error: MlnetError) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TrainingError("its trainer ended (exit status 1)"), "its trainer ended (exit status 1)"),
        (
            StoreError("its Redis server ended (killed by SIGSEGV)"),
            "its Redis server ended (killed by SIGSEGV)",
        ),
    ],
)
async def test_a_child_that_dies_is_told_until_the_training_looks_after_it(
    error: MlnetError, words: str, tmp_path: Path
) -> None:
    told: list[Event] = []
    heard = asyncio.Event()

    def tell(event: Event) -> None:
        told.append(event)
        heard.set()

    wire: Any = SimpleNamespace(network=SimpleNamespace(peer_id="me"))
    place = (tmp_path, lambda: tmp_path)
    run = NodeTask("ab" * 32, "client", definition(), wire, NodeOptions(tmp_path), *place, tell)
    run._start(failing(error), run._watches)
    await heard.wait()
    assert told == [Restarted(f"the node cannot go on: {words}")]
    run._start(failing(error), run._watches)
    run._unwatch()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(told) == 1


async def test_a_node_looks_for_room_before_it_downloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody: Any = None
    place = (tmp_path, lambda: tmp_path)
    training = TaskTraining(
        "ab" * 32, "client", definition(), nobody, nobody, NodeOptions(tmp_path), *place, print
    )
    plan: Any = SimpleNamespace(segments=[Segment("cd" * 32, 1 << 20, 10)] * 10, nodes=["me"])
    monkeypatch.setattr(files, "free", lambda _: 1 << 20)
    with pytest.raises(StorageError, match=r"1\.0 MiB free, but .* 10\.0 MiB; free some space, or ") as told:
        await training._fetch_segments(1, plan, 0)
    assert "the segments to train on take" in str(told.value)
    assert str(told.value).endswith("start the node with another --data-dir")
