"""Hosts and ports as operators write them, and as they are tried."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import closing

import pytest

from mlnet.errors import ConfigError, PortInUse
from mlnet.util import hosts


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9464", "127.0.0.1", 9464),
        ("[::1]:9464", "::1", 9464),
        ("[::]:0", "::", 0),
        ("localhost:80", "localhost", 80),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
    ],
)
def test_host_and_port(text: str, host: str, port: int) -> None:
    assert hosts.split(text, "--metrics") == (host, port)
    assert hosts.join(host, port) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("9464", "not HOST:PORT"),
        (":9464", "not HOST:PORT"),
        ("127.0.0.1:", "not HOST:PORT"),
        ("127.0.0.1:٣", "not HOST:PORT"),
        ("127.0.0.1:65536", "the last one is 65535"),
        ("::1:9464", r"in brackets, as in \[::1\]:9464"),
        ("[localhost]:1", "'localhost' is not an IPv6 address"),
    ],
)
def test_what_is_no_host_and_port_is_refused_with_what_to_write(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        hosts.split(text, "--api")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.80.1.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.2.15", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert hosts.is_loopback(host) is expected


def six() -> bool:
    return "IPv6" in hosts.families()


def test_a_port_that_is_taken_in_one_family_is_not_free() -> None:
    with closing(hosts.bound("0.0.0.0", 0)) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        assert hosts.free_port(port) == 0
        if six():
            assert hosts.free_port(port, ("::",)) == port


def without(family: int, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lacks a family of addresses."""
    have = hosts.bound

    def bound(host: str, port: int) -> socket.socket:
        if (":" in host) == (family == 6):
            raise OSError(error, os.strerror(error))
        return have(host, port)

    monkeypatch.setattr(hosts, "bound", bound)


@pytest.mark.parametrize("error", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_machine_without_ipv6_does_without(error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    without(6, error, monkeypatch)
    assert hosts.free_port() > 0
    assert (hosts.families(), hosts.loopback()) == (("IPv4",), "127.0.0.1")
    sockets = hosts.listening("[::]:0", "--metrics")
    assert [one.family for one in sockets] == [socket.AF_INET]
    sockets[0].close()
    with pytest.raises(ConfigError, match=r"cannot listen at --metrics \[::1\]:0"):
        hosts.listening("[::1]:0", "--metrics")


def test_a_machine_without_ipv4_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    if not six():
        pytest.skip("this machine has no IPv6")
    without(4, errno.EAFNOSUPPORT, monkeypatch)
    assert hosts.free_port() > 0
    assert (hosts.families(), hosts.loopback()) == (("IPv6",), "::1")


def test_all_addresses_share_a_port() -> None:
    sockets = hosts.listening("[::]:0", "--metrics")
    try:
        assert len({one.getsockname()[1] for one in sockets}) == 1
        assert len(sockets) == len(hosts.families())
        with pytest.raises(PortInUse, match="choose another, or 0 for a free one"):
            hosts.listening(f"[::]:{sockets[0].getsockname()[1]}", "--metrics")
    finally:
        for one in sockets:
            one.close()


def test_an_unknown_host_is_named() -> None:
    with pytest.raises(ConfigError, match=r"the host 'no-such-host\.invalid' is unknown"):
        hosts.listening("no-such-host.invalid:0", "--api")
