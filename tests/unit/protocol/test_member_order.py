"""One node from the bound decision to the links: which ballots count, and which segments it trains on."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from support.protocol_world import (
    World,
    end_of,
    member,
    resealed,
    said_by,
    sent,
    until_client,
    until_member,
    words,
)

from mlnet.protocol.commands import End, Report, StartTraining
from mlnet.protocol.decisions import segment_order
from mlnet.protocol.events import (
    Received,
    RedisPrepared,
    TimerFired,
)
from mlnet.protocol.member.forming import ballot_secret
from mlnet.protocol.member.machine import Member
from mlnet.protocol.phases import ClientPhase, MemberPhase
from mlnet.protocol.wire.messages import (
    DatasetSelection,
    HashVotes,
    Message,
    Signed,
    TaskFailedBody,
)

SEATS = "max-committee-size: 2, min-committee-size: 2"
OTHER = "ab" * 32
NOTHING = TimerFired("nothing")


def selection(world: World, ballots: tuple[Message, ...], **changes: object) -> Message:
    """The client's second round, in which these ballots count."""
    client = world.client(world.clients[0])
    data = client.dataset
    signed = tuple(Signed.of(ballot.envelope) for ballot in ballots)
    body = DatasetSelection(client.bound, data.segments, data.inputs, data.outputs, 2, signed)
    return said_by(world, client.me, msgspec.structs.replace(body, **changes))


# -------------------------------------------------------------------------------------------------- ballots


def balloting(cluster: str = SEATS) -> tuple[World, Member]:
    """A seated node that lacks the ballots of the others."""
    world = World(4, cluster)
    world.loses = lambda _, __, message: message.type == "HASH_VOTES"
    world.submit()
    node = until_member(world, MemberPhase.BALLOTS)
    until_client(world, ClientPhase.BALLOTS)
    return world, node


def ballot_of(world: World, peer: str, **changes: object) -> HashVotes:
    hashes = tuple(segment.root for segment in world.client(world.clients[0]).dataset.segments)
    secret = ballot_secret(member(world, world.names[peer]))
    body = HashVotes(
        world.client(world.clients[0]).bound, "ballot", segment_order.ballot(secret, hashes), secret.hex()
    )
    return msgspec.structs.replace(body, **changes)


def test_a_ballot_goes_to_the_committee_and_the_client_and_to_no_worker() -> None:
    world, node = balloting()
    (word,) = sent(world, world.names[node.me], "HASH_VOTES")
    (rest,) = (peer for peer in node.committee if peer != node.me)
    assert set(word.to) == {rest, node.client}
    assert word.message.body == ballot_of(world, node.me)
    assert str(node.waiting) == f"the ballots from {rest}"


def test_the_ballots_that_the_client_names_give_the_order_and_are_paid() -> None:
    world, node = balloting()
    mine = said_by(world, node.me, ballot_of(world, node.me))
    commands = node.step(Received(selection(world, (mine,))), world.now)
    hashes = tuple(segment.root for segment in world.client(world.clients[0]).dataset.segments)
    order = segment_order.order({node.me: ballot_secret(node).hex()}, hashes)
    (word,) = words(commands)
    assert word.to == (node.client,)
    assert word.message.body == HashVotes(node.bound, "order", order, round=2)
    assert Report("order", {"order": order}) in commands
    assert (node.phase, node.order, node.paid) == (MemberPhase.LINKS, order, (node.me,))


Forged = Callable[[World, str], Message]
NOT_COUNTED: dict[str, Forged] = {
    "of another task": lambda world, peer: said_by(world, peer, ballot_of(world, peer), task=OTHER),
    "of another attempt": lambda world, peer: said_by(world, peer, ballot_of(world, peer), attempt=2),
    "an order in place of a ballot": lambda world, peer: said_by(
        world, peer, ballot_of(world, peer, stage="order")
    ),
    "of a second round": lambda world, peer: said_by(world, peer, ballot_of(world, peer, round=2)),
}


