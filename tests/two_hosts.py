"""Two hosts on one machine: network namespaces that are joined by a veth pair."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

LISTEN = "/ip4/0.0.0.0/tcp/0"
_subnets = count(os.getpid() % 200)


class Unavailable(Exception):
    """Hosts cannot be made here."""


def on(host: str) -> tuple[str, ...]:
    """What goes before a command that is to run on a host."""
    return ("ip", "netns", "exec", host)


@contextmanager
def two_hosts() -> Iterator[list[str]]:
    """Their names; what runs on one reaches the other and nothing else.

    Raises:
        Unavailable: without ip(8), or without the right to make network namespaces.
    """
    if shutil.which("ip") is None or os.geteuid() != 0:
        raise Unavailable("needs ip(8) and the right to make network namespaces")
    number = next(_subnets)
    names = [f"mlnet-{number}-{side}" for side in "ab"]
    try:
        try:
            _join(names, number)
        except subprocess.CalledProcessError as error:
            reason = error.stderr.decode().strip()
            raise Unavailable(f"network namespaces cannot be made here: {reason}") from error
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _join(names: list[str], number: int) -> None:
    links = [f"mv{number}{letter}" for letter in "ab"]
    for name in names:
        _ip("netns", "add", name)
    peer = ["type", "veth", "peer", "name", links[1], "netns", names[1]]
    _ip("link", "add", links[0], "netns", names[0], *peer)
    for side, (name, link) in enumerate(zip(names, links, strict=True), start=1):
        _ip("-n", name, "addr", "add", f"10.203.{number}.{side}/24", "dev", link)
        _ip("-n", name, "link", "set", link, "up")
        _ip("-n", name, "link", "set", "lo", "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
