"""Whole clusters in which somebody is silent, lies, dies or comes back, in every phase."""

from __future__ import annotations

import pytest
from support.protocol_world import World, reports, sent

from mlnet.protocol.commands import Command, Replicate, StartTraining
from mlnet.protocol.events import Event, Received, Replicated, Restarted, TrainingStopped
from mlnet.protocol.phases import MemberPhase
from mlnet.protocol.wire.messages import CommitteeVoting, TaskFailedBody

SILENT = {
    "INIT_CLUSTER": 0,
    "CLUSTER_DATABASE_SELECTION": 2,
    "CLUSTER_READY": 2,
    "HASH_VOTES": 1,
    "TRAINING_COMPLETED": 1,
    "REWARDS": 1,
}


@pytest.mark.parametrize(("type_", "attempts"), SILENT.items())
def test_a_member_whose_words_of_one_type_are_lost_does_not_stop_the_task(type_: str, attempts: int) -> None:
    world = World(5)
    world.loses = lambda sender, receiver, message: sender == "node0" and message.type == type_
    client = world.client(world.submit())
    world.run()
    assert world.ends["client"].state == "completed"
    assert client.attempt == max(attempts, 1)
    assert (world.nodes[0] in client.members) == (attempts == 1)


def test_a_silent_voter_is_left_out_of_the_next_attempt() -> None:
    world = World(5, "max-committee-size: 2, min-committee-size: 2, sealed-votes: false", seed=3)
    world.loses = lambda sender, receiver, message: message.type == "COMMITTEE_VOTING" and sender == "node1"
    client = world.client(world.submit())
    world.run()
    voted = {peer for report in reports(world, "cycle") for peer in dict(report.data["votes"])}  # type: ignore[call-overload]
    assert world.nodes[1] in voted
    assert world.ends["client"].state == "completed"
    if reports(world, "retry"):
        assert world.nodes[1] in client.dropped


def test_a_vote_that_does_not_open_its_commitment_is_none() -> None:
    world = World(5, "max-committee-size: 2, min-committee-size: 2", seed=3)
    liar = world.nodes[1]
    world.submit()
    world.run(until=lambda: bool(sent(world, "node1", "COMMITTEE_VOTING")))
    send = sent(world, "node1", "COMMITTEE_VOTING")[0].message
    assert isinstance(send.body, CommitteeVoting)
    world.heap.clear()
    body = CommitteeVoting(send.body.cycle, 0 if send.body.vote else 1, send.body.opening)
    false = world.parties[liar].signer.sign(body, task=send.task, attempt=1, sent=send.sent)
    cluster = world.client(world.clients[0]).attempted
    world.give(world.clients[0], send.task, Received(false))
    assert liar in cluster.silent_voters()


@pytest.mark.parametrize("seconds", [0, 9, 10.01, 10.03, 10.06, 10.1, 10.15])
def test_a_node_that_dies_before_the_task_is_bound_leads_to_a_cluster_without_it(seconds: float) -> None:
    world = World(5)
    client = world.client(world.submit())
    world.run(seconds)
    assert not client.bound
    world.kill(world.nodes[2])
    world.run()
    assert world.ends["client"].state == "completed"
    assert world.nodes[2] not in client.members


@pytest.mark.parametrize("seconds", [1, 10.1, 10.3, 10.6, 13])
def test_when_the_client_dies_every_node_is_free_again_in_bounded_time(seconds: float) -> None:
    world = World(4)
    client = world.submit()
    world.run(seconds)
    world.kill(client)
    world.run(3600)
    for peer in world.nodes:
        assert not world.node(peer).busy
    world.run()
    for peer in world.nodes:
        assert not world.node(peer).members


def test_a_client_gone_at_the_end_leaves_claims_and_the_model_on_offer() -> None:
    world = World(4)
    client = world.submit()
    world.run(until=lambda: any(isinstance(command, StartTraining) for _, command in world.log))
    world.kill(client)
    world.run(3600)
    assert {record.state for (record,) in world.records.values()} == {"claimed"}
    assert {member.phase for peer in world.nodes for member in world.node(peer).members.values()} == {
        MemberPhase.OFFERING
    }


def test_a_node_that_fails_in_training_ends_the_task_with_its_reason() -> None:
    def change(name: str, command: Command, event: Event) -> Event | None:
        if isinstance(command, StartTraining):
            reason = "out of memory" if name == "node1" else "connection closed by peer"
            return TrainingStopped(command.attempt, reason)
        return event

    world = World(3)
    world.changes = change
    world.submit()
    world.run()
    assert world.ends["client"].code == "TrainingError"
    assert world.ends["client"].reason.startswith("training failed: ")
    assert {end.state for end in world.ends.values()} == {"failed"}


def test_a_node_that_fails_before_the_trainers_meet_takes_nobody_silent_with_it() -> None:
    """The others' trainers would wait for it; they give up by its word, and are not taken for lost."""

    def change(name: str, command: Command, event: Event) -> Event | None:
        if not isinstance(command, StartTraining):
            return event
        return TrainingStopped(command.attempt, "out of memory") if name == "node1" else None

    world = World(4)
    world.changes = change
    world.submit()
    world.run()
    assert world.ends["client"].code == "TrainingError"
    assert world.ends["client"].reason == "training failed: out of memory"
    gave_up = [sent(world, f"node{index}", "TASK_FAILED")[0].message.body for index in (0, 2, 3)]
    assert all(isinstance(body, TaskFailedBody) and body.reason.endswith("out of memory") for body in gave_up)
    assert {end.state for end in world.ends.values()} == {"failed"}


def test_a_node_that_dies_in_training_is_named() -> None:
    def change(name: str, command: Command, event: Event) -> Event | None:
        if isinstance(command, StartTraining):
            return TrainingStopped(command.attempt, "connection closed by peer")
        return event

    world = World(3)
    world.changes = change
    client = world.submit()
    world.run(until=lambda: any(isinstance(command, StartTraining) for _, command in world.log))
    world.kill(world.nodes[0])
    world.run()
    assert world.client(client).ended
    assert world.ends["client"].code == "NodeLost"
    assert world.nodes[0] in world.ends["client"].reason


def test_nobody_training_ends_by_the_deadline() -> None:
    world = World(3)
    world.changes = lambda name, command, event: None if isinstance(command, StartTraining) else event
    world.submit()
    world.run()
    assert world.ends["client"].state == "failed"


def test_a_master_that_cannot_be_replicated_leaves_the_cluster() -> None:
    failed: list[str] = []

    def change(name: str, command: Command, event: Event) -> Event | None:
        if isinstance(command, Replicate) and not failed:
            failed.append(command.master)
            return Replicated(command.attempt, "connection refused")
        return event

    world = World(4)
    world.changes = change
    client = world.client(world.submit())
    world.run()
    assert world.ends["client"].state == "completed"
    assert list(client.dropped) == failed


def test_a_restarted_node_withdraws_and_the_cluster_forms_without_it() -> None:
    world = World(4)
    client = world.client(world.submit())
    world.run(5)
    world.give(world.nodes[0], client.task, Restarted())
    world.run()
    assert world.ends["node0"].reason == "the node was stopped or restarted"
    assert world.ends["client"].state == "completed"
    assert world.nodes[0] not in client.members
