"""Real nodes in real processes, for the tests of whole tasks."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlnet.cli.dashboard import PAGE
from mlnet.client.connecting import connected
from mlnet.client.task_client import TaskClient
from mlnet.driver.messenger import WireOptions
from mlnet.driver.options import ClientOptions
from mlnet.identity.keys import Identity
from mlnet.protocol.commands import Report
from mlnet.protocol.deadlines import Deadlines
from mlnet.util import yaml12, yaml_writer

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "mlnet" / "examples" / "client-task-definition.yaml"
LOCAL = "/ip4/127.0.0.1/tcp/0"
START_SECONDS = 60.0
ADDRESS = re.compile(rb"--peer (/\S+/p2p/(\S+))")


@dataclass
class NodeProcess:
    """A node: its process, where it listens, what it has written, and where its page is if it has one."""

    process: asyncio.subprocess.Process
    address: str
    peer_id: str
    data_dir: Path
    log: Path
    page: str = ""

    def kill(self) -> None:
        self.process.kill()

    async def stop(self) -> int:
        """End it as its operator would; its exit status."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            return await self.process.wait()


@dataclass
class Mission:
    """A local network below a directory of its own.

    Attributes:
        base: the directory; short, since sockets lie below it.
        mark: in the environment of every process, so that one that is left behind can be found.
        patience: factor on the deadlines of nodes and clients.
        abandoned: a process was killed, and only its own next start clears away what it held.
    """

    base: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    patience: float = 1.0
    abandoned: bool = False
    nodes: list[NodeProcess] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        run, tmp = self.base / "run", self.base / "tmp"
        run.mkdir(mode=0o700, exist_ok=True)
        tmp.mkdir(mode=0o700, exist_ok=True)
        return os.environ | {
            "MLNET_TEST_MARK": self.mark,
            "XDG_RUNTIME_DIR": str(run),
            "XDG_DATA_HOME": str(self.base / "home"),
            "XDG_CACHE_HOME": str(self.base / "cache"),
            "TMPDIR": str(tmp),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "120",
        }

    @property
    def peers(self) -> tuple[str, ...]:
        return tuple(node.address for node in self.nodes[:1])

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "mlnet", *arguments]

    async def submit(self, file: Path, *arguments: str, seconds: float = 150.0) -> tuple[int, str, str]:
        return await self.run("submit", str(file), "--peer", self.peers[0], *arguments, seconds=seconds)

    async def run(self, *arguments: str, seconds: float = 100.0) -> tuple[int, str, str]:
        """A command from its start to its end: status, standard output, standard error."""
        process = await self.spawn(*arguments)
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def spawn(self, *arguments: str, prefix: Sequence[str] = ()) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *prefix,
            *self.command(*arguments),
            env=self.environment,
            cwd=self.base,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
        )

    async def start(self, count: int, *arguments: str) -> list[NodeProcess]:
        """Start nodes: the first, then the others with its address."""
        started = []
        if not self.nodes and count:
            started.append(await self.start_one(*arguments))
            count -= 1
        started += await asyncio.gather(*(self.start_one(*arguments) for _ in range(count)))
        return started

    async def start_one(
        self,
        *arguments: str,
        data_dir: Path | None = None,
        prefix: Sequence[str] = (),
        listen: str | None = LOCAL,
        peers: Sequence[str] | None = None,
    ) -> NodeProcess:
        """Start a node.

        Args:
            arguments: more of the command line.
            data_dir: another one than a new one.
            prefix: what goes before the command.
            listen: where it listens; None for where nodes do by default.
            peers: whom it joins, in place of the first node.
        """
        number = uuid.uuid4().hex[:6]
        data_dir = data_dir or self.base / f"n{number}"
        log = self.base / f"n{number}.log"
        joined = [argument for peer in peers or self.peers for argument in ("--peer", peer)]
        where = [] if listen is None else ["--listen", listen]
        options = [*where, "--threads", "1", "--data-dir", str(data_dir), *joined]
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *prefix,
                *self.command("start", *options, "--patience", str(self.patience), *arguments),
                env=self.environment,
                cwd=self.base,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
            )
        assert process.stdout is not None
        page = ""
        async with asyncio.timeout(START_SECONDS):
            while line := await process.stdout.readline():
                page = line.decode().partition(PAGE)[2].strip() or page
                if found := ADDRESS.search(line):
                    node = NodeProcess(process, found[1].decode(), found[2].decode(), data_dir, log, page)
                    self.nodes.append(node)
                    return node
        raise AssertionError(f"a node did not start:\n{log.read_text()}")

    def definition(self, **cluster: Any) -> Path:
        """The example's definition with other cluster terms and few epochs, in a file."""
        plain = yaml12.load(EXAMPLE.read_text())
        assert isinstance(plain, dict)
        changed: dict[str, Any] = dict(plain)
        changed["ml"]["optimizer"]["epochs"] = 8
        changed["ml"]["dataset"]["source"]["features"] = str(EXAMPLE.with_name("digits.npz"))
        terms = {"waiting-period": "60s", **{key.replace("_", "-"): value for key, value in cluster.items()}}
        changed["cluster"] = terms
        path = self.base / f"task-{uuid.uuid4().hex[:6]}.yaml"
        path.write_text(yaml_writer.dump_block(changed))
        return path

    @asynccontextmanager
    async def client(self, name: str = "client", **options: Any) -> AsyncIterator[TaskClient]:
        """A client in this process."""
        settings = ClientOptions(
            self.base / name,
            WireOptions(listen=(LOCAL,), peers=self.peers),
            deadlines=Deadlines().scaled(self.patience),
            **options,
        )
        async with connected(settings) as client:
            yield client

    async def replayed(self, task: str) -> dict[str, dict[str, Any]]:
        """What ``replay`` derives from each party's transcript of a task, by the party's directory."""
        files = sorted(self.base.glob(f"**/transcripts/{task}.jsonl"))
        answers = await asyncio.gather(*(self.run("replay", str(file), "--json") for file in files))
        for status, _, err in answers:
            assert status == 0, err
        return {
            file.parent.parent.name: json.loads(out) for file, (_, out, _) in zip(files, answers, strict=True)
        }

    def receipts(self, node: NodeProcess) -> list[dict[str, Any]]:
        files = sorted((node.data_dir / "ledger").glob("*.json"))
        return [json.loads(file.read_text()) for file in files]

    def identity(self, node: NodeProcess) -> Identity:
        return Identity.load_or_create(node.data_dir / "identity.key")

    def processes(self) -> list[str]:
        """Command lines of the processes of this mission that are alive."""
        wanted = f"MLNET_TEST_MARK={self.mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if wanted in (entry / "environ").read_bytes().split(b"\0"):
                        found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
                except OSError:
                    continue
        return found

    def left(self) -> list[str]:
        """Files that should not be there once all nodes have ended."""
        places = [self.base / "run", self.base / "tmp", *self.base.glob("*/tasks/*")]
        return [
            str(path)
            for place in places
            for path in ([place] if place.parent.name == "tasks" else place.glob("*"))
        ]


