"""Networks for tests: nodes on loopback that record what their handlers are told."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from mlnet.errors import RemoteProtocolError
from mlnet.identity.envelope import Envelope
from mlnet.identity.keys import Identity
from mlnet.net.network import Network
from mlnet.net.types import Handlers, Limits, Target

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)
SECONDS = 20.0
"""Deadline of every wait; a test that works takes a small part of it."""


class Node:
    """A network whose handlers record. ``garbage`` is refused, ``other`` is not for us."""

    def __init__(self, identity: Identity | None = None) -> None:
        self.identity = identity or Identity.generate()
        self.received: list[tuple[str, str, bool]] = []
        self.peers: set[str] = set()
        self.changes: list[tuple[str, bool]] = []
        self.blobs: dict[tuple[str, str], Path] = {}
        self.targets: dict[tuple[str, str, str], Path] = {}
        self.admitted: list[tuple[str, str, str]] = []
        self._changed = asyncio.Event()
        self.network: Network
        self.runtime_dir: Path

    @property
    def id(self) -> str:
        return self.identity.peer_id

    @property
    def address(self) -> str:
        return self.network.addresses()[0]

    @property
    def texts(self) -> list[str]:
        return [text for text, _, _ in self.received]

    def envelope(self, text: str) -> Envelope:
        unsigned = Envelope(text, b"")
        return Envelope(text, self.identity.sign(unsigned.signing_input))

    def handlers(self) -> Handlers:
        return Handlers(self._on_envelope, self._on_peer, self._find_blob, self._admit, self.verify)

    def verify(self, envelopes: Sequence[Envelope]) -> Sequence[Envelope | RemoteProtocolError]:
        return envelopes

    def _on_envelope(self, envelope: Envelope, source: str, gossip: bool) -> bool:
        if envelope.yaml.startswith("garbage"):
            raise RemoteProtocolError("it is garbage")
        self.received.append((envelope.yaml, source, gossip))
        self._notify()
        return not envelope.yaml.startswith("other")

    def _on_peer(self, peer: str, connected: bool) -> None:
        assert (peer in self.peers) != connected
        (self.peers.add if connected else self.peers.remove)(peer)
        self.changes.append((peer, connected))
        self._notify()

    def _find_blob(self, peer: str, digest: str) -> Path | None:
        return self.blobs.get((peer, digest))

    def _admit(self, peer: str, protocol: str, preamble: str) -> Target | None:
        self.admitted.append((peer, protocol, preamble))
        return self.find_target(peer, protocol, preamble)

    def find_target(self, peer: str, protocol: str, preamble: str) -> Target | None:
        return self.targets.get((peer, protocol, preamble))

    def _notify(self) -> None:
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that the handlers are told."""
        async with asyncio.timeout(SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_connected(self, *others: Node) -> None:
        await self.until(lambda: all(other.id in self.peers for other in others))

    async def until_alone(self) -> None:
        await self.until(lambda: not self.peers)


@contextlib.asynccontextmanager
async def running(
    node: Node,
    *,
    peers: tuple[str, ...] = (),
    listen: tuple[str, ...] = LOOPBACK,
    limits: Limits | None = None,
    runtime_dir: Path | None = None,
) -> AsyncIterator[Node]:
    """Run a node's network; afterwards nothing is left in its runtime directory."""
    with tempfile.TemporaryDirectory(prefix="mlnet-") as directory:
        node.runtime_dir = runtime_dir or Path(directory) / "run"
        node.network = Network(
            node.identity,
            node.handlers(),
            listen=listen,
            peers=peers,
            runtime_dir=node.runtime_dir,
            limits=limits,
        )
        await node.network.start()
        try:
            yield node
        finally:
            await node.network.stop()
            assert list(node.runtime_dir.glob("*")) == []


@contextlib.asynccontextmanager
async def nodes(count: int, limits: Limits | None = None) -> AsyncIterator[list[Node]]:
    """Some nodes that do not know each other."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(Node(), limits=limits)) for _ in range(count)]


async def join(one: Node, other: Node) -> None:
    """Connect two nodes, and wait until both know."""
    await one.network.connect(other.address)
    await one.until_connected(other)
    await other.until_connected(one)


def open_sockets() -> set[str]:
    """The sockets of this process, by inode: what was open before a test can be told from what it opened."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor that lists them
            found.add(str(descriptor.readlink()))
    return {one for one in found if one.startswith("socket:")}


async def accepted(future: asyncio.Future[bool]) -> bool:
    async with asyncio.timeout(SECONDS):
        return await future
