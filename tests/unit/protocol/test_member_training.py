"""One node from the links to the end: training, results, receipts, and who hears of what."""

from __future__ import annotations

import pytest
from support.protocol_world import (
    World,
    end_of,
    member,
    said_by,
    sent,
    until_member,
    words,
)

from mlnet.protocol.commands import (
    Command,
    End,
    RecordReceipt,
    ServeModel,
    SetTimer,
    StartTraining,
)
from mlnet.protocol.events import (
    Received,
    Restarted,
    TimerFired,
    TrainingFinished,
    TrainingProgressed,
    TrainingStopped,
)
from mlnet.protocol.machine import DEADLINE
from mlnet.protocol.member.machine import Member, Occupied
from mlnet.protocol.phases import MemberPhase
from mlnet.protocol.wire.messages import (
    Rewards,
    TaskFailedBody,
    TrainingCompleted,
)

SEATS = "max-committee-size: 2, min-committee-size: 2"
OTHER = "ab" * 32
NOTHING = TimerFired("nothing")


# ------------------------------------------------------------------------------------------------- training


def training(nodes: int = 3, cluster: str = "max-nodes: 64", *, seat: bool = True) -> tuple[World, Member]:
    """A node whose trainer works, and says nothing by itself."""
    world = World(nodes, cluster)
    world.changes = lambda _, command, event: None if isinstance(command, StartTraining) else event
    world.submit()
    until_member(world, MemberPhase.TRAINING)
    world.run(0.1)
    parts = [member(world, world.names[peer]) for peer in world.nodes]
    return world, next(one for one in parts if one.seated is seat)


def test_each_step_gives_the_training_time_for_another() -> None:
    world, node = training()
    waits = node.deadlines
    first = node.deadline
    assert node.assignment is not None
    size = sum(segment.size for segment in node.assignment.segments)
    assert first == world.now + waits.fetch(size) + waits.load + waits.rendezvous + waits.step
    node.step(TrainingProgressed(1, 1, 100), world.now + 1)
    assert node.deadline == first  # it took less than what loading may take: nothing is taken away
    commands = node.step(TrainingProgressed(1, 2, 100), first - 1)
    assert node.deadline == first - 1 + waits.step
    assert commands == [SetTimer(DEADLINE, node.deadline)]
    node.step(TrainingProgressed(1), first)  # a download counts as well
    assert node.deadline == first + waits.step
    assert node.step(TimerFired(DEADLINE), node.deadline - 1) == []
    assert node.phase is MemberPhase.TRAINING


def test_a_training_that_stalls_fails_and_all_are_told() -> None:
    _, node = training()
    at = node.deadline
    commands = node.step(TimerFired(DEADLINE), at)
    reason = f"training made no progress for {node.deadlines.step // 1000} s"
    (word,) = words(commands)
    assert word.message.body == TaskFailedBody(reason, "TrainingError")
    assert set(word.to) == {node.client, *node.others}
    assert (node.phase, node.deadline) == (MemberPhase.FAILING, at + node.deadlines.grace)
    assert node.step(TrainingFinished(1, {}, None, OTHER, 1, {node.me: 1}), at) == []
    assert node.step(TimerFired(DEADLINE), node.deadline) == [End("failed", reason, "TrainingError")]


def test_how_long_a_place_is_taken_follows_from_the_steps() -> None:
    world, node = training()
    start = world.now
    assert node.occupied(start) == Occupied()  # no step yet: nobody knows
    node.step(TrainingProgressed(1, 1, 11), start)
    assert node.occupied(start) == Occupied()
    node.step(TrainingProgressed(1, 6, 11), start + 5_000)
    assert node.occupied(start + 5_000) == Occupied(5_000)
    assert node.occupied(start + 9_000) == Occupied(1_000)
    assert node.occupied(start + 60_000) == Occupied(1)  # later than it seemed, and not over


@pytest.mark.parametrize(
    ("phase", "stage"),
    [
        (MemberPhase.ANSWERED, ", which still gathers nodes"),
        (MemberPhase.MEASURING, ", which is about to train"),
        (MemberPhase.LINKS, ", which is about to train"),
        (MemberPhase.COMPLETED, ""),
    ],
)
def test_what_a_task_that_takes_a_place_is_at(phase: MemberPhase, stage: str) -> None:
    world = World(3)
    world.submit()
    node = until_member(world, phase)
    gathering = phase is MemberPhase.ANSWERED
    ms = node.deadline - world.now if gathering else 0
    assert node.occupied(world.now) == Occupied(ms, gathering, stage)


