from __future__ import annotations

import pytest

from mlnet.identity.keys import Identity
from mlnet.net.peers.address_book import AddressBook
from mlnet.net.peers.neighbours import MAX_DEPENDENTS, Neighbours
from mlnet.net.rates import Recent, Scores, TokenBucket
from mlnet.net.types import Limits

PEERS = [Identity.from_seed(bytes([index]) * 32).peer_id for index in range(8)]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(5.0, clock)
    assert sum(bucket.try_take() for _ in range(20)) == 10
    clock.now += 1.0
    assert sum(bucket.try_take() for _ in range(20)) == 5
    clock.now += 100.0
    assert sum(bucket.try_take() for _ in range(20)) == 10


def test_a_bucket_on_credit_tells_how_long_to_wait() -> None:
    clock = Clock()
    bucket = TokenBucket(2.0, clock)
    assert [bucket.take() for _ in range(6)] == [0.0, 0.0, 0.0, 0.0, 0.5, 1.0]
    clock.now += 1.0
    assert bucket.take() == pytest.approx(0.5)


def test_garbage_adds_up_and_fades() -> None:
    clock = Clock()
    scores = Scores(3.0, 10.0, clock)
    assert [scores.add("a", 1.0) for _ in range(3)] == [False, False, True]
    assert not scores.add("a", 1.0)
    assert not scores.add("b", 2.0)
    clock.now += 10.0
    assert not scores.add("b", 1.0)
    assert scores.add("b", 1.0)


def test_what_is_remembered_is_bounded() -> None:
    recent: Recent[int, list[int]] = Recent(list, 3)
    for key in (1, 2, 3):
        recent[key].append(key)
    assert recent[1] == [1]
    assert recent[4] == []
    assert len(recent) == 3
    assert recent[1] == [1]
    assert recent[2] == []


def test_the_book_keeps_pinned_addresses_and_bounds_the_rest() -> None:
    book = AddressBook(PEERS[0], Limits(known_peers=2, addresses_per_peer=2))
    book.pin(PEERS[1], "/dns/boot.example/tcp/1")
    assert book.learn(PEERS[1], ["/ip4/127.0.0.1/tcp/9", "/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/1"])
    assert book.get(PEERS[1]) == ["/dns/boot.example/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/9"]
    for peer in PEERS[2:5]:
        assert book.learn(peer, ["/ip4/10.0.0.9/tcp/1"])
    assert list(book.known()) == [PEERS[1], PEERS[3], PEERS[4]]
    assert book.known()[PEERS[3]] == [f"/ip4/10.0.0.9/tcp/1/p2p/{PEERS[3]}"]
    assert book.get(PEERS[1]) == ["/dns/boot.example/tcp/1"]
    assert book.pinned == [PEERS[1]]


def test_the_book_learns_nothing_from_rubbish_or_about_ourselves() -> None:
    book = AddressBook(PEERS[0], Limits())
    assert not book.learn(PEERS[0], ["/ip4/10.0.0.1/tcp/1"])
    assert not book.learn(PEERS[1], ["rubbish", "/dns/evil/tcp/1"])
    assert not book.learn(PEERS[1], ["rubbish"] * 1000 + ["/ip4/10.0.0.1/tcp/1"])
    assert book.known() == {}


def test_later_addresses_replace_earlier_ones() -> None:
    book = AddressBook(PEERS[0], Limits())
    book.learn(PEERS[1], ["/ip4/10.0.0.1/tcp/1"])
    book.learn(PEERS[1], ["/ip4/10.0.0.2/tcp/2"])
    assert book.get(PEERS[1]) == ["/ip4/10.0.0.2/tcp/2"]


def test_gossip_goes_to_the_first_peers_and_to_those_with_few_connections() -> None:
    neighbours = Neighbours(Limits(max_neighbours=2, min_neighbours=3))
    for peer in "abcd":
        neighbours.add(peer)
        neighbours.on_degree(peer, 1 if peer == "d" else 5)
    assert neighbours.connected == list("abcd")
    assert neighbours.chosen() == ["a", "b"]
    assert neighbours.targets() == ["a", "b", "d"]
    neighbours.on_degree("d", 3)
    assert neighbours.targets() == ["a", "b"]
    neighbours.remove("a")
    assert neighbours.targets() == ["b", "c"]
    assert "a" not in neighbours
    assert len(neighbours) == 3


def test_dependents_are_bounded() -> None:
    neighbours = Neighbours(Limits(max_neighbours=1))
    for index in range(MAX_DEPENDENTS + 50):
        neighbours.add(str(index))
        neighbours.on_degree(str(index), 0)
    assert len(neighbours.targets()) == MAX_DEPENDENTS
