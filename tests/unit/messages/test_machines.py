"""What is said of this machine and of others: clocks, disks, sockets, ports, names and addresses."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from support.definitions import EXAMPLE
from support.message_cases import Case, check

from mlnet import store
from mlnet.cli import correcting, predict
from mlnet.client import outputs
from mlnet.client.result import ModelFile, Result
from mlnet.driver import peer_clocks
from mlnet.driver.options import NodeOptions
from mlnet.errors import MlnetError
from mlnet.net import addresses
from mlnet.net.transport import refusals, resolving
from mlnet.node import offer
from mlnet.util import files, sockets

PATCHES = pytest.MonkeyPatch
PEER = "12D3KooWPRvhsWVsLj8XPC4wndRzoGeqAMbBRSNUfYdAtvJD9wro"
HOUR = 3_600_000


def patched(target: object, name: str, value: object, act: Callable[[Path], object]) -> Case:
    def case(directory: Path) -> object:
        with PATCHES.context() as patch:
            patch.setattr(target, name, value)
            return act(directory)

    return case


def test_clocks(tmp_path: Path) -> None:
    def greeted(*ahead: int) -> Case:
        """What is said of node0, whose clock and those of others are ahead by so much."""

        def case(_: Path) -> str:
            seen = peer_clocks.PeerClocks()
            for number, by in enumerate(ahead):
                seen.greeted(f"node{number}", f"10.0.0.{number}", by, 0)
            return seen.verdict("node0", 0, 0)

        return case

    check(
        "clocks",
        {
            "one other machine": greeted(HOUR),
            "one of several": greeted(HOUR, 0, 0, 0),
            "this one": greeted(HOUR, HOUR, HOUR),
        },
        tmp_path,
    )


ERRORS = (
    "ECONNREFUSED",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "ETIMEDOUT",
    "ECONNRESET",
    "EADDRNOTAVAIL",
    "EACCES",
    "EMFILE",
)


def test_dials(tmp_path: Path) -> None:
    def refused(name: str) -> Case:
        return lambda _: refusals.why(OSError(getattr(errno, name), "in vain"))

    check(
        "dials",
        {name: refused(name) for name in ERRORS}
        | {
            "no answer": lambda _: refusals.silent(10),
            "no name": lambda _: refusals.why(ValueError("IP address not found in multiaddr")),
        },
        tmp_path,
    )


def test_addresses_of_one_link(tmp_path: Path) -> None:
    def peer(address: str) -> Case:
        return lambda _: addresses.split_full(f"{address}/p2p/{PEER}")

    check(
        "links-of-addresses",
        {
            "a link-local address": peer("/ip6/fe80::1/tcp/4001"),
            "a name as an address": peer("/ip4/example.org/tcp/4001"),
            "a host and a port": lambda _: addresses.split_full("localhost:4001"),
            "brackets in an address": peer("/ip6/[::1]/tcp/4001"),
        },
        tmp_path,
    )


def test_names(tmp_path: Path) -> None:
    def lookup(error: Exception | None, family: str = "dns") -> Case:
        async def asked(*_: object, **__: object) -> list[object]:
            if error is not None:
                raise error
            return []

        def case(_: Path) -> object:
            with PATCHES.context() as patch:
                patch.setattr(trio.socket, "getaddrinfo", asked)
                try:
                    return trio.run(resolving.resolve, f"/{family}/example.org/tcp/4001", PEER, 9.0)
                except resolving.Unresolved as unresolved:
                    return unresolved

        return case

    def records(*texts: str) -> Case:
        async def asked(_: str) -> list[str]:
            return list(texts)

        def case(_: Path) -> object:
            with PATCHES.context() as patch:
                patch.setattr(resolving, "_texts", asked)
                try:
                    return trio.run(resolving.resolve, "/dnsaddr/example.org", PEER, 9.0)
                except resolving.Unresolved as unresolved:
                    return unresolved

        return case

    check(
        "names",
        {
            "no such name": lookup(socket.gaierror(socket.EAI_NONAME, "Name or service not known")),
            "no name server": lookup(socket.gaierror(socket.EAI_AGAIN, "Temporary failure")),
            "another failure": lookup(socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure")),
            "a name that cannot be one": lookup(UnicodeError("label too long")),
            "no address": lookup(None, "dns4"),
            "no record of the peer": records(),
            "records in a circle": records("dnsaddr=/dnsaddr/example.org"),
        },
        tmp_path,
    )


def test_disks_and_ports(tmp_path: Path) -> None:
    def offered(free: int) -> Case:
        def case(directory: Path) -> object:
            lines: list[str] = []
            with PATCHES.context() as patch:
                patch.setattr(files, "free", lambda _: free)
                patch.setattr(offer.logger, "warning", lambda words, *parts: lines.append(words % parts))
                offer.check(NodeOptions(data_dir=directory, disk=1 << 30))
            return "\n".join(lines)

        return case

    check(
        "offers",
        {
            "no room at all": offered(1 << 20),
            "less room than is offered": offered(1 << 29),
            "no port": patched(
                store, "free_ports", lambda *_: iter(()), lambda _: offer.check_ports((7000, 7009))
            ),
        },
        tmp_path,
    )


def test_places_for_sockets(tmp_path: Path) -> None:
    def placed(make: Callable[[Path], Path]) -> Case:
        def case(directory: Path) -> object:
            place = make(directory)
            with PATCHES.context() as patch:
                patch.setattr(sockets, "_places", lambda _: (sockets.SocketPlace(place),))
                return sockets.Directory()

        return case

    def twice(_: Path) -> object:
        with sockets.alone("a" * 20, "DIR"), sockets.alone("a" * 20, "DIR"):
            pass
        return ""

    def removed(directory: Path) -> object:
        lines: list[str] = []
        with PATCHES.context() as patch:
            patch.setattr(sockets, "_places", lambda _: (sockets.SocketPlace(Path("/tmp")),))
            patch.setattr(sockets.logger, "warning", lambda words, *parts: lines.append(words % parts))
            made = sockets.Directory()
            first = made.path
            first.rmdir()
            second = made.path
            made.close()
        return lines[0].replace(str(first), "OLD").replace(str(second), "NEW")

    check(
        "sockets",
        {
            "a relative path": placed(lambda _: Path("tmp")),
            "a directory that everybody may write to": patched(
                Path,
                "stat",
                lambda *_, **__: os.stat_result((0o40777, *[0] * 9)),
                placed(lambda _: Path("/tmp")),
            ),
            "a long path": placed(lambda _: Path("/" + "x" * 90)),
            "a copy of an identity": lambda directory: str(masked(twice, directory)),
            "a directory that goes": removed,
        },
        tmp_path,
    )


def masked(act: Case, directory: Path) -> object:
    try:
        return act(directory)
    except MlnetError as error:
        return str(error).replace(str(os.getpid()), "N")


def test_places_for_models(tmp_path: Path) -> None:
    def output(make: Callable[[Path], Path], size: int = 0) -> Case:
        return lambda directory: outputs.check(make(directory), private=directory, size=size)

    def dangling(directory: Path) -> Path:
        (directory / "out").symlink_to("nowhere")
        return directory / "out"

    def full(directory: Path) -> Path:
        (directory / "out").mkdir()
        (directory / "out" / "notes").touch()
        return directory / "out"

    def file(directory: Path) -> Path:
        (directory / "out").touch()
        return directory / "out"

    result = Result("ab" * 32, "completed", model=ModelFile("model.safetensors", "cd" * 32))

    def lost(directory: Path) -> object:
        model = directory / "model.safetensors"
        failed = outputs.undelivered(
            result, model, OSError(errno.ENOSPC, "No space left on device"), "mlnet-node resume X"
        )
        (directory / "file").touch()
        rescued = outputs.rescue(failed, [directory / "file"])
        return f"{failed.reason}\n{rescued.reason}"

    check(
        "outputs",
        {
            "among the client's own files": output(lambda directory: directory / "tasks" / "x"),
            "a link": output(dangling),
            "a directory that is not empty": output(full),
            "a file": output(file),
            "below a file": output(lambda directory: file(directory) / "below"),
            "no room": patched(
                files, "free", lambda _: 1 << 20, output(lambda directory: directory / "out", 1 << 21)
            ),
            "a model that cannot be delivered or kept": lost,
        },
        tmp_path,
    )


def test_corrections_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def corrected(text: str, *, backups: int = 0, act: Callable[[Path], object] = lambda _: None) -> Case:
        def case(directory: Path) -> object:
            file = directory / "task.yaml"
            file.write_text(text)
            for number in range(backups):
                (directory / ("task.yaml.orig" + (f".{number}" if number else ""))).touch()
            act(file)
            try:
                correcting.correct(file, None)
            except MlnetError as error:
                return f"{capsys.readouterr().out.splitlines()[-1:]}\n{error}"
            return capsys.readouterr().out

        return case

    slip = EXAMPLE.read_text().replace("batch-size", "batch_size")
    check(
        "corrections",
        {
            "nothing certain": corrected(EXAMPLE.read_text().replace("MLP", "GAN")),
            "too many backups": corrected(slip, backups=100),
            "a file that cannot be replaced": patched(
                tempfile,
                "mkstemp",
                raising(PermissionError(errno.EACCES, "Permission denied")),
                corrected(slip),
            ),
            "a file that changes": patched(
                shutil,
                "copymode",
                lambda *paths: Path(paths[0]).write_text("version: 1\n"),
                corrected(slip),
            ),
            "--delimiter of two characters": lambda _: predict.dialect(";;", None, None),
            "--decimal of another kind": lambda _: predict.dialect(None, None, "'"),
        },
        tmp_path,
    )


def raising(error: Exception) -> Callable[..., object]:
    def function(*_: object, **__: object) -> object:
        raise error

    return function
