"""One node before its task is bound: what it takes in, from whom, and what it says when it leaves."""

from __future__ import annotations

import msgspec
import pytest
from support.protocol_world import World, end_of, member, said_by, sent, until_member, words

from mlnet.errors import RemoteProtocolError
from mlnet.protocol.commands import End, Introduce, MeasurePings, Replicate, SetTimer
from mlnet.protocol.events import (
    PingsMeasured,
    Received,
    Replicated,
    Restarted,
    TimerFired,
    TrainingFinished,
    TrainingProgressed,
    TrainingStopped,
)
from mlnet.protocol.machine import DEADLINE
from mlnet.protocol.member import machine
from mlnet.protocol.member.machine import Member
from mlnet.protocol.phases import MemberPhase
from mlnet.protocol.wire.messages import (
    MAX_CYCLES,
    Body,
    CancelTask,
    ClusterMembers,
    ClusterReady,
    CommitteeVoting,
    DatasetSelection,
    HashVotes,
    Message,
    Signed,
    TaskFailedBody,
)

SEATS = "max-committee-size: 2, min-committee-size: 2"
OTHER = "ab" * 32
HASHES = tuple(f"{number:064x}" for number in range(10))


def at(phase: MemberPhase, nodes: int = 3, cluster: str = "max-nodes: 64") -> tuple[World, Member]:
    """A world in which a node has just come to a phase, and its part in the task."""
    world = World(nodes, cluster)
    world.submit()
    return world, until_member(world, phase)


def closed(world: World) -> Message:
    return said_by(world, world.clients[0], ClusterMembers(()), attempt=0)


def named(world: World) -> Message:
    """The client's last list of members."""
    return sent(world, "client", "CLUSTER_MEMBERS")[-1].message


def named_anew(world: World, *peers: str, attempt: int) -> Message:
    client = world.client(world.clients[0])
    body = ClusterMembers(tuple(Signed.of(client.answers[peer].envelope) for peer in peers))
    return said_by(world, client.me, body, attempt=attempt)


# ----------------------------------------------------------------------------------------- the announcement


def test_an_announcement_that_is_heard_twice_starts_one_server() -> None:
    world, node = at(MemberPhase.PREPARING)
    announcement = world.client(world.clients[0]).announcement
    assert node.step(Received(announcement), world.now) == []
    assert not node.heard
    assert node.phase is MemberPhase.PREPARING


def test_a_node_that_has_not_answered_when_the_waiting_ends_leaves_without_a_word() -> None:
    world, node = at(MemberPhase.PREPARING)
    commands = node.step(Received(closed(world)), world.now)
    assert node.phase is MemberPhase.ENDED
    assert commands == [End("released", "the client has enough nodes")]


def test_a_node_that_has_answered_waits_a_little_for_the_list_and_then_leaves_without_a_word() -> None:
    world, node = at(MemberPhase.ANSWERED)
    before = node.deadline
    commands = node.step(Received(closed(world)), world.now)
    assert node.deadline == world.now + node.deadlines.members < before
    assert commands == [SetTimer(DEADLINE, node.deadline)]
    # The word is known from here on: said once more, it neither shortens nor lengthens the wait.
    assert node.step(Received(closed(world)), world.now + 1000) == []
    commands = node.step(TimerFired(DEADLINE), node.deadline)
    assert commands == [End("released", "the client has enough nodes")]


def test_a_node_whose_client_falls_silent_says_what_it_waited_for() -> None:
    _, node = at(MemberPhase.ANSWERED)
    commands = node.step(TimerFired(DEADLINE), node.deadline)
    (word,) = words(commands)
    reason = f"gave up waiting for CLUSTER_MEMBERS from {node.client}"
    assert word.message.body == TaskFailedBody(reason, "NodeLost")
    assert word.to == (node.client,)
    assert end_of(commands) == End("failed", reason, "NodeLost")


def test_a_timer_of_before_or_of_another_name_does_nothing() -> None:
    _, node = at(MemberPhase.ANSWERED)
    assert node.step(TimerFired(DEADLINE), node.deadline - 1) == []
    assert node.step(TimerFired("another"), node.deadline) == []
    assert node.phase is MemberPhase.ANSWERED


# ------------------------------------------------------------------------------------------------ strangers


