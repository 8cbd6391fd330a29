"""Which tasks a node takes, and when; what it says of those that it does not."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from support.one_party import NEEDS, TERMS, WAITING, announced, hear, node_of, word
from support.protocol_world import (
    START,
    World,
    end_of,
    until_member,
    words,
)

from mlnet.errors import RemoteProtocolError
from mlnet.protocol import node as rules
from mlnet.protocol.commands import PrepareRedis, Report, SetTimer
from mlnet.protocol.decisions.answering import EIGHTHS, eighth
from mlnet.protocol.events import Received, RedisPrepared, StopWaiting, TimerFired
from mlnet.protocol.member.machine import Occupied
from mlnet.protocol.node import ANSWER, Node, Terms
from mlnet.protocol.phases import MemberPhase
from mlnet.protocol.wire.messages import (
    CancelTask,
    ClusterMembers,
    InitCluster,
    Message,
    NewMlTask,
    Redis,
    Resources,
    TaskFailedBody,
)

# ------------------------------------------------------------------------------------------- which it takes


REFUSALS: dict[str, tuple[dict[str, object], str]] = {
    "clients": ({"clients": frozenset({"x"})}, "this node's operator does not take tasks of this client"),
    "payment": (
        {"least_payment": 100_000_001},
        "pays less than this node's least payment of 100000001 micro-units",
    ),
    "model": ({"max_parameters": 9}, "the model has more than the 9 parameters that this node allows"),
    "memory": (
        {"resources": Resources(511, 4)},
        "needs 512MiB of memory, this node offers 511 MiB",
    ),
    "processors": ({"resources": Resources(512, 0)}, "needs 1 processors, this node offers 0"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_task_that_the_terms_exclude_is_declined_for_good(name: str) -> None:
    changes, reason = REFUSALS[name]
    world = World(0, NEEDS)
    node = node_of(world, msgspec.structs.replace(TERMS, **changes))
    task = announced(world)
    (step,) = hear(node, task)
    assert word(step) == TaskFailedBody(reason, "ConfigError")
    assert words(step.commands)[0].to == (task.sender,)
    assert step.event is None  # there is no journal of what is not taken
    assert hear(node, task) == []
    assert not node.pending


def test_terms_that_just_suffice_take_a_task() -> None:
    world = World(0, NEEDS)
    task = announced(world)
    terms = Terms(Resources(512, 1), 1, 10_000, 100_000_000, frozenset({task.sender}))
    (step,) = hear(node_of(world, terms), task)
    assert isinstance(step.event, Received)
    assert any(isinstance(one, PrepareRedis) for one in step.commands)


def test_a_definition_that_is_not_valid_is_its_senders_fault() -> None:
    world = World(0)
    body = NewMlTask("version: 1", (), START)
    task = world._signer("client").sign(body, sent=START)
    node = node_of(world)
    with pytest.raises(RemoteProtocolError, match=f"the definition of task {task.task[:12]} is not valid: "):
        hear(node, task)
    assert not node.pending


def test_a_node_does_not_answer_itself() -> None:
    world = World(0)
    node = node_of(world)
    own = node.signer.sign(NewMlTask(world.text, (), START), sent=START)
    assert hear(node, own) == []
    assert not node.members


@pytest.mark.parametrize(
    ("age", "fresh"),
    [
        (WAITING + rules.CLOCK_SKEW, True),
        (WAITING + rules.CLOCK_SKEW + 1, False),
        (-WAITING - rules.CLOCK_SKEW, True),
        (-WAITING - rules.CLOCK_SKEW - 1, False),
    ],
)
def test_a_task_is_fresh_for_its_waiting_period_and_what_clocks_may_be_off(age: int, fresh: bool) -> None:
    world = World(0)
    node = node_of(world)
    (step,) = hear(node, announced(world), START + age)
    assert bool(node.members) is fresh
    assert fresh or word(step).code == "ConfigError"


def test_a_task_that_a_former_process_has_ended_is_not_answered_again() -> None:
    world = World(0)
    task = announced(world)
    assert hear(node_of(world, ended=[task.task]), task) == []


def test_a_node_that_is_being_stopped_says_so_once_to_each_task() -> None:
    world = World(0)
    node = node_of(world)
    node.close()
    assert node.busy
    one, two = announced(world), announced(world, "another")
    (step,) = hear(node, one)
    assert word(step) == TaskFailedBody("this node is being stopped and takes no further task", "NodeLost")
    assert hear(node, one) == []
    assert word(*hear(node, two)).code == "NodeLost"
    assert not node.pending


def test_what_is_said_of_unknown_tasks_is_ignored() -> None:
    world = World(0)
    node, task = node_of(world), announced(world)
    for event in (TimerFired("deadline"), StopWaiting(), RedisPrepared(True, "", 1, ())):
        assert node.step(task.task, event, START) == []
    cancelled = world._signer("client").sign(CancelTask("enough"), task=task.task, sent=START)
    assert node.step(task.task, Received(cancelled), START) == []
    assert not node.ended


# ----------------------------------------------------------------------------------------------- its places


def busy(terms: Terms = TERMS) -> tuple[World, Node, list[Message]]:
    """A node whose places are all taken by tasks that still gather nodes."""
    world = World(0)
    node = node_of(world, terms)
    tasks = [announced(world, f"client {number}") for number in range(terms.tasks)]
    for task in tasks:
        hear(node, task)
    assert len(node.members) == terms.tasks
    return world, node, tasks


def test_a_task_waits_while_all_places_are_taken_and_is_answered_when_one_is_free() -> None:
    world, node, (first,) = busy()
    second = announced(world, "another")
    declined, timer = hear(node, second)
    assert word(declined) == TaskFailedBody(
        "busy with another task (it takes 1 at a time: --tasks), which still gathers nodes",
        "TooFewNodes",
        WAITING,
        True,
    )
    assert timer.commands == [SetTimer(ANSWER, START + WAITING)]
    assert hear(node, second) == []
    cancelled = world._signer("client 0").sign(CancelTask("enough"), task=first.task, sent=START)
    ended, taken = node.step(first.task, Received(cancelled), START + 1)
    assert end_of(ended.commands).state == "cancelled"
    assert (taken.task, taken.event) == (second.task, Received(second))
    assert not node.pending


def test_a_node_with_several_places_names_the_one_that_is_free_first() -> None:
    world, node, (first, second) = busy(msgspec.structs.replace(TERMS, tasks=2))
    assert node.busy
    node.members[second.task].step(RedisPrepared(True, "127.0.0.1", 1, ()), START)  # it has answered
    assert node.occupied(START + 1_000) == Occupied(WAITING - 1_000, True, ", which still gathers nodes")
    declined, _ = hear(node, announced(world, "another"))
    assert word(declined).reason.startswith("busy with 2 other tasks (it takes 2 at a time: --tasks)")
    assert node.members[first.task].deadline < node.members[second.task].deadline


def test_a_node_that_does_not_know_how_long_its_task_takes_says_that() -> None:
    world = World(2)
    world.submit()
    one = until_member(world, MemberPhase.TRAINING)
    node = world.node(one.me)
    assert node.occupied(world.now) == Occupied()
    declined, _ = hear(node, announced(world, "another", created=world.now), world.now)
    reason = word(declined).reason
    assert reason == (
        "busy with another task (it takes 1 at a time: --tasks); it does not know yet for how long"
    )
    assert word(declined).busy == 0


def test_a_free_node_is_not_occupied() -> None:
    node = node_of(World(0))
    assert (node.busy, node.occupied(START)) == (False, Occupied())


def test_a_task_whose_waiting_period_ends_before_a_place_is_free_is_reported_and_ended() -> None:
    world, node, _ = busy()
    second = announced(world, "another")
    hear(node, second)
    (step,) = node.step(second.task, TimerFired(ANSWER), START + WAITING)
    words_ = "its waiting period ended before this node was free"
    assert step.commands == [Report("unanswered", {"reason": words_, "busy": 0, "at_most": False})]
    assert not node.pending
    assert second.task in node.ended


@pytest.mark.parametrize(
    ("body", "mine"),
    [
        (CancelTask("enough"), True),
        (TaskFailedBody("too few"), True),
        (ClusterMembers(()), True),
        (CancelTask("enough"), False),
        (InitCluster, True),
    ],
    ids=["cancelled", "failed", "closed", "cancelled by another", "another message"],
)
def test_a_task_that_waits_is_forgotten_by_its_clients_last_word(body: object, mine: bool) -> None:
    world, node, _ = busy()
    second = announced(world, "another")
    hear(node, second)
    if body is InitCluster:
        body = InitCluster(Redis(True, "", 1), 0, (), Resources(1, 1))
    signer = world._signer("another" if mine else "a stranger")
    said = signer.sign(body, task=second.task, sent=START)  # type: ignore[arg-type]
    node.step(second.task, Received(said), START + 1)
    forgotten = mine and not isinstance(body, InitCluster)
    assert (second.task in node.pending) is not forgotten
    assert (second.task in node.ended) is forgotten


def test_no_client_fills_the_list_of_tasks_that_wait_and_neither_do_many() -> None:
    world, node, _ = busy()
    for number in range(rules.MAX_PENDING_OF_CLIENT):
        hear(node, announced(world, "greedy", START + number))
    assert len(node.pending) == rules.MAX_PENDING_OF_CLIENT
    greedy = announced(world, "greedy", START + 100)
    (step,) = hear(node, greedy)
    assert word(step).reason == "too many tasks wait for this node already (of this client)"
    assert (word(step).busy, word(step).at_most) == (WAITING, True)
    number = 0
    while len(node.pending) < rules.MAX_PENDING:
        number += 1
        hear(node, announced(world, f"one of many {number // 8}", START + number % 8))
    (step,) = hear(node, announced(world, "the last"))
    assert word(step).reason == "too many tasks wait for this node already (in all)"
    assert greedy.task not in node.pending


def test_a_newcomer_is_told_of_the_tasks_that_it_can_still_answer() -> None:
    world, node, (first,) = busy()
    second = announced(world, "another")
    hear(node, second)
    assert node.open_tasks(START) == [second, first]
    assert node.open_tasks(START + WAITING) == [first]  # its client may still take who answers
    world = World(2)
    world.submit()
    bound = until_member(world, MemberPhase.TRAINING)
    assert world.node(bound.me).open_tasks(world.now) == []


def test_what_is_remembered_of_tasks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_ENDED", 3)
    world = World(0)
    node = node_of(world, msgspec.structs.replace(TERMS, least_payment=10**12))
    tasks = [announced(world, created=START + number) for number in range(5)]
    for task in tasks:
        assert hear(node, task)
    assert list(node.ended) == [task.task for task in tasks[2:]]
    assert [task for task, _ in node.declined] == [task.task for task in tasks[2:]]


# ------------------------------------------------------------------------------------------ a large network


def drawn(world: World, node: Node, wanted: Callable[[int | None], bool]) -> Message:
    """A task of a large network for which a node's turn is as wanted."""
    for number in range(2_000):
        task = announced(world, created=START + number, peers=100_000)
        if wanted(eighth(task.task, node.signer.peer_id, wanted=64, network=100_000)):
            return task
    raise AssertionError("no such task")


