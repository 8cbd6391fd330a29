"""At which of its addresses a node is reached."""

from __future__ import annotations

import pytest

from mlnet.identity.keys import Identity
from mlnet.net import addresses, dialback
from mlnet.net.transport.reach import MAX_PEERS, REACHED, SEEN, UNKNOWN, Reach
from mlnet.net.types import DialBack
from mlnet.node.redis import best
from mlnet.training.gloo_tunnel import address, listening
from mlnet.v1.peer_pb2 import DialBackRequest

PEER = Identity.from_seed(bytes(32)).peer_id
USELESS, GOOD = "10.0.2.15", "192.168.56.3"
INTERFACES = [("lo", "127.0.0.1"), ("eth0", USELESS), ("eth1", GOOD)]


def own() -> frozenset[str]:
    return frozenset(host for _, host in INTERFACES)


def order(reach: Reach) -> list[str]:
    found = addresses.advertised(["/ip4/0.0.0.0/tcp/4001"], PEER, INTERFACES, reach.standing)
    return [addresses.host_of(address) for address in found]


def test_the_address_that_a_peer_has_reached_goes_first() -> None:
    reach = Reach()
    assert order(reach) == [USELESS, GOOD, "127.0.0.1"]
    assert reach.on_inbound("192.168.56.9", GOOD, 4001, own)
    assert order(reach) == [GOOD, USELESS, "127.0.0.1"]
    assert reach.standing(f"/ip4/{GOOD}/tcp/4001/p2p/{PEER}") == REACHED
    assert not reach.on_inbound("192.168.56.10", GOOD, 4001, own), "it is no news"


def test_what_peers_see_counts_if_this_machine_has_it() -> None:
    reach = Reach()
    assert not reach.on_view("a", "203.0.113.9", own)
    assert not reach.on_view("a", "127.0.0.1", own)
    assert reach.on_view("a", GOOD, own)
    assert not reach.on_view("b", GOOD, own)
    assert reach.standing(f"/ip4/{GOOD}/tcp/4001") == SEEN
    assert reach.standing(f"/ip4/{USELESS}/tcp/4001") == UNKNOWN


@pytest.mark.parametrize("remote", ["127.0.0.1", "::1", USELESS])
def test_a_connection_from_this_machine_shows_nothing(remote: str) -> None:
    reach = Reach()
    assert not reach.on_inbound(remote, USELESS, 4001, own)
    assert order(reach)[0] == USELESS


def test_what_is_remembered_is_bounded() -> None:
    reach = Reach()
    for number in range(2 * MAX_PEERS):
        reach.on_view(f"peer {number}", (USELESS, GOOD)[number % 2], own)
        reach.on_inbound("192.168.56.9", GOOD, number, own)
    assert len(reach._views) == len(reach._reached) == MAX_PEERS


def test_many_addresses_leave_room_for_each_family_and_for_loopback() -> None:
    many = [("lo", "127.0.0.1"), ("lo", "::1"), ("eth0", "10.0.0.5")]
    many += [("eth0", f"2a00:1450::{number:x}") for number in range(1, 20)]
    found = addresses.advertised(["/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/1"], PEER, many)
    hosts = [addresses.host_of(address) for address in found]
    assert hosts == ["2a00:1450::1", "2a00:1450::10", "2a00:1450::11", "10.0.0.5", "127.0.0.1", "::1"]


def test_gloo_listens_on_addresses_of_one_family() -> None:
    def hosts(*reached: str) -> list[str]:
        return [listening("0" * 64, 1, rank, reached) for rank in range(len(reached))]

    assert hosts("10.0.0.1", "10.0.0.2") == ["10.0.0.1", "10.0.0.2"]
    assert hosts("fd00::1", "fd00::2") == ["fd00::1", "fd00::2"]
    for mixed in (("10.0.0.1", "fd00::2", ""), ("fd00::1", "fd00::2", "")):
        for rank, host in enumerate(hosts(*mixed)):
            if mixed[rank].startswith("10."):
                assert host == mixed[rank]
            else:
                assert host == address("0" * 64, 1, rank)


async def test_a_link_local_address_is_not_dialled_back() -> None:
    reply = await dialback.serve(DialBackRequest(port=7000, timeout_ms=100), "fe80::1")
    assert not reply.open
    assert "connect by another address" in reply.reason


def test_the_dial_back_that_says_most() -> None:
    here, there = DialBack(True, USELESS, ""), DialBack(True, GOOD, "")
    closed, loop = DialBack(False, GOOD, "refused"), DialBack(True, "127.0.0.1", "")
    six = DialBack(True, "fd00::1", "")
    assert best([(here, True), (there, False)]) == there
    assert best([(loop, True), (here, True)]) == here
    assert best([(closed, False), (loop, True)]) == loop
    assert best([(six, False), (there, False)]) == there
    assert best([(six, False), (there, False), (six, False)]) == six
    assert best([(closed, False)]) == closed
