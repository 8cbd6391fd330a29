"""``mlnet-node demo``: a whole network on this machine for the length of one task."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import msgspec

from mlnet import errors
from mlnet.cli import console
from mlnet.cli.controls import Controls, Job
from mlnet.client.result import Result
from mlnet.driver.directories import default_data_dir
from mlnet.errors import ConfigError, MlnetError, TaskError
from mlnet.sdk.display import Display
from mlnet.task import definition as task_definition
from mlnet.util import hosts, sockets, subprocesses
from mlnet.util.wording import count, short

START_SECONDS = 60.0
"""For a node to load its libraries and to listen."""
STOP_SECONDS = 5.0
"""For a node to end by itself; then it is killed."""
CLEAN_SECONDS = 10.0
"""For the process that removes what the nodes leave to end."""
LOG_LINES = 12
"""The end of the log of a node that failed, as it is shown."""
_ADDRESS = re.compile(rb"--peer (/\S+/p2p/\S+)")

# Removes directories once every process that holds the other end of its standard input has ended, whatever
# ended it. A node's own children die a moment after it and may still write until then, hence the tries.
_CLEANER = (
    "import os, shutil, sys, time\n"
    "sys.stdin.buffer.read()\n"
    "for _ in range(50):\n"
    "    for path in sys.argv[1:]:\n"
    "        shutil.rmtree(path, ignore_errors=True)\n"
    "    if not any(map(os.path.exists, sys.argv[1:])):\n"
    "        break\n"
    "    time.sleep(0.1)\n"
)


def local() -> str:
    """The multiaddr to listen on for this machine alone, at any free port."""
    host = hosts.loopback()
    return f"/{'ip6' if hosts.is_ipv6(host) else 'ip4'}/{host}/tcp/0"


@dataclass(frozen=True)
class LocalNode:
    """A node in a process of its own.

    Attributes:
        process: it.
        log: file of its standard error.
        address: at which it listens.
    """

    process: asyncio.subprocess.Process
    log: Path
    address: str


class LocalNetwork:
    """Nodes on this machine, each a process, below one directory that is gone when they are.

    Args:
        directory: for everything that they write.
        lifeline: descriptor that they inherit, whose closing tells the cleaner that they have ended.
        display: for what is under way.
    """

    def __init__(self, directory: Path, lifeline: int, display: Display) -> None:
        self.directory = directory
        self.nodes: list[LocalNode] = []
        self._lifeline = lifeline
        self._display = display
        self._processes: list[asyncio.subprocess.Process] = []

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the nodes listen."""
        return tuple(node.address for node in self.nodes)

    async def start(self, nodes: int) -> None:
        """Start nodes: one, and then the others at the same time, which are told its address.

        Raises:
            MlnetError: one of them did not begin to listen; ends with its last words.
        """
        self.nodes.append(await self._start(0, ()))
        first = self.nodes[0].address
        starting = [asyncio.create_task(self._start(number, (first,))) for number in range(1, nodes)]
        try:
            self.nodes.extend(await asyncio.gather(*starting))
        finally:
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)

    async def stop(self) -> None:
        """End all nodes."""
        await asyncio.gather(*(subprocesses.end(process, STOP_SECONDS) for process in self._processes))

    def deaths(self) -> list[str]:
        """What the nodes that have ended by themselves said last."""
        return [
            f"node {number} ended with status {node.process.returncode}:\n{_tail(node.log)}"
            for number, node in enumerate(self.nodes, start=1)
            if node.process.returncode is not None
        ]

    async def _start(self, number: int, peers: tuple[str, ...]) -> LocalNode:
        log = self.directory / f"node-{number + 1}.log"
        argv = [
            *subprocesses.python("mlnet", "start", "--parent", str(os.getpid())),
            *(
                "--listen",
                local(),
                "--threads",
                "1",
                "--data-dir",
                str(self.directory / f"node-{number + 1}"),
            ),
            *(argument for peer in peers for argument in ("--peer", peer)),
        ]
        with log.open("wb") as stderr:
            process = await subprocesses.spawn(
                argv,
                env=subprocesses.environment(),
                stdin=self._lifeline,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr.fileno(),
            )
        self._processes.append(process)
        try:
            async with asyncio.timeout(START_SECONDS):
                address = await _announced(process)
        except TimeoutError:
            address = ""
        if not address:
            raise _failure(number + 1, process.returncode, _tail(log))
        place, _, peer = address.partition("/p2p/")
        self._display.say(f"node {number + 1}, {short(peer)}, listens at {place}", "dim")
        return LocalNode(process, log, address)


async def _announced(process: asyncio.subprocess.Process) -> str:
    """The address that a node prints once it listens; empty when it ends before."""
    assert process.stdout is not None  # noqa: S101 - it was opened as a pipe
    while line := await process.stdout.readline():
        if found := _ADDRESS.search(line):
            return found[1].decode()
    await process.wait()
    return ""


