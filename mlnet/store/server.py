"""A Redis or Valkey server for one task, as a child process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import sys
from collections import deque
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from mlnet.errors import PortInUse, StoreError
from mlnet.store import config as settings
from mlnet.store import gates, resp
from mlnet.util import files, hosts, sockets
from mlnet.util.subprocesses import end, how_it_ended, spawn, wrapped

START_TIMEOUT = 15.0
"""Seconds for a server to accept connections. Most of them are for a busy machine.
"""
STOP_TIMEOUT = 5.0
"""Seconds between SIGTERM and SIGKILL. Nothing is saved, so a server that takes longer hangs."""
ADMIN_TIMEOUT = 5.0
"""Seconds for a command of our own, over a local socket."""
CHECK_INTERVAL = 0.02
"""Seconds between two looks at the state of replication: a server does not notify anybody when it is in
sync."""
MAX_SOCKET_PATH = 100
"""Bytes of the socket's path; gates lie beside it, with names that are up to
three bytes longer, and macOS takes 103."""
FREE_PORTS = 8
"""Free ports to try, since another program may take one between our look and the server's start."""
MAX_REPLICA_CONNECTIONS = 4
"""Connections of our own server to its relay: one, and those that it has given up."""
LOG_LINES = 40
"""Lines of the server's output that are kept for error messages, the banner among them."""
ADDRESS_SPACE = 1 << 30
"""Bytes of address space beside the data: code, stacks, the allocator's reserve. _launch() adds four times
max_memory, as there are two copies of the data while the server loads a new master's, and buffers."""

_TASK = re.compile(r"[0-9a-f]{64}")
_TAKEN = "Address already in use"
_EXPECTED = re.compile("overcommit|^<lua> Unable to determine")
"""Complaints that every server makes: of the system, and of CONFIG, which has no name here."""
_LEVEL = re.compile(r"^\d+:\w .*? ([.\-*#]) ")


