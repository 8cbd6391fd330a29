"""Bare hosts for tests, and what they tell."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from support.network import LOOPBACK, SECONDS

from mlnet.identity.keys import Identity
from mlnet.net.transport.host import Host
from mlnet.net.transport.unix_tunnel import RuntimeDir
from mlnet.net.types import Limits


class Events:
    """Records links."""

    def __init__(self) -> None:
        self.connections: list[tuple[str, str, bool]] = []
        self.garbage: list[tuple[str, float]] = []
        self.reached: list[tuple[str, str]] = []
        self.twins: list[str] = []
        self.up = 0
        self.peer = ""
        self._changed = asyncio.Event()

    def on_connection(self, peer: str, ip: str, up: bool) -> None:
        self.connections.append((peer, ip, up))
        self.up += 1 if up else -1
        self._changed.set()

    def on_missing_connection(self, peer: str) -> None:
        pass

    def on_twin(self, ip: str) -> None:
        self.twins.append(ip)
        self._changed.set()

    def on_garbage(self, peer: str, points: float) -> None:
        self.garbage.append((peer, points))
        self._changed.set()

    def admit(self, peer: str, protocol: str, preamble: str) -> Path | None:
        return None

    def on_reached(self, remote: str, host: str, port: int) -> None:
        self.reached.append((remote, host))

    async def until_up(self, count: int) -> None:
        await self.until(lambda: self.up == count)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@contextlib.contextmanager
def runtime() -> Iterator[RuntimeDir]:
    with tempfile.TemporaryDirectory(prefix="mlnet-") as directory:
        path = RuntimeDir(Path(directory) / "run")
        path.prepare()
        yield path


@contextlib.asynccontextmanager
async def hosting(
    limits: Limits | None = None, *, in_python: bool = False, identity: Identity | None = None
) -> AsyncIterator[tuple[Host, Events, str]]:
    """A bare host, its events and its peer id; ``in_python`` for one whose sessions a test can reach into,
    ``identity`` for one that is not fresh."""
    with runtime() as directory:
        identity, events = identity or Identity.generate(), Events()
        events.peer = identity.peer_id
        host = Host(
            identity.seed,
            listen=LOOPBACK,
            runtime=directory,
            rpc_socket=directory.name("g"),
            limits=limits or Limits(),
            events=events,
        )
        with pytest.MonkeyPatch.context() as patch:
            if in_python:
                patch.setenv("MLNET_EXTENSIONS", "skip")
            await host.start()
        try:
            yield host, events, identity.peer_id
        finally:
            await host.stop()


def tcp_port(host: Host) -> int:
    return int(host.listen_addresses[0].rsplit("/", 1)[1])
