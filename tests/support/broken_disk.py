"""A disk that breaks at its k-th operation, and a network in memory for parties whose files are real."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from safetensors.numpy import save
from support.definitions import EXAMPLE

import mlnet.node.server
from mlnet.client.scoring import Scorer
from mlnet.client.submission import Submission
from mlnet.errors import DataError
from mlnet.identity.envelope import Envelope
from mlnet.net.types import Handlers
from mlnet.node.task import NodeTask
from mlnet.protocol.commands import Command, MeasurePings, PrepareRedis, Replicate, ServeModel, StartTraining
from mlnet.protocol.events import (
    Event,
    PingsMeasured,
    RedisPrepared,
    Replicated,
    TrainingFinished,
    TrainingProgressed,
)
from mlnet.protocol.wire import codec
from mlnet.training.ipc import Scored
from mlnet.util import yaml12, yaml_writer

CALLS = ("open", "write", "fsync", "replace", "link", "mkdir", "ftruncate", "truncate", "unlink")
MODEL = save({"weight": np.arange(4, dtype=np.float32)}, {"mlnet": "the model that all have trained"})


def tensors(model: bytes) -> bytes:
    """What members have signed of a model file, and its user gets as it was: all behind the header."""
    return model[8 + int.from_bytes(model[:8], "little") :]


@dataclass
class Fault:
    """What breaks, and from when on.

    Attributes:
        number: of the error.
        calls: that meet it.
        lasting: whether it stays, or is met once.
        at: the operation that meets it first, from 0; None for none.
    """

    number: int
    calls: Sequence[str]
    lasting: bool
    at: int | None = None

    def meets(self, call: str, count: int) -> bool:
        if self.at is None or call not in self.calls:
            return False
        return count >= self.at if self.lasting else count == self.at


WRITES = tuple(call for call in CALLS if call != "unlink")
FAULTS = {
    "full": Fault(errno.ENOSPC, [call for call in WRITES if call not in ("ftruncate", "truncate")], True),
    "a full moment": Fault(errno.ENOSPC, WRITES, False),
    "no descriptors": Fault(errno.EMFILE, ("open",), True),
    "broken": Fault(errno.EIO, CALLS, True),
    "a broken block": Fault(errno.EIO, CALLS, False),
    "read-only": Fault(errno.EROFS, CALLS, True),
}


@dataclass
class Disk:
    """Counts the operations below a directory, and breaks them.

    Attributes:
        below: the directory.
        fault: what breaks.
        count: operations so far.
        calls: of each operation, its name and the kind of file.
    """

    below: Path
    fault: Fault
    count: int = 0
    calls: list[tuple[str, str]] = field(default_factory=list)

    def check(self, call: str, place: object) -> None:
        if not self._is_ours(place):
            return
        met = self.fault.meets(call, self.count)
        self.count += 1
        self.calls.append((call, self._kind(place)))
        if met:
            raise OSError(self.fault.number, os.strerror(self.fault.number), str(place))

    def _kind(self, place: object) -> str:
        """A path as it is in every task: below the directory, without what is counted or random."""
        path = Path(f"/proc/self/fd/{place}").readlink() if isinstance(place, int) else place
        below = str(path).removeprefix(f"{self.below}/").removesuffix(" (deleted)")
        return re.sub(r"[0-9a-f]{16,}|tmp\w+|(?<=\.)\w{8}(?=\.part)|\d+", "*", below)

    def _is_ours(self, place: object) -> bool:
        try:
            path = Path(f"/proc/self/fd/{place}").readlink() if isinstance(place, int) else place
        except OSError:
            return False
        return str(path).startswith(f"{self.below}/")


@contextmanager
def breaking(disk: Disk) -> Iterator[Disk]:
    """Operations of this process on the disk go by way of ``disk``."""
    real = {call: getattr(os, call) for call in CALLS}
    readers = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY

    def through(call: str) -> Callable[..., Any]:
        def operate(place: Any, *rest: Any, **options: Any) -> Any:
            reads = call == "open" and rest and not rest[0] & ~readers
            if not reads or disk.fault.number in (errno.EMFILE, errno.EIO):
                disk.check(call, place)
            return real[call](place, *rest, **options)

        return operate

    with pytest.MonkeyPatch.context() as patch:
        for call in CALLS:
            patch.setattr(os, call, through(call))
        yield disk


@dataclass
class Hub:
    """Carries envelopes between parties in one process, and remembers what was said."""

    parties: dict[str, LocalNetwork] = field(default_factory=dict)
    said: dict[tuple[str, str, Any], set[str]] = field(default_factory=dict)
    errors: list[BaseException] = field(default_factory=list)

    def note(self, envelope: Envelope) -> None:
        message = codec.message(envelope)
        if message.type != "PEERS":
            self.said.setdefault((message.sender, message.task, message.place), set()).add(envelope.yaml)

    def contradictions(self) -> list[set[str]]:
        return [texts for texts in self.said.values() if len(texts) > 1]


class LocalNetwork:
    """In the place of :class:`mlnet.net.network.Network`."""

    hub: Hub

    def __init__(self, identity: Any, handlers: Handlers, **_: Any) -> None:
        self.peer_id = identity.peer_id
        self._handlers = handlers

    async def start(self) -> None:
        self.hub.parties[self.peer_id] = self

    async def stop(self) -> None:
        self.hub.parties.pop(self.peer_id, None)

    def addresses(self) -> list[str]:
        return [f"/ip4/127.0.0.1/tcp/1/p2p/{self.peer_id}"]

    def connected_peers(self) -> list[str]:
        return [peer for peer in self.hub.parties if peer != self.peer_id]

    def known_peers(self) -> dict[str, list[str]]:
        return {peer: [] for peer in self.connected_peers()}

    def add_addresses(self, peer: str, addresses: Sequence[str]) -> None:
        pass

    def send(self, envelope: Envelope, peer: str, **_: Any) -> asyncio.Future[bool]:
        self.hub.note(envelope)
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        future.get_loop().call_soon(self._deliver, envelope, peer, future)
        return future

    def publish(self, envelope: Envelope) -> list[asyncio.Future[bool]]:
        return [self.send(envelope, peer) for peer in self.connected_peers()]

    def _deliver(self, envelope: Envelope, peer: str, future: asyncio.Future[bool]) -> None:
        receiver = self.hub.parties.get(peer)
        if receiver is not None:
            try:
                (opened,) = receiver._handlers.verify([envelope])
                receiver._handlers.on_envelope(opened, self.peer_id, False)
            except Exception as error:  # noqa: BLE001 - judged by the test
                self.hub.errors.append(error)
        if not future.done():
            future.set_result(receiver is not None)

    async def fetch_blob(self, peer: str, digest: str, *, sink: Callable[[bytes], None], **_: Any) -> int:
        path = self.hub.parties[peer]._handlers.find_blob(self.peer_id, digest)
        if path is None:
            raise DataError("there is no such blob")
        data = path.read_bytes()
        sink(data)
        return len(data)


class InstantRun:
    """In the place of :class:`mlnet.node.task.NodeTask`: what it is asked for is there at once."""

    effects: ClassVar = NodeTask.effects
    running: ClassVar[set[InstantRun]] = set()
    ports: ClassVar = itertools.count(1000)

    def __init__(
        self,
        task: str,
        client: str,
        definition: Any,
        wire: Any,
        options: Any,
        directory: Path,
        runtime: Path,
        tell: Callable[[Event], None],
    ) -> None:
        self._wire, self._directory, self._tell = wire, directory, tell
        self._model: Path | None = None
        InstantRun.running.add(self)

    def carry_out(self, command: Command) -> None:
        match command:
            case PrepareRedis():
                port = next(self.ports)
                self._soon(RedisPrepared(True, "127.0.0.1", port, self._wire.addresses()))
            case MeasurePings():
                pings = dict.fromkeys(command.targets, (100,) * command.samples)
                self._soon(PingsMeasured(command.attempt, pings))
            case Replicate():
                self._soon(Replicated(command.attempt))
            case StartTraining():
                self._model = self._directory / "model.safetensors"
                self._model.write_bytes(MODEL)  # by another process
                for _ in range(3):
                    self._soon(TrainingProgressed(command.attempt))
                nodes = dict.fromkeys(command.assignment.nodes, 10)
                digest = hashlib.sha256(MODEL).hexdigest()
                made = TrainingFinished(command.attempt, {"loss": 0.5}, 0.9, digest, len(MODEL), nodes)
                self._soon(made)
            case ServeModel():
                InstantRun.running.discard(self)

    def _soon(self, event: Event) -> None:
        asyncio.get_running_loop().call_soon(self._tell, event)

    async def release(self) -> None:
        InstantRun.running.discard(self)

    def restore_model(self, sha256: str) -> None:
        self._model = self._directory / "model.safetensors"

    def find_blob(self, peer: str, digest: str) -> Path | None:
        return self._model


def in_one_process(patch: pytest.MonkeyPatch) -> Hub:
    """Nodes and clients meet in memory, and what needs Redis or torch is there at once."""
    hub = Hub()

    async def score(*_: Any) -> Scored:
        return Scored(loss=0.5, rows=4, metrics={"loss": 0.5}, accuracy=0.9)

    async def follow(*_: Any) -> None:
        return None

    patch.setattr(LocalNetwork, "hub", hub, raising=False)
    patch.setattr("mlnet.driver.messenger.Network", LocalNetwork)
    patch.setattr(mlnet.node.server, "NodeTask", InstantRun)
    patch.setattr("mlnet.store.find_binary", lambda option: Path("/bin/true"))
    patch.setattr("mlnet.store.check_version", lambda binary: None)
    patch.setattr(Scorer, "load", lambda self: None)
    patch.setattr(Scorer, "score", score)
    patch.setattr(Submission, "_follow", follow)
    return hub


def small_task(directory: Path, *, max_nodes: int) -> Path:
    """The file of a task with 20 rows beside it; it waits an hour for nodes, or until there are so many."""
    plain: Any = yaml12.load(EXAMPLE.read_text())
    del plain["ml"]["dataset"]["sha256"]
    plain["ml"]["dataset"]["source"]["features"] = "d.npz"
    plain["cluster"] = {"waiting-period": "1h", "min-nodes": 2, "max-nodes": max_nodes}
    np.savez(directory / "d.npz", features=np.ones((20, 64), np.float32), labels=np.arange(20) % 10)
    (directory / "task.yaml").write_text(yaml_writer.dump_block(plain))
    return directory / "task.yaml"