def test_of_a_stranger_only_what_may_come_early_is_kept_and_little_of_it() -> None:
    world, node = at(MemberPhase.ANSWERED, 4)
    stranger = next(peer for peer in world.nodes if peer != node.me)

    def heard(body: Body, attempt: int = 1) -> bool:
        node.step(Received(said_by(world, stranger, body, attempt=attempt)), world.now)
        return node.heard

    assert heard(CommitteeVoting(0, 0))
    assert not heard(CommitteeVoting(0, 0))  # known
    assert not heard(CommitteeVoting(0, 0), attempt=0)
    assert not heard(TaskFailedBody("noise"))  # no member says so before it knows that it is one
    long = ClusterReady((), tuple(world.nodes) * 50, stranger, stranger, OTHER)
    assert len(said_by(world, stranger, long).envelope.yaml) > machine.EARLY_LENGTH
    assert not heard(long)
    more = [(cycle, attempt) for attempt in (2, 3, 4) for cycle in range(MAX_CYCLES)]
    kept = [heard(CommitteeVoting(cycle, 0), attempt) for cycle, attempt in more]
    assert kept == [number < machine.EARLY_MESSAGES - 1 for number in range(len(more))]


def test_what_belongs_to_an_attempt_that_is_over_is_not_taken_in() -> None:
    world, node = at(MemberPhase.MEASURING, 4)
    other = node.others[0]
    node.step(Received(named_anew(world, *node.attempted.members, attempt=2)), world.now)
    assert node.attempt == 2
    node.step(Received(said_by(world, other, TaskFailedBody("late"), attempt=1)), world.now)
    assert not node.heard
    node.step(Received(said_by(world, other, TaskFailedBody("early"), attempt=0)), world.now)
    assert not node.heard
    node.step(Received(said_by(world, other, TaskFailedBody("now"), attempt=2)), world.now)
    assert node.heard


def test_what_is_not_for_a_node_is_not_taken_in() -> None:
    world, node = at(MemberPhase.MEASURING)
    answer = world.client(world.clients[0]).answers[node.others[0]]
    assert node.step(Received(answer), world.now) == []
    assert not node.heard


# ------------------------------------------------------------------------------------------------- attempts


def test_effects_of_an_attempt_that_is_over_are_void() -> None:
    world, node = at(MemberPhase.MEASURING)
    node.step(Received(named_anew(world, *node.attempted.members, attempt=2)), world.now)
    assert node.phase is MemberPhase.MEASURING
    node.step(PingsMeasured(1, dict.fromkeys(node.others, (1,) * 9)), world.now)
    assert node.pings is None
    commands = node.step(PingsMeasured(2, dict.fromkeys(node.others, (2,) * 9)), world.now)
    assert [word.message.attempt for word in words(commands, "CLUSTER_DATABASE_SELECTION")] == [2]


def test_a_new_list_without_a_node_releases_it_in_silence() -> None:
    world, node = at(MemberPhase.MEASURING, 4)
    commands = node.step(Received(named_anew(world, *node.others, attempt=2)), world.now)
    assert commands == [End("released", "the client went on without this node")]


def test_a_new_list_is_taken_up_until_the_task_is_bound_and_not_after() -> None:
    world, node = at(MemberPhase.READY)
    again = named_anew(world, *node.attempted.members, attempt=2)
    commands = node.step(Received(again), world.now)
    assert (node.attempt, node.phase) == (2, MemberPhase.MEASURING)
    assert [set(one.targets) for one in commands if isinstance(one, MeasurePings)] == [set(node.others)]
    world, node = at(MemberPhase.TRAINING)
    again = named_anew(world, *node.attempted.members, attempt=2)
    assert node.step(Received(again), world.now) == []
    assert (node.attempt, node.phase) == (1, MemberPhase.TRAINING)


def test_a_list_of_an_earlier_attempt_that_comes_late_changes_nothing() -> None:
    world, node = at(MemberPhase.MEASURING, 4)
    members = node.attempted.members
    node.step(Received(named_anew(world, *members, attempt=3)), world.now)
    node.step(Received(named_anew(world, *node.others, attempt=2)), world.now)
    assert (node.attempt, node.phase) == (3, MemberPhase.MEASURING)
    assert node.attempted.members == members


# -------------------------------------------------------------------------------------------------- the end