def failed(world: World, peer: str, reason: str) -> Received:
    return Received(said_by(world, peer, TaskFailedBody(reason, "TrainingError")))


def test_a_member_that_gives_up_takes_the_trainers_of_all_with_it() -> None:
    """They would wait for it in vain."""
    world, node = training(4)
    other = node.others[0]
    commands = node.step(failed(world, other, "out of memory"), world.now)
    (word,) = words(commands)
    reason = f"{other} gave up: out of memory"
    assert word.message.body == TaskFailedBody(reason, "TrainingError")
    assert set(word.to) == {node.client, *node.others}
    assert node.phase is MemberPhase.FAILING
    # The first reason stays: what another says of it later does not replace it.
    node.step(failed(world, node.others[1], "connection lost"), world.now)
    assert node.failure == reason


def test_more_than_half_of_the_committee_ends_the_task_without_the_client() -> None:
    world, node = training(5, SEATS, seat=False)
    first, second = node.committee
    rest = [peer for peer in node.others if peer not in node.committee]
    node.step(failed(world, rest[0], "a worker has no say"), world.now)
    assert node.phase is MemberPhase.FAILING
    assert words(node.step(failed(world, first, "half of two is not enough"), world.now)) == []
    commands = node.step(failed(world, second, "out of memory"), world.now)
    assert end_of(commands) == End("failed", "out of memory", "TrainingError")


def test_a_node_that_ends_with_the_committee_says_so_to_the_client() -> None:
    """The client takes a member that says nothing for the one that was lost."""
    world = World(3)
    world.submit()
    node = until_member(world, MemberPhase.BALLOTS)
    first, second = node.others
    node.step(failed(world, first, "out of memory"), world.now)
    assert node.phase is MemberPhase.BALLOTS
    commands = node.step(failed(world, second, "disk full"), world.now)
    (word,) = words(commands)
    assert (word.to, set(word.via)) == ((node.client,), {*node.others})
    assert word.message.body == TaskFailedBody("disk full", "TrainingError")
    assert end_of(commands) == End("failed", "disk full", "TrainingError")


def test_a_failure_before_the_task_is_bound_is_the_clients_affair() -> None:
    world = World(3)
    world.submit()
    node = until_member(world, MemberPhase.MEASURING)
    for peer in node.others:
        assert words(node.step(failed(world, peer, "out of memory"), world.now)) == []
    assert node.phase is MemberPhase.MEASURING


# ----------------------------------------------------------------------------------------------- the result


def completed(nodes: int = 3, cluster: str = "max-nodes: 64", *, seat: bool = True) -> tuple[World, Member]:
    """A node with a model, whose client and fellows have not signed the split yet."""
    world = World(nodes, cluster)
    world.loses = lambda _, __, message: message.type == "REWARDS"
    world.submit()
    until_member(world, MemberPhase.COMPLETED)
    world.run(0.1)
    parts = [member(world, world.names[peer]) for peer in world.nodes]
    assert {one.phase for one in parts} == {MemberPhase.COMPLETED}
    return world, next(one for one in parts if one.seated is seat)


def split_of(world: World, node: Member) -> dict[str, int]:
    (word,) = sent(world, world.names[node.committee[0]], "REWARDS")
    assert isinstance(word.message.body, Rewards)
    return dict(word.message.body.split)


def rewards(world: World, node: Member, sender: str, split: dict[str, int]) -> Received:
    return Received(said_by(world, sender, Rewards(node.bound, node.definition.payment_micro, split)))


def test_a_seated_node_signs_the_split_and_a_worker_states_its_result_alone() -> None:
    world, node = completed(4, SEATS)
    (result,) = sent(world, world.names[node.me], "TRAINING_COMPLETED")
    assert result.to == (node.client,)
    assert isinstance(result.message.body, TrainingCompleted)
    (split,) = sent(world, world.names[node.me], "REWARDS")
    assert set(split.to) == {node.client, *node.others}
    world, node = completed(4, SEATS, seat=False)
    assert len(sent(world, world.names[node.me], "TRAINING_COMPLETED")) == 1
    assert not sent(world, world.names[node.me], "REWARDS")


