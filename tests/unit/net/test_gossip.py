from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from functools import partial

import pytest

from mlnet.errors import RemoteProtocolError
from mlnet.identity.envelope import Envelope
from mlnet.net.gossip import Gossip
from mlnet.net.types import Limits

ENVELOPE = Envelope("text", bytes(64))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def receive(
    node: Gossip[None], envelope: Envelope, source: str, hops: int, handle: Callable[[Envelope], bool]
) -> bool:
    return node.admits(envelope, source) and node.receive(envelope, source, hops, handle)


class Overlay:
    """Gossip between nodes in one queue of messages."""

    def __init__(self, edges: dict[str, list[str]], limits: Limits | None = None) -> None:
        self.queue: deque[tuple[str, str, Envelope, int]] = deque()
        self.handled: Counter[str] = Counter()
        self.crossings: Counter[tuple[str, str]] = Counter()
        self.clock = Clock()
        self.nodes = {name: self._node(name, edges[name], limits or Limits()) for name in edges}

    def _node(self, name: str, peers: list[str], limits: Limits) -> Gossip[None]:
        def forward(envelope: Envelope, peer: str, hops: int) -> None:
            self.queue.append((name, peer, envelope, hops))

        return Gossip(limits, lambda: peers, forward, self.clock)

    def run(self) -> None:
        while self.queue:
            source, target, envelope, hops = self.queue.popleft()
            self.crossings[source, target] += 1
            receive(self.nodes[target], envelope, source, hops, partial(self.handle, target))

    def handle(self, name: str, _: Envelope) -> bool:
        self.handled[name] += 1
        return True


def line(count: int) -> dict[str, list[str]]:
    names = [str(index) for index in range(count)]
    return {name: [names[j] for j in (i - 1, i + 1) if 0 <= j < count] for i, name in enumerate(names)}


def ring(count: int) -> dict[str, list[str]]:
    return {str(index): [str((index - 1) % count), str((index + 1) % count)] for index in range(count)}


def mesh(count: int, degree: int) -> dict[str, list[str]]:
    chance = random.Random(1)
    edges: dict[str, set[str]] = {str(index): set() for index in range(count)}
    for name in edges:
        for other in chance.sample([other for other in edges if other != name], degree):
            edges[name].add(other)
            edges[other].add(name)
    return {name: sorted(others) for name, others in edges.items()}


@pytest.mark.parametrize(
    "edges", [line(10), ring(10), mesh(200, 4), {"0": []}], ids=["line", "ring", "mesh", "alone"]
)
def test_every_other_node_handles_an_envelope_once(edges: dict[str, list[str]]) -> None:
    overlay = Overlay(edges)
    overlay.nodes["0"].publish(ENVELOPE)
    overlay.run()
    assert overlay.handled == Counter({name: 1 for name in edges if name != "0"})
    assert not overlay.crossings or max(overlay.crossings.values()) == 1


def test_the_hops_are_bounded() -> None:
    overlay = Overlay(line(10), Limits(hops=3))
    overlay.nodes["0"].publish(ENVELOPE)
    overlay.run()
    assert sorted(overlay.handled) == ["1", "2", "3"]


def test_a_neighbour_cannot_make_us_pass_on_further_than_we_would() -> None:
    overlay = Overlay(line(10), Limits(hops=3))
    receive(overlay.nodes["1"], ENVELOPE, "0", 1_000_000, lambda _: True)
    overlay.run()
    assert sorted(overlay.handled) == ["2", "3"]


def test_what_is_not_wanted_is_not_passed_on() -> None:
    overlay = Overlay(line(3))
    assert not receive(overlay.nodes["1"], ENVELOPE, "0", 5, lambda _: False)
    assert not overlay.queue


def test_garbage_goes_no_further_and_is_not_handled_twice() -> None:
    overlay = Overlay(line(3))

    def refuse(_: Envelope) -> bool:
        raise RemoteProtocolError("garbage")

    with pytest.raises(RemoteProtocolError):
        receive(overlay.nodes["1"], ENVELOPE, "0", 5, refuse)
    assert not receive(overlay.nodes["1"], ENVELOPE, "2", 5, refuse)
    assert not overlay.queue


def test_a_false_signature_does_not_shut_the_true_envelope_out() -> None:
    overlay = Overlay(line(3))
    handled: list[Envelope] = []

    def handle(envelope: Envelope) -> bool:
        handled.append(envelope)
        return True

    receive(overlay.nodes["1"], Envelope("text", b"\1" * 64), "0", 5, handle)
    assert receive(overlay.nodes["1"], ENVELOPE, "0", 5, handle)
    assert handled[-1] == ENVELOPE


def test_a_flooding_neighbour_is_cut_down_and_others_still_bring_what_it_lost() -> None:
    overlay = Overlay(line(3), Limits(gossip_per_second=5))
    node = overlay.nodes["1"]
    envelopes = [Envelope(str(index), bytes(64)) for index in range(30)]
    assert sum(receive(node, one, "0", 1, lambda _: True) for one in envelopes) == 10
    assert node.dropped == 20
    assert receive(node, envelopes[-1], "2", 1, lambda _: True)
    overlay.clock.now += 1.0
    assert receive(node, Envelope("new", bytes(64)), "0", 1, lambda _: True)


def test_the_memory_is_bounded() -> None:
    overlay = Overlay(line(2), Limits(seen=10))
    node = overlay.nodes["1"]
    for index in range(11):
        assert receive(node, Envelope(str(index), bytes(64)), "0", 1, lambda _: True)
    assert not receive(node, Envelope("10", bytes(64)), "0", 1, lambda _: True)
    assert receive(node, Envelope("0", bytes(64)), "0", 1, lambda _: True)


def test_of_two_that_are_opened_at_the_same_time_one_is_handled() -> None:
    overlay = Overlay(line(3))
    node = overlay.nodes["1"]
    assert node.admits(ENVELOPE, "0")
    assert node.admits(ENVELOPE, "2")
    assert node.receive(ENVELOPE, "0", 5, partial(overlay.handle, "1"))
    assert not node.receive(ENVELOPE, "2", 5, partial(overlay.handle, "1"))
    assert overlay.handled["1"] == 1
