"""The nodes that are loaded, their tasks, and what a call needs to reach them."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from load import calls, envelopes
from load.processes import Server
from load.scenarios import DIRECT, FORWARD, TLS
from support.cluster import EXAMPLE, Mission, NodeProcess, mission

from mlnet.util import yaml12, yaml_writer
from mlnet.v1 import tasks_pb2, tasks_pb2_grpc

EXCHANGED, EACH = 512, 32
"""Envelopes of one call of Exchange, and of one request."""
ENDED = 20
"""Tasks that a node has had and that List shows, beside the one that goes on."""
LARGE: Mapping[str, Any] = {
    "format": "CSV",
    "ignore_columns": [f"a column that is not looked at, number {number}" for number in range(1000)],
}
"""Makes a definition of about 45 KB, of the 64 KiB that one may have."""
CALL_SECONDS = 60.0
TOKEN = "load"
"""Of the task that is submitted again and again."""
CONNECTIONS = 4
"""By which ghz calls through `forward`: a peer may have 64 calls under way on each, of which some have ended
already for the caller."""
ROOTS = ("--dataset-root", str(EXAMPLE.parent))
OPENSSL = (
    *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
    *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
)


@dataclass(frozen=True)
class Way:
    """How calls reach a node.

    Attributes:
        server: where, and whose processor time counts.
        data: directory with the data of the configurations that name a task of this node.
        certificate: that it shows; None without TLS.
        key: to it.
        token: that it asks for; empty for none.
        connections: by which ghz calls; 0 for one.
    """

    server: Server
    data: Path
    certificate: Path | None = None
    key: Path | None = None
    token: str = ""
    connections: int = 0

    @property
    def metadata(self) -> dict[str, str]:
        """Of every call."""
        return {"authorization": f"Bearer {self.token}"} if self.token else {}

    def options(self, configuration: Mapping[str, Any]) -> list[str]:
        """What ghz is told beside the configuration and the address."""
        found = []
        if "data-file" in configuration:
            found += ["--data-file", str(self.file(configuration["data-file"]))]
        if self.connections:
            found += ["--connections", str(self.connections)]
        if self.certificate is not None:
            found += ["--no-insecure", "--cacert", str(self.certificate)]
        if self.metadata:
            text = json.dumps(self.metadata)
            found += ["--metadata", text, "--reflect-metadata", text]
        return found

    def file(self, name: str) -> Path:
        """A data file of a configuration: that of this node, or the one for all."""
        own = self.data / Path(name).name
        return own if own.exists() else envelopes.DATA / own.name

    def channel(self) -> grpc.Channel:
        """To the node."""
        if self.certificate is None:
            return grpc.insecure_channel(self.server.address)
        trusted = grpc.ssl_channel_credentials(self.certificate.read_bytes())
        return grpc.secure_channel(self.server.address, trusted)

    def ask(self, configuration: Mapping[str, Any]) -> list[Any]:
        """What the node answers to a configuration."""
        with self.channel() as channel:
            file = self.file(configuration.get("data-file", ""))
            return calls.call(channel, configuration, file, tuple(self.metadata.items()))


def free_port() -> int:
    """A port of the loopback address that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost and its key, PEM."""
    made, key = directory / "api.crt", directory / "api.key"
    process = await asyncio.create_subprocess_exec(
        *OPENSSL, "-keyout", str(key), "-out", str(made), stderr=subprocess.DEVNULL
    )
    if await process.wait():
        raise RuntimeError("openssl cannot make a certificate")
    return made, key


def written_for_all(data: Path, sent: int) -> None:
    """Write the data that needs no node."""
    envelopes.write(data / "send.json", envelopes.for_send(sent))
    envelopes.write(data / "exchange.json", envelopes.for_exchange(EXCHANGED, EACH))
    envelopes.write(data / "validate.json", [{"definition": definition(**LARGE)}])


def definition(**dataset: Any) -> str:
    """The example's definition, with other terms for its dataset, and a cluster that never gathers."""
    plain: Any = yaml12.load(EXAMPLE.read_text())
    plain["ml"]["dataset"] |= {key.replace("_", "-"): value for key, value in dataset.items()}
    plain["cluster"] = {"waiting-period": "12h", "min-nodes": 64}
    text: str = yaml_writer.dump_block(plain)
    return text


@asynccontextmanager
async def nodes(
    ways: Sequence[str], directory: Path, sent: int, *, tasks: bool = True
) -> AsyncIterator[dict[str, Way]]:
    """Start a node for each way, and write the data that the configurations name.

    Args:
        ways: to the nodes.
        directory: for a certificate.
        sent: envelopes for Send.
        tasks: whether the nodes have tasks.
    """
    written_for_all(envelopes.DATA, sent)
    async with mission(0) as running:
        found: dict[str, Way] = {}
        if DIRECT in ways or FORWARD in ways:
            address = f"127.0.0.1:{free_port()}"
            node = await running.start_one("--api", address, "--api-open", *ROOTS)
            server = Server(address, node.process.pid)
            found[DIRECT] = Way(server, envelopes.DATA)
            if FORWARD in ways:
                local = await _forward(running, node)
                found[FORWARD] = Way(Server(local, server.pid), envelopes.DATA, connections=CONNECTIONS)
        if TLS in ways:
            found[TLS] = await _secure(running, directory)
        for way in found.values():
            if tasks and not way.connections:
                await asyncio.to_thread(_give_tasks, way)
        yield {name: way for name, way in found.items() if name in ways}


async def _secure(running: Mission, directory: Path) -> Way:
    made, key = await certificate(directory)
    address = f"localhost:{free_port()}"
    node = await running.start_one(
        *("--api", address, "--api-cert", str(made), "--api-key", str(key)), *ROOTS
    )
    token = (node.data_dir / "api.token").read_text().strip()
    return Way(Server(address, node.process.pid), envelopes.DATA / TLS, made, key, token)


async def _forward(running: Mission, node: NodeProcess) -> str:
    """Open the node's service for peers here; it ends with the nodes."""
    process = await running.spawn("forward", node.address)
    running.nodes.append(NodeProcess(process, "", "", running.base, running.base / "forward.log"))
    (running.base / "forward.log").touch()
    assert process.stdout is not None
    async with asyncio.timeout(CALL_SECONDS):
        return (await process.stdout.readline()).decode().partition(" ")[0]


def _give_tasks(way: Way) -> None:
    """Have a node carry a task that gathers for hours, and some that were cancelled before."""
    metadata = tuple(way.metadata.items())
    with way.channel() as channel:
        stub: Any = tasks_pb2_grpc.TasksServiceStub(channel)  # type: ignore[no-untyped-call]

        def submit(token: str = "") -> str:
            request = tasks_pb2.SubmitRequest(definition=definition(), idempotency_token=token)
            answer = stub.Submit(request, metadata=metadata, timeout=CALL_SECONDS)
            return str(answer.task.id)

        for _ in range(ENDED):
            ended = submit()
            stub.Cancel(tasks_pb2.CancelRequest(task=ended), metadata=metadata, timeout=CALL_SECONDS)
            for _ in stub.Watch(tasks_pb2.WatchRequest(task=ended), metadata=metadata, timeout=CALL_SECONDS):
                pass
        task = submit(TOKEN)
    again = {"definition": definition(), "idempotencyToken": TOKEN}
    envelopes.write(way.data / "submit-again.json", [again])
    envelopes.write(way.data / "get.json", [{"task": task}])
    envelopes.write(way.data / "watch.json", [{"task": task, "maxEvents": 1}])
