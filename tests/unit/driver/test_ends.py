"""Whatever operation on the disk fails, at an end or in the middle: others hear at once, everything is let
go, nothing that was trained is lost, nothing is signed twice.

Each call breaks in each way that can meet it, on each kind of file, in turn; what a task does often, such as
to write its journal, breaks at several moments. Each single operation breaks in each way with::

    MLNET_ALL_FAULTS=1 pytest tests/unit/driver/test_ends.py
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest
from support.broken_disk import (
    FAULTS,
    MODEL,
    Disk,
    Fault,
    Hub,
    InstantRun,
    LocalNetwork,
    breaking,
    in_one_process,
    small_task,
    tensors,
)

import mlnet.node.server
from mlnet.client import connecting
from mlnet.client.result import Result
from mlnet.driver import journal
from mlnet.driver.options import ClientOptions, NodeOptions
from mlnet.driver.transcript import read
from mlnet.errors import MlnetError, StorageError
from mlnet.node.ledger import Ledger
from mlnet.protocol.commands import Report
from mlnet.protocol.node import Terms
from mlnet.protocol.signer import IdentitySigner
from mlnet.protocol.wire.messages import Resources

SECONDS = 2.0
"""For a whole task without torch or Redis; nobody waits for a party whose disk is broken."""
NODES = 3
SPREAD = 4
"""At how many places, at least, an operation breaks that a task carries out often."""
EVERY = bool(os.environ.get("MLNET_ALL_FAULTS"))
"""Each operation in each way, in place of each kind."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    return in_one_process(monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return small_task(tmp_path, max_nodes=8)


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine loses its power here: where fsync is not to fail, it need not do anything."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@asynccontextmanager
async def nodes(base: Path, names: list[str]) -> AsyncIterator[list[mlnet.node.server.NodeServer]]:
    terms = Terms(Resources(8192, 4))
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(mlnet.node.server.running(NodeOptions(base / name, terms=terms)))
            for name in names
        ]


async def carry_out(
    base: Path, file: Path, *, resume: str | None = None, output: Path | None = None
) -> Result:
    """One task, announced or taken up; the waiting ends when all nodes have said something."""
    heard: list[Report] = []
    options = ClientOptions(base / "client")
    async with connecting.connected(options, resume=resume) as party:

        def observe(report: Report) -> None:
            heard.append(report)
            if report.what in ("answer", "note") and party._submissions:
                (one,) = party._submissions.values()
                if one.gathering and sum(r.what in ("answer", "note") for r in heard) >= NODES:
                    asyncio.get_running_loop().call_soon(one.close_enrolment)

        if resume is not None:
            submission = await party.resume(resume, output=output, observe=observe)
        else:
            submission = await party.submit(file, output=output or base / "out", observe=observe)
        return await submission.result()


def open_below(base: Path) -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:
            continue
    return [path for path in found if path.startswith(f"{base}/") and not path.endswith("/lock")]


def well_formed(base: Path, signer: IdentitySigner) -> None:
    """Whatever is left can be read."""
    for path in base.glob("*/tasks/*/journal"):
        list(journal.replay(path, signer.verify))
    for path in base.glob("*/transcripts/*.jsonl"):
        if path.stat().st_size:
            read(path, signer.verify)
    for path in base.glob("*/ledger"):
        Ledger(path).receipts()


async def mission(base: Path, file: Path, disk: Disk) -> Result | MlnetError:
    names = [f"n{number}" for number in range(NODES)]
    ended: Result | MlnetError
    async with nodes(base, names) as servers:
        with breaking(disk):
            try:
                async with asyncio.timeout(SECONDS):
                    ended = await carry_out(base, file)
            except MlnetError as error:
                ended = error
            except TimeoutError:
                waits = [
                    {t: (str(m.phase), str(m.waiting)) for t, m in s.node.members.items()} for s in servers
                ]
                said = [(s[-6:], p) for s, t, p in LocalNetwork.hub.said if "TASK_FAILED" in str(p)]
                raise AssertionError((disk.fault, waits, LocalNetwork.hub.errors, said)) from None
            async with asyncio.timeout(SECONDS):
                if not isinstance(ended, StorageError):  # else the nodes keep what they have for the client
                    while InstantRun.running or any(server._endings for server in servers):  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
        if not isinstance(ended, StorageError):
            assert not any(server.node.busy for server in servers)
            assert not open_below(base), open_below(base)
        well_formed(base, servers[0].wire.signer)
    InstantRun.running.clear()
    return ended


