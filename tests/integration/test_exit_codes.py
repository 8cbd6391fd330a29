"""Bad input: each kind has an exit code of its own and one clear line."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cluster import EXAMPLE, Mission, mission

from mlnet import errors
from mlnet.util import yaml12, yaml_writer

pytestmark = pytest.mark.timeout(120)
STRANGER = "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"


def plain() -> dict[str, Any]:
    value = yaml12.load(EXAMPLE.read_text())
    assert isinstance(value, dict)
    changed: dict[str, Any] = value
    changed["ml"]["dataset"]["source"]["features"] = str(EXAMPLE.with_name("digits.npz"))
    return changed


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    definition = plain()
    change(definition)
    return yaml_writer.dump_block(definition)


def few_rows(base: Path) -> str:
    np.savez(base / "few.npz", features=np.zeros((9, 4), np.float32), labels=np.zeros(9, np.int64))

    def change(definition: dict[str, Any]) -> None:
        definition["ml"]["dataset"]["source"]["features"] = "few.npz"
        del definition["ml"]["dataset"]["sha256"]

    return changed(change)


BOMB = "a: &a [1,1]\nb: &b [*a,*a]\nc: &c [*b,*b]\n"
CASES: dict[str, tuple[type[errors.MlnetError], Callable[[Path], str], str]] = {
    "not YAML": (
        errors.TaskError,
        lambda base: "version: [1",
        "a bracket that opens on this line is not closed",
    ),
    "an alias bomb": (errors.TaskError, lambda base: BOMB, "anchor"),
    "a tag": (errors.TaskError, lambda base: "version: !!python/object:os.system 1", "tag"),
    "a wrong type": (
        errors.TaskError,
        lambda base: changed(lambda d: d["ml"]["optimizer"].update(epochs="many")),
        "ml.optimizer.epochs",
    ),
    "an unknown key": (
        errors.TaskError,
        lambda base: changed(lambda d: d["ml"]["optimizer"].update(epoch=3)),
        "epochs",
    ),
    "NaN": (
        errors.TaskError,
        lambda base: changed(lambda d: None).replace("learning_rate: 0.003", "learning_rate: .nan"),
        "learning_rate",
    ),
    "a layer of 10^12 units": (
        errors.TaskError,
        lambda base: changed(lambda d: d["ml"]["model"]["hidden-units"][0].update(nodes=10**12)),
        "ml.model.hidden-units[0].nodes",
    ),
    "gradient compression": (
        errors.TaskError,
        lambda base: changed(lambda d: d["ml"]["optimizer"].update(tau=0.1)),
        "compression",
    ),
    "a dataset that is not there": (
        errors.DataError,
        lambda base: changed(lambda d: d["ml"]["dataset"]["source"].update(features="nowhere.npz")),
        "nowhere.npz",
    ),
    "a dataset with another hash": (
        errors.HashMismatch,
        lambda base: changed(lambda d: d["ml"]["dataset"].update(sha256=hashlib.sha256(b"").hexdigest())),
        "sha256",
    ),
    "fewer rows than segments": (errors.TooFewRows, few_rows, "9 rows"),
    "labels that do not fit": (
        errors.LabelError,
        lambda base: changed(lambda d: d["ml"]["model"]["hidden-units"][-1].update(nodes=9)),
        "label",
    ),
}


@pytest.fixture
def net(tmp_path: Path) -> Mission:
    return Mission(tmp_path)


def one_line(err: str) -> str:
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("mlnet-node: error: ")]
    assert len(lines) == 1, err
    return lines[0]


@pytest.mark.parametrize("case", CASES)
async def test_a_definition_or_dataset_that_is_wrong(case: str, net: Mission) -> None:
    error, text, words = CASES[case]
    file = net.base / "task.yaml"
    file.write_text(text(net.base))
    status, out, err = await net.run("validate", str(file))
    assert status == error.exit_code, err
    assert one_line(err)
    assert words in err  # a definition's errors are a list below that line
    assert not out


async def test_no_peer_answers(net: Mission) -> None:
    # A socket that does not listen refuses, and keeps the port from others.
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"/ip4/127.0.0.1/tcp/{closed.getsockname()[1]}"
        peer = f"{address}/p2p/{STRANGER}"
        status, _, err = await net.run("submit", str(EXAMPLE), "--peer", peer, "--waiting-period", "5s")
    assert status == errors.PeerUnreachable.exit_code, err
    assert address in one_line(err)


async def test_too_few_nodes() -> None:
    async with mission(1) as net:
        status, _, err = await net.submit(net.definition(waiting_period="2s"))
        assert status == errors.TooFewNodes.exit_code, err
        assert "1 node answered; the task needs at least 2" in one_line(err)


async def test_too_few_open_ports() -> None:
    """Nodes without an open port: the only one that they may use is taken once they run."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("0.0.0.0", 0))
        port = taken.getsockname()[1]
        async with mission(2, "--redis-ports", f"{port}-{port}") as net:
            taken.listen()
            status, _, err = await net.submit(net.definition(max_nodes=2))
            assert status == errors.NoCommittee.exit_code, err
            assert "no Redis server" in one_line(err)


async def test_a_port_in_use(net: Mission) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        status, _, err = await net.run("start", "--port", str(taken.getsockname()[1]))
    assert status == errors.PortInUse.exit_code, err
    assert "in use" in one_line(err)


async def test_ports_that_are_all_taken(net: Mission) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, _, err = await net.run("start", "--redis-ports", f"{port}-{port}")
    assert status == errors.PortInUse.exit_code, err
    assert "--redis-ports" in one_line(err)


async def test_a_redis_server_that_is_too_old(net: Mission) -> None:
    old = net.base / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=5.0.7 sha=00000000:0 malloc=libc bits=64'\n")
    old.chmod(0o755)
    status, _, err = await net.run("start", "--redis", str(old))
    assert status == errors.NoRedisBinary.exit_code, err
    assert "is version 5.0.7" in one_line(err)
    assert "7.0 or later" in one_line(err)


@pytest.mark.parametrize("command", [("demo",), ("submit", "--peer", "/ip4/127.0.0.1/tcp/1/p2p/" + STRANGER)])
async def test_an_output_that_cannot_be_written_is_found_first(
    net: Mission, command: tuple[str, ...]
) -> None:
    (net.base / "file").write_text("")
    status, _, err = await net.run(*command, "--output", str(net.base / "file" / "out"))
    assert status == errors.ConfigError.exit_code, err
    assert "is not a directory" in one_line(err)
    assert "listens at" not in err
    assert "peer" not in err


async def test_no_redis_binary(net: Mission) -> None:
    status, _, err = await net.run("start", "--redis", str(net.base / "nothing"))
    assert status == errors.NoRedisBinary.exit_code, err
    one_line(err)


async def test_a_directory_that_another_process_uses() -> None:
    async with mission(1) as net:
        status, _, err = await net.run("start", "--data-dir", str(net.nodes[0].data_dir))
        assert status == errors.ConfigError.exit_code, err
        assert "another mlnet process" in one_line(err)


async def test_a_wrong_flag_is_a_usage_error(net: Mission) -> None:
    status, _, err = await net.run("submit", "--no-such-flag")
    assert status == 2
    assert "--no-such-flag" in err


async def test_help_of_every_command_is_worth_reading(net: Mission) -> None:
    commands = ("start", "submit", "validate", "demo", "predict", "rewards")
    answers = await asyncio.gather(*(net.run(command, "--help") for command in commands))
    for command, (status, out, _) in zip(commands, answers, strict=True):
        assert status == 0
        assert f"mlnet-node {command}" in out
        assert len(out.splitlines()) > 5