@pytest.mark.parametrize("phase", [MemberPhase.ANSWERED, MemberPhase.MEASURING, MemberPhase.TRAINING])
def test_the_clients_word_ends_the_task_and_is_not_answered(phase: MemberPhase) -> None:
    for body, end in (
        (CancelTask("enough"), End("cancelled", "enough", "TaskCancelled")),
        (TaskFailedBody("no committee", "NoCommittee"), End("failed", "no committee", "NoCommittee")),
    ):
        world, node = at(phase)
        commands = node.step(Received(said_by(world, node.client, body, attempt=node.attempt)), world.now)
        assert commands == [end]
        assert node.step(Received(said_by(world, node.client, CancelTask("again"))), world.now) == []


def test_only_the_client_may_cancel() -> None:
    world, node = at(MemberPhase.MEASURING)
    other = node.others[0]
    with pytest.raises(RemoteProtocolError, match=f"must come from the task's client, not from {other}"):
        node.step(Received(said_by(world, other, CancelTask("enough"))), world.now)
    assert node.phase is MemberPhase.MEASURING


def test_a_client_that_contradicts_itself_loses_the_node_and_all_are_told() -> None:
    world, node = at(MemberPhase.MEASURING)
    said = named(world)
    assert node.signer.verify(said.envelope) == said
    other = world.parties[node.client].signer.sign(
        said.body, task=said.task, attempt=said.attempt, sent=said.sent + 1
    )
    commands = node.step(Received(other), world.now)
    (word,) = words(commands)
    reason = "the client signed two messages that contradict each other"
    assert word.message.body == TaskFailedBody(reason, "ProtocolError")
    assert set(word.to) == {node.client, *node.others}
    assert end_of(commands) == End("failed", reason, "ProtocolError")


def test_the_proof_of_a_members_contradiction_goes_to_the_client() -> None:
    world, node = at(MemberPhase.MEASURING)
    other = node.others[0]
    first, second = (said_by(world, other, HashVotes(OTHER, "ballot", HASHES, text)) for text in ("00", "11"))
    node.step(Received(first), world.now)
    commands = node.step(Received(second), world.now)
    assert [(one.to, one.message) for one in words(commands)] == [
        ((node.client,), first),
        ((node.client,), second),
    ]
    assert node.phase is MemberPhase.MEASURING
    third = said_by(world, other, HashVotes(OTHER, "ballot", HASHES, "22"))
    assert node.step(Received(third), world.now) == []


def test_a_node_that_restarts_before_it_has_a_result_is_out_and_tells_all_who_wait_for_it() -> None:
    world, node = at(MemberPhase.MEASURING)
    world.run(0.01)
    commands = node.step(Restarted(), world.now)
    (word,) = words(commands)
    assert word.message.body == TaskFailedBody("the node was stopped or restarted", "NodeLost")
    assert set(word.to) == {node.client, *node.others}
    assert word.message.sent == node.created != world.now
    assert any(isinstance(one, Introduce) and node.client in one.addresses for one in commands)


# --------------------------------------------------------------------------------------------- the decision


def test_a_slave_that_cannot_replicate_tells_the_client_alone_and_waits_for_it() -> None:
    world = World(3)
    world.changes = lambda _, command, event: (
        Replicated(command.attempt, "connection refused") if isinstance(command, Replicate) else event
    )
    world.submit()
    world.run(until=lambda: any(sent(world, name, "TASK_FAILED") for name in world.names.values()))
    (word,) = (word for name in world.names.values() for word in sent(world, name, "TASK_FAILED"))
    assert word.to == (world.clients[0],)
    assert word.message.body == TaskFailedBody("connection refused", "StoreError")
    slave = member(world, world.names[word.message.sender])
    assert slave.phase is MemberPhase.REPLICATING
    assert str(slave.waiting) == (f"a new attempt or the end (replication failed) from {world.clients[0]}")
    assert slave.step(TimerFired("nothing"), world.now) == []  # once is enough


def test_a_decision_that_the_node_did_not_compute_is_not_trained_under() -> None:
    world, node = at(MemberPhase.READY)
    selection = chosen(world, OTHER)
    commands = node.step(Received(selection), world.now)
    (word,) = words(commands)
    reason = "the client bound another decision than this node computed"
    assert word.message.body == TaskFailedBody(reason, "ProtocolError")
    assert set(word.to) == {node.client, *node.others}
    assert end_of(commands) == End("failed", reason, "ProtocolError")
    assert not node.bound


