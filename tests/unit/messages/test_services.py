"""What is said of peers, addresses, Redis servers, trainers and model files, by what went wrong."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from support.definitions import Draft
from support.message_cases import Case, check

from mlnet.client import connecting, meeting, stored
from mlnet.driver import data_dir, journal
from mlnet.driver.messenger import WireOptions
from mlnet.driver.options import ClientOptions
from mlnet.errors import PeerUnreachable
from mlnet.identity.envelope import Envelope
from mlnet.identity.keys import Identity
from mlnet.net import addresses, dialback
from mlnet.net.receiving import inbox
from mlnet.net.types import MAX_ENVELOPE_BYTES
from mlnet.protocol import node
from mlnet.protocol.decisions import rewards
from mlnet.protocol.signer import IdentitySigner
from mlnet.store import binary, keystore, progress, resp
from mlnet.store.ping import ping as ping_server
from mlnet.store.server import RedisServer
from mlnet.task.layers import DenseLayer
from mlnet.training import architecture, evaluation, model
from mlnet.training.process import Trainer
from mlnet.util import clock
from mlnet.v1 import peer_pb2 as pb

PEER = "12D3KooWPRvhsWVsLj8XPC4wndRzoGeqAMbBRSNUfYdAtvJD9wro"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def awaited(make: Callable[[Path], Awaitable[object]]) -> Case:
    async def result(directory: Path) -> object:
        return await make(directory)

    return lambda directory: asyncio.run(result(directory))


def test_addresses(tmp_path: Path) -> None:
    def peer(address: str) -> Case:
        return lambda _: addresses.split_full(address)

    def listen(address: str) -> Case:
        return lambda _: addresses.check_listen(address)

    check(
        "addresses",
        {
            "no multiaddr": peer("192.0.2.7:4001"),
            "no peer id": peer("/ip4/192.0.2.7/tcp/4001"),
            "port 0": peer(f"/ip4/192.0.2.7/tcp/0/p2p/{PEER}"),
            "too large a port": peer(f"/ip4/192.0.2.7/tcp/70000/p2p/{PEER}"),
            "an IPv6 address as IPv4": peer(f"/ip4/::1/tcp/4001/p2p/{PEER}"),
            "listening at a name": listen("/dns/example.org/tcp/4001"),
            "listening at no multiaddr": listen("0.0.0.0:4001"),
        },
        tmp_path,
    )


def test_envelopes(tmp_path: Path) -> None:
    check(
        "envelopes",
        {
            "Send without a signature": lambda _: inbox._unfit(Envelope("v: 1", b"")),
            "Send with a signature of another length": lambda _: inbox._unfit(Envelope("v: 1", bytes(63))),
            "Send of too long a message": lambda _: inbox._unfit(
                Envelope("x" * (MAX_ENVELOPE_BYTES + 1), bytes(64))
            ),
        },
        tmp_path,
    )


async def answering(answer: bytes, ask: Callable[[int], Awaitable[object]]) -> object:
    """What comes of asking at a port of this machine at which something is answered to every line."""
    over: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        over.append(writer)
        await reader.read(100)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        found = await asyncio.gather(ask(server.sockets[0].getsockname()[1]), return_exceptions=True)
        for writer in over:
            await writer.wait_closed()
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def dialled(answer: bytes) -> Case:
    """What a peer says that dialled a port back at which this is answered."""
    return awaited(lambda _: answering(answer, lambda port: dialback.probe("127.0.0.1", port, 5.0)))


async def unanswered(_: Path) -> str:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        return await dialback.probe("127.0.0.1", silent.getsockname()[1], 0.2)


def test_dial_back(tmp_path: Path) -> None:
    async def refused(_: Path) -> str:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        return await dialback.probe("127.0.0.1", port, 5.0)

    async def low(_: Path) -> str:
        return (await dialback.serve(pb.DialBackRequest(port=22), "127.0.0.1")).reason

    check(
        "dial-back",
        {
            "nobody listens": awaited(refused),
            "a web server answers": dialled(b"HTTP/1.1 400 Bad Request\r\n"),
            "the connection is closed": dialled(b""),
            "nothing is answered": awaited(unanswered),
            "a port that is not for everybody": awaited(low),
        },
        tmp_path,
    )


def met(*why: str) -> Case:
    """What a client says that waits for its peer in vain, of which it has heard this."""

    async def waited(directory: Path) -> str:
        lines: list[str] = []
        options = ClientOptions(directory, WireOptions(peers=(f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER}",)))
        with data_dir.opened(directory) as state, pytest.MonkeyPatch.context() as patch:
            patch.setattr(meeting, "CONNECT_SECONDS", 0.01)
            client = connecting.on_its_own(options, state, lambda *_: None, lines.append)
            lines.append(client.doing())
            for reason in why[:1]:
                client.meeting.on_unreachable(PEER, reason)
            waiting = asyncio.ensure_future(client.meet())
            await asyncio.sleep(0)
            client.meeting._until = clock.now() + 89_999
            lines.append(client.doing())
            for reason in why[1:]:
                client.meeting.on_unreachable(PEER, reason)
            with pytest.raises(PeerUnreachable) as error:
                await waiting
        return "\n".join((*lines, str(error.value)))

    return awaited(waited)


def test_meeting(tmp_path: Path) -> None:
    refused = "/ip4/192.0.2.7/tcp/4001: refused; nothing listens there"
    check(
        "meeting",
        {
            "refused, then no route": met(refused, "/ip4/192.0.2.7/tcp/4001: no route"),
            "nothing was heard": met(),
        },
        tmp_path,
    )


def replied(data: bytes) -> Case:
    async def decoded(_: Path) -> object:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await resp.Decoder(reader, 1000).read()

    return awaited(decoded)


def noted(number: bytes = b"5-0", **changes: object) -> Case:
    good = progress.Progress(1, 3, 10, 30, 0.5, 0.9, 2)
    data = msgspec.json.encode(good.as_dict() | changes)
    return lambda _: progress._parse([[b"s", [[number, [b"p", data]]]]], b"s", b"0-0")


def test_redis(tmp_path: Path) -> None:
    def start(task: str, directory: str) -> Case:
        return awaited(
            lambda _: RedisServer.start(
                Path("/bin/false"), Path(directory), task=task, ports=None, max_memory=1
            )
        )

    def failing(text: str) -> Case:
        async def started(directory: Path) -> object:
            program = directory / "server"
            program.write_text(f"#!/bin/sh\n{text}\n")
            program.chmod(0o700)
            return await RedisServer.start(program, directory, task="ab" * 32, ports=None, max_memory=1 << 20)

        return awaited(started)

    def nothing(directory: Path) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(binary, "_packaged", lambda: None)
            patch.setenv("PATH", str(directory))
            return binary.find_binary(None)

    check(
        "redis",
        {
            "no server is installed": nothing,
            "--redis names no program": lambda _: binary.find_binary("/nowhere/redis-server"),
            "a task id that is none": start("x", "/tmp"),
            "a relative directory": start("ab" * 32, "run"),
            "a directory whose path is too long": start("ab" * 32, "/tmp/" + "x" * 100),
            "a server that ends at once": failing("echo '*** FATAL CONFIG FILE ERROR ***'; exit 1"),
            "an error of the server": replied(b"-NOAUTH Authentication required.\r\n"),
            "a closed connection": replied(b""),
            "an answer that is too large": replied(b"$1001\r\n"),
            "an answer of another program": replied(b"HTTP/1.1 200 OK\r\n"),
            "a line without an end": replied(b"+" + b"x" * 100_000),
            "progress without a number": noted(b"x-1"),
            "progress that is no text": lambda _: progress._parse(
                [[b"s", [[b"5-0", [b"q", b""]]]]], b"s", b"0-0"
            ),
            "progress with a loss that is none": noted(loss="low"),
            "progress with a step that is none": noted(step="1"),
            "progress in another form": lambda _: progress._parse(b"OK", b"s", b"0-0"),
            "a namespace that is none": lambda _: keystore.KeyStore([], "x"),
        },
        tmp_path,
    )


def test_pings(tmp_path: Path) -> None:
    def pinged(answer: bytes) -> Case:
        return awaited(lambda _: answering(answer, lambda port: ping_server("127.0.0.1", port, timeout=5.0)))

    check("pings", {"a web server": pinged(b"HTTP/1.1 200\r\n"), "an empty answer": pinged(b"")}, tmp_path)


def test_models(tmp_path: Path) -> None:
    import torch

    def described(text: str) -> Case:
        return lambda _: architecture.from_json(text, "model.safetensors")

    check(
        "models",
        {
            "a file without a description": described(""),
            "a description without layers": described(
                msgspec.json.encode(architecture.Architecture(2, (), "MSE")).decode()
            ),
            "too many parameters": lambda _: architecture.Architecture(
                2, (DenseLayer(1000, "ReLU"),), "MSE"
            ).require_parameters(100),
            "training that diverged": lambda _: evaluation.metrics(
                torch.tensor([1.0, 0.0, 0.0, float("inf")]), classifier=False
            ),
            "a directory that does not exist": lambda directory: model.read_architecture(directory / "x"),
        },
        tmp_path,
    )


def test_nodes(tmp_path: Path) -> None:
    """Why a node does not take a task, and what it says of its own files."""
    terms = node.Terms(cast(Any, SimpleNamespace(memory=256, cpus=1)), 1, 100_000_000, 0, frozenset())

    def refused(changes: dict[str, object], **other: object) -> Case:
        def case(_: Path) -> str:
            draft = Draft.example()
            for path, value in changes.items():
                draft.set(path, value)
            party = cast(Any, SimpleNamespace(terms=msgspec.structs.replace(terms, **other)))
            return node.Node.refusal(party, PEER, draft.read())

        return case

    def locked(directory: Path) -> object:
        with data_dir.opened(directory / "state"), data_dir.opened(directory / "state"):
            return ""

    def damaged(directory: Path) -> object:
        path = directory / "journal"
        path.write_bytes(b"damage\n" * 3)
        return list(journal.replay(path, IdentitySigner(Identity.generate()).verify))

    check(
        "nodes",
        {
            "another client": refused({}, clients=frozenset({"x"})),
            "too little payment": refused({}, least_payment=10**9),
            "too large a model": refused({}, max_parameters=10),
            "too little memory": refused({}),
            "too few processors": refused(
                {"cluster.requirements.memory": "1MiB", "cluster.requirements.cpus": 64}
            ),
            "nothing to share a payment out by": lambda _: rewards.split(1, {}, ()),
            "a directory that another process uses": locked,
            "a directory below a file": below_a_file,
            "a damaged journal": damaged,
            "no task to resume": lambda _: stored._no_single_task("ab", [], []),
            "another task to resume": lambda _: stored._no_single_task("ab", [], ["cd" * 32]),
            "two tasks to resume": lambda _: stored._no_single_task("ab", ["ab1", "ab2"], ["ab1", "ab2"]),
        },
        tmp_path,
    )


def below_a_file(directory: Path) -> object:
    (directory / "file").touch()
    with data_dir.opened(directory / "file" / "state"):
        return ""


def test_trainers(tmp_path: Path) -> None:
    def child(text: str, seconds: float = 20.0) -> Case:
        async def ready(directory: Path) -> object:
            program = directory / "python"
            program.write_text(f"#!/bin/sh\n{text}\n")
            program.chmod(0o700)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("mlnet.util.subprocesses.sys.executable", str(program))
                trainer = await Trainer.start()
            try:
                await trainer.ready(seconds)
            finally:
                await trainer.stop()
            return ""

        return awaited(ready)

    check(
        "trainers",
        {
            "a child that is silent": child("exec sleep 60", 0.3),
            "a child that says something else": child("echo hello; exec sleep 60"),
        },
        tmp_path,
    )