def _failure(number: int, status: int | None, words: str) -> MlnetError:
    """The error of a node that did not start, of the kind that its exit code tells."""
    if status is None:
        return MlnetError(f"node {number} did not listen within {START_SECONDS:.0f} s; it said: {words}")
    kinds = (
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MlnetError)
    )
    kind = next((kind for kind in kinds if kind.exit_code == status and kind is not TaskError), MlnetError)
    words = words.rpartition(f"{console.NAME}: error: ")[2]
    return kind(f"node {number} did not start: {words or f'it ended with status {status}'}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])


@asynccontextmanager
async def local_network(display: Display) -> AsyncIterator[LocalNetwork]:
    """A directory for a network on this machine; nodes and files are gone afterwards, also if this process is
    killed.

    Environment variables lead all that this process and the nodes write for themselves to that directory, but
    their sockets, which have one of their own.
    """
    async with AsyncExitStack() as stack:
        # Not below the other directory, whose path may be too long for sockets.
        runtime = sockets.Directory(sockets.OUTER_ROOM)
        stack.callback(runtime.close)
        directory = _make_directory()
        lifeline = await _cleaned((directory, runtime.path), stack)
        _redirect("XDG_RUNTIME_DIR", runtime.path, stack)
        _redirect("TMPDIR", directory / "tmp", stack)
        network = LocalNetwork(directory, lifeline, display)
        stack.push_async_callback(network.stop)
        yield network


def _make_directory() -> Path:
    try:
        directory = Path(tempfile.mkdtemp(prefix="mlnet-demo-")).absolute()
    except OSError as error:
        raise ConfigError(
            f"no temporary directory can be made: {error.strerror}; set TMPDIR to a directory that"
            " this user can write"
        ) from error
    (directory / "tmp").mkdir(mode=0o700)
    return directory


async def _cleaned(paths: tuple[Path, ...], stack: AsyncExitStack) -> int:
    """Have a process remove these directories once this one and the nodes have ended; the descriptor that the
    nodes inherit for it."""
    reading, lifeline = os.pipe()
    try:
        cleaner = await subprocesses.spawn(
            [sys.executable, "-I", "-S", "-c", _CLEANER, *map(str, paths)], cwd=Path("/"), stdin=reading
        )
    except OSError:
        os.close(lifeline)
        shutil.rmtree(paths[0], ignore_errors=True)
        raise
    finally:
        os.close(reading)

    async def clean() -> None:
        os.close(lifeline)
        async with asyncio.timeout(CLEAN_SECONDS):
            await cleaner.wait()

    stack.push_async_callback(clean)
    return lifeline


def _redirect(variable: str, place: Path, stack: AsyncExitStack) -> None:
    stack.callback(_restore, variable, os.environ.get(variable))
    os.environ[variable] = str(place)


def _restore(variable: str, value: str | None) -> None:
    if value is None:
        del os.environ[variable]
    else:
        os.environ[variable] = value


async def demonstrate(job: Job, nodes: int, display: Display, controls: Controls) -> Result:
    """Start a network, have it carry out one task, and end it.

    Args:
        job: the task.
        nodes: how many; the waiting ends when all of them have answered.
        display: shows the course of it all.
        controls: the user's.

    Raises:
        MlnetError: a node did not start, or the task could not be begun.
    """
    task_definition.load_file(job.file)
    keep = (default_data_dir("demo"), Path.cwd(), Path(tempfile.gettempdir()))
    if job.output is not None:
        from mlnet.client import outputs

        outputs.check(outputs.absolute(job.output), private=keep[0])
    async with local_network(display) as network:
        began = time.monotonic()
        display.begin(
            f"Starting {count(nodes, 'node')}", f"each a process, with its files below {network.directory}"
        )
        controls.doing = lambda: "waits for the nodes to listen"
        loading = asyncio.to_thread(import_module, "mlnet.cli.submit")
        await asyncio.gather(network.start(nodes), loading)
        seconds = time.monotonic() - began
        from mlnet.cli.submit import submit
        from mlnet.driver.messenger import WireOptions
        from mlnet.driver.options import ClientOptions

        wire = WireOptions(listen=(local(),), peers=network.addresses)
        options = ClientOptions(network.directory / "client", wire)
        result = await submit(options, replace(job, enough=nodes), display, controls)
        if result.state == "completed" and result.code:
            from mlnet.client import outputs

            result = outputs.rescue(result, keep)  # out of a directory that goes with the network
        for death in network.deaths():
            display.verbatim(death)
    return _with_start(result, seconds)


def _with_start(result: Result, seconds: float) -> Result:
    """The result with the time that the nodes took to start as its first phase, also where it was written."""
    result = msgspec.structs.replace(result, seconds={"starting": round(seconds, 3), **result.seconds})
    if result.state == "completed" and result.model is not None and not result.code:
        with contextlib.suppress(OSError):  # the document that is there lacks one figure
            result.write(Path(result.model.path).parent / "result.json")
    return result
