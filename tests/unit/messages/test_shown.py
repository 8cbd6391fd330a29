"""What commands show on the way: demo, submit, start, and wrong use of the command line."""

from __future__ import annotations

import asyncio
import io
import re
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace as Has
from typing import Any, cast

import pytest
import typer
from support.definitions import EXAMPLE, Draft
from support.message_cases import Case, check

from mlnet.cli import app, console, demo, doctor, start, submit
from mlnet.cli.controls import Controls, Job
from mlnet.client import connecting
from mlnet.errors import ConfigError, MlnetError
from mlnet.net.transport.reach import REACHED, SEEN
from mlnet.protocol.commands import Report
from mlnet.sdk.display import Display
from mlnet.util import subprocesses

PEER = "12D3KooWPRvhsWVsLj8XPC4wndRzoGeqAMbBRSNUfYdAtvJD9wro"
ADDRESS = f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER}"
PATCHES = pytest.MonkeyPatch


def wrong_use(*arguments: str) -> Case:
    """What is said of wrong arguments."""

    def case(_: Path) -> object:
        command = typer.main.get_command(app.app)
        with pytest.raises(typer.BadParameter) as caught:
            command.main(list(arguments), standalone_mode=False)
        return caught.value.format_message()

    return case


def test_wrong_use(tmp_path: Path) -> None:
    check(
        "usage",
        {
            "submit without a peer": wrong_use("submit"),
            "validate --output without --fix": wrong_use("validate", "--output", "x"),
        },
        tmp_path,
    )


def test_commands_under_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def removed(_: Path) -> object:
        with PATCHES.context() as patch:
            patch.delenv("MLNET_DEBUG", raising=False)
            patch.setattr(console, "_is_somewhere", lambda: False)
            code = console.crashed(FileNotFoundError(2, "No such file or directory"))
        return f"{capsys.readouterr().err}(exit code {code})"

    def interrupted(_: Path) -> object:
        leave = asyncio.Event()
        start.Operation._on_signal(cast(Any, Has(_leave=leave)), signal.SIGINT)
        return capsys.readouterr().err

    def no_temporary(_: Path) -> object:
        def refuse(**_: object) -> str:
            raise PermissionError(13, "Permission denied")

        with PATCHES.context() as patch:
            patch.setattr(tempfile, "mkdtemp", refuse)
            return demo._make_directory()

    def compiled(_: Path) -> object:
        found = doctor.kernels()
        return re.sub(r"(hashes|pings|votes) [^,]+", r"\1 ENGINE", found.found)

    def reported(what: str, **data: object) -> Case:
        def case(_: Path) -> str:
            stream = io.StringIO()
            with Display(stream, width=110) as display:
                display.report(Report(what, data))
                display.report(Report("progress", data | {"epoch": 3, "end": False}))
            return stream.getvalue()

        return case

    progress: dict[str, object] = {"epochs": 3, "step": 1, "steps": 3, "loss": 0.5, "accuracy": 0.9}
    check(
        "under-way",
        {
            "no current directory": removed,
            "start: Ctrl-C": interrupted,
            "start: peers see another address": lambda _: start.reached(ADDRESS, SEEN),
            "start: a peer has reached this node": lambda _: start.reached(ADDRESS, REACHED),
            "demo: no temporary directory": no_temporary,
            "doctor: compiled kernels": compiled,
            "an epoch": reported("progress", **progress, epoch=1, end=True),
            "other clients": reported("shared", **progress, others=2, answered=6, taken=2),
        },
        tmp_path,
    )


def controls() -> Controls:
    return Controls(lambda text: None, lambda: None)


def test_tasks_under_way(tmp_path: Path) -> None:
    def demonstrated(directory: Path) -> object:
        """A network whose nodes do not start."""
        (directory / "task.yaml").write_text(EXAMPLE.read_text())
        stream, hand = io.StringIO(), controls()

        async def fails(_: int) -> None:
            raise ConfigError("node 1 did not start: the port is in use")

        @asynccontextmanager
        async def network(_: Display) -> AsyncIterator[object]:
            yield Has(directory=directory / "demo", start=fails)

        with PATCHES.context() as patch, Display(stream, width=200) as display:
            patch.setattr(demo, "local_network", network)
            with pytest.raises(MlnetError):
                asyncio.run(demo.demonstrate(Job(directory / "task.yaml"), 3, display, hand))
        return f"{stream.getvalue()}(the client {hand.doing()})"

    def listening(directory: Path) -> object:
        """A node that prints the line with which others join it."""
        stream = io.StringIO()

        async def one() -> None:
            network = demo.LocalNetwork(directory, 0, display)
            try:
                await network._start(0, ())
            finally:
                await network.stop()

        with PATCHES.context() as patch, Display(stream, width=110) as display:
            script = ["/bin/sh", "-c", f"echo 'mlnet-node start --peer {ADDRESS}'; exec sleep 60"]
            patch.setattr(subprocesses, "python", lambda *_: script)
            asyncio.run(one())
        return stream.getvalue()

    def submitted(_: Path) -> object:
        """A task from the dataset to its end."""
        stream, hand, doing = io.StringIO(), controls(), []

        async def ended() -> str:
            return "over"

        async def announce(*_: object, **__: object) -> object:
            doing.append(hand.doing())
            machine = Has(definition=Draft.example().read(), phase=Has(value="gathering"))
            return Has(task="ab" * 32, machine=machine, result=ended)

        @asynccontextmanager
        async def connected(*_: object, **__: object) -> AsyncIterator[object]:
            yield Has(submit=announce, doing=lambda: "cuts the dataset into segments")

        with PATCHES.context() as patch, Display(stream, width=110) as display:
            patch.setattr(connecting, "connected", connected)
            asyncio.run(submit.submit(cast(Any, None), Job(EXAMPLE), display, hand))
        return "\n".join([stream.getvalue(), *(f"(the client {what})" for what in doing)])

    check(
        "commands-under-way",
        {
            "demo starts nodes": demonstrated,
            "demo: a node listens": listening,
            "submit announces": submitted,
        },
        tmp_path,
    )
