"""What a node does with a task whose journal it finds, and with a step that it could not write down."""

from __future__ import annotations

from collections.abc import Callable

from support.one_party import TERMS, announced, hear, node_of
from support.protocol_world import (
    World,
    end_of,
    member,
    said_by,
    sent,
    until_client,
    until_member,
    words,
)

from mlnet.protocol.commands import End, Report, Send
from mlnet.protocol.deadlines import Deadlines
from mlnet.protocol.events import Event, Received, RedisPrepared, Restarted, TimerFired
from mlnet.protocol.node import Node, Step
from mlnet.protocol.phases import ClientPhase, MemberPhase
from mlnet.protocol.wire.messages import (
    CancelTask,
    InitCluster,
    Resources,
    TaskFailedBody,
)

# ---------------------------------------------------------------------------------------------- its journal


def journalled(phase: MemberPhase) -> tuple[World, str, list[tuple[int, Event]], Node]:
    """A node's journal of its task, up to a phase, and a new process of the same node."""
    world = World(2)
    world.submit()
    one = until_member(world, phase)
    party = world.parties[one.me]
    again = Node(party.signer, TERMS, Deadlines())
    return world, one.task, list(party.book.records[one.task].events), again


def test_a_task_that_was_in_the_middle_is_left_with_a_word() -> None:
    world, task, events, again = journalled(MemberPhase.MEASURING)
    (step,) = again.restore(task, events, world.now)
    assert step.event == Restarted()
    (said,) = words(step.commands)
    assert said.message.body == TaskFailedBody("the node was stopped or restarted", "NodeLost")
    assert task in again.ended
    assert not again.members


def test_a_task_with_a_result_is_served_on() -> None:
    world, task, events, again = journalled(MemberPhase.COMPLETED)
    (step,) = again.restore(task, events, world.now)
    assert step.event == Restarted()
    assert again.members[task].phase is MemberPhase.OFFERING
    assert not again.busy


def test_a_task_that_had_ended_does_its_last_step_once_more() -> None:
    world, task, events, again = journalled(MemberPhase.MEASURING)
    client = world.clients[0]
    last = Received(said_by(world, client, CancelTask("enough")))
    (step,) = again.restore(task, [*events, (world.now, last)], world.now)
    assert (step.event, step.member) == (None, None)
    assert end_of(step.commands) == End("cancelled", "enough", "TaskCancelled")
    assert task in again.ended
    assert not again.members


def test_a_journal_that_holds_nothing_usable_brings_nothing_back() -> None:
    world, task, events, again = journalled(MemberPhase.MEASURING)
    assert again.restore(task, [], world.now) == []
    assert again.restore(task, [event for event in events if not isinstance(event[1], Received)], 0) == []
    assert not again.members
    assert not again.ended


# --------------------------------------------------------------------------- a step that is not on the disk


def stepped(phase: MemberPhase, event: Callable[[World, str], Event]) -> tuple[World, Node, Step]:
    """A step of a node that is in a phase of its task."""
    world = World(3)
    world.submit()
    one = until_member(world, phase)
    node = world.node(one.me)
    (step,) = node.step(one.task, event(world, one.me), world.now)
    return world, node, step


def test_a_member_that_cannot_write_says_a_last_word_in_place_of_what_it_signed() -> None:
    world, node, step = stepped(MemberPhase.PREPARING, lambda *_: RedisPrepared(True, "127.0.0.1", 7000, ()))
    assert words(step.commands, "INIT_CLUSTER")
    said, end = node.abandon(step, "the disk is full")
    assert isinstance(said, Send)
    assert said.message.body == TaskFailedBody("the disk is full", "NodeLost")
    assert said.to == (world.clients[0],)
    assert end == End("failed", "the disk is full", "StorageError")
    assert step.task in node.ended
    assert not node.members


def test_a_member_that_has_not_answered_tells_only_a_client_that_it_is_connected_to() -> None:
    """All nodes whose disk is full would be a storm, and nobody waits for them yet."""
    world = World(0)
    node = node_of(world)
    (step,) = hear(node, announced(world))
    said, end = node.abandon(step, "the disk is full")
    assert isinstance(said, Send)
    assert said.neighbours_only
    assert isinstance(end, End)


def test_a_member_of_a_cluster_tells_all_who_wait_for_it() -> None:
    world, node, step = stepped(MemberPhase.MEASURING, lambda *_: TimerFired("nothing"))
    assert step.member is not None
    said, _ = node.abandon(step, "the disk is full")
    assert isinstance(said, Send)
    assert {*said.to} == {world.clients[0], *step.member.others}
    assert not said.neighbours_only
    assert said.message.sent == step.member.created


def test_a_member_that_would_have_withdrawn_does_so_in_the_words_of_its_disk() -> None:
    """Nothing else that it signed may be said, and the same place holds one word."""
    _, node, step = stepped(MemberPhase.MEASURING, lambda *_: Restarted())
    (withdrawn,) = words(step.commands, "TASK_FAILED")
    commands = node.abandon(step, "the disk is full")
    (said,) = words(commands)
    assert said.message.body == TaskFailedBody("the disk is full", "NodeLost")
    assert said.message.place == withdrawn.message.place
    assert set(said.to) == set(withdrawn.to)
    assert end_of(commands) == end_of(step.commands)


def test_a_member_that_the_client_released_says_nothing_more() -> None:
    _, node, step = stepped(
        MemberPhase.MEASURING,
        lambda world, _: Received(said_by(world, world.clients[0], CancelTask("enough"))),
    )
    assert node.abandon(step, "the disk is full") == [End("cancelled", "enough", "TaskCancelled")]


def test_a_member_that_has_said_that_it_failed_does_not_say_it_twice() -> None:
    _, node, step = stepped(MemberPhase.TRAINING, lambda *_: TimerFired("nothing"))
    assert step.member is not None
    (step,) = node.step(step.task, TimerFired("deadline"), step.member.deadline)
    assert step.member is not None
    assert step.member.phase is MemberPhase.FAILING
    (step,) = node.step(step.task, TimerFired("nothing"), step.now + 1)
    commands = node.abandon(step, "the disk is full")
    assert commands == [End("failed", "the disk is full", "StorageError")]


def test_a_member_whose_result_is_said_goes_on_in_silence() -> None:
    world = World(3)
    world.submit()
    one = until_member(world, MemberPhase.COMPLETED)
    node = world.node(one.me)
    (step,) = node.step(one.task, TimerFired("nothing"), world.now)
    assert node.abandon(step, "the disk is full") == []
    assert one.task in node.members


def test_a_step_of_no_member_may_be_done_but_for_what_it_says() -> None:
    world = World(0)
    node = node_of(world)
    node.close()
    (step,) = hear(node, announced(world))
    assert step.member is None
    (report,) = node.abandon(step, "the disk is full")
    assert isinstance(report, Report)


def test_a_member_answers_with_what_its_operator_offers() -> None:
    world = World(1)
    world.submit()
    until_client(world, ClientPhase.GATHERING)
    world.run(1)
    (said,) = sent(world, "node0", "INIT_CLUSTER")
    assert isinstance(said.message.body, InitCluster)
    assert said.message.body.resources == Resources(4096, 4)
    assert member(world, "node0").phase is MemberPhase.ANSWERED
