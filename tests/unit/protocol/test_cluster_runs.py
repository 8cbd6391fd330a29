"""Whole clusters on one event heap: every phase, and what is written down of it."""

from __future__ import annotations

import pytest
from support.protocol_world import World, reports, sent

from mlnet.protocol.commands import Command, RecordReceipt, Send, StartTraining
from mlnet.protocol.events import Event, Received, Restarted, StopWaiting, TrainingStopped
from mlnet.protocol.phases import ClientPhase
from mlnet.protocol.wire.messages import CommitteeVoting, Message, TaskFailedBody

PAYMENT = 100_000_000


def test_five_nodes_train_and_everybody_agrees() -> None:
    world = World(5)
    client = world.client(world.submit())
    world.run()
    assert {name: end.state for name, end in world.ends.items()} == dict.fromkeys(
        ["client", *(f"node{index}" for index in range(5))], "completed"
    )
    assert sum(client.split.values()) == PAYMENT
    settled = {name: record for name, (record,) in world.records.items()}
    assert all(record.state == "settled" and record.split == client.split for record in settled.values())
    assert sum(record.amount for record in settled.values()) == PAYMENT
    assert len(client.order) == 10
    assert len(client.held_out) == 2


def test_the_waiting_period_ends_early_when_enough_have_answered() -> None:
    world = World(3, "max-nodes: 3")
    world.submit()
    world.run(5, until=lambda: bool(reports(world, "members")))
    assert reports(world, "members")


def test_the_user_can_end_the_waiting_period() -> None:
    world = World(3)
    client = world.submit()
    world.run(1)
    assert world.client(client).phase is ClientPhase.GATHERING
    world.give(client, world.client(client).task, StopWaiting())
    assert world.client(client).phase is ClientPhase.MEASURING


def test_too_few_answers_fail_with_the_counts() -> None:
    world = World(1)
    world.submit()
    world.run()
    assert world.ends["client"].code == "TooFewNodes"
    assert (
        world.ends["client"].reason
        == "1 node answered; the task needs at least 2; start more nodes, or wait longer (--waiting-period)"
    )
    assert world.ends["node0"].state == "failed"


def test_closed_ports_fail_with_the_reason_for_each() -> None:
    world = World(3, closed=(0, 1))
    world.submit()
    world.run()
    assert world.ends["client"].code == "NoCommittee"
    assert world.ends["client"].reason.count("behind a firewall") == 2


def test_workers_beside_the_committee_train_too() -> None:
    world = World(6, "max-committee-size: 2, min-committee-size: 2", closed=(4,))
    client = world.client(world.submit())
    world.run()
    assert world.ends["client"].state == "completed"
    assert len(client.committee) == 2
    assert len(client.split) == 6
    assert len(world.records) == 6


def test_three_candidates_for_two_seats_vote_until_the_hash_order_fills_them() -> None:
    world = World(3, "max-committee-size: 2, min-committee-size: 2")
    world.submit()
    world.run()
    cycles = [report.data["number"] for report in reports(world, "cycle")]
    assert cycles == list(range(8))
    assert "hash order" in str(reports(world, "committee")[-1].data["reason"])
    assert world.ends["client"].state == "completed"


def test_a_node_runs_one_task_at_a_time_and_says_why_to_the_second_client() -> None:
    world = World(3)
    world.submit("one")
    world.run(1)
    second = world.client(world.submit("two"))
    world.run()
    assert world.ends["one"].state == "completed"
    assert world.ends["two"].code == "TooFewNodes"
    assert all(note.startswith("busy with another task") for note in second.notes.values())


def test_two_tasks_one_after_the_other() -> None:
    world = World(3)
    world.submit("one")
    world.run(60)
    world.submit("two", created=world.now)
    world.run()
    assert world.ends["one"].state == world.ends["two"].state == "completed"


def test_sealed_votes_seat_a_committee_with_openings_alone() -> None:
    world = World(6, "max-committee-size: 2, min-committee-size: 2", seed=1)
    client = world.client(world.submit())
    world.run()
    assert world.ends["client"].state == "completed"
    assert all(client.attempted.init(peer).vote == 0 for peer in client.members)
    assert reports(world, "cycle")[0].data["number"] == 0
    assert len(set(dict(reports(world, "cycle")[0].data["votes"]).values())) == 2  # type: ignore[call-overload]


