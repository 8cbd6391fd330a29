"""Opening the ports of a host, on machines that lack a family and where a port is taken."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest
import trio

from mlnet.errors import ConfigError, PortInUse
from mlnet.net.transport.listening import close, everywhere, open_all
from mlnet.util import hosts

needs_both = pytest.mark.skipif(len(hosts.families()) < 2, reason="this machine lacks a family of addresses")


def opened(listen: Sequence[str]) -> dict[str, set[int]]:
    """The ports that were opened, by address; they are closed again."""

    async def main() -> dict[str, set[int]]:
        found = await open_all(listen)
        ports = {
            address: {one.socket.getsockname()[1] for one in listeners}
            for address, listeners in found.items()
        }
        close(found)
        return ports

    return trio.run(main)


@needs_both
def test_both_families_have_the_same_free_port() -> None:
    ports = opened(everywhere())
    assert list(ports) == ["/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0"]
    assert len(set[int]().union(*ports.values())) == 1


def without(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    have = trio.open_tcp_listeners

    async def open_tcp_listeners(port: int, *, host: str, backlog: int) -> Any:
        if (":" in host) == (family == 6):
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return await have(port, host=host, backlog=backlog)

    monkeypatch.setattr(trio, "open_tcp_listeners", open_tcp_listeners)


@pytest.mark.parametrize(("family", "left"), [(6, "/ip4/0.0.0.0/tcp/0"), (4, "/ip6/::/tcp/0")])
@needs_both
def test_a_family_that_the_machine_lacks_is_left_out(
    family: int, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(family, monkeypatch)
    assert list(opened(everywhere())) == [left]


def test_what_was_asked_for_alone_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    without(6, monkeypatch)
    for listen in (["/ip6/::/tcp/0"], ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"]):
        with pytest.raises(ConfigError, match=r"cannot listen on /ip6/.*: Address family not supported"):
            opened(listen)


@needs_both
@pytest.mark.parametrize(
    ("taken", "words"),
    [
        (
            "0.0.0.0",
            "/ip4/0.0.0.0/tcp/PORT: the port is in use with IPv4, though not with IPv6; choose another",
        ),
        ("::", "/ip6/::/tcp/PORT: the port is in use with IPv6, though not with IPv4; choose another"),
    ],
)
def test_a_port_that_one_family_has_taken_is_named(taken: str, words: str) -> None:
    # Below the ports that the system gives out by itself, one of which another test's connection may take.
    port = next(port for port in range(20_000 + os.getpid() % 10_000, 32_768) if hosts.free_port(port))
    with closing(hosts.bound(taken, port)) as other:
        other.listen()
        with pytest.raises(PortInUse) as caught:
            opened(everywhere(port))
        assert words.replace("PORT", str(port)) in str(caught.value)
        # What could be opened was closed again.
        assert hosts.free_port(port, [host for host in hosts.ANY if host != taken]) == port