def judge(base: Path, ended: Result | MlnetError) -> None:
    if isinstance(ended, Result) and ended.state == "completed":
        assert ended.model is not None
        assert tensors(Path(ended.model.path).read_bytes()) == tensors(MODEL)
    else:
        assert str(ended.error if isinstance(ended, Result) else ended)
        assert not (base / "out").exists()


async def faults(base: Path, file: Path, victim: str) -> list[Fault]:
    """What breaks in a run each, from the operations of a task that goes well."""
    disk = Disk(base / victim, Fault(0, (), False))
    ended = await mission(base, file, disk)
    assert isinstance(ended, Result), ended
    assert ended.state == "completed", ended.reason
    assert disk.count > 50
    if EVERY:
        return [
            replace(fault, at=at)
            for at, (call, _) in enumerate(disk.calls)
            for fault in FAULTS.values()
            if call in fault.calls
        ]
    kinds: dict[str, dict[str, list[int]]] = {}
    for at, (call, place) in enumerate(disk.calls):
        kinds.setdefault(call, {}).setdefault(place, []).append(at)
    found = []
    for call, files in kinds.items():
        meet = [fault for fault in FAULTS.values() if call in fault.calls]
        places = [at for ats in files.values() for at in ats[:: max(1, len(ats) // SPREAD)]]
        runs = zip(range(max(len(meet), len(places))), cycle(meet), cycle(places), strict=False)
        found += [replace(fault, at=at) for _, fault, at in runs]
    return found


async def restarted(base: Path, hub: Hub) -> None:
    """The disks are well again: what was said before is said again alike or not at all."""
    async with nodes(base, [f"n{number}" for number in range(NODES)]) as servers:
        for _ in range(20):
            await asyncio.sleep(0)
        assert not any(server.node.busy for server in servers)
    assert not hub.contradictions(), hub.contradictions()


@pytest.mark.timeout(240)
async def test_a_node_whose_disk_fails_at_any_operation(tmp_path: Path, file: Path, hub: Hub) -> None:
    for number, fault in enumerate(await faults(tmp_path / "well", file, "n1")):
        base = tmp_path / str(number)
        ended = await mission(base, file, Disk(base / "n1", fault))
        judge(base, ended)
        assert isinstance(ended, Result), (fault, ended)
        await restarted(base, hub)
        assert not hub.errors, (fault, hub.errors)


@pytest.mark.timeout(240)
async def test_a_client_whose_disk_fails_at_any_operation(tmp_path: Path, file: Path, hub: Hub) -> None:
    for number, fault in enumerate(await faults(tmp_path / "well", file, "client")):
        base = tmp_path / str(number)
        ended = await mission(base, file, Disk(base / "client", fault))
        judge(base, ended)
        assert all(isinstance(error, StorageError) for error in hub.errors), (fault, hub.errors)
        hub.errors.clear()
        assert not hub.contradictions(), hub.contradictions()


async def test_a_model_that_cannot_be_delivered_is_kept_and_delivered_elsewhere(
    tmp_path: Path, file: Path, hub: Hub
) -> None:
    """The directory is somebody else's by the time that the model is there; nobody need be there any more."""
    async with nodes(tmp_path, [f"n{number}" for number in range(NODES)]):
        blocked = asyncio.create_task(carry_out(tmp_path, file))
        while not InstantRun.running:  # noqa: ASYNC110
            await asyncio.sleep(0)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").write_text("")
        kept = await blocked
    assert kept.state == "completed"
    assert isinstance(kept.error, StorageError)
    assert "is not empty" in kept.reason
    assert f"--resume {kept.task[:12]}" in kept.reason
    assert kept.model is not None
    judge(tmp_path / "nowhere", kept)
    assert kept.model.path in kept.reason
    with pytest.raises(MlnetError, match="is not empty"):
        await carry_out(tmp_path, file, resume=kept.task[:12])
    elsewhere = tmp_path / "a" / "b"
    done = await carry_out(tmp_path, file, resume=kept.task[:12], output=elsewhere)
    assert done.error is None
    assert tensors((elsewhere / "model.safetensors").read_bytes()) == tensors(MODEL)
    assert (elsewhere / "result.json").is_file()
    assert not list((tmp_path / "client" / "tasks").iterdir())


@pytest.mark.parametrize("name", ["a file", "below a file", "full", "the data directory"])
async def test_an_output_is_looked_at_before_the_task_is_announced(
    name: str, tmp_path: Path, file: Path, hub: Hub
) -> None:
    (tmp_path / "file").write_text("")
    output = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "out",
        "full": tmp_path,
        "the data directory": tmp_path / "client" / "tasks" / "out",
    }[name]
    with pytest.raises(MlnetError, match="choose another directory with --output"):
        await carry_out(tmp_path, file, output=output)
    assert not hub.said