class RedisServer:
    """A running server. Strangers at its port get NOAUTH; members and the client come through gates.

    Attributes:
        port: its open TCP port.
        unix_socket: where our own processes reach it; a password is needed there as well.
    """

    def __init__(self, config: settings.Settings, port: int, process: asyncio.subprocess.Process) -> None:
        self.port = port
        self.unix_socket = config.unix_socket
        self._config = config
        self._process = process
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._reading: asyncio.Task[None] | None = None
        self._gates: dict[str, gates.Listener] = {}
        self._relay: gates.Listener | None = None
        self._way: sockets.Way | None = None
        self._replication = asyncio.Lock()

    @classmethod
    async def start(
        cls,
        binary: Path,
        directory: Path,
        *,
        task: str,
        ports: tuple[int, int] | None,
        max_memory: int,
        host: str | None = None,
    ) -> RedisServer:
        """Start a server and wait until it accepts connections.

        Args:
            binary: the program.
            directory: an existing directory that only this user may enter; the server's sockets go there.
            task: id of the task whose keys the members may use.
            ports: the first free one of these, inclusive; None for any.
            max_memory: bytes of data that it may hold.
            host: IP address of the open port; None for all addresses of this machine, of both families.

        Raises:
            PortInUse: no port of the range is free.
            StoreError: the server does not start, with its own words.
        """
        if not _TASK.fullmatch(task):
            raise StoreError(f"{task!r} is not a task id")
        if not directory.is_absolute():
            raise StoreError(f"the directory {directory} must be an absolute path")
        sock = directory / "redis.sock"
        if len(os.fsencode(sock)) > MAX_SOCKET_PATH:
            raise StoreError(f"the path {sock} is too long for a unix socket; use a shorter directory")
        config = settings.Settings(task, host, sock, max_memory)
        for port in free_ports(host, ports):
            server = await cls._launch(binary, config, port)
            if server is not None:
                return server
        where = (
            "no free port was found" if ports is None else f"none of the ports {ports[0]}-{ports[1]} is free"
        )
        of = "on this machine" if host is None else f"on {host}"
        fix = "let this user listen on TCP ports" if ports is None else "choose others with --redis-ports"
        raise PortInUse(f"{where} {of} for the task's Redis server; {fix}")

    @classmethod
    async def _launch(cls, binary: Path, config: settings.Settings, port: int) -> RedisServer | None:
        """The server, ready and with our functions; None when another program was faster to take the port."""
        try:
            process = await spawn(
                wrapped([str(binary), "-"]),
                cwd=config.unix_socket.parent,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except OSError as error:
            raise StoreError(f"the Redis server cannot be started: {files.why(error)}") from error
        server = cls(config, port, process)
        try:
            _limit(process.pid, ADDRESS_SPACE + 4 * config.max_memory)
            if not await server._ready():
                await server.stop()
                return None
            server._way = sockets.Way(config.unix_socket)
            server._reading = asyncio.get_running_loop().create_task(server._read_log())
            await server._load_functions()
        except BaseException:
            await server.stop()
            raise
        return server

    async def _ready(self) -> bool:
        """Send the configuration and wait until the server is up. False when another program has its port."""
        stdin, stdout = _pipes(self._process)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                # A server that ends before it has read everything says why on its output, which is read next.
                with contextlib.suppress(ConnectionError):
                    stdin.write(self._config.text(self.port).encode())
                    await stdin.drain()
                stdin.close()
                while line := await stdout.readline():
                    self._note(line)
                    if b"eady to accept connections" in line:
                        return True
        except TimeoutError as error:
            raise StoreError(
                f"the Redis server accepted no connections within {START_TIMEOUT:g} s{self._words()}"
            ) from error
        except ValueError as error:
            raise StoreError(
                "the program that should be a Redis server writes lines of more than a MiB"
            ) from error
        if any(_TAKEN in line for line in self._log):
            return False
        raise StoreError(f"the Redis server did not start{self._words()}")

    async def _read_log(self) -> None:
        """Keep the last lines. The pipe must be read all the time: the server blocks when it is full."""
        stdout = _pipes(self._process)[1]
        with contextlib.suppress(ValueError):
            while line := await stdout.readline():
                self._note(line)

    def _note(self, line: bytes) -> None:
        if line.strip():
            self._log.append(resp.printable(line.strip()))

    def _words(self) -> str:
        """Its last warnings and errors, without the banner."""
        said = [line for line in self._log if (found := _LEVEL.match(line)) is None or found[1] == "#"]
        said = [line[found.end() :] if (found := _LEVEL.match(line)) else line for line in said]
        said = [line for line in said if not _EXPECTED.search(line)]
        return f": {' | '.join(said[-4:])}" if said else ""

    # -- who may use it

    async def gate(self, purpose: str) -> Path:
        """A unix socket whose connections are logged in for one purpose.

        Args:
            purpose: ``store`` (this task's keys), ``replica`` (replication) or ``progress`` (reading it).
        """
        path = self.gate_path(purpose)
        if purpose not in self._gates:
            password, limit = self._config.passwords[purpose], settings.PURPOSES[purpose]
            made = self._gates[purpose] = gates.gate(self._address(), purpose, password, limit)
            await made.listen_unix(path)
        return path

    def gate_path(self, purpose: str) -> Path:
        """The path of a gate that was made."""
        if purpose not in settings.PURPOSES:
            raise StoreError(f"there is no gate for {purpose!r}, only for {', '.join(settings.PURPOSES)}")
        return self.unix_socket.with_name(f"{purpose}.sock")

    def gate_way(self, purpose: str) -> Path:
        """A path to the gate for this process only. It works while the gate is open, even if the directory is
        removed."""
        path = self.gate_path(purpose)
        gate = self._gates.get(purpose)
        return path if gate is None or gate.way is None else Path(gate.way.address)

    def _address(self) -> str:
        return str(self.unix_socket) if self._way is None else self._way.address

    # -- replication

    async def replicate_from(self, path: Path, timeout: float) -> None:
        """Become the replica of the server behind a unix socket; its data replaces ours.

        Args:
            path: leads to the master's replica gate.
            timeout: seconds until all data is here and what the master writes next arrives.

        Raises:
            StoreError: it is not, with the state that was reached; this server is a master again.
        """
        # One change of the master at a time: each consists of several commands and a relay of its own.
        async with self._replication:
            await self._leave_master()
            password = self._config.relay_password
            self._relay = gates.relay(path, settings.REPLICA, password, MAX_REPLICA_CONNECTIONS)
            here = await self._relay.listen_loopback()
            await self._admin((self._config.names["REPLICAOF"], *here))
            state = "none"
            try:
                async with asyncio.timeout(timeout):
                    first = None
                    # After the first copy a master may send nothing for up to a second, and confirms no write
                    # until it does. It pings every second: the offset shows when that arrives.
                    while True:
                        state, offset = await self._replica_state()
                        if state == "connected":
                            first = offset if first is None else first
                            if offset > first:
                                break
                        await asyncio.sleep(CHECK_INTERVAL)
            except TimeoutError as error:
                problem = f" ({self._relay.problem})" if self._relay.problem else ""
                await self._leave_master()
                raise StoreError(
                    f"the master's Redis server is not replicated after {timeout:g} s:"
                    f" the state is {state!r}{problem}"
                ) from error

    async def promote(self) -> None:
        """Become a master with the data that is here.

        Raises:
            StoreError: the server does not answer.
        """
        async with self._replication:
            await self._leave_master()
            # A replica has the functions of its master, who may have been hostile.
            await self._load_functions()

    async def _leave_master(self) -> None:
        await self._admin((self._config.names["REPLICAOF"], "NO", "ONE"))
        if self._relay is not None:
            await self._relay.close()
            self._relay = None

    async def _load_functions(self) -> None:
        library = resources.files("mlnet.store").joinpath("functions.lua").read_bytes()
        try:
            await self._admin((self._config.names["FUNCTION"], "LOAD", "REPLACE", library))
        except StoreError as error:
            raise StoreError(
                f"the Redis server does not take mlnet's functions: {error}; use Valkey, or Redis 7 or later"
            ) from error

    async def _replica_state(self) -> tuple[str, int]:
        """The state of a replica's link to its master, and how far it has come; "" and 0 of a master."""
        match await self._admin(("ROLE",)):
            case [b"slave", bytes(), int(), bytes(state), int(offset), *_]:
                return state.decode("ascii", "replace"), offset
            case [b"master", *_]:
                return "", 0
        raise StoreError("the Redis server's answer to ROLE is malformed")

    async def _admin(self, *commands: tuple[str | bytes | int, ...]) -> resp.Reply:
        """Carry out commands as administrator: the last one's reply."""
        reply: resp.Reply = None
        try:
            async with resp.RespConnection.open(Path(self._address())) as connection:
                login = ("AUTH", settings.ADMIN, self._config.passwords[settings.ADMIN])
                for parts in (login, *commands):
                    reply = await connection.call(*parts, timeout=ADMIN_TIMEOUT)
        except StoreError as error:
            if self._process.returncode is not None:
                raise StoreError(f"the {self._end()}") from error
            raise
        return reply

    # -- the end

    async def died(self) -> str:
        """Wait until the process ends: how it did, and its last complaints."""
        await self._process.wait()
        return self._end()

    def _end(self) -> str:
        status = self._process.returncode
        how = "running" if status is None else how_it_ended(status)
        return f"Redis server ended ({how}){self._words()}"

    async def stop(self) -> None:
        """End the server, close the gates, remove what it left on the disk; harmless when repeated."""
        listeners = list(self._gates.values())
        if self._relay is not None:
            listeners.append(self._relay)
        self._gates.clear()
        self._relay = None
        if self._way is not None:
            self._way.close()
            self._way = None
        async with contextlib.AsyncExitStack() as ends:  # the process first, and all, whichever fails
            for listener in listeners:
                ends.push_async_callback(listener.close)
            ends.push_async_callback(end, self._process, STOP_TIMEOUT)
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        directory = self.unix_socket.parent
        left = [self.unix_socket, *(self.gate_path(purpose) for purpose in settings.PURPOSES)]
        # A server that is killed while it receives its master's data leaves these files.
        for path in (*left, *directory.glob("temp-*.rdb"), *directory.glob("*dump.rdb")):
            files.remove(path)


def _limit(pid: int, address_space: int) -> None:
    """Bound a server's address space, where the system can: a hostile master may send more than maxmemory."""
    if sys.platform == "linux":
        # The process may have ended already; _ready() reports that.
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_AS, (address_space, address_space))


def _pipes(process: asyncio.subprocess.Process) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
    if process.stdin is None or process.stdout is None:
        raise ValueError("a server is started with pipes")
    return process.stdin, process.stdout


def free_ports(host: str | None, ports: tuple[int, int] | None) -> Iterator[int]:
    """Yield ports that were free a moment ago."""
    at = hosts.ANY if host is None else (host,)
    for wanted in [0] * FREE_PORTS if ports is None else range(ports[0], ports[1] + 1):
        if port := hosts.free_port(wanted, at):
            yield port