def test_in_a_large_network_a_node_answers_when_it_is_its_turn() -> None:
    world = World(0)
    node = node_of(world)
    task = drawn(world, node, lambda turn: turn is not None and turn > 0)
    turn = eighth(task.task, node.signer.peer_id, wanted=64, network=100_000)
    assert turn is not None
    since = START + turn * WAITING // EIGHTHS
    (step,) = hear(node, task)
    assert step.commands == [SetTimer(ANSWER, since)]
    assert hear(node, task, since - 1) == []
    (step,) = node.step(task.task, TimerFired(ANSWER), since)
    assert step.event == Received(task)
    assert task.task in node.members


def test_in_a_large_network_a_node_that_is_busy_at_its_turn_says_so_then() -> None:
    world = World(0)
    node = node_of(world)
    task = drawn(world, node, lambda turn: turn is not None and turn > 0)
    hear(node, task)
    hear(node, announced(world, "another"), START + 1)
    assert node.busy
    turn = eighth(task.task, node.signer.peer_id, wanted=64, network=100_000)
    assert turn is not None
    declined, timer = node.step(task.task, TimerFired(ANSWER), START + turn * WAITING // EIGHTHS)
    assert word(declined).reason.startswith("busy with another task")
    assert timer.commands == [SetTimer(ANSWER, START + WAITING)]


def test_in_a_large_network_a_node_that_is_not_drawn_says_so_to_its_operator_alone() -> None:
    world = World(0)
    node = node_of(world)
    task = drawn(world, node, lambda turn: turn is None)
    (step,) = hear(node, task)
    report, timer = step.commands
    assert isinstance(report, Report)
    assert report.data["reason"] == "not drawn: the task takes at most 64 of about 100000 nodes"
    assert timer == SetTimer(ANSWER, START + WAITING)
    assert node.step(task.task, TimerFired(ANSWER), START + WAITING) == []
    assert task.task in node.ended
    assert not node.members
