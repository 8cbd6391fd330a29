"""The client from the bound decision to the end: ballots, order, training, the model, rewards."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from support.protocol_world import (
    World,
    end_of,
    resealed,
    said_by,
    sent,
    until_client,
    words,
)

from mlnet.protocol.client.machine import Client
from mlnet.protocol.commands import (
    Command,
    End,
    FetchModel,
    PublishSegments,
    Report,
    SetTimer,
    StartTraining,
)
from mlnet.protocol.events import (
    Event,
    ModelRefused,
    ModelScored,
    Received,
    Restarted,
    TimerFired,
    TrainingProgressed,
)
from mlnet.protocol.machine import DEADLINE
from mlnet.protocol.phases import ClientPhase
from mlnet.protocol.wire.messages import (
    DatasetSelection,
    HashVotes,
    Message,
    ModelInfo,
    Rewards,
    TaskFailedBody,
    TrainingCompleted,
)

OTHER = "ab" * 32


def without(*types: str) -> tuple[World, Client]:
    """A world of three nodes whose messages of some types do not reach the client."""
    world = World(3)
    world.loses = lambda _, receiver, message: receiver == "client" and message.type in types
    return world, world.client(world.submit())


def late(client: Client) -> list[Command]:
    return client.step(TimerFired(DEADLINE), client.deadline)


def failed(commands: list[Command], reason: str, code: str, world: World) -> None:
    """The task ends, and all who took part are told why."""
    assert end_of(commands) == End("failed", reason, code)
    (word,) = words(commands)
    assert {*word.to} == {*world.nodes}
    assert word.message.body == TaskFailedBody(reason, code)


# ---------------------------------------------------------------------------------------- ballots and order


def ballots(world: World) -> dict[str, Message]:
    """Those that were sent, by name."""
    return {
        name: word.message
        for name in ("node0", "node1", "node2")
        for word in sent(world, name, "HASH_VOTES")
        if word.message.place[2] == "ballot 1"
    }


def test_ballots_that_are_missing_at_the_deadline_do_not_count_and_all_are_told_which_do() -> None:
    world, client = without("HASH_VOTES")
    until_client(world, ClientPhase.BALLOTS)
    world.run(1)
    cast = ballots(world)
    client.step(Received(cast["node1"]), world.now)
    missing = [peer for peer in client.committee if peer != world.peer("node1")]
    assert str(client.waiting) == f"the ballots from {', '.join(missing)}"
    commands = late(client)
    (word,) = words(commands)
    assert {*word.to} == {*client.committee}
    assert isinstance(word.message.body, DatasetSelection)
    assert word.message.body.round == 2
    assert [one.envelope for one in word.message.body.ballots] == [cast["node1"].envelope]
    assert Report("ballots", {"counted": (world.peer("node1"),), "void": tuple(missing)}) in commands
    assert (client.phase, client.paid) == (ClientPhase.ORDER, (world.peer("node1"),))


def test_no_ballot_at_all_ends_the_task() -> None:
    world, client = without("HASH_VOTES")
    until_client(world, ClientPhase.BALLOTS)
    failed(late(client), "no committee member sent its ballot in time", "NodeLost", world)


def test_ballots_of_which_none_opens_end_the_task() -> None:
    world, client = without("HASH_VOTES")
    until_client(world, ClientPhase.BALLOTS)
    world.run(1)
    commands: list[Command] = []
    for ballot in ballots(world).values():
        commands = client.step(Received(resealed(world, ballot, secret=OTHER)), world.now)
    failed(commands, "no ballot of the committee matches its commitment", "NodeLost", world)


def test_a_ballot_that_does_not_open_is_void_and_the_others_count() -> None:
    world, client = without("HASH_VOTES")
    until_client(world, ClientPhase.BALLOTS)
    world.run(1)
    for name, ballot in ballots(world).items():
        told = resealed(world, ballot, secret=OTHER) if name == "node0" else ballot
        client.step(Received(told), world.now)
    assert client.phase is ClientPhase.ORDER
    assert {*client.paid} == {world.peer("node1"), world.peer("node2")}


def ordering() -> tuple[World, Client]:
    """A client that has the ballots and no order."""
    world = World(3)
    world.loses = lambda _, receiver, message: (
        receiver == "client" and message.type == "HASH_VOTES" and message.place[2].startswith("order")
    )
    client = world.client(world.submit())
    until_client(world, ClientPhase.ORDER)
    return world, client


def orders(world: World, client: Client, ranking: tuple[str, ...], number: int = 1) -> Callable[[str], Event]:
    def by(peer: str) -> Event:
        body = HashVotes(client.bound, "order", ranking, round=number)  # type: ignore[arg-type]
        return Received(said_by(world, peer, body))

    return by


def test_segments_are_handed_out_once_more_than_half_of_the_committee_has_the_clients_order() -> None:
    world, client = ordering()
    right, wrong = orders(world, client, client.order), orders(world, client, client.order[::-1])
    first, second, third = client.committee
    assert client.step(wrong(first), world.now) == []
    assert client.step(right(second), world.now) == []
    assert str(client.waiting) == f"the order from {first}, {third}"
    commands = client.step(right(third), world.now)
    assert client.phase is ClientPhase.TRAINING
    roots = [one.message.body.segment.root for one in words(commands, "DATASET_SEGMENT")]  # type: ignore[attr-defined]
    assert tuple(roots) == client.order[:8]
    assert PublishSegments(client.order[:8], client.members) in commands
    assert client.held_out == client.order[8:]
    assert Report("order", {"order": client.order, "held_out": client.order[8:]}) in commands


def test_orders_of_the_first_round_do_not_count_in_the_second() -> None:
    world, client = ordering()
    first, second, _ = client.committee
    commands = late(client)
    (word,) = words(commands)
    assert isinstance(word.message.body, DatasetSelection)
    assert word.message.body.round == 2
    old, new = orders(world, client, client.order), orders(world, client, client.order, 2)
    for peer in client.committee:
        assert client.step(old(peer), world.now) == []
    assert client.step(new(first), world.now) == []
    client.step(new(second), world.now)
    assert client.phase is ClientPhase.TRAINING


def test_no_order_in_the_second_round_ends_the_task() -> None:
    world, client = ordering()
    late(client)
    reason = "no order of the segments came from more than half of the committee in time"
    failed(late(client), reason, "NodeLost", world)


# ------------------------------------------------------------------------------------------------- training


def training(nodes: int = 3) -> tuple[World, Client]:
    """A client whose nodes train, and say nothing by themselves."""
    world = World(nodes)
    world.changes = lambda _, command, event: None if isinstance(command, StartTraining) else event
    client = world.client(world.submit())
    until_client(world, ClientPhase.TRAINING)
    world.run(0.1)
    return world, client


def result(world: World, client: Client, peer: str, **changes: object) -> Received:
    rows = dict.fromkeys(client.members, 100)
    body = TrainingCompleted(client.bound, {"Accuracy": 0.9}, model(), rows, 0.9)
    return Received(said_by(world, peer, msgspec.structs.replace(body, **changes)))


def model(sha256: str = OTHER, size: int = 5_000) -> ModelInfo:
    return ModelInfo(sha256, size, (f"mlnet:{sha256}",))


def test_each_step_gives_the_training_time_for_another() -> None:
    world, client = training()
    waits, first = client.deadlines, client.deadline
    client.step(TrainingProgressed(1, 1, 100), world.now)
    assert client.deadline == first  # loading may take longer than a step: nothing is taken away
    commands = client.step(TrainingProgressed(1, 2, 100), first - 1)
    assert client.deadline == first - 1 + waits.step + waits.grace
    assert commands == [SetTimer(DEADLINE, client.deadline)]
    assert client.step(TimerFired(DEADLINE), first) == []
    failed(late(client), f"training made no progress for {waits.step // 1000} s", "NodeLost", world)


def test_progress_in_another_phase_or_attempt_extends_nothing() -> None:
    world, client = training()
    at, before = client.deadline - 1, client.deadline
    assert client.step(TrainingProgressed(2, 1, 100), at) == []
    assert client.deadline == before
    world, client = without("HASH_VOTES")
    until_client(world, ClientPhase.BALLOTS)
    assert client.step(TrainingProgressed(1, 1, 100), client.deadline - 1) == []
    assert client.phase is ClientPhase.BALLOTS


def test_a_majority_with_one_result_waits_a_little_for_the_rest_and_progress_does_not_lengthen_it() -> None:
    world, client = training()
    first, second, third = client.members
    assert client.step(result(world, client, first), world.now) == []
    commands = client.step(result(world, client, second), world.now)
    deadline = world.now + client.deadlines.completion
    assert commands == [SetTimer(DEADLINE, deadline)]
    assert str(client.waiting) == f"TRAINING_COMPLETED from {third}"
    assert client.step(TrainingProgressed(1, 99, 100), deadline - 1) == []
    assert client.step(TimerFired("nothing"), deadline - 1) == []
    assert client.deadline == deadline
    commands = late(client)
    (fetch,) = (one for one in commands if isinstance(one, FetchModel))
    assert (fetch.sha256, {*fetch.holders}) == (OTHER, {first, second})
    assert fetch.held_out == client.held_out


def test_the_model_of_a_majority_is_scored_at_once_when_the_rest_has_given_up() -> None:
    world, client = training()
    first, second, third = client.members
    for peer in (first, second):
        client.step(result(world, client, peer), world.now)
    word = said_by(world, third, TaskFailedBody("out of memory", "TrainingError"))
    commands = client.step(Received(word), world.now)
    assert client.phase is ClientPhase.SCORING
    assert any(isinstance(one, FetchModel) for one in commands)
    assert third not in client.dropped


DIFFERENT: dict[str, dict[str, object]] = {
    "another model": {"model": model("cd" * 32)},
    "another size": {"model": model(size=1)},
    "other rows": {"contributions": {World._signer("node 0 0").peer_id: 1}},
    "other metrics": {"metrics": {"Accuracy": 0.1}},
    "another accuracy": {"accuracy": 0.1},
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_results_that_differ_in_anything_make_no_majority(name: str) -> None:
    world, client = training(2)
    first, second = client.members
    client.step(result(world, client, first), world.now)
    commands = client.step(result(world, client, second, **DIFFERENT[name]), world.now)
    reason = "the members trained different models: none is held by more than half of them"
    failed(commands, reason, "TrainingError", world)


@pytest.mark.parametrize("changes", [{"decision": "cd" * 32}, {"contributions": {}}])
def test_results_of_another_decision_or_of_no_rows_are_none(changes: dict[str, object]) -> None:
    world, client = training()
    for peer in client.members:
        assert client.step(result(world, client, peer, **changes), world.now) == []
    assert client.phase is ClientPhase.TRAINING
    assert client.winner is None


# ------------------------------------------------------------------------------------------ what has failed


def gave_up(world: World, peer: str, reason: str, code: str = "TrainingError") -> Received:
    return Received(said_by(world, peer, TaskFailedBody(reason, code)))


def test_a_trainer_that_fails_leads_to_the_others_accounts_of_it() -> None:
    world, client = training()
    first, second, third = client.members
    client.step(gave_up(world, first, "out of memory"), world.now)
    assert client.phase is ClientPhase.FAILING
    assert str(client.waiting) == f"the other members' account of the failure from {second}, {third}"
    client.step(gave_up(world, second, f"{first} gave up: out of memory"), world.now)
    commands = client.step(gave_up(world, third, f"{first} gave up: out of memory"), world.now)
    failed(commands, "training failed: out of memory", "TrainingError", world)


def test_whoever_says_nothing_of_a_failure_is_named() -> None:
    world, client = training()
    first, second, third = client.members
    client.step(gave_up(world, first, "connection lost"), world.now)
    client.step(gave_up(world, third, "connection lost"), world.now)
    assert client.deadline == world.now + client.deadlines.grace // 6
    reason = f"no message from {second}; the others report: connection lost"
    failed(late(client), reason, "NodeLost", world)


@pytest.mark.parametrize("phase", [ClientPhase.BALLOTS, ClientPhase.ORDER, ClientPhase.TRAINING])
def test_a_member_that_leaves_a_bound_task_ends_it(phase: ClientPhase) -> None:
    world, client = {
        ClientPhase.BALLOTS: lambda: without("HASH_VOTES"),
        ClientPhase.ORDER: ordering,
        ClientPhase.TRAINING: training,
    }[phase]()
    until_client(world, phase)
    one = client.members[0]
    commands = client.step(gave_up(world, one, "the disk is full", "NodeLost"), world.now)
    failed(commands, f"{one} left the cluster: the disk is full", "NodeLost", world)


def test_a_member_that_contradicts_itself_in_training_ends_the_task() -> None:
    world, client = training()
    one = client.members[0]
    client.step(result(world, client, one), world.now)
    commands = client.step(result(world, client, one, accuracy=0.1), world.now)
    reason = f"{one} left the cluster: signed two messages that contradict each other"
    failed(commands, reason, "NodeLost", world)


def test_when_all_who_gave_up_contradict_themselves_they_are_named() -> None:
    """A contradiction voids both words, so that no account of the failure is left."""
    world, client = training(2)
    first, second = client.members
    client.step(gave_up(world, first, "out of memory"), world.now)
    assert client.step(gave_up(world, first, "the disk is full"), world.now) == []
    assert str(client.waiting) == f"the other members' account of the failure from {first}, {second}"
    reason = f"{first} signed two messages that contradict each other"
    failed(late(client), reason, "NodeLost", world)


# ---------------------------------------------------------------------------------------- model and rewards


def test_a_model_that_cannot_be_used_ends_the_task() -> None:
    world, client = without("REWARDS")
    world.changes = lambda _, command, event: None if isinstance(command, FetchModel) else event
    until_client(world, ClientPhase.SCORING)
    commands = client.step(ModelRefused("its hash is another"), world.now)
    failed(commands, "the trained model cannot be used: its hash is another", "DataError", world)


def test_a_model_that_does_not_come_ends_the_task() -> None:
    world, client = without("REWARDS")
    world.changes = lambda _, command, event: None if isinstance(command, FetchModel) else event
    until_client(world, ClientPhase.SCORING)
    waits = client.deadlines
    assert client.deadline == world.now + 3 * waits.fetch(5_000) + waits.load + waits.step
    reason = "no member delivered the model in time; for slow links, submit with a larger --patience"
    failed(late(client), reason, "TransportError", world)


@pytest.mark.parametrize("event", [ModelScored({}, None, "model"), ModelRefused("damaged")])
def test_a_model_that_nobody_waits_for_is_ignored(event: Event) -> None:
    world, client = training()
    assert client.step(event, world.now) == []
    assert (client.phase, client.scored, client.refused) == (ClientPhase.TRAINING, None, "")


def test_a_client_that_comes_back_while_it_scores_fetches_the_model_again() -> None:
    world, client = without("REWARDS")
    world.changes = lambda _, command, event: None if isinstance(command, FetchModel) else event
    until_client(world, ClientPhase.SCORING)
    commands = client.step(Restarted(), world.now)
    assert sum(isinstance(one, FetchModel) for one in commands) == 1
    assert not [one for one in commands if isinstance(one, Report)]  # what was told is told once
    assert client.step(TimerFired("nothing"), world.now) == []


def test_the_client_signs_the_split_once_more_than_half_of_the_committee_did() -> None:
    world, client = without("REWARDS")
    until_client(world, ClientPhase.REWARDS)
    said = {name: sent(world, name, "REWARDS")[0].message for name in ("node0", "node1", "node2")}
    client.step(Received(said["node0"]), world.now)
    assert client.phase is ClientPhase.REWARDS
    missing = [peer for peer in client.committee if peer != world.peer("node0")]
    assert str(client.waiting) == f"REWARDS from {', '.join(missing)}"
    assert client.step(Received(resealed(world, said["node1"], split={})), world.now) == []
    commands = client.step(Received(said["node2"]), world.now)
    (word,) = words(commands)
    assert ({*word.to}, word.message.body) == ({*world.nodes}, said["node0"].body)
    (report,) = (one for one in commands if isinstance(one, Report))
    assert report.data["settled"] is True
    assert end_of(commands) == End("completed")


def test_what_is_due_is_signed_at_the_deadline_all_the_same() -> None:
    world, client = without("REWARDS")
    until_client(world, ClientPhase.REWARDS)
    commands = late(client)
    (word,) = words(commands)
    assert isinstance(word.message.body, Rewards)
    assert sum(word.message.body.split.values()) == client.definition.payment_micro
    (report,) = (one for one in commands if isinstance(one, Report))
    assert report.data["settled"] is False
    assert end_of(commands) == End("completed")
