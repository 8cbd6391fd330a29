"""The client when a cluster fails to form, and when it ends the task itself: whom it leaves out and tells."""

from __future__ import annotations

import pytest
from support.one_party import ANSWER, SEATS, alone, answer, peer
from support.protocol_world import (
    World,
    end_of,
    said_by,
    until_client,
    words,
)

from mlnet.protocol.commands import (
    End,
    Introduce,
    Publish,
    Replicate,
    Report,
    Send,
)
from mlnet.protocol.events import (
    CancelRequested,
    Received,
    Replicated,
    Restarted,
    TimerFired,
)
from mlnet.protocol.machine import DEADLINE
from mlnet.protocol.phases import ClientPhase
from mlnet.protocol.wire.messages import (
    MAX_ATTEMPTS,
    CancelTask,
    TaskFailedBody,
)

# --------------------------------------------------------------------------------------------- new attempts


def test_after_the_last_attempt_all_are_told_that_no_cluster_was_formed() -> None:
    world = World(8)
    client = world.client(world.submit())
    until_client(world, ClientPhase.MEASURING)
    for attempt in range(1, MAX_ATTEMPTS):
        out = client.members[0]
        word = said_by(world, out, TaskFailedBody("the disk is full", "NodeLost"), attempt=attempt)
        commands = client.step(Received(word), world.now)
        (named,) = words(commands, "CLUSTER_MEMBERS")
        assert named.message.attempt == attempt + 1
        assert {out, *client.members} <= {*named.to}
        (retry,) = (one for one in commands if isinstance(one, Report) and one.what == "retry")
        assert retry.data["without"] == (out,)
    out = client.members[0]
    word = said_by(world, out, TaskFailedBody("the disk is full", "NodeLost"), attempt=MAX_ATTEMPTS)
    commands = client.step(Received(word), world.now)
    reason = f"no cluster was formed in 5 attempts; the last failure: {out}: the disk is full"
    assert end_of(commands) == End("failed", reason, "NodeLost")
    (said,) = words(commands)
    assert {*said.to} == {*client.answers}
    assert said.message.body == TaskFailedBody(reason, "NodeLost")


def test_too_few_that_are_left_end_the_task_with_each_ones_reason() -> None:
    world = World(2)
    client = world.client(world.submit())
    until_client(world, ClientPhase.MEASURING)
    one = client.members[0]
    commands = client.step(Received(said_by(world, one, TaskFailedBody("out", "NodeLost"))), world.now)
    reason = f"1 node left; the task needs at least 2; {one}: {one}: out"
    assert end_of(commands) == End("failed", reason, "TooFewNodes")


class Ranked(World):
    """A world in which the test says who is close to whom."""

    closest: tuple[str, ...] = ()

    def ping(self, one: str, other: str) -> tuple[int, ...]:
        return (100 + sum(self.closest.index(self.names[peer]) for peer in (one, other)),) * 9


def test_a_failed_replication_costs_the_master_its_place_and_the_second_time_the_slave() -> None:
    """One of the pair is to blame. Whoever complains of two others is it, most likely."""
    world = Ranked(5)
    world.closest = ("node0", "node1", "node2", "node3", "node4")
    world.changes = lambda name, command, event: (
        Replicated(command.attempt, "connection refused") if isinstance(command, Replicate) else event
    )
    client = world.client(world.submit())
    world.run(until=lambda: client.attempt == 2)
    assert client.dropped == {
        world.peer("node0"): "its Redis server cannot be replicated (connection refused)"
    }
    world.closest = ("node2", "node1", "node3", "node4")
    world.run(until=lambda: client.attempt == 3)
    assert {world.names[peer]: reason for peer, reason in client.dropped.items()} == {
        "node0": "its Redis server cannot be replicated (connection refused)",
        "node1": "its Redis server cannot replicate another's (connection refused)",
    }


def test_a_replication_that_somebody_else_complains_of_drops_that_one() -> None:
    world = World(4)
    client = world.client(world.submit())
    until_client(world, ClientPhase.READY)
    decided = client.attempted.decision().ready
    liar = next(one for one in client.members if one not in (decided.master, decided.slave))
    commands = client.step(Received(said_by(world, liar, TaskFailedBody("no room", "StoreError"))), world.now)
    assert client.dropped == {liar: "no room"}
    assert client.attempt == 2
    assert [one.message.attempt for one in words(commands, "CLUSTER_MEMBERS")] == [2]


def test_the_silent_are_given_what_they_may_lack_once_before_they_are_left_out() -> None:
    world = World(4)
    world.loses = lambda sender, _, message: (
        sender == "node0" and message.type == "CLUSTER_DATABASE_SELECTION"
    )
    client = world.client(world.submit())
    until_client(world, ClientPhase.MEASURING)
    world.run(5)
    silent = world.peer("node0")
    assert str(client.waiting) == f"CLUSTER_DATABASE_SELECTION from {silent}"
    commands = client.step(TimerFired(DEADLINE), client.deadline)
    given = words(commands, "CLUSTER_DATABASE_SELECTION")
    assert {one.message.sender for one in given} == {*client.members} - {silent}
    assert all(one.to == (silent,) for one in given)
    assert (client.phase, client.deadline) == (ClientPhase.MEASURING, client.now + client.deadlines.ready)
    commands = client.step(TimerFired(DEADLINE), client.deadline)
    assert client.dropped == {silent: "did not send its ping times in time"}
    assert client.attempt == 2


