"""Deaths in each phase, wrong bytes, interrupts: it ends with a reason and leaves nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support.cluster import Mission, NodeProcess, Watch, mission

from mlnet.node.ledger import Ledger
from mlnet.protocol.commands import Report

pytestmark = pytest.mark.timeout(240)

TRAINER, REDIS = b"training.worker", b"-server"
"""Words of the command lines of a node's children."""
UNHURRIED = 3.0
TOLD_SECONDS = 15.0
"""Until others have heard of a failure: half of the shortest deadline, with that patience, after which they
would have noticed it by themselves; who knows it earlier was told, and a busy machine has the time."""
BALLAST = "ballast"


def can_mount() -> bool:
    with tempfile.TemporaryDirectory() as place:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "mlnet", place], capture_output=True, check=False)
        if mounted.returncode == 0:
            subprocess.run(["umount", place], check=True)
        return mounted.returncode == 0


async def free_again(net: Mission) -> None:
    """The nodes answer another task: nothing of the last one holds them."""
    watch = Watch()
    async with net.client("again") as client:
        submission = await client.submit(net.definition(), observe=watch)
        await watch.answers(sum(node.process.returncode is None for node in net.nodes), seconds=90)
        submission.cancel()
        result = await submission.result()
    assert result.state == "cancelled", result.reason


async def train_again(net: Mission) -> None:
    """The nodes take another task and finish it."""
    watch = Watch()
    async with net.client("again") as client:
        submission = await client.submit(net.definition(), output=net.base / "again-out", observe=watch)
        await watch.answers(sum(node.process.returncode is None for node in net.nodes), seconds=90)
        submission.close_enrolment()
        result = await submission.result()
    assert result.state == "completed", result.reason


async def line_with(process: asyncio.subprocess.Process, words: bytes, seconds: float = 90.0) -> None:
    """Read what a command shows until a line has these words."""
    assert process.stderr is not None
    async with asyncio.timeout(seconds):
        while words not in (line := await process.stderr.readline()):
            assert line, f"the command ended before it showed {words.decode()}"


@pytest.mark.parametrize("phase", ["measuring", "ready", "ballots"])
async def test_a_node_that_is_killed_while_the_cluster_forms(phase: str) -> None:
    """Before the task is bound the cluster forms without it; the moment after, the task fails by name."""
    watch = Watch()
    async with mission(4, patience=0.2) as net:
        victim = net.nodes[3]

        def observe(report: Report) -> None:
            watch(report)
            if report.what == "phase" and report.data["phase"] == phase:
                victim.kill()

        async with net.client() as client:
            submission = await client.submit(net.definition(), output=net.base / "out", observe=observe)
            await watch.answers(4)
            submission.close_enrolment()
            result = await submission.result()
        await victim.process.wait()
        if result.state == "completed":
            assert victim.peer_id not in result.nodes
        else:
            assert submission.machine.bound
            assert result.code in ("NodeLost", "TrainingError"), result
            assert not (net.base / "out").exists()
            await free_again(net)


async def test_a_node_that_is_killed_before_the_first_step_ends_the_task_by_name_and_soon() -> None:
    watch = Watch()
    async with mission(3) as net:
        victim = net.nodes[1]

        def observe(report: Report) -> None:
            watch(report)
            if report.what == "phase" and report.data["phase"] == "training":
                victim.kill()

        async with net.client() as client:
            submission = await client.submit(net.definition(), output=net.base / "out", observe=observe)
            await watch.answers(3)
            submission.close_enrolment()
            await watch.phase("training")
            async with asyncio.timeout(30):
                result = await submission.result()
        assert not watch.of("progress")
        assert result.state == "failed"
        assert result.code == "NodeLost"
        assert f"no message from {victim.peer_id}" in result.reason
        assert f"{victim.peer_id} is lost" in result.reason
        await free_again(net)


async def test_a_trainer_that_dies_before_the_first_step_ends_the_task_by_its_own_word() -> None:
    watch = Watch()
    async with mission(3) as net:

        def observe(report: Report) -> None:
            watch(report)
            if report.what == "phase" and report.data["phase"] == "training":
                for pid in trainers(net.nodes[1].process.pid):
                    signal_safely(pid, signal.SIGKILL)

        async with net.client() as client:
            submission = await client.submit(net.definition(), output=net.base / "out", observe=observe)
            await watch.answers(3)
            submission.close_enrolment()
            await watch.phase("training")
            async with asyncio.timeout(30):
                result = await submission.result()
        assert not watch.of("progress")
        assert result.state == "failed"
        # The client may be in this phase a moment before the member, which is then out before it has trained.
        assert result.code in ("TrainingError", "NodeLost")
        assert "trainer ended (killed by SIGKILL: out of memory?)" in result.reason
        await free_again(net)


