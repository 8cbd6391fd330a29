"""Which connections are let in, and which go for them."""

from __future__ import annotations

import trio
from libp2p.peer.id import ID
from trio.testing import memory_stream_pair

from mlnet.identity.keys import Identity
from mlnet.net.muxer.yamux import YamuxSession
from mlnet.net.transport.connections import Connection, Connections, Turned
from mlnet.net.types import OWN_ADDRESS_FACTOR, Limits

SITE = "192.0.2.7"


class Secured:
    """What a session knows of the connection below it."""

    def __init__(self, *, is_initiator: bool) -> None:
        self.is_initiator = is_initiator
        self.stream = memory_stream_pair()[0]


def peer(number: int) -> ID:
    return ID.from_string(Identity.from_seed(number.to_bytes(32, "big")).peer_id)


def session(number: int, *, dialled: bool = False) -> YamuxSession:
    return YamuxSession(Secured(is_initiator=dialled), peer(number))  # type: ignore[arg-type]


async def connections(limits: Limits) -> Connections:
    return Connections(peer(0), limits)


def make(limits: Limits) -> Connections:
    return trio.run(connections, limits)


def outcome(connections: Connections, number: int, ip: str = SITE, *, dialled: bool = False) -> Turned | None:
    async def add() -> Connection | Turned:
        return connections.add(session(number, dialled=dialled), ip)

    added = trio.run(add)
    return None if isinstance(added, Connection) else added


def test_an_address_has_a_bound_and_another_one_has_its_own() -> None:
    limits = Limits(connections_per_address=3)
    known = make(limits)
    assert [outcome(known, number) for number in range(1, 6)] == [None] * 3 + [Turned.ADDRESS] * 2
    assert outcome(known, 6, "192.0.2.8") is None
    assert outcome(known, 7, dialled=True) is None
    assert known.turned[Turned.ADDRESS] == 2


def test_many_nodes_on_this_machine_fit() -> None:
    bound = 3 * OWN_ADDRESS_FACTOR
    known = make(Limits(connections_per_address=3))
    answers = [outcome(known, number, "127.0.0.1") for number in range(1, bound + 2)]
    assert answers == [None] * bound + [Turned.ADDRESS]
    # A whole demonstration: sixty-four nodes that all know one another, each pair twice.
    assert Limits().connections_per_address * OWN_ADDRESS_FACTOR >= 128
    assert Limits().connections_per_address >= 2 * 64


def test_a_peer_that_comes_back_replaces_itself_at_a_full_address() -> None:
    async def test() -> None:
        known = Connections(peer(0), Limits(connections_per_address=2))
        first, second = known.add(session(1), SITE), known.add(session(2), SITE)
        assert isinstance(first, Connection)
        assert isinstance(second, Connection)
        assert known.surplus(second) is None
        again = known.add(session(1), SITE)
        assert isinstance(again, Connection)
        assert known.surplus(again) is first
        known.remove(first)
        assert known.surplus(again) is None
        assert known.add(session(3), SITE) is Turned.ADDRESS
        known.remove(second)
        assert isinstance(known.add(session(3), SITE), Connection)

    trio.run(test)


def test_room_is_kept_for_peers_that_we_dial() -> None:
    known = make(Limits(connections=16, connections_per_address=100))
    answers = [outcome(known, number) for number in range(1, 18)]
    assert answers == [None] * 14 + [Turned.FULL] * 3
    assert [outcome(known, number, dialled=True) for number in range(20, 23)] == [None, None, Turned.FULL]


def test_the_oldest_connection_of_a_peer_goes() -> None:
    async def test() -> None:
        known = Connections(peer(0), Limits(connections_per_peer=2))
        added = [known.add(session(1), f"192.0.2.{number}") for number in range(3)]
        assert isinstance(added[2], Connection)
        assert known.surplus(added[2]) is added[0]

    trio.run(test)


def test_a_banned_peer_and_we_ourselves_are_turned_away() -> None:
    known = make(Limits())
    known.ban(str(peer(1)), 3600.0)
    assert outcome(known, 1) is Turned.BANNED
    assert outcome(known, 0) is Turned.ODD
