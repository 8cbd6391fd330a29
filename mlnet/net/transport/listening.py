"""Opens the ports of the libp2p host, in both address families where the machine has them."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import trio

from mlnet.errors import ConfigError, PortInUse
from mlnet.net.addresses import ParsedAddress, parse
from mlnet.util import hosts

BACKLOG = 4096
"""Connections that may wait to be accepted. The kernel caps it at net.core.somaxconn, 4096 since Linux 5.4;
with the default of 100 or 128, a burst of connections to a unix socket fails with EAGAIN at once
(connect(2))."""
Listeners = dict[str, Sequence[trio.SocketListener]]


def everywhere(port: int = 0) -> tuple[str, ...]:
    """The multiaddrs to listen on for one port at all addresses of this machine."""
    return tuple(f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}" for host in hosts.ANY)


async def open_all(listen: Sequence[str]) -> Listeners:
    """Listen on multiaddrs; return the listeners by multiaddr.

    ``0.0.0.0`` or ``::`` is skipped when the machine lacks that family and there is another address to listen
    on. With port 0, both get the same free port.

    Raises:
        PortInUse: a port is taken.
        ConfigError: an address is not ours.
    """
    places = {address: parse(address) for address in dict.fromkeys(listen)}
    shared = hosts.free_port()
    opened: Listeners = {}
    missing: dict[str, OSError] = {}
    try:
        for address, place in places.items():
            try:
                opened[address] = await _open(place, shared)
            except OSError as error:
                if place.host not in hosts.ANY or error.errno not in hosts.FAMILY_MISSING:
                    close(opened)  # otherwise _refused would find the port taken in the other family: by us
                    raise _refused(address, place, error) from error
                missing[address] = error
        if missing and not opened:
            address, reason = next(iter(missing.items()))
            raise _refused(address, places[address], reason)
    except BaseException:
        close(opened)
        raise
    return opened


def close(opened: Listeners) -> None:
    """Close listeners that are not served yet."""
    for listeners in opened.values():
        for listener in listeners:
            listener.socket.close()


async def _open(place: ParsedAddress, shared: int) -> Sequence[trio.SocketListener]:
    if place.port == 0 and place.host in hosts.ANY and shared:
        try:
            return await trio.open_tcp_listeners(shared, host=place.host, backlog=BACKLOG)
        except OSError as error:
            # Another program may take the shared port between the look at it and this call: then any port
            # will do.
            if error.errno != errno.EADDRINUSE:
                raise
    return await trio.open_tcp_listeners(place.port, host=place.host, backlog=BACKLOG)


def _refused(address: str, place: ParsedAddress, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        other = next((host for host in hosts.ANY if (":" in host) != (":" in place.host)), "")
        families = ("IPv6", "IPv4") if place.family == "ip6" else ("IPv4", "IPv6")
        half = (
            f" with {families[0]}, though not with {families[1]}"
            if place.host in hosts.ANY and hosts.free_port(place.port, (other,))
            else ""
        )
        return PortInUse(
            f"cannot listen on {address}: the port is in use{half}; choose another, or 0 for a free one"
        )
    reason = error.strerror or str(error)
    return ConfigError(
        f"cannot listen on {address}: {reason}; use /ip4/ADDRESS/tcp/PORT with a local address"
    )
