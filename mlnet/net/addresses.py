"""Multiaddrs as strings: which ones we dial, which ones we tell others."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

import ifaddr

from mlnet.errors import ConfigError
from mlnet.identity import parse_peer_id

_FORM = re.compile(
    r"/(ip4|ip6|dns|dns4|dns6)/([0-9A-Za-z.:-]{1,253})/tcp/([0-9]{1,5})(?:/p2p/([0-9A-Za-z]{1,64}))?"
)
OWN = frozenset({"127.0.0.1", "::1"})
"""The addresses that the connections between processes of one machine have."""
_BRIDGES = ("docker", "br-", "virbr", "cni")


def _parse(address: str) -> tuple[str, str, int, str]:
    """Family, host, port and peer id (may be empty).

    Raises:
        ValueError: not an address of TCP.
    """
    match = _FORM.fullmatch(address)
    if match is None:
        raise ValueError("it is not of the form /ip4/ADDRESS/tcp/PORT/p2p/PEER-ID")
    family, host, port, peer = match.group(1), match.group(2), int(match.group(3)), match.group(4) or ""
    if family in ("ip4", "ip6"):
        version = ipaddress.ip_address(host).version
        if version != (4 if family == "ip4" else 6):
            raise ValueError(f"{host} is no IPv{family[-1]} address")
    if port > 65535:
        raise ValueError(f"there is no port {port}")
    if peer:
        parse_peer_id(peer)
    return family, host, port, peer


def split_full(address: str) -> tuple[str, str]:
    """The dialable part and the peer id of a full multiaddr, as an operator gave it.

    Raises:
        ConfigError: it is malformed or has no ``/p2p/ID``.
    """
    try:
        _, _, port, peer = _parse(address)
        if not peer:
            raise ValueError("it does not say which peer is there: add /p2p/PEER-ID")
        if not port:
            raise ValueError("port 0 cannot be dialled")
    except ValueError as error:
        raise ConfigError(
            f"the peer address {address[:200]!r} cannot be used: {error}; "
            "`mlnet-node start` prints the right form"
        ) from error
    return address.partition("/p2p/")[0], peer


def check_listen(address: str) -> str:
    """A multiaddr to listen on, as an operator gave it.

    Raises:
        ConfigError: it is not ``/ip4|ip6/ADDRESS/tcp/PORT``.
    """
    try:
        family, _, _, peer = _parse(address)
        if peer or family not in ("ip4", "ip6"):
            raise ValueError("it must be /ip4/ADDRESS/tcp/PORT or /ip6/ADDRESS/tcp/PORT")
    except ValueError as error:
        raise ConfigError(f"cannot listen on {address[:200]!r}: {error}") from error
    return address


def from_network(peer: str, address: str) -> str | None:
    """The dialable part of an address that a message gave for ``peer``; None when it is not one that we
    would dial.

    Names are not taken from the network: whoever sends one would choose what our resolver asks.
    """
    if len(address) > 200:
        return None
    try:
        family, host, port, owner = _parse(address)
    except ValueError:
        return None
    if family not in ("ip4", "ip6") or not port or owner not in ("", peer):
        return None
    ip = ipaddress.ip_address(host)
    if (
        ip.is_unspecified
        or ip.is_multicast
        or (ip.version == 4 and ip == ipaddress.ip_address("255.255.255.255"))
    ):
        return None
    return f"/{family}/{host}/tcp/{port}"


def block(ip: str) -> str:
    """What bounds by address count together: an IPv4 address, the /64 network of an IPv6 one (whoever has one
    of its addresses has them all).

    Text that is not an IP address comes back unchanged.
    """
    try:
        parsed = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    if parsed.version == 4 or parsed.is_loopback:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def _rank(host: str, interface: str) -> int | None:
    ip = ipaddress.ip_address(host)
    if ip.is_link_local or ip.is_unspecified or ip.is_multicast:
        return None
    if ip.is_loopback:
        return 3
    if interface.startswith(_BRIDGES):
        return 2
    return 0 if ip.is_global else 1


def interface_addresses() -> list[tuple[str, str]]:
    """(interface, IP address) of every interface, as the kernel has them."""
    found = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            host = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            found.append((adapter.name, host.partition("%")[0]))
    return found


def advertised(
    listen: Sequence[str], peer: str, interfaces: Iterable[tuple[str, str]] | None = None
) -> list[str]:
    """Full multiaddrs for others: global addresses, then private ones, then bridges, loopback last.

    ``0.0.0.0`` and ``::`` become the addresses of the interfaces.
    """
    known = list(interface_addresses() if interfaces is None else interfaces)
    names = {host: interface for interface, host in known}
    ranked: set[tuple[int, str]] = set()
    for address in listen:
        family, host, port, _ = _parse(address)
        version = 4 if family == "ip4" else 6
        if ipaddress.ip_address(host).is_unspecified:
            hosts = [other for _, other in known if ipaddress.ip_address(other).version == version]
        else:
            hosts = [host]
        for one in hosts:
            rank = _rank(one, names.get(one, ""))
            if rank is not None:
                ranked.add((rank, f"/{family}/{one}/tcp/{port}/p2p/{peer}"))
    return [address for _, address in sorted(ranked)]
