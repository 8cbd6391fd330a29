"""The client while nodes answer: whom it counts, how long it waits, what it makes of what nodes say."""

from __future__ import annotations

import msgspec
import pytest
from support.one_party import ANSWER, alone, answer, note, peer
from support.protocol_world import (
    World,
    end_of,
    said_by,
    until_client,
    words,
)

from mlnet.errors import LocalProtocolError, RemoteProtocolError
from mlnet.protocol.client import choosing
from mlnet.protocol.commands import (
    Introduce,
    Publish,
    Report,
    SetTimer,
)
from mlnet.protocol.events import (
    CancelRequested,
    OthersWait,
    PingsMeasured,
    Received,
    Replicated,
    Restarted,
    StopWaiting,
    TimerFired,
    TrainingProgressed,
)
from mlnet.protocol.machine import DEADLINE
from mlnet.protocol.phases import ClientPhase
from mlnet.protocol.wire.messages import (
    ClusterMembers,
    CommitteeVoting,
    TaskFailedBody,
)

# ------------------------------------------------------------------------------------------- who is counted


def test_an_answer_is_counted_once_and_its_sender_can_be_dialled() -> None:
    world, client = alone()
    commands = answer(world, client, "one")
    assert Introduce({peer("one"): ANSWER.addresses}) in commands
    assert [one.data["peer"] for one in commands if isinstance(one, Report)] == [peer("one")]
    assert answer(world, client, "one") == []
    assert client.everyone == (peer("one"),)


def test_only_nodes_that_the_user_allows_are_counted_and_the_others_are_told_why_once() -> None:
    world, client = alone()
    client.allowed = frozenset({peer("one")})
    world.now += 5
    (word,) = words(answer(world, client, "two"))
    reason = "not one of the nodes that the client allows (--allow-node)"
    assert (word.to, word.message.body) == ((peer("two"),), TaskFailedBody(reason, "ConfigError"))
    assert word.message.sent == client.announcement.sent  # the same string from a later process
    assert answer(world, client, "two") == []
    answer(world, client, "one")
    assert client.everyone == (peer("one"),)
    commands = client.step(StopWaiting(), world.now)
    assert end_of(commands).code == "TooFewNodes"
    assert end_of(commands).reason == (
        "1 node answered; the task needs at least 2; "
        f"{peer('two')}: not one of the nodes that the client allows (--allow-node)"
    )


def test_what_is_kept_of_answers_and_of_reasons_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "MAX_ANSWERS", 2)
    world, client = alone()
    for name in ("a", "b", "c"):
        answer(world, client, name)
        note(world, client, f"not {name}", TaskFailedBody("busy"))
    assert client.everyone == (peer("a"), peer("b"))
    assert list(client.notes) == [peer("not a"), peer("not b")]
    client.allowed = frozenset()
    answer(world, client, "d")
    assert len(client.notes) == 2


def test_two_different_answers_drop_their_sender() -> None:
    world, client = alone()
    answer(world, client, "one")
    answer(world, client, "two")
    other = msgspec.structs.replace(ANSWER, addresses=())
    answer(world, client, "one", other)
    assert client.everyone == (peer("two"),)
    assert client.dropped == {peer("one"): "sent two different answers to one announcement"}
    assert answer(world, client, "one") == []
    assert client.everyone == (peer("two"),)


def test_an_answer_to_an_attempt_is_its_senders_fault() -> None:
    world, client = alone()
    late = world._signer("one").sign(ANSWER, task=client.task, attempt=1, sent=world.now)
    with pytest.raises(RemoteProtocolError, match="INIT_CLUSTER must have attempt 0, not 1"):
        client.step(Received(late), world.now)
    assert not client.answers


def test_whoever_answers_too_late_is_sent_the_list_that_does_not_name_it() -> None:
    """It is free again, and knows it."""
    world = World(3)
    client = world.client(world.submit())
    until_client(world, ClientPhase.MEASURING)
    (word,) = words(answer(world, client, "late"))
    assert (word.to, word.message) == ((peer("late"),), client.attempted.named)
    assert peer("late") not in client.members


def test_a_word_that_a_client_has_no_use_for_is_ignored() -> None:
    world, client = alone()
    stranger = world._signer("stranger")
    for body in (CommitteeVoting(1, 0), ANSWER):
        early = stranger.sign(body, task=client.task, attempt=0, sent=world.now)
        client.step(Received(early), world.now)
    vote = stranger.sign(CommitteeVoting(1, 0), task=client.task, attempt=1, sent=world.now)
    assert client.step(Received(vote), world.now) == []
    assert client.evidence.of("COMMITTEE_VOTING", 1, "1") == {}
    own = client.signer.sign(ClusterMembers(()), task=client.task, attempt=1, sent=world.now)
    assert client.step(Received(own), world.now) == []
    assert client.step(Received(client.announcement), world.now) == []
    assert client.phase is ClientPhase.GATHERING


@pytest.mark.parametrize("event", [PingsMeasured(1, {}), Replicated(1)])
def test_an_effect_that_is_not_the_clients_is_an_error_of_its_driver(event: PingsMeasured) -> None:
    world, client = alone()
    with pytest.raises(LocalProtocolError, match=f"Client takes no {type(event).__name__}"):
        client.step(event, world.now)


def test_what_comes_after_the_end_changes_nothing() -> None:
    world, client = alone()
    client.step(StopWaiting(), world.now)
    assert client.ended
    assert answer(world, client, "one") == []
    assert note(world, client, "one", TaskFailedBody("busy")) == []
    for event in (CancelRequested("enough"), TimerFired(DEADLINE), TrainingProgressed(0, 1, 2), Restarted()):
        assert client.step(event, client.deadline) == []