def test_silent_voters_are_given_the_votes_of_the_cycle_before_and_then_left_out() -> None:
    """First those of the others, then those of the silent, who may have told each other nothing."""
    world = World(4, SEATS)
    world.loses = lambda sender, _, message: (
        sender in ("node0", "node1") and message.type == "COMMITTEE_VOTING" and message.place[2] == "1"
    )
    client = world.client(world.submit())
    world.run(until=lambda: client.phase is ClientPhase.VOTING and client.attempted.poll().cycle == 1)
    world.run(5)
    silent = client.attempted.silent_voters()
    assert {*silent} == {world.peer("node0"), world.peer("node1")}
    assert str(client.waiting) == f"the votes of cycle 1 from {', '.join(silent)}"
    for senders in ({*world.nodes} - {*silent}, {*silent}):
        commands = client.step(TimerFired(DEADLINE), client.deadline)
        given = words(commands)
        assert {(one.message.place, one.message.sender) for one in given} == {
            (("COMMITTEE_VOTING", 1, "0"), sender) for sender in senders
        }
        assert all(one.to == silent for one in given)
        assert client.deadline == client.now + client.deadlines.cycle // 2
    client.step(TimerFired(DEADLINE), client.deadline)
    assert client.dropped == dict.fromkeys(silent, "did not vote in time")
    assert client.attempt == 2


# ---------------------------------------------------------------------------------------------- its own end


def test_a_user_who_cancels_while_nodes_answer_tells_those_who_are_about_to() -> None:
    world, client = alone()
    answer(world, client, "one")
    commands = client.step(CancelRequested("enough"), world.now)
    (word,) = words(commands)
    assert (word.to, word.message.body) == ((peer("one"),), CancelTask("enough"))
    assert [one.message for one in commands if isinstance(one, Publish)] == [word.message]
    assert end_of(commands) == End("cancelled", "enough", "TaskCancelled")


def test_a_user_who_cancels_later_tells_those_who_answered() -> None:
    world = World(3)
    client = world.client(world.submit())
    until_client(world, ClientPhase.TRAINING)
    commands = client.step(CancelRequested("enough"), world.now)
    (word,) = words(commands)
    assert ({*word.to}, word.message.body) == ({*world.nodes}, CancelTask("enough"))
    assert not any(isinstance(one, Publish) for one in commands)
    assert end_of(commands) == End("cancelled", "enough", "TaskCancelled")


@pytest.mark.parametrize("phase", [ClientPhase.SCORING, ClientPhase.REWARDS])
def test_a_model_that_is_owed_is_paid_for_whatever_the_user_wants(phase: ClientPhase) -> None:
    world = World(3)
    world.loses = lambda _, __, message: message.type == "REWARDS"
    client = world.client(world.submit())
    until_client(world, phase)
    assert client.step(CancelRequested("enough"), world.now) == []
    assert client.phase is phase


def test_the_last_word_of_a_client_whose_disk_is_full_reaches_all_who_wait_for_it() -> None:
    world, client = alone()
    answer(world, client, "one")
    said, published = client.last_word("the disk is full")
    assert isinstance(said, Send)
    assert (said.to, said.message.body) == ((peer("one"),), CancelTask("the disk is full"))
    assert published == Publish(said.message)
    world = World(3)
    client = world.client(world.submit())
    until_client(world, ClientPhase.MEASURING)
    (said,) = client.last_word("the disk is full")
    assert isinstance(said, Send)
    assert {*said.to} == {*world.nodes}
    assert said.message.attempt == 1


def test_a_client_that_comes_back_while_nodes_answer_announces_the_task_again() -> None:
    world, client = alone()
    answer(world, client, "one")
    commands = client.step(Restarted(), world.now + 5)
    assert Introduce({peer("one"): ANSWER.addresses}) in commands
    assert Publish(client.announcement) in commands
    assert client.deadline == world.now + 5 + client.definition.cluster.waiting_period_ms


def test_a_client_that_comes_back_says_again_what_the_members_may_not_have_heard() -> None:
    world = World(3)
    client = world.client(world.submit())
    until_client(world, ClientPhase.TRAINING)
    said = client.said()
    commands = client.step(Restarted(), world.now)
    assert [one.message for one in words(commands)] == said
    assert all({*one.to} == {*world.nodes} for one in words(commands))
    assert not any(isinstance(one, Publish) for one in commands)
    assert "FollowProgress" in {type(one).__name__ for one in commands}
