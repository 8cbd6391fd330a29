from __future__ import annotations

import pytest

from mlnet.errors import ConfigError
from mlnet.identity.keys import Identity
from mlnet.net import addresses

PEER = Identity.from_seed(bytes(32)).peer_id
OTHER = Identity.from_seed(b"\1" * 32).peer_id


@pytest.mark.parametrize(
    "host",
    [
        "/ip4/192.0.2.7",
        "/ip6/2001:db8::1",
        "/dns/node.example.org",
        "/dns4/a.b",
        "/dns6/a",
        "/dns4/node_1",
        "/dns/bücher",
    ],
)
def test_an_operators_address_is_split(host: str) -> None:
    assert addresses.split_full(f"{host}/tcp/4001/p2p/{PEER}") == (f"{host}/tcp/4001", PEER)


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("192.0.2.7:4001", "not of the form"),
        (f"/ip4/192.0.2.7/udp/4001/quic-v1/p2p/{PEER}", "not of the form"),
        ("/ip4/192.0.2.7/tcp/4001", "which peer"),
        (f"/ip4/192.0.2.7/tcp/0/p2p/{PEER}", "port 0"),
        (f"/ip4/192.0.2.7/tcp/65536/p2p/{PEER}", "no port 65536"),
        (f"/ip4/192.0.2.300/tcp/1/p2p/{PEER}", "192.0.2.300"),
        (f"/ip4/::1/tcp/1/p2p/{PEER}", "not an IPv4"),
        (f"/ip6/fe80::1%eth0/tcp/1/p2p/{PEER}", "fe80::1%eth0 is a link-local address"),
        (f"/ip4/node_1/tcp/1/p2p/{PEER}", "write a name as /dns/node_1/tcp/PORT"),
        ("/ip4/192.0.2.7/tcp/4001/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "Ed25519"),
        (f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER}/p2p-circuit", "not of the form"),
    ],
)
def test_a_bad_address_of_the_operators_is_named(address: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        addresses.split_full(address)


def test_a_dnsaddr_has_no_port() -> None:
    address = "/dnsaddr/bootstrap.example.org"
    assert addresses.split_full(f"{address}/p2p/{PEER}") == (address, PEER)


@pytest.mark.parametrize("address", ["/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/4001"])
def test_listen_addresses_are_checked(address: str) -> None:
    assert addresses.check_listen(address) == address


@pytest.mark.parametrize("address", ["/dns4/a/tcp/1", "0.0.0.0:0", f"/ip4/1.2.3.4/tcp/1/p2p/{PEER}", ""])
def test_other_listen_addresses_are_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen on"):
        addresses.check_listen(address)


def test_an_address_from_the_network_may_name_its_own_peer_only() -> None:
    assert addresses.from_network(PEER, "/ip4/192.0.2.7/tcp/1") == "/ip4/192.0.2.7/tcp/1"
    assert addresses.from_network(PEER, f"/ip4/192.0.2.7/tcp/1/p2p/{PEER}") == "/ip4/192.0.2.7/tcp/1"
    assert addresses.from_network(PEER, f"/ip4/192.0.2.7/tcp/1/p2p/{OTHER}") is None


@pytest.mark.parametrize(
    "address",
    [
        "",
        "/ip4/0.0.0.0/tcp/1",
        "/ip4/224.0.0.1/tcp/1",
        "/ip4/255.255.255.255/tcp/1",
        "/ip4/1.2.3.4/tcp/0",
        "/ip6/::/tcp/1",
        "/dns/evil.example/tcp/1",
        "/dnsaddr/evil.example",
        "/ip6/fe80::1/tcp/1",
        "/ip6/fd00::1%eth0/tcp/1",
        "/unix/tmp/x",
        "/ip4/1.2.3.4/tcp/1/ws",
        "/ip4/1.2.3.4/tcp/1\n",
        "/ip4/" + "1" * 500,
    ],
)
def test_what_we_would_not_dial_is_not_taken_from_the_network(address: str) -> None:
    assert addresses.from_network(PEER, address) is None


def test_what_others_are_told_puts_reachable_addresses_first() -> None:
    interfaces = [
        ("lo", "127.0.0.1"),
        ("docker0", "172.17.0.1"),
        ("eth0", "10.0.0.5"),
        ("eth1", "8.8.4.4"),
        ("eth1", "169.254.1.1"),
        ("eth1", "2a00:1450::1"),
    ]
    assert addresses.advertised(["/ip4/0.0.0.0/tcp/4001"], PEER, interfaces) == [
        f"/ip4/{ip}/tcp/4001/p2p/{PEER}" for ip in ("8.8.4.4", "10.0.0.5", "172.17.0.1", "127.0.0.1")
    ]
    assert addresses.advertised(["/ip6/::/tcp/1"], PEER, interfaces) == [
        f"/ip6/2a00:1450::1/tcp/1/p2p/{PEER}"
    ]
    assert addresses.advertised(["/ip4/10.0.0.5/tcp/1"], PEER, interfaces) == [
        f"/ip4/10.0.0.5/tcp/1/p2p/{PEER}"
    ]


def test_this_machine_has_loopback() -> None:
    assert "127.0.0.1" in [ip for _, ip in addresses.interface_addresses()]
