"""What the commands tell: their help, and what they say of wrong arguments and files."""

from __future__ import annotations

import grp
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from support.message_cases import Case, check, compare

from mlnet.cli import app, arguments, console
from mlnet.errors import MlnetError, PortInUse, StoreError
from mlnet.identity.keys import Identity
from mlnet.simulation.command import SimulationRequest, keys, simulate
from mlnet.simulation.scenario import Scenario
from mlnet.util import hosts

WIDE = 400
PEER = "12D3KooWPRvhsWVsLj8XPC4wndRzoGeqAMbBRSNUfYdAtvJD9wro"


def test_help() -> None:
    command = typer.main.get_command(app.app)
    context = command.make_context("mlnet-node", [], resilient_parsing=True, terminal_width=WIDE)
    context.max_content_width = WIDE
    texts = [command.get_help(context)]
    for name in command.list_commands(context):  # type: ignore[attr-defined]
        inner = command.get_command(context, name)  # type: ignore[attr-defined]
        of_command = inner.make_context(
            name, [], parent=context, resilient_parsing=True, terminal_width=WIDE, max_content_width=WIDE
        )
        texts.append(inner.get_help(of_command))
        for other in getattr(inner, "commands", {}).values():
            of_other = other.make_context(
                other.name, [], parent=of_command, resilient_parsing=True, terminal_width=WIDE
            )
            of_other.max_content_width = WIDE
            texts.append(other.get_help(of_other))
    compare(
        "help", "\n\n".join("\n".join(line.rstrip() for line in text.splitlines()) for text in texts) + "\n"
    )


def of(function: Callable[[str], object], text: str) -> Case:
    return lambda _: function(text)


def test_arguments(tmp_path: Path) -> None:
    check(
        "arguments",
        {
            "--memory without a unit": of(arguments.parse_size, "4"),
            "--least-payment with seven decimals": of(arguments.parse_amount, "0.0000001"),
            "--allow-client that is no peer id": of(arguments.parse_peer_id, "node1"),
            "--allow-client with a letter that base58 lacks": of(arguments.parse_peer_id, PEER[:-1] + "0"),
            "--allow-client of another kind of key": of(arguments.parse_peer_id, "Q" + PEER[1:]),
            "simulate --cluster without a value": lambda _: keys(["max-nodes"]),
            "simulate --faults of another name": lambda _: simulate(SimulationRequest(Scenario(0, "rain"))),
            "--redis-ports the wrong way round": of(arguments.parse_ports, "7099-7000"),
            "--api without a port": lambda _: hosts.split("localhost", "--api"),
            "--api with an IPv6 address without brackets": lambda _: hosts.split("::1:50051", "--api"),
            "--metrics with too large a port": lambda _: hosts.split("127.0.0.1:70000", "--metrics"),
            "--api with brackets around a name": lambda _: hosts.split("[localhost]:1", "--api"),
            "--metrics with a name that is none": lambda _: hosts.listening("x..y:9464", "--metrics"),
            "--metrics with a name that nobody knows": unknown_name,
            "--api with another machine's address": lambda _: hosts.listening("192.0.2.1:50051", "--api"),
            "--api with a port in use": port_in_use,
        },
        tmp_path,
    )


def unknown_name(_: Path) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", raises(socket.gaierror(-2, "Name or service not known")))
        return hosts.listening("nope:9464", "--metrics")


def raises(error: Exception) -> Callable[..., object]:
    def function(*_: object, **__: object) -> object:
        raise error

    return function


def port_in_use(_: Path) -> object:
    with hosts.bound("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse) as caught:
            hosts.listening(f"127.0.0.1:{port}", "--api")
    return str(caught.value).replace(str(port), "50051")


def stored_identity(directory: Path, mode: int) -> Path:
    path = directory / "identity.key"
    Identity.load_or_create(path)
    path.chmod(mode)
    return path


def test_identities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def readable(mode: int) -> Case:
        return lambda directory: Identity.load_or_create(stored_identity(directory, mode))

    def damaged(directory: Path) -> object:
        path = stored_identity(directory, 0o600)
        path.write_text("mlnet-identity-1 zz\n")
        return Identity.load_or_create(path)

    def replaced(directory: Path) -> object:
        (directory / "identity.key").mkdir()
        return Identity.load_or_create(directory / "identity.key")

    def below_a_file(directory: Path) -> object:
        (directory / "file").touch()
        return Identity.load_or_create(directory / "file" / "state" / "identity.key")

    check(
        "identities",
        {
            "everybody can read the key": readable(0o644),
            "a group with a name can read the key": readable(0o640),
            "the file is damaged": damaged,
            "a directory is in its place": replaced,
            "its directory cannot be made": below_a_file,
        },
        tmp_path,
    )


def test_a_group_that_only_a_container_has_may_read_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a volume with an fsGroup has it: mode 0660, and a group without a name that this process is in."""

    def unknown(group: int) -> object:
        raise KeyError(group)

    path = stored_identity(tmp_path, 0o660)
    monkeypatch.setattr(grp, "getgrgid", unknown)
    assert Identity.load_or_create(path).peer_id
    tmp_path.chmod(0o777)
    with pytest.raises(MlnetError):
        Identity.load_or_create(path)
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "getegid", lambda: os.getgid() + 1)
    monkeypatch.setattr(os, "getgroups", list)
    with pytest.raises(MlnetError):
        Identity.load_or_create(path)


def test_how_a_command_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLNET_DEBUG", raising=False)

    def ended(end: Callable[[], int]) -> Case:
        def case(_: Path) -> str:
            code = end()
            return f"{capsys.readouterr().err}(exit code {code})"

        return case

    address = f"/ip4/192.0.2.7/tcp/99999/p2p/{PEER}"
    check(
        "endings",
        {
            "an error of ours": ended(lambda: console.fail(StoreError("the Redis server has ended"))),
            "peer ids are shortened, but not in an address": ended(
                lambda: console.fail(StoreError(f"{PEER} is lost; is a node running at {address}?"))
            ),
            "an error that nobody foresaw": ended(lambda: console.crashed(KeyError("x"))),
        },
        tmp_path,
    )
