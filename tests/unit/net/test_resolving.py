"""Names in multiaddrs, with the system's resolver and the DNS as the test has them."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import dns.asyncresolver
import dns.resolver
import dns.rrset
import pytest
import trio

from mlnet.identity.keys import Identity
from mlnet.net.transport import resolving
from mlnet.net.transport.resolving import Unresolved, resolve

PEER = Identity.from_seed(bytes(32)).peer_id
OTHER = Identity.from_seed(b"\1" * 32).peer_id
Known = dict[str, list[str]]


def ask(address: str, seconds: float = 5.0) -> list[str]:
    return trio.run(resolve, address, PEER, seconds)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Known:
    """The IP addresses of names."""
    known: Known = {}

    async def getaddrinfo(host: str, port: int, *, family: int, **_: int) -> list[Any]:
        await trio.lowlevel.checkpoint()
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        found = [(families[6 if ":" in ip else 4], 1, 6, "", (ip, port)) for ip in known.get(host, ())]
        found = [one for one in found if family in (socket.AF_UNSPEC, one[0])]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    monkeypatch.setattr(trio.socket, "getaddrinfo", getaddrinfo)
    return known


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Known:
    """The TXT records of names."""
    known: Known = {}

    async def query(name: str, kind: str, raise_on_no_answer: bool) -> Any:
        await trio.lowlevel.checkpoint()
        if name not in known:
            raise dns.resolver.NXDOMAIN
        texts = [f'"{text}"' for text in known[name]]

        class Answer:
            rrset = dns.rrset.from_text(name + ".", 60, "IN", kind, *texts)

        return Answer

    monkeypatch.setattr(dns.asyncresolver, "resolve", query)
    return known


def test_an_ip_address_is_itself() -> None:
    assert ask("/ip6/fd00::1/tcp/1") == ["/ip6/fd00::1/tcp/1"]


def test_a_name_gives_all_its_addresses_of_both_families_by_turns(names: Known) -> None:
    names["node_1"] = ["10.0.0.1", "10.0.0.2", "fd00::1", "0.0.0.0", "fe80::1"]
    four, six = ["/ip4/10.0.0.1/tcp/7", "/ip4/10.0.0.2/tcp/7"], ["/ip6/fd00::1/tcp/7"]
    assert ask("/dns/node_1/tcp/7") == [four[0], six[0], four[1]]
    assert ask("/dns4/node_1/tcp/7") == four
    assert ask("/dns6/node_1/tcp/7") == six


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/dns/nobody/tcp/7", "there is no host named nobody$"),
        ("/dns6/four/tcp/7", "there is no host named four with an IPv6 address"),
        ("/dns/nowhere/tcp/7", "nowhere has no IP address that can be dialled"),
    ],
)
def test_why_a_name_is_not_resolved(address: str, words: str, names: Known) -> None:
    names.update(four=["10.0.0.1"], nowhere=["0.0.0.0"])
    with pytest.raises(Unresolved, match=words):
        ask(address)


def test_a_resolver_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object, **__: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(trio.socket, "getaddrinfo", hang)
    with pytest.raises(Unresolved, match=r"the name slow was not resolved within 0\.01 s"):
        ask("/dns/slow/tcp/7", 0.01)


def test_the_records_of_a_dnsaddr_that_are_about_the_peer_count(names: Known, records: Known) -> None:
    names["here"] = ["10.0.0.9"]
    records["_dnsaddr.a.example"] = [
        "v=spf1 -all",
        f"dnsaddr=/ip4/10.0.0.1/tcp/1/p2p/{OTHER}",
        f"dnsaddr=/ip4/10.0.0.1/udp/1/quic-v1/p2p/{PEER}",
        f"dnsaddr=/ip6/fd00::1/tcp/1/p2p/{PEER}",
        f"dnsaddr=/dns4/here/tcp/2/p2p/{PEER}",
        "dnsaddr=/dnsaddr/b.example",
    ]
    records["_dnsaddr.b.example"] = [f"dnsaddr=/ip4/10.0.0.3/tcp/3/p2p/{PEER}"]
    assert ask("/dnsaddr/a.example") == ["/ip6/fd00::1/tcp/1", "/ip4/10.0.0.9/tcp/2", "/ip4/10.0.0.3/tcp/3"]


def test_why_a_dnsaddr_is_of_no_use(records: Known) -> None:
    records["_dnsaddr.other"] = [f"dnsaddr=/ip4/10.0.0.1/tcp/1/p2p/{OTHER}"]
    records["_dnsaddr.loop"] = ["dnsaddr=/dnsaddr/loop"] * 3
    for name, words in (
        ("none", "the DNS has no name _dnsaddr.none"),
        ("other", "no record of _dnsaddr.other is about that peer"),
        ("loop", "refer to each other without an end"),
    ):
        with pytest.raises(Unresolved, match=words):
            ask(f"/dnsaddr/{name}")


def test_records_that_multiply_are_bounded(records: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    records["_dnsaddr.wide"] = ["dnsaddr=/dnsaddr/wide"] * 60
    asked: list[str] = []
    query: Callable[..., Awaitable[Any]] = dns.asyncresolver.resolve

    async def counted(name: str, *rest: Any, **more: Any) -> Any:
        asked.append(name)
        return await query(name, *rest, **more)

    monkeypatch.setattr(dns.asyncresolver, "resolve", counted)
    with pytest.raises(Unresolved):
        ask("/dnsaddr/wide")
    assert len(asked) <= resolving.MAX_QUESTIONS
