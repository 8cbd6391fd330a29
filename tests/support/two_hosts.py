"""Two hosts on one machine: network namespaces that are joined by a veth pair."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

USELESS = "10.0.2.15"
"""What each host has at a second interface that leads nowhere, as guests of a VirtualBox have it."""
_NAMES = Path("/etc/netns")
_MOST_PAIRS = 256
"""A pair's number is a byte of its addresses."""


class Unavailable(Exception):
    """Hosts cannot be made here."""


def on(host: str) -> tuple[str, ...]:
    """What goes before a command that is to run on a host."""
    return ("ip", "netns", "exec", host)


def address(number: int, side: int, family: int) -> str:
    """The IP address of a side, 1 or 2, of the pair with a number."""
    return f"10.203.{number}.{side}" if family == 4 else f"fd5b:203:{number:x}::{side}"


@contextmanager
def two_hosts(
    families: Sequence[int] = (4,), *, useless: bool = False, names: Sequence[str] = ()
) -> Iterator[tuple[list[str], int]]:
    """Their names, and the number with which :func:`address` gives their addresses; what runs on one reaches
    the other and nothing else.

    Args:
        families: those of the addresses at which they reach each other: 4, 6 or both.
        useless: each has a second interface, whose address is the same on both.
        names: of the first and the second, which both know.

    Raises:
        Unavailable: without ip(8), or without the right to make network namespaces.
    """
    if shutil.which("ip") is None or os.geteuid() != 0:
        raise Unavailable("needs ip(8) and the right to make network namespaces")
    number = _claim()
    hosts = _hosts(number)
    try:
        try:
            _join(hosts, number, families)
            if useless:
                _add_useless(hosts)
            if names:
                _name(hosts, number, families, names)
        except (subprocess.CalledProcessError, OSError) as error:
            raise _unavailable(error) from error
        yield hosts, number
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "delete", host], check=False, capture_output=True)
            shutil.rmtree(_NAMES / host, ignore_errors=True)


def _hosts(number: int) -> list[str]:
    return [f"mlnet-{number}-{side}" for side in "ab"]


def _claim() -> int:
    """The number of a pair that no other process has: whoever makes the namespace of its first host has it.

    Raises:
        Unavailable: network namespaces cannot be made, or too many are there.
    """
    for number in range(_MOST_PAIRS):
        try:
            _ip("netns", "add", _hosts(number)[0])
        except subprocess.CalledProcessError as error:
            if b"File exists" not in error.stderr:
                raise _unavailable(error) from error
        else:
            return number
    raise Unavailable("too many network namespaces named mlnet-* are there: remove them with ip netns delete")


def _unavailable(error: subprocess.CalledProcessError | OSError) -> Unavailable:
    words = getattr(error, "stderr", b"") or str(error).encode()
    return Unavailable(f"network namespaces cannot be made here: {words.decode().strip()}")


def _join(hosts: list[str], number: int, families: Sequence[int]) -> None:
    links = [f"mv{number}{letter}" for letter in "ab"]
    _ip("netns", "add", hosts[1])
    peer = ["type", "veth", "peer", "name", links[1], "netns", hosts[1]]
    _ip("link", "add", links[0], "netns", hosts[0], *peer)
    for side, (host, link) in enumerate(zip(hosts, links, strict=True), start=1):
        for family in families:
            length, more = ("24", ()) if family == 4 else ("64", ("nodad",))
            _ip("-n", host, "addr", "add", f"{address(number, side, family)}/{length}", "dev", link, *more)
        _ip("-n", host, "link", "set", link, "up")
        _ip("-n", host, "link", "set", "lo", "up")


def _add_useless(hosts: list[str]) -> None:
    for host in hosts:
        _ip("-n", host, "link", "add", "nat0", "type", "veth", "peer", "name", "nat1")
        _ip("-n", host, "addr", "add", f"{USELESS}/24", "dev", "nat0")
        for end in ("nat0", "nat1"):
            _ip("-n", host, "link", "set", end, "up")


def _name(hosts: list[str], number: int, families: Sequence[int], names: Sequence[str]) -> None:
    lines = [
        f"{address(number, side, family)} {name}\n"
        for side, name in enumerate(names, start=1)
        for family in families
    ]
    for host in hosts:
        (_NAMES / host).mkdir(parents=True, exist_ok=True)
        (_NAMES / host / "hosts").write_text("127.0.0.1 localhost\n" + "".join(lines))


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