async def test_a_child_that_dies_before_training_is_told_at_once_and_a_server_not_missed_later() -> None:
    """A trainer while its node waits, a server while the cluster forms, one once the trainers have met."""
    watch = Watch()
    async with mission(4, patience=UNHURRIED) as net:
        seated, forming, training = net.nodes[1:]
        killed: dict[str, float] = {}

        def observe(report: Report) -> None:
            watch(report)
            moment = report.data.get("phase") if report.what == "phase" else report.what
            if moment == "measuring" and "forming" not in killed:
                killed["forming"] = kill_child(forming, REDIS)
            elif moment == "progress" and "training" not in killed:
                killed["training"] = kill_child(training, REDIS)

        async with net.client() as client:
            file = net.definition(min_nodes=2)
            submission = await client.submit(file, output=net.base / "out", observe=observe)
            await watch.answers(4)
            at = kill_child(seated, TRAINER)
            note = await said_by(seated, watch)
            assert time.monotonic() - at < TOLD_SECONDS
            reason = "the node cannot go on: its trainer ended (killed by SIGKILL: out of memory?)"
            assert note["reason"] == reason
            submission.close_enrolment()
            note = await said_by(forming, watch)
            assert time.monotonic() - killed["forming"] < TOLD_SECONDS
            assert note["reason"].startswith(
                "the node cannot go on: its Redis server ended (killed by SIGKILL"
            )
            result = await submission.result()
        assert result.state == "completed", result.reason
        assert "training" in killed
        assert set(result.nodes) == {net.nodes[0].peer_id, training.peer_id}
        await free_again(net)


@pytest.mark.skipif(not can_mount(), reason="mounting a tmpfs needs privileges that these tests do not have")
async def test_a_node_whose_disk_fills_up_while_the_cluster_forms_is_out_at_once() -> None:
    watch = Watch()
    async with mission(2, patience=UNHURRIED) as net:
        with tmpfs(net.base / "full") as disk:
            victim = await net.start_one(data_dir=disk / "n")
            filled: list[float] = []

            def observe(report: Report) -> None:
                watch(report)
                if report.what == "phase" and report.data["phase"] == "measuring" and not filled:
                    fill(disk)
                    filled.append(time.monotonic())

            async with net.client() as client:
                file = net.definition(min_nodes=2)
                submission = await client.submit(file, output=net.base / "out", observe=observe)
                await watch.answers(3)
                submission.close_enrolment()
                note = await said_by(victim, watch)
                assert time.monotonic() - filled[0] < TOLD_SECONDS
                assert "cannot write to its disk: No space left on device" in note["reason"]
                result = await submission.result()
            assert result.state == "completed", result.reason
            assert victim.peer_id not in result.nodes
            assert victim.process.returncode is None
            assert not children(victim.process.pid)
            (disk / BALLAST).unlink()
            await free_again(net)
            assert await victim.stop() == 0


