"""Hosts, ports and IP addresses: parsed, formatted, compared and tried. All of mlnet handles them here."""

from __future__ import annotations

import errno
import functools
import ipaddress
import socket
from collections.abc import Sequence
from contextlib import ExitStack

from mlnet.errors import ConfigError, PortInUse

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
ANY = ("0.0.0.0", "::")  # noqa: S104 - ports that others are to reach
"""All addresses of this machine, by family."""
LOOPBACK = ("127.0.0.1", "::1")
"""The loopback addresses. Programs may choose another one of 127.0.0.0/8, which :func:`is_loopback` knows."""
FAMILY_MISSING = frozenset(
    {
        errno.EAFNOSUPPORT,
        errno.EPFNOSUPPORT,
        errno.EPROTONOSUPPORT,
        errno.ESOCKTNOSUPPORT,
        errno.EADDRNOTAVAIL,
    }
)
"""Errors of a system that lacks the family of ``0.0.0.0`` or ``::``; kernels differ."""
MAX_PORT = 65_535
_TRIES = 8
"""Attempts at a port that is free in both families: the kernel chooses it in the first family only."""


@functools.lru_cache(maxsize=4096)
def parse_ip(text: str) -> IP | None:
    """Parse an IP address, ignoring its zone; None for anything else. An IPv4-mapped IPv6 address
    (``::ffff:192.0.2.1``) gives the IPv4 address.

    Example:
        >>> parse_ip("::ffff:192.0.2.1"), parse_ip("fe80::1%eth0"), parse_ip("example.org")
        (IPv4Address('192.0.2.1'), IPv6Address('fe80::1'), None)
    """
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip


def is_loopback(host: str) -> bool:
    """Whether it is a loopback IP address, which means a different machine wherever it is read."""
    ip = parse_ip(host)
    return ip is not None and ip.is_loopback


def is_ipv6(host: str) -> bool:
    """Whether it is an IPv6 address."""
    ip = parse_ip(host)
    return ip is not None and ip.version == 6


def is_ipv6_link_local(host: str) -> bool:
    """Whether it is a link-local IPv6 address, which means nothing without the name of an interface."""
    ip = parse_ip(host)
    return ip is not None and ip.version == 6 and ip.is_link_local


def join(host: str, port: int) -> str:
    """Format ``HOST:PORT``, with an IPv6 address in brackets.

    Example:
        >>> join("::1", 80), join("example.org", 80)
        ('[::1]:80', 'example.org:80')
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split(address: str, option: str) -> tuple[str, int]:
    """Split ``HOST:PORT`` into the host, without brackets, and the port.

    Args:
        address: as an operator gave it; the host ``*`` means all addresses, as ``[::]`` does.
        option: the option that it was given to, such as ``--metrics``, for the message.

    Example:
        >>> split("[::1]:9464", "--metrics"), split("*:0", "--metrics")
        (('::1', 9464), ('::', 0))
        >>> split("::1:9464", "--metrics")
        Traceback (most recent call last):
        ...
        mlnet.errors.ConfigError: --metrics '::1:9464': an IPv6 address goes in brackets, as in [::1]:9464

    Raises:
        ConfigError: it is malformed.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdecimal()) or len(port) > 5:
        raise ConfigError(f"{option} {address!r} is not HOST:PORT, such as 127.0.0.1:9464 or [::1]:9464")
    if int(port) > MAX_PORT:
        raise ConfigError(f"{option} {address!r}: there is no port {port}; the last one is {MAX_PORT}")
    if host == "*":
        return "::", int(port)
    inner = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if inner == host and ":" in host:
        raise ConfigError(
            f"{option} {address!r}: an IPv6 address goes in brackets, as in {join(host, int(port))}"
        )
    if inner != host and not is_ipv6(inner):
        raise ConfigError(f"{option} {address!r}: {inner!r} is not an IPv6 address")
    return inner, int(port)


def bound(host: str, port: int) -> socket.socket:
    """A TCP socket that is bound to an address of this machine, and serves the family of that address only.

    Raises:
        OSError: the address cannot be bound.
    """
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # A restarted process gets its port back although old connections are in TIME_WAIT.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if made.family == socket.AF_INET6:
            # Otherwise :: would take the port in IPv4 as well on most systems, and a second socket for
            # 0.0.0.0 would fail.
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, port))
    except BaseException:
        made.close()
        raise
    return made


def free_port(port: int = 0, hosts: Sequence[str] = ANY) -> int:
    """A port that is free at this moment at all of these addresses, apart from families that this machine
    lacks; 0 if there is none.

    Args:
        port: the port to try; 0 for any.
        hosts: IP addresses of this machine.
    """
    for _ in range(_TRIES if port == 0 else 1):
        found = port
        try:
            with ExitStack() as probes:
                for host in hosts:
                    found = _try(probes, host, found)
        except OSError:
            continue
        return found
    return 0


def _try(probes: ExitStack, host: str, port: int) -> int:
    try:
        probe = probes.enter_context(bound(host, port))
    except OSError as error:
        if error.errno in FAMILY_MISSING and host in ANY:
            return port
        raise
    found: int = probe.getsockname()[1]
    return found


def families() -> tuple[str, ...]:
    """The address families that this machine has: ``IPv4``, ``IPv6``."""
    return tuple(f"IPv{6 if ':' in host else 4}" for host in LOOPBACK if free_port(0, (host,)))


def loopback() -> str:
    """A loopback address that works: 127.0.0.1, or ::1 where there is no IPv4."""
    return next((host for host in LOOPBACK if free_port(0, (host,))), LOOPBACK[0])


def listening(address: str, option: str) -> list[socket.socket]:
    """Sockets that listen at ``HOST:PORT``, one for each address that the host has, all at one port.

    Args:
        address: as an operator gave it; port 0 takes a free one.
        option: the option that it was given to, such as ``--metrics``, for the message.

    Raises:
        PortInUse: the port is taken.
        ConfigError: the address is malformed, or not one of this machine.
    """
    host, port = split(address, option)
    hosts = ANY if host == "::" else _resolved(host, f"{option} {address}")
    port = port or free_port(0, hosts)
    problem: OSError | None = None
    with ExitStack() as opened:
        sockets = []
        for one in hosts:
            try:
                sockets.append(opened.enter_context(bound(one, port)))
                sockets[-1].listen()
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise PortInUse(
                        f"{option} {address}: the port is in use; choose another, or 0 for a free one"
                    ) from error
                if error.errno not in FAMILY_MISSING:
                    raise _refused(option, address, error) from error
                problem = error
        if not sockets and problem is not None:
            raise _refused(option, address, problem) from problem
        opened.pop_all()
        return sockets


def _refused(option: str, address: str, error: OSError) -> ConfigError:
    return ConfigError(f"cannot listen at {option} {address}: {error.strerror}; use a local address")


def _resolved(host: str, named: str) -> list[str]:
    """The IP addresses of a host."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a host name"
        raise ConfigError(f"{named}: the host {host!r} is unknown: {reason}; use an IP address") from error
    return list(dict.fromkeys(str(place[0]) for *_, place in found))
