"""Multiaddrs as strings: which ones we dial, which ones we tell others."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import ifaddr

from mlnet.errors import ConfigError
from mlnet.identity.keys import parse_peer_id
from mlnet.util import hosts

NAMES = ("dns", "dns4", "dns6", "dnsaddr")
"""The kinds of address that give a name in place of an IP address."""
# The bounds come first: a name has at most 253 characters (RFC 1035, 2.3.4), a port five digits, and a peer
# id is checked by parse_peer_id. No quantifier is nested, so no input takes long.
_FORM = re.compile(
    r"/(?:(ip4|ip6|dns|dns4|dns6)/([^/\s]{1,253})/tcp/([0-9]{1,5})|(dnsaddr)/([^/\s]{1,253}))"
    r"(?:/p2p/([0-9A-Za-z]{1,64}))?"
)
# Interfaces of containers and virtual machines. Their addresses lead nowhere from most other machines, which
# may even have the same one (172.17.0.1 is Docker's everywhere): worth trying, but after the others.
_BRIDGES = ("docker", "br-", "virbr", "cni")
_MOST = (3, 3, 1, 1)
"""How many addresses of each rank (global, private, bridge, loopback) and family are advertised. A machine
may have dozens, and every peer dials all of them, 250 ms apart, when we are away."""


class ParsedAddress(NamedTuple):
    """A multiaddr of TCP in its parts.

    Attributes:
        family: ``ip4``, ``ip6`` or one of :data:`NAMES`.
        host: an IP address or a name.
        port: the TCP port; 0 for a ``dnsaddr``, whose records have their own.
        peer: peer id; may be empty.
    """

    family: str
    host: str
    port: int
    peer: str

    @property
    def is_name(self) -> bool:
        """Whether the host is a name."""
        return self.family in NAMES


def parse(address: str) -> ParsedAddress:
    """The parts of a multiaddr over TCP.

    Example:
        >>> parse("/ip4/192.0.2.1/tcp/4001")
        ParsedAddress(family='ip4', host='192.0.2.1', port=4001, peer='')
        >>> parse("/dns/example.org/tcp/4001").is_name
        True
        >>> parse("/ip4/300.0.0.1/tcp/1")
        Traceback (most recent call last):
        ...
        ValueError: '300.0.0.1' is not an IP address; write a name as /dns/300.0.0.1/tcp/PORT

    Raises:
        ValueError: not a multiaddr over TCP; the text completes "... cannot be used: ".
    """
    match = _FORM.fullmatch(address)
    if match is None:
        raise ValueError(f"it is not of the form /ip4/ADDRESS/tcp/PORT/p2p/PEER-ID{_meant(address)}")
    family, host = match[1] or match[4], match[2] or match[5]
    port, peer = int(match[3] or 0), match[6] or ""
    # Names are left to the resolver.
    if family not in NAMES:
        _check_ip(family, host)
    if port > hosts.MAX_PORT:
        raise ValueError(f"there is no port {port}")
    if peer:
        parse_peer_id(peer)
    return ParsedAddress(family, host, port, peer)


def _meant(address: str) -> str:
    """What to write in place of HOST:PORT, or of a multiaddr with something around it; empty if unknown."""
    if re.search(r"/(udp|quic|quic-v1|ws|wss|webtransport|webrtc-direct)(/|$)", address):
        return "; nodes are reached by plain TCP only"
    # Letters before the peer id may be of either case, and it may be called by its old name.
    head, mark, peer = re.sub(r"/ipfs/", "/p2p/", address, flags=re.IGNORECASE).partition("/p2p/")
    found = [one[0] for one in _FORM.finditer(f"/{head.lower().lstrip('/')}{mark}{peer}")]
    if len(found) > 1:
        return "; give --peer once for each address"
    if found and mark and "/p2p/" in found[0] and "..." not in peer:
        return f"; write {found[0]}"
    if "..." in peer:
        return "; the peer id was cut short"
    try:
        host, port = hosts.split(address, "")
    except ConfigError:
        return ""
    ip = hosts.parse_ip(host)
    family = "dns" if ip is None else f"ip{ip.version}"
    return f"; write /{family}/{host}/tcp/{port}/p2p/PEER-ID"


def _check_ip(family: str, host: str) -> None:
    ip = hosts.parse_ip(host)
    if ip is None and host.startswith("["):
        raise ValueError(
            f"an IPv6 address in a multiaddr has no brackets; write /ip6/{host.strip('[]')}/tcp/PORT"
        )
    if ip is None:
        raise ValueError(f"{host!r} is not an IP address; write a name as /dns/{host}/tcp/PORT")
    if (":" in host) != (family == "ip6"):
        raise ValueError(f"{host} is not an IPv{family[-1]} address")
    if "%" in host or hosts.is_ipv6_link_local(host):
        raise ValueError(
            f"{host} is a link-local address, valid on one network segment only; give a global or"
            " private address"
        )


def host_of(address: str) -> str:
    """The IP address or name in a multiaddr; empty when it is not one over TCP."""
    try:
        return parse(address).host
    except ValueError:
        return ""


def split_full(address: str) -> tuple[str, str]:
    """The dialable part and the peer id of a full multiaddr, as an operator gave it.

    Raises:
        ConfigError: it is malformed or has no ``/p2p/ID``.
    """
    try:
        family, _, port, peer = parse(address)
        if not peer:
            raise ValueError("it does not say which peer is there: add /p2p/PEER-ID")
        if not port and family != "dnsaddr":
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
        family, _, _, peer = parse(address)
        if peer or family not in ("ip4", "ip6"):
            raise ValueError("it must be /ip4/ADDRESS/tcp/PORT or /ip6/ADDRESS/tcp/PORT")
    except ValueError as error:
        raise ConfigError(f"cannot listen on {address[:200]!r}: {error}") from error
    return address


def from_network(peer: str, address: str) -> str | None:
    """The dialable part of an address that a message gave for ``peer``; None when it is not one that we
    would dial.

    Names are not accepted from the network: a peer could make our resolver query any name.
    """
    # Before the regular expression sees it: a message may hold many addresses of any length.
    if len(address) > 200:
        return None
    try:
        family, host, port, owner = parse(address)
    except ValueError:
        return None
    # Port 0 cannot be dialled, and an address that names another peer does not belong to this one.
    if family in NAMES or not port or owner not in ("", peer):
        return None
    return f"/{family}/{host}/tcp/{port}" if is_dialable(host) else None


def is_dialable(host: str) -> bool:
    """Whether an IP address can be that of one other machine: not unspecified, multicast, broadcast or
    link-local."""
    ip = hosts.parse_ip(host)
    return ip is not None and not (
        ip.is_unspecified or ip.is_multicast or host == "255.255.255.255" or hosts.is_ipv6_link_local(host)
    )


def block(ip: str) -> str:
    """What the bounds per address count as one: an IPv4 address, or the /64 network of an IPv6 address.

    A host chooses the lower 64 bits by itself (RFC 4862), so one machine has all addresses of its network.
    ``::1`` stands for itself. Text that is not an IP address is returned unchanged.

    Example:
        >>> block("192.0.2.7"), block("2001:db8::1"), block("::1")
        ('192.0.2.7', '2001:db8::/64', '::1')
    """
    parsed = hosts.parse_ip(ip)
    if parsed is None:
        return ip
    if parsed.version == 4 or str(parsed) in hosts.LOOPBACK:
        return str(parsed)
    return str(ipaddress.IPv6Network((int(parsed), 64), strict=False))


def _rank(host: str, interface: str) -> int | None:
    ip = hosts.parse_ip(host)
    if ip is None or ip.is_link_local or ip.is_unspecified or ip.is_multicast:
        return None
    if ip.is_loopback:
        return 3
    if interface.startswith(_BRIDGES):
        return 2
    return 0 if ip.is_global else 1


def interface_addresses() -> list[tuple[str, str]]:
    """Pairs of interface name and IP address, as the kernel has them now."""
    found = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            host = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            found.append((adapter.name, host.partition("%")[0]))
    return found


def own_ips() -> frozenset[str]:
    """The IP addresses of this machine."""
    return frozenset(host for _, host in interface_addresses())


def is_own(host: str) -> bool:
    """Whether an IP address is one of this machine."""
    return hosts.is_loopback(host) or host in own_ips()


def advertised(
    listen: Sequence[str],
    peer: str,
    interfaces: Iterable[tuple[str, str]] | None = None,
    preference: Callable[[str], int] = lambda address: 0,
) -> list[str]:
    """Full multiaddrs to tell others, best first: global addresses, then private ones, then bridges, loopback
    last. IPv4 and IPv6 alternate, and there are at most :data:`_MOST` of each.

    ``0.0.0.0`` and ``::`` become the addresses of the interfaces.

    Args:
        listen: where we listen.
        peer: our peer id.
        interfaces: (interface, IP address); None for those that this machine has.
        preference: maps an address without ``/p2p/ID`` to a number; the lowest go first.
    """
    known = list(interface_addresses() if interfaces is None else interfaces)
    names = {host: interface for interface, host in known}
    ranked = set()
    for address in listen:
        family, host, port, _ = parse(address)
        for one in _of_family(known, family) if host in hosts.ANY else [host]:
            rank = _rank(one, names.get(one, ""))
            if rank is not None:
                found = f"/{family}/{one}/tcp/{port}"
                ranked.add((preference(found), rank, found))
    counts: Counter[tuple[int, str]] = Counter()
    chosen = []
    for preferred, rank, address in sorted(ranked):
        turn = counts[rank, address[:4]]
        counts[rank, address[:4]] += 1
        if turn < _MOST[rank]:
            chosen.append((preferred, rank, turn, f"{address}/p2p/{peer}"))
    return [address for *_, address in sorted(chosen)]


def _of_family(interfaces: Iterable[tuple[str, str]], family: str) -> list[str]:
    return [host for _, host in interfaces if (":" in host) == (family == "ip6")]
