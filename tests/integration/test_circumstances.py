"""Nodes start, train and end wherever people have them run: odd, long, missing and removed directories,
foreign variables, closed and full standard streams, users without a name.

Each row is a whole task, so the rows combine what gets along. ``make circumstances`` tries each
circumstance alone as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.cluster import EXAMPLE, LOCAL

from mlnet.util import yaml12, yaml_writer

ADDRESS = re.compile(rb"--peer (/\S+/p2p/\S+)")
SECONDS = 120.0
ODD = "a b%20ü#?,;&\"'\\=x"
LONG = "x" * 110
# What torchrun, OpenMP, grpc, proxies and Python's own developers set, each to something that would do harm.
FOREIGN = {
    "MASTER_ADDR": "192.0.2.1",
    "MASTER_PORT": "1",
    "RANK": "7",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "7",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCH_DISTRIBUTED_DEBUG": "DETAIL",
    "TORCH_GLOO_LAZY_INIT": "1",
    "GLOO_SOCKET_IFNAME": "nowhere0",
    "OMP_NUM_THREADS": "64",
    "OMP_PROC_BIND": "true",
    "OMP_WAIT_POLICY": "active",
    "KMP_AFFINITY": "granularity=fine,compact",
    "GRPC_POLL_STRATEGY": "epollex",
    "GRPC_ENABLE_FORK_SUPPORT": "1",
    "http_proxy": "http://192.0.2.1:1",
    "https_proxy": "http://192.0.2.1:1",
    "grpc_proxy": "http://192.0.2.1:1",
    "all_proxy": "socks5://192.0.2.1:1",
    "PYTHONWARNINGS": "error",
    "PYTHONOPTIMIZE": "2",
    "PYTHONHASHSEED": "0",
    "PYTHONSTARTUP": "/nonexistent",
}
# A terminal that knows no letters but those of English.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
LATIN = {"PYTHONIOENCODING": "latin-1"}
PROGRAM = str(Path(sys.executable).with_name("mlnet-node"))
SHADOWS = ("mlnet", "random", "torch", "numpy", "typing")
"""Modules of these names in the current directory end whoever imports them."""


@dataclass
class Surroundings:
    """Where a node and its client run.

    Attributes:
        base: of everything, with a short path.
        home: below which lies what the row makes.
        environment: what the row sets, over that of this process.
        while_running: done before the client starts.
        in_training: done when the client has said that training begins; None for nothing.
        after: told what the nodes wrote to standard error.
        streams: of the client, for a shell, such as ``<&-``.
        prefix: of both commands.
    """

    base: Path
    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    while_running: Callable[[], object] = lambda: None
    in_training: Callable[[], object] | None = None
    after: Callable[[str], object] = lambda logs: None
    streams: str = ""
    prefix: tuple[str, ...] = ()

    def make(self, *names: str) -> Path:
        path = self.home.joinpath(*names)
        path.mkdir(parents=True, exist_ok=True)
        return path


@dataclass
class Node:
    """A node, its address, and the file of its standard error."""

    process: asyncio.subprocess.Process
    address: str
    log: Path


Row = Callable[[Surroundings], None]


def odd_paths(it: Surroundings) -> None:
    it.home = it.base / ODD
    for variable in ("XDG_RUNTIME_DIR", "TMPDIR", "HOME"):
        it.environment[variable] = str(it.make(variable.lower()))


def foreign_variables(it: Surroundings) -> None:
    it.environment |= FOREIGN


def no_text_paths(it: Surroundings) -> None:
    """Bytes that are not UTF-8."""
    it.home = it.base / os.fsdecode(b"n\xff\xfe")
    for variable in ("XDG_RUNTIME_DIR", "TMPDIR", "HOME"):
        it.environment[variable] = str(it.make(variable.lower()))


def shadowing_modules(it: Surroundings) -> None:
    for name in SHADOWS:
        (it.make("work") / f"{name}.py").write_text(f"raise SystemExit('{name} of the current directory')")


def closed_input(it: Surroundings) -> None:
    it.streams += " <&-"


def no_letters(it: Surroundings) -> None:
    it.environment |= ASCII


def latin_letters(it: Surroundings) -> None:
    it.environment |= LATIN


def long_paths(it: Surroundings) -> None:
    it.home = it.base / LONG
    for variable in ("TMPDIR", "HOME"):
        it.environment[variable] = str(it.make(variable.lower()))


def missing_runtime(it: Surroundings) -> None:
    it.environment["XDG_RUNTIME_DIR"] = str(it.base / "missing")


def full_error(it: Surroundings) -> None:
    it.streams += " 2>/dev/full"


def closed_error(it: Surroundings) -> None:
    it.streams += " 2>&-"


def removed_runtime(it: Surroundings) -> None:
    runtime = it.base / "run"
    runtime.mkdir()
    it.environment["XDG_RUNTIME_DIR"] = str(runtime)
    it.while_running = lambda: shutil.rmtree(runtime)
    it.after = lambda logs: _count(logs, "was removed while in use; new sockets lie in")


def _count(logs: str, words: str) -> None:
    assert words in logs, logs


def removed_sockets(it: Surroundings) -> None:
    runtime = it.base / "run"
    runtime.mkdir()
    it.environment["XDG_RUNTIME_DIR"] = str(runtime)

    def remove() -> None:
        for path in runtime.iterdir():
            shutil.rmtree(path)

    it.while_running = remove


def removed_in_training(it: Surroundings) -> None:
    """When the trainers are about to look for the sockets of their nodes."""
    runtime = it.make("xdg_runtime_dir")
    it.environment["XDG_RUNTIME_DIR"] = str(runtime)
    it.in_training = lambda: shutil.rmtree(runtime)


def symbolic_links(it: Surroundings) -> None:
    (it.base / "target").mkdir()
    it.home = it.base / "link"
    it.home.symlink_to("target")
    for variable in ("XDG_RUNTIME_DIR", "TMPDIR", "HOME"):
        it.environment[variable] = str(it.make(variable.lower()))


def no_user(it: Surroundings) -> None:
    """In a namespace where this user has a number that no file knows."""
    it.prefix = ("env", "-u", "HOME", "-u", "USER", "-u", "LOGNAME", "unshare", "-U", "--map-user=54321")
    if subprocess.run((*it.prefix, "true"), check=False, capture_output=True).returncode:
        pytest.skip("user namespaces cannot be made here")


COMBINED: dict[str, tuple[Row, ...]] = {
    "odd": (
        odd_paths,
        foreign_variables,
        shadowing_modules,
        closed_input,
        latin_letters,
        removed_in_training,
    ),
    "long": (long_paths, missing_runtime, full_error, no_letters),
    "removed": (no_text_paths, removed_runtime, closed_error),
}
ALONE: dict[str, tuple[Row, ...]] = {
    row.__name__: (row,)
    for row in (
        odd_paths,
        no_text_paths,
        foreign_variables,
        shadowing_modules,
        closed_input,
        no_letters,
        latin_letters,
        long_paths,
        missing_runtime,
        full_error,
        closed_error,
        removed_runtime,
        removed_sockets,
        removed_in_training,
        symbolic_links,
        no_user,
    )
}
ROWS = COMBINED | (ALONE if os.environ.get("MLNET_CIRCUMSTANCES") == "all" else {})


def definition(it: Surroundings) -> Path:
    plain = yaml12.load(EXAMPLE.read_text())
    assert isinstance(plain, dict)
    changed: dict[str, Any] = dict(plain)
    changed["ml"]["optimizer"]["epochs"] = 1
    shutil.copy(EXAMPLE.with_name("digits.npz"), it.make("work") / "digits.npz")
    changed["ml"]["dataset"]["source"]["features"] = "digits.npz"
    changed["cluster"] = {"waiting-period": "60s", "min-nodes": 2, "max-nodes": 2}
    path = it.make("work") / "task.yaml"
    path.write_text(yaml_writer.dump_block(changed))
    return path


def environment(given: Mapping[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "XDG_"))}
    return own | dict(given)


async def start(it: Surroundings, stack: contextlib.AsyncExitStack, *peers: str) -> Node:
    """A node that listens."""
    number = len(list(it.base.glob("*.log")))
    log = it.base / f"{number}.log"
    options = ["--listen", LOCAL, "--threads", "1", "--data-dir", str(it.make() / f"node{number}")]
    options += [part for peer in peers for part in ("--peer", peer)]
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *it.prefix,
            *(PROGRAM, "start", *options),
            cwd=it.make("work"),
            env=environment(it.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    stack.push_async_callback(killed, process)
    assert process.stdout is not None
    async with asyncio.timeout(SECONDS):
        while line := await process.stdout.readline():
            if found := ADDRESS.search(line):
                return Node(process, found[1].decode(), log)
    raise AssertionError(f"a node did not start: {log.read_text()}")


async def until_training(client: asyncio.subprocess.Process) -> str:
    """What the client says until it says that training begins, or to its end."""
    assert client.stderr is not None
    said = ""
    while "6  Training" not in said and (line := await client.stderr.readline()):
        said += line.decode(errors="replace")
    return said


async def killed(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


@pytest.fixture
def base() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mc-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.parametrize("row", ROWS)
async def test_nodes_start_train_and_end(row: str, base: Path) -> None:
    it = Surroundings(base, base)
    for circumstance in ROWS[row]:
        circumstance(it)
    file = definition(it)
    async with contextlib.AsyncExitStack() as stack:
        one = await start(it, stack)
        two = await start(it, stack, one.address)
        it.while_running()
        options = [
            "--peer",
            one.address,
            "--data-dir",
            str(it.make() / "client"),
            "--output",
            "out",
            "--json",
        ]
        client = await asyncio.create_subprocess_exec(
            *it.prefix,
            *("/bin/sh", "-c", f'exec "$@" {it.streams} > "$0"', str(it.make() / "result.json")),
            *(PROGRAM, "submit", file.name, *options),
            cwd=it.make("work"),
            env=environment(it.environment),
            stderr=asyncio.subprocess.PIPE,
        )
        stack.push_async_callback(killed, client)
        async with asyncio.timeout(SECONDS):
            said = await until_training(client) if it.in_training else ""
            if it.in_training:
                it.in_training()
            said += (await client.communicate())[1].decode(errors="replace")
        logs = [node.log.read_text(errors="replace") for node in (one, two)]
        assert client.returncode == 0, (said, *logs)
        for node in (one, two):
            node.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(SECONDS):
                assert await node.process.wait() == 0
    result = json.loads((it.home / "result.json").read_bytes())
    assert result["state"] == "completed"
    assert (it.home / "work" / "out" / "model.safetensors").is_file()
    assert "Traceback" not in "".join((said, *logs))
    it.after("".join(logs))