@pytest.mark.parametrize("seconds", [1, 10.05, 10.2, 10.5, 12, 13.7])
def test_a_client_that_replays_its_journal_says_the_same_words_and_goes_on(seconds: float) -> None:
    world = World(4)
    peer = world.submit()
    world.run(seconds)
    party, before = world.parties[peer], world.client(peer)
    words = [message.envelope for message in before.said()]
    again = type(before)(
        party.signer, before.announcement, before.definition, before.deadlines, before.dataset
    )
    for now, event in party.book.records[before.task].events:
        again.step(event, now)
    assert [message.envelope for message in again.said()] == words
    world.drive(peer, again)
    party.timers.clear()
    world.give(peer, before.task, Restarted())
    world.run()
    assert world.ends["client"].state == "completed"


def test_a_member_that_contradicts_itself_is_dropped() -> None:
    world = World(4)
    client = world.submit()
    world.run(until=lambda: bool(sent(world, "node0", "CLUSTER_DATABASE_SELECTION")))
    said = sent(world, "node0", "CLUSTER_DATABASE_SELECTION")[0].message
    party = world.parties[world.nodes[0]]
    other = party.signer.sign(said.body, task=said.task, attempt=said.attempt, sent=said.sent + 1)
    for receiver in [*world.nodes[1:], client]:
        world._deliver(world.nodes[0], receiver, other)
    world.run()
    assert world.nodes[0] in world.client(client).dropped
    assert world.ends["client"].state == "completed"


def test_every_word_is_signed_once() -> None:
    world = World(5, "max-committee-size: 2, min-committee-size: 2")
    world.loses = lambda sender, receiver, message: sender == "node3" and message.type == "CLUSTER_READY"
    world.submit()
    world.run()
    seen: dict[tuple[object, ...], str] = {}
    for owner, command in world.log:
        if isinstance(command, Send):
            message: Message = command.message
            key = (message.sender, message.task, *message.place)
            assert seen.setdefault(key, message.envelope.yaml) == message.envelope.yaml, owner


def test_receipts_are_written_once() -> None:
    world = World(4)
    world.submit()
    world.run()
    assert all(len(records) == 1 for records in world.records.values())
    assert all(isinstance(record, RecordReceipt) for records in world.records.values() for record in records)


def test_a_long_reason_is_cut_and_kills_nobody() -> None:
    def change(name: str, command: Command, event: Event) -> Event | None:
        return TrainingStopped(command.attempt, "x" * 5000) if isinstance(command, StartTraining) else event

    world = World(3)
    world.changes = change
    world.submit()
    world.run()
    assert world.ends["client"].state == "failed"
    assert set(world.ends) == {"client", "node0", "node1", "node2"}


def test_strangers_cannot_fill_the_room_of_the_client() -> None:
    world = World(3)
    client = world.submit()
    world.run(1)
    task = world.client(client).task
    for number in range(1100):
        stranger = World._signer(f"stranger {number}")
        word = stranger.sign(CommitteeVoting(1, 0, "00" * 32), task=task, attempt=1, sent=1)
        for peer in world.nodes:
            world.give(peer, task, Received(word))
    world.run()
    assert world.ends["client"].state == "completed"


def test_what_is_ignored_is_not_written_down() -> None:
    world = World(2)
    client = world.submit()
    world.run(1)
    task = world.client(client).task
    noise = World._signer("stranger").sign(TaskFailedBody("noise"), task=task, attempt=1, sent=1)
    (step,) = world.node(world.nodes[0]).step(task, Received(noise), world.now)
    assert step.event is None


def test_a_node_that_withdraws_after_most_have_the_model_changes_nothing() -> None:
    world = World(4)
    world.changes = lambda name, command, event: (
        None if isinstance(command, StartTraining) and name == "node2" else event
    )
    client = world.client(world.submit())
    world.run(until=lambda: client.winner is not None)
    world.give(world.nodes[2], client.task, Restarted())
    world.run()
    assert world.ends["client"].state == "completed"


def test_a_dropped_node_that_answers_again_is_not_counted() -> None:
    world = World(3)
    client = world.client(world.submit())
    world.run(until=lambda: len(client.answers) == 1)
    (peer,) = client.answers
    answer = client.answers[peer]
    world.give(peer, client.task, Restarted())
    world.run(0.1)
    world.give(client.me, client.task, Received(answer))
    assert peer not in client.answers


def test_a_node_that_closes_takes_nothing_more() -> None:
    world = World(2)
    node = world.node(world.nodes[0])
    node.close()
    world.submit()
    world.run(5)
    assert not node.members
    assert not node.pending
