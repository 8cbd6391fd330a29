"""Resolution of names in multiaddrs. Everything here runs in the trio thread.

Host names go to the system's resolver, so that ``/etc/hosts`` and everything else in nsswitch.conf counts. A
``dnsaddr`` names TXT records (https://github.com/multiformats/multiaddr/blob/master/protocols/DNSADDR.md),
which the system's resolver cannot look up; they are asked of the DNS directly.
"""

from __future__ import annotations

import socket
from itertools import chain, zip_longest

import trio

from mlnet.net.addresses import ParsedAddress, is_dialable, parse

MAX_ADDRESSES = 16
"""Addresses of one name that are dialled: 250 ms apart, so the last one starts after four seconds."""
MAX_QUESTIONS = 16
"""Names that the records of one ``dnsaddr`` may lead to. Records may refer to each other in a circle."""
_FAMILIES = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}
_KINDS = {"dns": "IP", "dns4": "IPv4", "dns6": "IPv6"}
_PREFIX = "dnsaddr="


class Unresolved(Exception):
    """A name has no address that can be dialled; the text says which and why."""


async def resolve(address: str, peer: str, seconds: float) -> list[str]:
    """The addresses to dial for a multiaddr: itself if it holds an IP address, otherwise one for each address
    of its name, IPv4 and IPv6 alternating.

    Args:
        address: as an operator gave it, without ``/p2p/ID``.
        peer: who should be there; records of a ``dnsaddr`` about other peers are skipped.
        seconds: timeout of the whole resolution.

    Raises:
        Unresolved: there is none in time.
    """
    place = parse(address)
    if not place.is_name:
        return [address]
    try:
        with trio.fail_after(seconds):
            found = await (_Records(peer).of(place) if place.family == "dnsaddr" else _hosts(place))
    except trio.TooSlowError:
        raise Unresolved(f"the name {place.host} was not resolved within {seconds:g} s") from None
    return list(dict.fromkeys(found))[:MAX_ADDRESSES]


async def _hosts(place: ParsedAddress) -> list[str]:
    try:
        found = await trio.socket.getaddrinfo(
            place.host, place.port, family=_FAMILIES[place.family], type=socket.SOCK_STREAM
        )
    except socket.gaierror as error:
        raise Unresolved(_why(place, error)) from error
    except (OSError, UnicodeError) as error:
        raise Unresolved(f"{place.host!r} is not a host name: {error}") from error
    four, six = (
        [
            f"/ip{version}/{at[0]}/tcp/{place.port}"
            for one, *_, at in found
            if one == family and is_dialable(str(at[0]))
        ]
        for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6))
    )
    mixed = [one for one in chain.from_iterable(zip_longest(four, six)) if one is not None]
    if not mixed:
        raise Unresolved(f"the name {place.host} has no {_KINDS[place.family]} address that can be dialled")
    return mixed


def _why(place: ParsedAddress, error: socket.gaierror) -> str:
    if error.errno == socket.EAI_AGAIN:
        return f"the name {place.host} cannot be looked up now: no name server answers"
    # -9 is EAI_ADDRFAMILY of glibc (a name without addresses of that family), for which Python has no name on
    # every system.
    missing = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME), -9}
    if error.errno in missing:
        kind = "" if place.family == "dns" else f" with an {_KINDS[place.family]} address"
        return f"there is no host named {place.host}{kind}"
    return f"the name {place.host} cannot be looked up: {error.strerror}"


class _Records:
    """Follows the records of a ``dnsaddr``.

    Args:
        peer: the peer that records have to be about.
    """

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._asked: set[str] = set()

    async def of(self, place: ParsedAddress) -> list[str]:
        """What the TXT records of a name give for the peer.

        Raises:
            Unresolved: nothing.
        """
        name = f"_dnsaddr.{place.host}"
        if name in self._asked or len(self._asked) >= MAX_QUESTIONS:
            raise Unresolved(f"the records of {name} refer to each other without an end")
        self._asked.add(name)
        reason, found = f"no record of {name} is about that peer", list[str]()
        for text in (await _texts(name))[: 4 * MAX_ADDRESSES]:
            try:
                found += await self._follow(text)
            except Unresolved as error:
                reason = str(error)
        if not found:
            raise Unresolved(reason)
        return found

    async def _follow(self, text: str) -> list[str]:
        if not text.startswith(_PREFIX):
            return []
        try:
            place = parse(text.removeprefix(_PREFIX))
        except ValueError:
            return []  # a transport or a kind of peer id that this version does not know
        if place.peer not in ("", self._peer):
            return []
        if place.family == "dnsaddr":
            return await self.of(place)
        if place.is_name:
            return await _hosts(place)
        return [f"/{place.family}/{place.host}/tcp/{place.port}"] if is_dialable(place.host) else []


async def _texts(name: str) -> list[str]:
    """The TXT records of a name."""
    # Imported here: only a dnsaddr needs it, and the import is slow.
    import dns.asyncresolver
    import dns.exception
    import dns.resolver

    try:
        answer = await dns.asyncresolver.resolve(name, "TXT", raise_on_no_answer=False)
    except dns.resolver.NXDOMAIN:
        raise Unresolved(f"the DNS has no name {name}") from None
    except (dns.exception.DNSException, OSError) as error:
        raise Unresolved(f"the DNS does not answer for {name}: {error}") from error
    return [b"".join(record.strings).decode("utf-8", "replace") for record in answer.rrset or ()]
