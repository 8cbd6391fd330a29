"""The trainer's process: it ends when it should, and says why."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.datasets import definition, save_npz

from mlnet.data import split
from mlnet.errors import DataError, TrainingError
from mlnet.task import definition as task_definition
from mlnet.task.schema import Initializer
from mlnet.training import architecture
from mlnet.training.child import carry_out
from mlnet.training.ipc import ChildReady, Failed, ScoreJob, decode_event
from mlnet.training.model import build, save_model
from mlnet.training.process import Trainer

PATH = os.pathsep.join(filter(None, sys.path))
pytestmark = pytest.mark.timeout(180)


@contextmanager
def watched(pid: int) -> Iterator[int]:
    """A descriptor that is readable once the process has ended."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def has_ended(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])


def bad_score() -> ScoreJob:
    return ScoreJob(task_definition.to_plain(definition()), "/missing", ("/missing",))


async def drain(trainer: Trainer, plan: ScoreJob) -> None:
    async for _ in trainer.run(plan):
        pass


async def test_a_plan_that_fails_gives_its_reason_and_ends_the_child() -> None:
    trainer = await Trainer.start()
    with watched(trainer.pid) as descriptor:
        try:
            with pytest.raises(DataError, match="/missing"):
                await drain(trainer, bad_score())
            assert await asyncio.to_thread(has_ended, descriptor, 20)
        finally:
            await trainer.stop()
            await trainer.stop()


async def test_a_stopped_child_is_gone_and_says_so() -> None:
    trainer = await Trainer.start()
    with watched(trainer.pid) as descriptor:
        await trainer.stop()
        assert has_ended(descriptor, 0)
    with pytest.raises(TrainingError, match=r"the trainer ended \(killed by SIGTERM\)"):
        await trainer.ready()


async def test_a_child_that_cannot_start_says_why() -> None:
    trainer = await Trainer.start(env={"PATH": os.environ["PATH"], "PYTHONHOME": "/missing"})
    try:
        with pytest.raises(TrainingError, match=r"the trainer ended \(exit status 1\): "):
            await trainer.ready()
    finally:
        await trainer.stop()


async def test_a_frozen_child_is_noticed() -> None:
    trainer = await Trainer.start()
    try:
        os.kill(trainer.pid, signal.SIGSTOP)
        with pytest.raises(TrainingError, match=r"more than 0\.5 s to import torch"):
            await trainer.ready(0.5)
    finally:
        await trainer.stop()


async def test_memory_is_limited(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "wide.npz", 40, inputs=200_000)
    wanted = definition(
        dataset={"source": {"features": str(path)}},
        layers=[{"id": 1, "type": "Dense", "nodes": 3}],
    )
    segments = split(wanted, tmp_path, tmp_path).files
    save_model(
        build(architecture.of_definition(wanted, 200_000), Initializer(), bytes(8)),
        tmp_path / "model",
    )
    plan = ScoreJob(task_definition.to_plain(wanted), str(tmp_path / "model"), (str(segments[0]),))
    trainer = await Trainer.start(memory=1 << 20)
    try:
        with pytest.raises(TrainingError, match="memory"):
            await drain(trainer, plan)
    finally:
        await trainer.stop()


def start_worker(stdin: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "mlnet.training.worker", str(os.getpid())],
        stdin=stdin,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": PATH},
    )


def test_end_of_input_before_the_plan_ends_it_quietly() -> None:
    with start_worker(subprocess.DEVNULL) as worker:
        output, _ = worker.communicate(timeout=100)
    assert worker.returncode == 0
    assert [decode_event(line) for line in output.splitlines()] == [ChildReady()]


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b'{"command":"train"}\n', b"\xff" * 100, b"[" * 5000])
def test_a_plan_that_is_none(line: bytes) -> None:
    outcome, code = carry_out(line, lambda event: None)
    assert isinstance(outcome, Failed)
    assert code == TrainingError.exit_code


def test_the_child_dies_with_its_parent() -> None:
    program = (
        "import asyncio\n"
        "from mlnet.training.process import Trainer\n"
        "async def main():\n"
        "    trainer = await Trainer.start()\n"
        "    await trainer.ready()\n"
        "    print(trainer.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": PATH}
    ) as parent:
        assert parent.stdout is not None
        with watched(int(parent.stdout.readline())) as descriptor:
            assert not has_ended(descriptor, 0)
            parent.kill()
            assert has_ended(descriptor, 20)
