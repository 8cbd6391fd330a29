"""What the commands say that ask a node, and what they say where there is none."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.api_double import TASK, Break, Double, course, in_thread, socket_path
from support.definitions import EXAMPLE
from support.message_cases import Case, check

from mlnet.cli import app
from mlnet.errors import MlnetError, ServiceError
from mlnet.sdk import watching
from mlnet.sdk.client import Client
from mlnet.v1 import tasks_pb2

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
    text = out.buffer.getvalue().decode() + err.getvalue()  # type: ignore[attr-defined]
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
            "tasks watch": asked("tasks", "watch", "ab12", "--json"),
            "tasks watch on a terminal": asked("tasks", "watch", "ab12"),
            "tasks wait": asked("tasks", "wait", "ab12"),
            "tasks wait for one that failed": asked("tasks", "wait", "ab12", double=failed),
            "tasks wait, too short": asked("tasks", "wait", "ab12", "--timeout", "100ms", double=running),
            "tasks cancel": asked("tasks", "cancel", "ab12", double=running),
            "tasks cancel of one that has ended": asked("tasks", "cancel", "ab12"),
            "tasks download": asked("tasks", "download", "ab12", "--output", "m"),
            "tasks download of one that failed": asked("tasks", "download", "ab12", double=failed),
            "tasks transcript": asked("tasks", "transcript", "ab12"),
            "a task that is unknown": asked("tasks", "show", "ffff"),
            "submit": asked("submit", file, "--output", "m", double=strict),
            "submit, detached": asked("submit", file, "--detach"),
            "submit of one that fails": asked("submit", file, double=failed),
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
            "a duration that is none": wrong("tasks", "wait", "ab12", "--timeout", "soon"),
        },
        tmp_path,
    )


def test_a_watch_that_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "FIRST_PAUSE", 0.001)

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
            "an event is left out": said(Double(events=course(5)[2:])),
        },
        tmp_path,
    )