def test_a_split_is_settled_by_the_client_with_more_than_half_of_the_committee() -> None:
    world, node = completed()
    split = split_of(world, node)
    assert str(node.waiting) == f"REWARDS from {node.client}"
    assert node.step(rewards(world, node, node.client, split), world.now) == []
    missing = tuple(peer for peer in node.committee if peer != node.me)
    assert str(node.waiting) == f"REWARDS of more than half of the committee from {', '.join(missing)}"
    other = {peer: amount + (1 if peer == node.me else 0) for peer, amount in split.items()}
    assert node.step(rewards(world, node, missing[0], other), world.now) == []
    commands = node.step(rewards(world, node, missing[1], split), world.now)
    (receipt,) = (one for one in commands if isinstance(one, RecordReceipt))
    assert (receipt.state, receipt.amount, receipt.split) == ("settled", split[node.me], split)
    assert {one.sender for one in receipt.evidence} == {node.me, missing[1], node.client}
    assert end_of(commands) == End("completed")


def test_another_split_than_the_committee_signed_settles_nothing() -> None:
    world, node = completed()
    split = split_of(world, node)
    for peer in node.committee:
        if peer != node.me:
            node.step(rewards(world, node, peer, split), world.now)
    dear = dict.fromkeys(split, 0) | {node.others[0]: sum(split.values())}
    assert node.step(rewards(world, node, node.client, dear), world.now) == []
    assert node.phase is MemberPhase.COMPLETED


def offered(commands: list[Command], state: str) -> RecordReceipt:
    (receipt,) = (one for one in commands if isinstance(one, RecordReceipt))
    assert receipt.state == state
    return receipt


def test_a_node_whose_client_is_gone_claims_its_share_and_offers_the_model() -> None:
    world, node = completed()
    split = split_of(world, node)
    for peer in node.others:
        node.step(rewards(world, node, peer, split), world.now)
    at = node.deadline
    commands = node.step(TimerFired(DEADLINE), at)
    receipt = offered(commands, "claimed")
    assert (receipt.amount, receipt.split) == (split[node.me], split)
    assert {one.sender for one in receipt.evidence} == {*node.committee}
    assert ServeModel(at + node.deadlines.offer) in commands
    again = {word.message.type: word for word in words(commands)}
    assert set(again) == {"TRAINING_COMPLETED", "REWARDS"}
    assert all(word.to == (node.client,) for word in again.values())
    assert again["REWARDS"].message == sent(world, world.names[node.me], "REWARDS")[0].message
    assert node.idle
    assert node.step(TimerFired(DEADLINE), node.deadline) == [
        End("completed", "the client did not fetch the model in time")
    ]


def test_a_claim_of_a_split_that_is_not_agreed_on_states_no_amount() -> None:
    _, node = completed()
    receipt = offered(node.step(TimerFired(DEADLINE), node.deadline), "claimed")
    assert (receipt.amount, receipt.split) == (0, {})
    assert [one.sender for one in receipt.evidence] == [node.me]


def test_a_client_that_comes_back_settles_what_was_claimed() -> None:
    world, node = completed()
    split = split_of(world, node)
    for peer in node.others:
        node.step(rewards(world, node, peer, split), world.now)
    node.step(TimerFired(DEADLINE), node.deadline)
    assert node.phase is MemberPhase.OFFERING
    commands = node.step(rewards(world, node, node.client, split), node.now + 1)
    assert offered(commands, "settled").amount == split[node.me]
    assert end_of(commands) == End("completed")


def test_a_restart_with_a_result_keeps_the_model_on_offer_until_the_same_time() -> None:
    world, node = completed()
    commands = node.step(Restarted(), world.now)
    offered(commands, "claimed")
    assert not words(commands, "TASK_FAILED")
    assert node.phase is MemberPhase.OFFERING
    deadline = node.deadline
    commands = node.step(Restarted(), world.now + 5_000)
    offered(commands, "claimed")  # the first may have found no room on the disk
    assert commands[-1] == SetTimer(DEADLINE, deadline)
    assert node.phase is MemberPhase.OFFERING


def test_a_trainer_that_fails_once_the_result_is_said_changes_nothing() -> None:
    world, node = completed()
    assert node.step(TrainingStopped(1, "killed"), world.now) == []
    assert node.phase is MemberPhase.COMPLETED


def test_a_long_failure_is_cut_for_all_alike() -> None:
    world, node = training()
    commands = node.step(TrainingStopped(1, "x" * 5_000), world.now)
    (word,) = words(commands)
    assert isinstance(word.message.body, TaskFailedBody)
    assert word.message.body.reason == "x" * 1_000