# -------------------------------------------------------------------------------------- how long it gathers


def test_a_full_cluster_ends_the_waiting_at_once_where_all_nodes_could_answer() -> None:
    world, client = alone("max-nodes: 2")
    answer(world, client, "one")
    assert str(client.waiting) == "nodes: 1 of at most 2 have answered"
    answer(world, client, "two")
    assert client.phase is ClientPhase.MEASURING


def test_in_a_larger_network_a_full_cluster_waits_a_little_for_more_to_draw_from() -> None:
    world, client = alone("max-nodes: 2", peers=1_000)
    answer(world, client, "one")
    commands = answer(world, client, "two")
    assert (client.phase, client.deadline) == (ClientPhase.GATHERING, world.now + client.deadlines.draw)
    assert commands[-1] == SetTimer(DEADLINE, client.deadline)
    world.now += 100
    answer(world, client, "three")
    assert client.deadline == world.now - 100 + client.deadlines.draw
    assert str(client.waiting) == "more nodes, among which 2 are drawn"
    client.step(TimerFired(DEADLINE), client.deadline)
    assert client.phase is ClientPhase.MEASURING
    assert len(client.members) == 2
    assert {*client.members} < {*client.answers}


def test_the_draw_does_not_make_a_waiting_period_longer() -> None:
    world, client = alone("max-nodes: 2", peers=1_000)
    deadline = client.deadline
    world.now = deadline - 1
    answer(world, client, "one")
    answer(world, client, "two")
    assert client.deadline == deadline


def test_other_clients_halve_the_rest_of_the_waiting_once_there_are_enough_nodes() -> None:
    world, client = alone()
    deadline = client.deadline
    client.step(OthersWait(3), world.now)
    answer(world, client, "one")
    assert client.deadline == deadline
    answer(world, client, "two")
    assert client.deadline == world.now + (deadline - world.now) // 2
    shorter = client.deadline
    answer(world, client, "three")
    assert client.deadline == shorter


def test_the_end_of_the_waiting_is_published_and_those_who_answered_get_the_list() -> None:
    world, client = alone()
    for name in ("one", "two", "three"):
        answer(world, client, name)
    commands = client.step(TimerFired(DEADLINE), client.deadline)
    (closed,) = (one.message for one in commands if isinstance(one, Publish))
    assert (closed.type, closed.attempt, closed.body) == ("CLUSTER_MEMBERS", 0, ClusterMembers(()))
    (named,) = words(commands)
    assert {*named.to} == {*client.answers}
    assert named.message.attempt == 1


# ------------------------------------------------------------------------------------------- what nodes say


def test_a_nodes_reason_is_reported_with_the_time_that_it_gives() -> None:
    world, client = alone()
    commands = note(world, client, "one", TaskFailedBody("busy", "TooFewNodes", 61_000, at_most=True))
    (report,) = commands
    assert report == Report("note", {"peer": peer("one"), "reason": "busy, for at most 2 min more"})
    world.now += 60_500
    commands = client.step(StopWaiting(), world.now)
    assert (
        f"{peer('one')}: busy, for at most 10 s more; submit again when they are free"
        in end_of(commands).reason
    )
    assert choosing.why(client, peer("one")) == "busy, for at most 10 s more"
    client.now += 500
    assert choosing.why(client, peer("one")) == "busy"


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (1, "10 s"),
        (10_000, "10 s"),
        (10_001, "20 s"),
        (60_000, "60 s"),
        (60_001, "2 min"),
        (3_600_000, "60 min"),
        (3_600_001, "2 h"),
    ],
)
def test_a_time_for_people_is_rounded_up(ms: int, text: str) -> None:
    world, client = alone()
    note(world, client, "one", TaskFailedBody("busy", "TooFewNodes", ms))
    assert choosing.why(client, peer("one")) == f"busy, for about {text} more"


def test_a_node_that_withdraws_while_others_answer_is_not_named() -> None:
    world, client = alone()
    for name in ("one", "two", "three"):
        answer(world, client, name)
    commands = note(world, client, "two", TaskFailedBody("the node was stopped or restarted", "NodeLost"))
    assert [one.data["reason"] for one in commands if isinstance(one, Report)] == [
        "the node was stopped or restarted"
    ]
    client.step(StopWaiting(), world.now)
    assert {*client.members} == {peer("one"), peer("three")}
    assert client.dropped == {peer("two"): "the node was stopped or restarted"}


def test_a_word_of_an_attempt_that_is_not_this_one_drops_nobody() -> None:
    world = World(3)
    client = world.client(world.submit())
    until_client(world, ClientPhase.MEASURING)
    one = client.members[0]
    for attempt, code in ((2, "NodeLost"), (0, "StorageError")):
        word = said_by(world, one, TaskFailedBody("out", code), attempt=attempt)
        assert client.step(Received(word), world.now) == []
    assert client.attempt == 1
    # One that left before it heard of the attempt is not in it either.
    word = said_by(world, one, TaskFailedBody("out", "NodeLost"), attempt=0)
    client.step(Received(word), world.now)
    assert (client.attempt, one in client.members) == (2, False)


def test_a_node_that_was_left_out_is_not_dropped_again() -> None:
    world = World(4)
    client = world.client(world.submit())
    until_client(world, ClientPhase.MEASURING)
    one = client.members[0]
    client.step(Received(said_by(world, one, TaskFailedBody("out", "NodeLost"))), world.now)
    assert client.attempt == 2
    client.step(Received(said_by(world, one, TaskFailedBody("still out", "NodeLost"), attempt=2)), world.now)
    assert client.attempt == 2