@pytest.mark.parametrize("name", NOT_COUNTED)
def test_a_second_round_counts_no_ballot_from_elsewhere(name: str) -> None:
    """A client could otherwise pick the order, by ballots that it has seen before."""
    world, node = balloting()
    (rest,) = (peer for peer in node.committee if peer != node.me)
    commands = node.step(Received(selection(world, (NOT_COUNTED[name](world, rest),))), world.now)
    assert words(commands) == []
    assert (node.phase, node.order) == (MemberPhase.BALLOTS, ())
    assert str(node.waiting) == f"the ballots from {rest}"


def test_a_second_round_counts_no_ballot_of_a_worker() -> None:
    world, node = balloting()
    worker = next(peer for peer in node.others if peer not in node.committee)
    ballots = (
        said_by(world, node.me, ballot_of(world, node.me)),
        said_by(world, worker, ballot_of(world, worker)),
    )
    node.step(Received(selection(world, ballots)), world.now)
    assert node.paid == (node.me,)


def test_a_second_round_of_ballots_that_do_not_open_ends_the_nodes_part_and_all_are_told() -> None:
    world, node = balloting()
    false = said_by(world, node.me, ballot_of(world, node.me, secret="cd" * 32))
    commands = node.step(Received(selection(world, (false,))), world.now)
    (word,) = words(commands)
    reason = "no ballot of the committee matches its commitment"
    assert word.message.body == TaskFailedBody(reason, "TaskFailed")
    assert set(word.to) == {node.client, *node.others}
    assert end_of(commands) == End("failed", reason, "TaskFailed")


def test_a_selection_that_names_a_segment_twice_ends_the_nodes_part_and_all_are_told() -> None:
    world = World(3)
    world.forges = lambda _, __, message: (
        resealed(world, message, segments=(message.body.segments[1], *message.body.segments[1:]))
        if isinstance(message.body, DatasetSelection)
        else message
    )
    world.submit()
    world.run(until=lambda: any(sent(world, name, "TASK_FAILED") for name in world.names.values()))
    (word,) = (word for name in world.names.values() for word in sent(world, name, "TASK_FAILED"))
    assert word.message.body == TaskFailedBody("the client named one segment twice", "ProtocolError")
    assert set(word.to) == {*world.clients, *world.nodes} - {word.message.sender}
    assert not any(sent(world, name, "HASH_VOTES") for name in world.names.values())


# ---------------------------------------------------------------------------------------------------- links


def linking(nodes: int = 3, cluster: str = "max-nodes: 64") -> tuple[World, list[Message]]:
    """Nodes that lack the links to the segments, and the client's messages with them."""
    world = World(nodes, cluster)
    world.loses = lambda _, __, message: message.type == "DATASET_SEGMENT"
    world.submit()
    until_client(world, ClientPhase.TRAINING)
    world.run(0.1)
    links = [word.message for word in sent(world, "client", "DATASET_SEGMENT")]
    return world, sorted(links, key=lambda message: int(message.place[2]))


def test_links_are_collected_and_start_the_training_once_all_are_here() -> None:
    world, links = linking()
    node = member(world, "node0")
    for link in links[1:]:
        assert node.step(Received(link), world.now) == []
        assert node.phase is MemberPhase.LINKS
    assert str(node.waiting) == f"the links to segments 0 from {node.client}"
    commands = node.step(Received(links[0]), world.now)
    (start,) = (one for one in commands if isinstance(one, StartTraining))
    assert tuple(segment.root for segment in start.assignment.segments) == node.order[: len(links)]
    assert start.assignment.links == tuple(f"mlnet:{root}" for root in node.order[: len(links)])
    assert (start.assignment.decision, start.assignment.inputs) == (node.bound, 64)


def test_a_seated_node_passes_each_link_on_to_the_workers_once() -> None:
    world, links = linking(5, SEATS)
    node = member(world, world.names[world.client(world.clients[0]).committee[0]])
    workers = {peer for peer in node.others if peer not in node.committee}
    (word,) = words(node.step(Received(links[2]), world.now))
    assert (set(word.to), word.message, set(word.via)) == (workers, links[2], {*node.committee} - {node.me})
    assert node.step(Received(links[2]), world.now) == []
    worker = member(world, world.names[workers.pop()])
    assert words(worker.step(Received(links[2]), world.now)) == []
    assert worker.phase is MemberPhase.LINKS