@contextmanager
def tmpfs(place: Path) -> Iterator[Path]:
    """A file system with little more than a node needs; it is gone afterwards, whoever still uses it."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "mlnet", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path) -> None:
    """Leave no byte."""
    with (place / BALLAST).open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


async def said_by(node: NodeProcess, watch: Watch) -> Mapping[str, Any]:
    """The first note of a node."""

    def notes() -> list[Mapping[str, Any]]:
        return [note for note in watch.of("note") if note["peer"] == node.peer_id]

    await watch.until(lambda: bool(notes()), seconds=30)
    return notes()[0]


def kill_child(node: NodeProcess, words: bytes) -> float:
    """Kill the one child of a node whose command line has these words; when."""
    (pid,) = [pid for pid in children(node.process.pid) if words in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(pid, signal.SIGKILL)
    return time.monotonic()


async def test_a_node_that_is_killed_in_training_ends_the_task_by_name_and_soon() -> None:
    watch = Watch()
    async with mission(3) as net:
        async with net.client() as client:
            submission = await client.submit(net.definition(), output=net.base / "out", observe=watch)
            await watch.answers(3)
            submission.close_enrolment()
            await watch.until(lambda: bool(watch.of("progress")), seconds=90)
            net.nodes[1].kill()
            async with asyncio.timeout(30):
                result = await submission.result()
        assert result.state == "failed"
        assert result.code == "NodeLost"
        assert net.nodes[1].peer_id in result.reason
        assert not (net.base / "out").exists()
        await train_again(net)


async def test_a_node_that_freezes_in_training_is_noticed() -> None:
    watch = Watch()
    async with mission(3, patience=0.1) as net:
        async with net.client() as client:
            submission = await client.submit(net.definition(), output=net.base / "out", observe=watch)
            await watch.answers(3)
            submission.close_enrolment()
            await watch.until(lambda: bool(watch.of("progress")), seconds=90)
            victim = net.nodes[1]
            victim.process.send_signal(signal.SIGSTOP)
            stopped = [pid for pid in children(victim.process.pid) if stop(pid)]
            assert stopped
            async with asyncio.timeout(60):
                result = await submission.result()
        for pid in stopped:
            signal_safely(pid, signal.SIGCONT)
        victim.process.send_signal(signal.SIGCONT)
        assert result.state == "failed", result
        assert result.code in ("NodeLost", "TrainingError")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def trainers(node: int) -> list[int]:
    found = [pid for pid in children(node) if b"training.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert found
    return found


def signal_safely(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def stop(pid: int) -> bool:
    return signal_safely(pid, signal.SIGSTOP)


async def test_a_segment_with_other_bytes_is_not_trained_on() -> None:
    watch = Watch()
    async with mission(2, patience=0.3) as net:
        async with net.client() as client:
            submission = await client.submit(net.definition(), output=net.base / "out", observe=watch)
            for path in (net.base / "client" / "tasks" / submission.task).glob("*.safetensors"):
                data = bytearray(path.read_bytes())
                data[-1] ^= 1
                path.write_bytes(data)
            await watch.answers(2)
            submission.close_enrolment()
            result = await submission.result()
        assert result.state == "failed"
        assert result.code == "TrainingError"
        assert "hash" in result.reason


async def test_an_interrupted_submit_cancels_its_task_and_frees_the_nodes() -> None:
    async with mission(2) as net:
        process = await net.spawn(
            "submit", str(net.definition()), "--peer", net.peers[0], "--json", "--output", "o"
        )
        for _ in range(2):
            await line_with(process, b"port open")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        assert process.returncode == 130, err.decode()
        assert json.loads(out)["state"] == "cancelled"
        assert b"Traceback" not in err
        assert not (net.base / "o").exists()
        await free_again(net)


@pytest.mark.parametrize("phase", ["gathering", "training"])
async def test_a_client_that_is_killed_leaves_free_nodes(phase: str) -> None:
    async with mission(2, patience=0.15) as net:
        file = net.definition(waiting_period="3s")
        process = await net.spawn(
            "submit", str(file), "--peer", net.peers[0], "--output", "o", "--patience", "0.15"
        )
        await line_with(process, b"port open" if phase == "gathering" else b"Training")
        process.kill()
        net.abandoned = True
        await process.communicate()
        await free_again(net)


async def test_a_killed_client_takes_its_task_up_again_and_gets_the_model() -> None:
    async with mission(3) as net:
        process = await net.spawn(
            "submit", str(net.definition(max_nodes=3)), "--peer", net.peers[0], "--output", "out"
        )
        await line_with(process, b"epoch 1 ")
        process.kill()
        await process.communicate()
        tasks = [path.name for path in (net.base / "home" / "mlnet" / "client" / "tasks").iterdir()]
        assert len(tasks) == 1
        status, out, err = await net.run("submit", "--resume", tasks[0], "--peer", net.peers[0], "--json")
        assert status == 0, err
        result = json.loads(out)
        assert result["state"] == "completed"
        assert result["model"]["path"] == str(net.base / "out" / "model.safetensors")
        for node in net.nodes:
            (receipt,) = Ledger(node.data_dir / "ledger").receipts()
            assert receipt.amount == result["rewards"][node.peer_id]


async def test_a_node_that_was_killed_withdraws_when_it_comes_back() -> None:
    watch = Watch()
    async with mission(3) as net:
        async with net.client() as client:
            submission = await client.submit(net.definition(), output=net.base / "out", observe=watch)
            await watch.answers(3)
            victim = net.nodes[2]
            victim.kill()
            await victim.process.wait()
            await net.start_one(data_dir=victim.data_dir)
            await watch.until(lambda: bool(watch.of("note")), seconds=30)
            assert watch.of("note")[0]["reason"] == "the node was stopped or restarted"
            submission.close_enrolment()
            result = await submission.result()
        assert result.state == "completed", result.reason
        assert victim.peer_id not in result.nodes


async def test_a_demonstration_that_is_interrupted_leaves_nothing() -> None:
    async with mission(0) as net:
        process = await net.spawn("demo", "--nodes", "2", "--output", "out")
        await line_with(process, b"listens at")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            _, err = await process.communicate()
        assert process.returncode == 130, err.decode()
        assert b"Traceback" not in err
        assert not (net.base / "out").exists()