def chosen(world: World, decision: str, **more: object) -> Message:
    client = world.client(world.clients[0])
    data = client.dataset
    body = DatasetSelection(decision, data.segments, data.inputs, data.outputs, **more)  # type: ignore[arg-type]
    return said_by(world, client.me, body)


def test_a_selection_whose_ballots_nobody_signed_is_refused_without_a_trace() -> None:
    world, node = at(MemberPhase.READY)
    ballot = said_by(world, node.others[0], HashVotes(OTHER, "ballot", HASHES))
    forged = Signed(ballot.envelope.yaml, "00" * 64)
    with pytest.raises(RemoteProtocolError, match="is not signed by"):
        node.step(Received(chosen(world, OTHER, ballots=(forged,))), world.now)
    assert node.phase is MemberPhase.READY
    assert node.evidence.get("DATASET_SELECTION", 1, "1", node.client) is None


def test_a_worker_follows_what_more_than_half_of_the_committee_announced_and_nothing_less() -> None:
    world = World(5, SEATS)
    world.loses = lambda sender, _, message: message.type == "CLUSTER_READY"
    world.submit()
    worker = until_member(world, MemberPhase.FOLLOWING)
    world.run(5)
    master, slave = worker.committee
    decided = until_member(world, MemberPhase.REPLICATING).attempted.decision().ready
    first = said_by(world, master, decided)
    assert words(worker.step(Received(first), world.now)) == []
    assert str(worker.waiting) == f"CLUSTER_READY of more than half of the committee from {slave}"
    # The other seat announces another decision: half is not enough for either.
    false = ClusterReady(decided.committee, decided.nodes, decided.slave, decided.master, OTHER)
    assert words(worker.step(Received(said_by(world, slave, false)), world.now)) == []
    assert worker.followed is None


def test_a_worker_repeats_the_decision_that_it_follows_to_the_client() -> None:
    world = World(5, SEATS)
    world.loses = lambda sender, _, message: message.type == "DATASET_SELECTION"
    world.submit()
    worker = until_member(world, MemberPhase.FOLLOWING)
    world.run(5)
    (word,) = sent(world, world.names[worker.me], "CLUSTER_READY")
    decided = next(
        one for peer in worker.committee for one in [member(world, world.names[peer]).attempted.decision()]
    ).ready
    assert (word.to, word.message.body) == ((worker.client,), decided)
    assert str(worker.waiting) == f"DATASET_SEGMENT from {worker.client}"


@pytest.mark.parametrize(
    "change",
    [
        lambda ready: {"committee": (*ready.committee[:-1], ready.nodes[-1])},
        lambda ready: {"nodes": ready.nodes[::-1]},
        lambda ready: {"master": ready.nodes[-1]},
        lambda ready: {"slave": ready.nodes[-1]},
        lambda ready: {"slave": ready.master},
    ],
    ids=["committee", "nodes", "master", "slave", "one for both"],
)
def test_a_worker_follows_no_decision_that_the_votes_contradict(change: object) -> None:
    """Even where the whole committee announces it."""
    world = World(5, SEATS)
    world.loses = lambda sender, _, message: message.type == "CLUSTER_READY"
    world.submit()
    worker = until_member(world, MemberPhase.FOLLOWING)
    world.run(5)
    decided = until_member(world, MemberPhase.REPLICATING).attempted.decision().ready
    false = msgspec.structs.replace(decided, **change(decided))  # type: ignore[operator]
    for peer in worker.committee:
        worker.step(Received(said_by(world, peer, false)), world.now)
    assert worker.followed is None
    assert not words(worker.step(TimerFired("nothing"), world.now))


# --------------------------------------------------------------------------------------------- what is late


def test_what_a_trainer_says_outside_of_training_changes_nothing() -> None:
    world, node = at(MemberPhase.MEASURING)
    before, late = node.deadline, world.now + 5
    for event in (
        TrainingProgressed(1, 3, 10),
        TrainingFinished(1, {}, None, OTHER, 1, {node.me: 1}),
        TrainingStopped(1, "out of memory"),
    ):
        assert node.step(event, late) == []
    assert (node.deadline, node.result, node.failure) == (before, None, "")
