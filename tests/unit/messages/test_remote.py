"""What the commands say that ask a node, and what they say where there is none."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from support.api_double import TASK, Break, Double, course, in_thread, socket_path
from support.definitions import EXAMPLE
from support.message_cases import Case, check

from mlnet.cli import app, handover
from mlnet.cli.node_views import described
from mlnet.errors import MlnetError, ServiceError
from mlnet.sdk import watching
from mlnet.sdk.async_client import AsyncTask
from mlnet.sdk.client import Client
from mlnet.sdk.display import Display
from mlnet.sdk.records import NodeStatus
from mlnet.sdk.showing import Shown
from mlnet.v1 import node_pb2, tasks_pb2

FAILED = course(3, tasks_pb2.TASK_STATE_FAILED)
FAILED[-1].ended.reason, FAILED[-1].ended.code = "1 node answered", "TooFewNodes"
RUNNING = course(3)
RUNNING[-1].state = tasks_pb2.TASK_STATE_TRAINING
RUNNING[-1].notice.text = "one"


def asked(*arguments: str, double: Double | None = None) -> Case:
    """What a command says to somebody whose node is a double."""

    def case(directory: Path) -> str:
        for place in socket_path():
            words = ["--node", str(place)]
            with in_thread(double or Double(model=b"model" * 1000), place):
                return printed([*arguments, *words], directory).replace(str(place), "SOCKET")
        raise AssertionError

    return case


def printed(arguments: Sequence[str], directory: Path) -> str:
    """What a command writes, and its exit code if that is not 0."""
    out, err = io.TextIOWrapper(io.BytesIO(), write_through=True), io.StringIO()
    here = Path.cwd()
    os.chdir(directory)
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = app.app(list(arguments), standalone_mode=False)
    except MlnetError as error:
        err.write(f"error: {error}\n")
        code = error.exit_code
    finally:
        os.chdir(here)
    text = out.buffer.getvalue().decode() + err.getvalue()
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?", "DATE", text)
    return text + (f"exit code {code}" if code else "")


def test_commands_that_ask_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLNET_NODE", "MLNET_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/nowhere")
    monkeypatch.setattr(watching, "FIRST_PAUSE", 0.001)
    file = str(EXAMPLE)
    failed, running = Double(events=FAILED), Double(events=RUNNING)
    denied = ServiceError("dataset /data does not lie below", status="PERMISSION_DENIED")
    strict = Double(model=b"m" * 2000, refuses=[denied])
    check(
        "remote",
        {
            "status": asked("status"),
            "peers": asked("peers"),
            "ping": asked("ping", "AbCd", "--count", "2"),
            "ping as JSON": asked("ping", "AbCd", "--json"),
            "tasks": asked("tasks", "list", "--limit", "1"),
            "tasks show": asked("tasks", "show", "ab12"),
            "tasks show of a task that is trained": asked("tasks", "show", "ab12", double=running),
            "tasks show of a task that failed": asked("tasks", "show", "ab12", double=failed),
            "tasks watch as JSON": asked("tasks", "watch", "ab12", "--json"),
            "tasks watch": asked("tasks", "watch", "ab12"),
            "tasks wait": asked("tasks", "wait", "ab12"),
            "tasks wait for one that failed": asked("tasks", "wait", "ab12", double=failed),
            "tasks wait, too short": asked("tasks", "wait", "ab12", "--timeout", "100ms", double=running),
            "tasks cancel": asked("tasks", "cancel", "ab12", double=running),
            "tasks cancel of one that has ended": asked("tasks", "cancel", "ab12"),
            "tasks download": asked("tasks", "download", "ab12", "--output", "m"),
            "tasks download of one that failed": asked("tasks", "download", "ab12", double=failed),
            "tasks download of one that is trained": asked("tasks", "download", "ab12", double=running),
            "tasks transcript": asked("tasks", "transcript", "ab12"),
            "a task that is unknown": asked("tasks", "show", "ffff"),
            "submit": asked("submit", file, "--output", "m", double=strict),
            "submit, detached": asked("submit", file, "--detach"),
            "submit of one that fails": asked("submit", file, double=failed),
            "forward to a peer that the node does not know": asked("forward", "abcdefgh"),
            "forward without a node": lambda directory: printed(["forward", "abcdefgh"], directory),
            "no node": lambda directory: printed(["tasks"], directory),
            "no node at an address": lambda directory: printed(
                ["status", "--node", "127.0.0.1:1"], directory
            ),
        },
        tmp_path,
    )


def test_wrong_use_of_commands_that_ask_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLNET_NODE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/nowhere")

    def wrong(*arguments: str) -> Case:
        return lambda directory: printed(arguments, directory)

    check(
        "remote-usage",
        {
            "submit without a node": wrong("submit"),
            "submit with an option of clients without a node": wrong("submit", "--show-messages"),
            "submit that joins the network, detached": wrong(
                "submit", "--detach", "--peer", "/ip4/192.0.2.7"
            ),
            "options before the command": wrong("tasks", "--json", "show", "ab12"),
            "a state that is none": wrong("tasks", "list", "--state", "bogus"),
            "a state of a watch that is none": wrong("tasks", "watch", "ab12", "--until", "bogus"),
            "a number that is none": wrong("tasks", "list", "--limit", "many"),
            "a duration that is none": wrong("tasks", "wait", "ab12", "--timeout", "soon"),
        },
        tmp_path,
    )


def test_a_watch_in_a_pipe_goes_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    for place in socket_path():
        with in_thread(Double(model=b"model"), place):
            app.app(["tasks", "watch", "ab12", "--node", str(place)], standalone_mode=False)
    out, err = capfd.readouterr()
    assert [line.strip() for line in out.splitlines()[1:5]] == ["1", "2", "3", "4"]
    assert "task ab12ab12ab12 has its model" in out
    assert "\x1b" not in out
    assert err == ""


def test_a_watch_that_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(watching, "IDLE_SECONDS", 0.5)

    def said(double: Double, patience: float = 60.0) -> Case:
        def case(_: Path) -> str:
            lines: list[str] = []
            for place in socket_path():
                with (
                    in_thread(double, place),
                    Client(socket=place, patience=patience, notice=lines.append) as client,
                ):
                    client.get(TASK)
                    try:
                        lines += (type(event).__name__ for event in client.watch(TASK))
                    except MlnetError as error:
                        lines.append(str(error))
                return "\n".join(lines).replace(str(place), "SOCKET")
            raise AssertionError

        return case

    check(
        "remote-watches",
        {
            "it goes on": said(Double(events=course(3), breaks=[Break(1)])),
            "it ends without a word": said(Double(events=course(3), breaks=[Break(1, None)])),
            "the node stays away": said(Double(breaks=[Break(0)] * 10_000), 0.05),
            "the node falls silent": said(Double(events=RUNNING), 0.05),
            "an event is left out": said(Double(events=course(5)[2:])),
        },
        tmp_path,
    )


class Alone(Double):
    """A node without peers and tasks."""

    async def Peers(self, request: node_pb2.PeersRequest, context: Any) -> node_pb2.PeersResponse:  # noqa: N802
        return node_pb2.PeersResponse()

    async def List(self, request: tasks_pb2.ListRequest, context: Any) -> tasks_pb2.ListResponse:  # noqa: N802
        return tasks_pb2.ListResponse()


def fails(double: Double, call: Callable[[Client, Path], object]) -> Case:
    """The error that a call of a client ends with."""

    def case(directory: Path) -> str:
        for place in socket_path():
            client = Client(socket=place, patience=0.05, notice=lambda text: None)
            with in_thread(double, place), client:
                client.get(TASK)
                try:
                    return f"nothing: {call(client, directory)}"
                except MlnetError as error:
                    return str(error).replace(str(place), "SOCKET")
        raise AssertionError

    return case


def test_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = [Break(0)] * 10_000
    text = EXAMPLE.read_text()
    reached = NodeStatus("12D3KooW", addresses=("/ip4/192.0.2.7/tcp/4001",), reached=True)
    check(
        "remote-clients",
        {
            "no peers": asked("peers", double=Alone()),
            "no tasks": asked("tasks", double=Alone()),
            "a node that is reached": lambda _: "\n".join(described(reached, datetime.now(UTC))),
            "three datasets": fails(Double(), lambda client, _: client.submit(text, data=["a", "b", "c"])),
            "a waiting period that is none": fails(
                Double(), lambda client, _: client.submit(text, data="https://a.b/c", waiting_period="soon")
            ),
            "a download that the node leaves": fails(
                Double(model=b"m", breaks=gone),
                lambda client, directory: client.download(TASK, directory / "m"),
            ),
            "a model that is another one": fails(
                Double(model=b"m", promised="ab" * 32),
                lambda client, directory: client.download(TASK, directory / "m"),
            ),
        },
        tmp_path,
    )


class Late:
    """A task that it is too late, or not, to cancel."""

    id = TASK

    def __init__(self, error: MlnetError | None) -> None:
        self._error = error

    async def cancel(self, _: str) -> None:
        if self._error is not None:
            raise self._error


def test_the_hand_on_a_task_of_a_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def said(task: Late | None, number: signal.Signals, *, terminal: bool = False) -> str:
        lines: list[str] = []
        monkeypatch.setattr(handover, "_is_terminal", lambda: terminal)
        hand = handover.Hand(lines.append)
        hand.task = cast(AsyncTask | None, task)
        keyboard, child = os.openpty()
        with os.fdopen(child) as stdin, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", stdin)
            hand.on_signal(number)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            hand.leave()
        os.close(keyboard)
        return "\n".join(lines)

    def left(task: Late | None) -> str:
        handover._say_where(cast(AsyncTask | None, task))
        return capsys.readouterr().err

    def moves(what: str) -> str:
        view = Shown(Display(io.StringIO()))
        view.moved(what)(1 << 20, 2 << 20)
        return view.now()

    late = Late(ServiceError("it is too late"))
    check(
        "handover",
        {
            "Ctrl-C at a terminal": lambda _: asyncio.run(said(Late(None), signal.SIGINT, terminal=True)),
            "Ctrl-C elsewhere": lambda _: asyncio.run(said(Late(None), signal.SIGINT)),
            "Ctrl-C while the dataset is cut": lambda _: asyncio.run(said(None, signal.SIGINT)),
            "too late": lambda _: asyncio.run(said(late, signal.SIGTERM)),
            "left": lambda _: left(Late(None)),
            "left early": lambda _: left(None),
            "the dataset": lambda _: moves("the dataset goes to the node"),
            "the model": lambda _: moves("the model comes from the node"),
        },
        tmp_path,
    )