Links = Callable[[World, list[Message]], list[Message]]
FOREIGN = "a DATASET_SEGMENT of the client does not belong to the decision that it bound"
WRONG: dict[str, tuple[Links, str]] = {
    "of another decision": (lambda world, links: [resealed(world, links[0], decision=OTHER)], FOREIGN),
    "of another number of segments": (lambda world, links: [resealed(world, links[0], count=9)], FOREIGN),
    "of two numbers of segments": (
        lambda world, links: [links[1], resealed(world, links[0], count=9)],
        "the client's DATASET_SEGMENT messages contradict each other",
    ),
    "of two numbers of features": (
        lambda world, links: [links[1], resealed(world, links[0], inputs=65)],
        "the client's DATASET_SEGMENT messages contradict each other",
    ),
    "of two numbers of labels": (
        lambda world, links: [links[1], resealed(world, links[0], outputs=11)],
        "the client's DATASET_SEGMENT messages contradict each other",
    ),
    "behind the last": (
        lambda world, links: [resealed(world, links[0], position=8)],
        "the client named training segment 8; there are 8, from 0",
    ),
}


@pytest.mark.parametrize("which", ["seated", "worker"])
@pytest.mark.parametrize("name", WRONG)
def test_links_that_do_not_fit_end_the_nodes_part_and_all_are_told(name: str, which: str) -> None:
    world, links = linking(4, SEATS)
    committee = world.client(world.clients[0]).committee
    peer = next(peer for peer in world.nodes if (peer in committee) is (which == "seated"))
    node = member(world, world.names[peer])
    change, reason = WRONG[name]
    *before, last = change(world, links)
    for link in before:
        node.step(Received(link), world.now)
    commands = node.step(Received(last), world.now)
    (word,) = words(commands, "TASK_FAILED")
    assert word.message.body == TaskFailedBody(reason, "ProtocolError")
    assert set(word.to) == {node.client, *node.others}
    assert end_of(commands) == End("failed", reason, "ProtocolError")
    assert not any(isinstance(one, StartTraining) for one in commands)


def test_a_segment_out_of_the_voted_order_is_not_trained_until_other_ballots_give_that_order() -> None:
    """The client may lack a ballot that a member has. Then it names those that count, and the orders meet."""
    world, links = linking()
    node = member(world, "node0")
    client = world.client(world.clients[0])
    hashes = tuple(segment.root for segment in client.dataset.segments)
    secrets = {peer: ballot_secret(member(world, world.names[peer])).hex() for peer in node.committee[:2]}
    order = segment_order.order(secrets, hashes)
    assert order != node.order
    by_root = {segment.root: segment for segment in client.dataset.segments}
    anew = [
        resealed(world, link, segment=by_root[order[number]], link=f"mlnet:{order[number]}")
        for number, link in enumerate(links)
    ]
    for link in anew:
        commands = node.step(Received(link), world.now)
        assert commands == []
    assert node.phase is MemberPhase.LINKS
    assert str(node.waiting) == f"the ballots that give the order of the segments from {node.client}"

    ballots = tuple(said_by(world, peer, ballot_of(world, peer)) for peer in secrets)
    commands = node.step(Received(selection(world, ballots)), world.now)
    (word,) = words(commands)
    assert (word.to, word.message.body) == (
        (node.client,),
        HashVotes(node.bound, "order", order, round=2),
    )
    (start,) = (one for one in commands if isinstance(one, StartTraining))
    assert tuple(segment.root for segment in start.assignment.segments) == order[: len(anew)]
    assert (node.phase, node.paid) == (MemberPhase.TRAINING, tuple(sorted(secrets)))


def test_nodes_that_are_reached_through_the_tunnel_have_no_host_in_the_assignment() -> None:
    world = World(3)
    world.changes = lambda name, _, event: (
        msgspec.structs.replace(event, tunnel=True)
        if isinstance(event, RedisPrepared) and name == "node1"
        else event
    )
    world.submit()
    node = until_member(world, MemberPhase.TRAINING)
    assert node.assignment is not None
    hosts = dict(zip(node.assignment.nodes, node.assignment.hosts, strict=True))
    assert hosts == {
        peer: "" if world.names[peer] == "node1" else "127.0.0.1" for peer in node.attempted.members
    }