class Watch:
    """Collects a client's reports and tells those who wait for one."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self._news = asyncio.Condition()
        self._notifying: set[asyncio.Task[None]] = set()

    def __call__(self, report: Report) -> None:
        self.reports.append(report)
        task = asyncio.get_running_loop().create_task(self._notify())
        self._notifying.add(task)
        task.add_done_callback(self._notifying.discard)

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()

    def of(self, what: str) -> list[Mapping[str, Any]]:
        return [report.data for report in self.reports if report.what == what]

    async def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait until the reports fulfil a condition."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(condition)

    async def phase(self, name: str, seconds: float = 60.0) -> None:
        """Wait until the task enters a phase."""
        await self.until(lambda: any(data["phase"] == name for data in self.of("phase")), seconds)

    async def answers(self, count: int, seconds: float = 60.0) -> None:
        """Wait until so many nodes have answered."""
        await self.until(lambda: len(self.of("answer")) >= count, seconds)


@asynccontextmanager
async def mission(nodes: int, *arguments: str, patience: float = 1.0) -> AsyncIterator[Mission]:
    """Nodes on this machine; nothing of them may be left afterwards."""
    base = Path(tempfile.mkdtemp(prefix="mm-"))
    running = Mission(base, patience=patience)
    try:
        await running.start(nodes, *arguments)
        yield running
        statuses = [await node.stop() for node in running.nodes]
        assert all(status in (0, -signal.SIGKILL) for status in statuses), [
            node.log.read_text()[-2000:] for node in running.nodes
        ]
        assert not (left := running.processes()), left
        if not running.abandoned and -signal.SIGKILL not in statuses:
            assert not (files := running.left()), files
        for node in running.nodes:
            assert "Traceback" not in node.log.read_text(), node.log.read_text()
    finally:
        for node in running.nodes:
            if node.process.returncode is None:
                node.process.kill()
                await node.process.wait()
        shutil.rmtree(base, ignore_errors=True)
