"""What the commands that run on this machine alone show, and what a node tells at its start and end."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.datasets import definition_text, save_npz
from support.definitions import EXAMPLE
from support.message_cases import Case, check

from mlnet.cli import demo, doctor, predict, replay, validate
from mlnet.cli.controls import Controls
from mlnet.cli.doctor import Check
from mlnet.cli.start import welcome
from mlnet.net.transport.reach import REACHED, UNKNOWN
from mlnet.node.ledger import Ledger, Receipt
from mlnet.util import capacity, hosts, sockets

PEER = "12D3KooWPRvhsWVsLj8XPC4wndRzoGeqAMbBRSNUfYdAtvJD9wro"
PATCHES = pytest.MonkeyPatch


def finding(examine: Callable[[], Check]) -> Case:
    def case(_: Path) -> str:
        (*first,) = doctor.lines([examine()])
        return re.sub(r"[\d,]+ MiB", "N MiB", "\n".join(first))

    return case


def program(directory: Path, text: str) -> str:
    path = directory / "server"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def test_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def redis(text: str) -> Case:
        return lambda directory: finding(lambda: doctor.redis_server(program(directory, text)))(directory)

    def patched(target: object, name: str, value: object, examine: Callable[[], Check]) -> Case:
        def case(directory: Path) -> str:
            with PATCHES.context() as patch:
                patch.setattr(target, name, value)
                return str(finding(examine)(directory))

        return case

    def runtime_at(place: Path) -> str:
        with PATCHES.context() as patch:
            patch.setenv("XDG_RUNTIME_DIR", str(place))
            patch.setattr(sockets, "_default_places", lambda: (sockets.SocketPlace(Path("/tmp")),))
            patch.delenv("TMPDIR", raising=False)
            return str(finding(doctor.runtime)(place))

    def missing_runtime(directory: Path) -> str:
        return runtime_at(directory / "missing")

    def long_runtime(directory: Path) -> str:
        long = directory / ("x" * 80)
        long.mkdir()
        return runtime_at(long).replace("x" * 80, "LONG")

    def little_memory() -> Check:
        with PATCHES.context() as patch:
            patch.setattr(capacity, "processors", lambda: 1)
            return doctor.offer()

    def no_torch(answer: str | None) -> Case:
        return patched(doctor, "output", lambda _: answer, doctor.torch)

    def unwritable(examine: Callable[[Path], Check]) -> Case:
        def case(directory: Path) -> str:
            with PATCHES.context() as patch:
                patch.setattr(os, "access", lambda *_: False)
                return str(finding(lambda: examine(directory))(directory))

        return case

    def missing(_: str) -> str:
        raise PackageNotFoundError

    check(
        "doctor",
        {
            "an old Python": finding(lambda: doctor.python((3, 10))),
            "kernels that are not compiled": patched(
                sys.modules["mlnet.kernels"], "IMPLEMENTATION", "pure", doctor.kernels
            ),
            "no package for signatures": patched(doctor, "version", missing, doctor.encryption),
            "an old Redis": redis("echo Redis server v=6.2.14 sha=0:0"),
            "a Redis that does not say what it is": redis("exit 1"),
            "no Redis": lambda directory: finding(lambda: doctor.redis_server(str(directory / "none")))(
                directory
            ),
            "no torch": no_torch(None),
            "torch without gloo": no_torch('{"version": "2.6.0", "threads": 2, "gloo": false}'),
            "torch": no_torch('{"version": "2.6.0", "threads": 2, "gloo": true}'),
            "ports of any number": patched(
                hosts, "families", lambda: ("IPv4", "IPv6"), lambda: doctor.ports(None)
            ),
            "no port at all": patched(hosts, "free_port", lambda *_: 0, lambda: doctor.ports(None)),
            "no port of a range": patched(
                hosts, "free_port", lambda *_: 0, lambda: doctor.ports((7000, 7009))
            ),
            "few descriptors": finding(lambda: doctor.descriptors(64)),
            "not enough descriptors for a large network": finding(lambda: doctor.descriptors(1024)),
            "descriptors without limit": finding(lambda: doctor.descriptors(resource.RLIM_INFINITY)),
            "a data directory that cannot be written": unwritable(doctor.directory),
            "little disk": lambda directory: patched(
                doctor, "ENOUGH_DISK", 1 << 62, lambda: doctor.directory(directory)
            )(directory),
            "a runtime directory that is missing": missing_runtime,
            "a runtime directory with a long name": long_runtime,
            "no place for sockets": patched(sockets, "_places", lambda _: (), doctor.runtime),
            "little memory": patched(capacity, "memory", lambda: 1 << 30, little_memory),
        },
        tmp_path,
    )


@pytest.mark.parametrize("failing", [True, False])
def test_the_last_line_of_doctor(
    failing: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    findings = [Check("ports", "fail" if failing else "ok", "none")]
    monkeypatch.setattr(doctor, "examine", lambda *_: findings)
    doctor.doctor(tmp_path, None, None, json=False)
    said = "a node cannot run: see ports" if failing else "a node can run"
    assert capsys.readouterr().out.splitlines()[-1] == said


def test_commands_that_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(act: Callable[[Path], object]) -> Case:
        def case(directory: Path) -> str:
            act(directory)
            out = re.sub(r"\b[0-9a-f]{64}\b", "HASH", capsys.readouterr().out)
            return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "YYYY-MM-DD hh:mm", out)

        return case

    def valid(directory: Path, *, read_data: bool, asks: bool = True) -> None:
        save_npz(directory / "digits.npz", 50, 64, 10)
        text = re.sub(r"\n.*sha256:.*", "", EXAMPLE.read_text()).replace("mlnet/examples/", "")
        text = text if asks else re.sub(r"\n  requirements:.*(\n    .*)*", "", text)
        (directory / "task.yaml").write_text(text)
        validate.validate(directory / "task.yaml", read_data=read_data)

    def valid_table(directory: Path) -> None:
        """Columns of categories, more than are shown, and classes that no row has."""
        rows = [",".join(["ab"[row // 2 % 2]] * 14 + [f"{row}.5", str(row % 2)]) for row in range(20)]
        (directory / "table.csv").write_text("\n".join(rows))
        source = {"format": "CSV", "source": {"features": "table.csv"}}
        (directory / "task.yaml").write_text(definition_text(dataset=source))
        validate.validate(directory / "task.yaml", read_data=True)

    def rewarded(directory: Path) -> None:
        ledger = Ledger(directory / "ledger")
        for task, state in (("ab" * 32, "settled"), ("cd" * 32, "claimed")):
            ledger.record(Receipt(task, PEER, cast(Any, state), 12_500_000, 10**8, {PEER: 12_500_000}, 0, ()))
        predict.print_rewards(directory, json=False)

    check(
        "reading",
        {
            "validate": printed(lambda directory: valid(directory, read_data=True)),
            "validate of categories": printed(valid_table),
            "validate --no-data": printed(lambda directory: valid(directory, read_data=False)),
            "validate of a task that asks nothing of nodes": printed(
                lambda directory: valid(directory, read_data=False, asks=False)
            ),
            "rewards of a new node": printed(lambda directory: predict.print_rewards(directory, json=False)),
            "rewards of no directory": printed(
                lambda directory: predict.print_rewards(directory / "x", json=False)
            ),
            "rewards": printed(rewarded),
            "a damaged receipt": damaged_receipt,
            "replay of nothing": lambda directory: replay.replay(directory / "x.jsonl"),
            "replay of another file": lambda directory: replayed(directory, b"hello\n"),
            "replay of an empty file": lambda directory: replayed(directory, b""),
        },
        tmp_path,
    )


def damaged_receipt(directory: Path) -> object:
    (directory / "ledger").mkdir()
    (directory / "ledger" / f"{'ab' * 32}.json").write_text("{}")
    return Ledger(directory / "ledger").receipts()


def replayed(directory: Path, content: bytes) -> object:
    (directory / "x.jsonl").write_bytes(content)
    return replay.replay(directory / "x.jsonl")


def test_start_and_demo(tmp_path: Path) -> None:
    reached = (f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER}", f"/ip4/10.0.0.5/tcp/4001/p2p/{PEER}")

    def deaths(directory: Path) -> str:
        log = directory / "node-1.log"
        log.write_text("mlnet-node: error: the disk is full\n")
        network = SimpleNamespace(nodes=[demo.LocalNode(cast(Any, SimpleNamespace(returncode=3)), log, "")])
        return "\n".join(demo.LocalNetwork.deaths(cast(demo.LocalNetwork, network)))

    check(
        "start",
        {
            "a node that others reach": lambda _: welcome(PEER, reached, REACHED),
            "a node of which nobody has told": lambda _: welcome(PEER, reached, UNKNOWN),
            "a node on loopback": lambda _: welcome(PEER, (f"/ip4/127.0.0.1/tcp/4001/p2p/{PEER}",), UNKNOWN),
            "demo: a node does not listen": lambda _: demo._failure(1, None, "loading"),
            "demo: a node ends at once": lambda _: demo._failure(
                2, 4, "mlnet-node: error: the port is in use"
            ),
            "demo: a node ends without a word": lambda _: demo._failure(2, 1, ""),
            "demo: a node ends during the task": deaths,
        },
        tmp_path,
    )


class Hand:
    """Controls on a task in some phase, and what they say."""

    def __init__(self, phase: str, answers: int = 0, *, obeys: bool = True) -> None:
        self.phase, self.obeys, self.words = phase, obeys, list[str]()
        self.controls = Controls(self.words.append, lambda: None)
        self.controls.submission = cast(Any, self)
        self.machine = SimpleNamespace(
            ended=False,
            answers=dict.fromkeys(range(answers)),
            definition=SimpleNamespace(cluster=SimpleNamespace(min_nodes=2)),
            deadline=0,
            waiting="CLUSTER_READY from node1",
        )

    @property
    def gathering(self) -> bool:
        return self.phase == "gathering"

    @property
    def training(self) -> bool:
        return self.phase == "training"

    def cancel(self, _: str) -> None:
        self.phase = "ended" if self.obeys else self.phase

    def says(self, *acts: Callable[[Controls], object]) -> Case:
        async def asked() -> str:
            shown: Iterable[object] = [act(self.controls) for act in acts]
            return "\n".join([*self.words, *(str(one) for one in shown if one)])

        def case(_: Path) -> str:
            return asyncio.run(asked())

        return case


def test_controls(tmp_path: Path) -> None:
    def interrupt(controls: Controls) -> None:
        controls.on_signal(signal.SIGINT)

    check(
        "controls",
        {
            "Enter, and too few have answered": Hand("gathering", 1).says(
                lambda controls: controls.on_enter()
            ),
            "Ctrl-C while nodes answer": Hand("gathering").says(interrupt),
            "Ctrl-C in training": Hand("training").says(interrupt),
            "Ctrl-C twice, at the end of training": Hand("training", obeys=False).says(interrupt, interrupt),
            "what is under way": Hand("ready").says(lambda controls: controls.now()),
            "what is under way while nodes answer": Hand("gathering").says(lambda controls: controls.now()),
        },
        tmp_path,
    )
