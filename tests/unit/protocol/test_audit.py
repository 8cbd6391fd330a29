"""What an audit derives from messages, whom it calls a liar and by which proof, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from support.protocol_world import World, resealed
from support.transcripts import Change, changed, closed, counting, forged, messages, naming, without

from mlnet.protocol.audit import Audit, audit
from mlnet.protocol.wire.messages import DatasetSelection, Message, Signed

OTHER = "ab" * 32
DECIDED = ("committee", "master", "slave", "decision", "order", "held_out", "model", "rewards")


def run(world: World) -> World:
    world.submit()
    world.run()
    assert world.ends["client"].state == "completed"
    return world


@pytest.fixture(scope="module")
def finished() -> World:
    return run(World(3))


@pytest.fixture(scope="module")
def two_rounds() -> World:
    """A task in which the ballot of node0 was lost, so that the client named those that count."""
    world = World(4)
    world.loses = lambda sender, _, message: sender == "node0" and message.type == "HASH_VOTES"
    return run(world)


def audited(world: World, change: Change | Sequence[Message] = lambda _, said: said) -> Audit:
    said = change(world, messages(world)) if callable(change) else change
    return audit(said, World._signer("whoever audits"))


def liars(world: World, found: Audit) -> dict[str, list[str]]:
    named: dict[str, list[str]] = {}
    for lie in found.lies:
        named.setdefault(world.names[lie.peer], []).append(lie.what)
    return named


def derived(found: Audit) -> set[str]:
    return {name for name in DECIDED if getattr(found, name)}


# --------------------------------------------------------------------------------------------- what follows


@pytest.mark.parametrize("name", ["finished", "two_rounds"])
def test_an_audit_derives_what_the_client_decided(name: str, request: pytest.FixtureRequest) -> None:
    world: World = request.getfixturevalue(name)
    client = world.client(world.clients[0])
    ready = client.attempted.decision().ready
    found = audited(world)
    assert (found.lies, found.missing) == ([], [])
    assert (found.task, found.client, found.attempt) == (client.task, client.me, 1)
    assert (found.committee, found.master, found.slave) == (ready.committee, ready.master, ready.slave)
    assert (found.decision, found.order, found.held_out) == (client.bound, client.order, client.order[8:])
    assert (found.model, found.rewards) == (client.completed.model.sha256, client.split)
    assert found.settled


def test_messages_of_another_task_and_those_that_come_twice_prove_nothing(finished: World) -> None:
    said = messages(finished)
    foreign = [
        finished.parties[one.sender].signer.sign(one.body, task=OTHER, attempt=one.attempt, sent=one.sent + 1)
        for one in said
        if one.type != "NEW_ML_TASK"
    ]
    again = [msgspec.structs.replace(one) for one in said]
    assert audited(finished, [*said, *foreign, *again]) == audited(finished)


def test_the_last_attempt_counts_where_none_was_bound() -> None:
    world = World(4)
    world.loses = lambda sender, _, message: (
        message.type == "DATASET_SELECTION"
        or (sender == "node0" and message.type == "CLUSTER_DATABASE_SELECTION")
    )
    world.submit()
    world.run(100)
    assert world.client(world.clients[0]).attempt == 2
    found = audited(world, without("DATASET_SELECTION"))
    assert found.attempt == 2
    assert world.peer("node0") not in found.committee
    assert found.missing == ["the order of the segments: there is no DATASET_SELECTION"]


@pytest.mark.parametrize(
    ("change", "known", "missing"),
    [
        (without("NEW_ML_TASK"), set(), "the task: there is no NEW_ML_TASK"),
        (
            without("CLUSTER_MEMBERS", "DATASET_SELECTION"),
            set(),
            "the committee: the client named no members",
        ),
        (
            without("CLUSTER_MEMBERS"),
            set(),
            "the committee: there is no CLUSTER_MEMBERS of the bound attempt",
        ),
        (
            naming(lambda world, inits: [closed(world, one) for one in inits]),
            set(),
            "the committee: 0 nodes with an open port, the committee needs 2",
        ),
        (
            changed("CLUSTER_DATABASE_SELECTION", pings={}),
            {"committee"},
            "master and slave: 0 of 3 committee members can be reached; 2 are needed",
        ),
        (
            without("DATASET_SELECTION"),
            {"committee", "master", "slave", "decision"},
            "the order of the segments: there is no DATASET_SELECTION",
        ),
        (
            changed("HASH_VOTES", of="ballot", secret=OTHER),
            {"committee", "master", "slave", "decision"},
            "the order of the segments: no ballot matches its commitment",
        ),
        (
            without("TRAINING_COMPLETED"),
            {"committee", "master", "slave", "decision", "order", "held_out"},
            "the rewards: no result is stated by more than half of the members",
        ),
    ],
)
def test_what_is_missing_is_named_and_what_comes_before_it_is_derived(
    finished: World, change: Change, known: set[str], missing: str
) -> None:
    found = audited(finished, change)
    assert found.missing == [missing]
    assert derived(found) == known
    assert not found.settled


def test_who_sent_no_ping_times_or_no_ballot_is_named(finished: World) -> None:
    silent = finished.peer("node1")

    def lacks(type_: str, of: str = "") -> Change:
        return lambda _, said: [
            one for one in said if not (one.sender == silent and one.type == type_ and of in one.place[2])
        ]

    found = audited(finished, lacks("CLUSTER_DATABASE_SELECTION"))
    assert found.missing == [f"master and slave: no CLUSTER_DATABASE_SELECTION of {silent}"]
    found = audited(finished, lacks("HASH_VOTES", "ballot"))
    assert found.missing == [f"the order of the segments: no ballot of {silent}"]


@pytest.mark.parametrize(
    ("senders", "settled"),
    [
        (("node0", "node1", "client"), True),
        (("node0", "client"), False),
        (("node0", "node1", "node2"), False),
    ],
    ids=["two of three and the client", "one of three and the client", "no client"],
)
def test_a_split_is_settled_by_the_client_and_more_than_half_of_the_committee(
    finished: World, senders: tuple[str, ...], settled: bool
) -> None:
    found = audited(
        finished,
        lambda world, said: [
            one for one in said if one.type != "REWARDS" or world.names[one.sender] in senders
        ],
    )
    assert (found.settled, found.lies, found.missing) == (settled, [], [])
    assert sum(found.rewards.values()) == 100_000_000


def test_a_member_that_holds_its_own_result_alone_relies_on_the_committees_signatures(
    finished: World,
) -> None:
    def own(*rewarded: str) -> Change:
        return lambda world, said: [
            one
            for one in said
            if (one.type != "TRAINING_COMPLETED" or world.names[one.sender] == "node0")
            and (one.type != "REWARDS" or world.names[one.sender] in rewarded)
        ]

    found = audited(finished, own("node0", "node1", "client"))
    assert (found.rewards, found.settled) == (finished.client(finished.clients[0]).split, True)
    found = audited(finished, own("node0", "client"))
    assert (found.rewards, found.settled) == ({}, False)
    assert found.missing == ["the rewards: no result is stated by more than half of the members"]


def test_results_of_strangers_and_of_other_attempts_do_not_count(finished: World) -> None:
    said = messages(finished)
    results = [one for one in said if one.type == "TRAINING_COMPLETED"]
    late = [resealed(finished, one, attempt=2, accuracy=0.1) for one in results]
    stranger = World._signer("a stranger")
    foreign = stranger.sign(results[0].body, task=results[0].task, attempt=1, sent=results[0].sent)
    assert audited(finished, [*said, *late, foreign]) == audited(finished)


# ------------------------------------------------------------------------------------------------- who lied


@pytest.mark.parametrize(
    ("change", "liar", "what"),
    [
        (
            changed("CLUSTER_READY", "node0", decision=OTHER),
            "node0",
            "announced a decision that does not follow from the evidence",
        ),
        (
            changed("DATASET_SELECTION", decision=OTHER),
            "client",
            "bound a decision that does not follow from the evidence",
        ),
        (
            changed("HASH_VOTES", "node1", of="order", ranking=tuple(f"{n:064x}" for n in range(10))),
            "node1",
            "computed another order of the segments than the ballots give",
        ),
        (
            changed("TRAINING_COMPLETED", "node2", accuracy=0.1),
            "node2",
            "stated another result than more than half of the members",
        ),
        (
            changed("TRAINING_COMPLETED", "node2", contributions={}),
            "node2",
            "stated a result for which nobody trained a row",
        ),
        (
            changed("REWARDS", "node0", split={}),
            "node0",
            "signed a split that does not follow from what was trained",
        ),
        (
            changed("REWARDS", "client", split={}),
            "client",
            "signed a split that does not follow from what was trained",
        ),
        (
            naming(lambda _, inits: [*inits, inits[0]]),
            "client",
            "named members without exactly one INIT_CLUSTER of this task for each",
        ),
    ],
)
def test_a_lie_is_its_signers_alone(finished: World, change: Change, liar: str, what: str) -> None:
    found = audited(finished, change)
    assert liars(finished, found) == {liar: [what]}
    said = {one.envelope.digest: one for one in change(finished, messages(finished))}
    (lie,) = found.lies
    assert [finished.names[said[digest].sender] for digest in lie.messages] == [liar]


def test_who_signs_two_versions_is_proved_by_both_and_who_followed_one_of_them_is_no_liar(
    finished: World,
) -> None:
    """Others may have computed from the version that is not in this transcript."""
    said = messages(finished)
    first = next(one for one in said if one.type == "CLUSTER_DATABASE_SELECTION")
    other = resealed(finished, first, commitment=OTHER)
    found = audited(finished, [other, *said])
    assert audited(finished, [*said, other]).lies[0].messages == (
        first.envelope.digest,
        other.envelope.digest,
    )
    assert liars(finished, found)[finished.names[first.sender]][0] == (
        "signed two different CLUSTER_DATABASE_SELECTION (attempt 1)"
    )
    honest = {
        name for name in finished.names.values() if name not in (finished.names[first.sender], "client")
    }
    accused = liars(finished, found)
    assert not any(what.startswith("announced") for name in honest for what in accused.get(name, []))


def test_a_segment_that_the_voted_order_does_not_have_is_the_clients_lie(finished: World) -> None:
    said = messages(finished)
    last = next(one for one in said if one.type == "DATASET_SEGMENT" and one.place[2] == "7")
    first = next(one for one in said if one.type == "DATASET_SEGMENT" and one.place[2] == "0")
    false = resealed(finished, last, segment=first.body.segment)  # type: ignore[attr-defined]
    found = audited(finished, [false if one is last else one for one in said])
    assert liars(finished, found) == {"client": ["handed out another segment 7 than the voted order has"]}


# ------------------------------------------------------------------------- what is inside of other messages


def foreign_ballot(world: World, name: str) -> Message:
    """An honest member's ballot of another task, of which the same client may have had two."""
    peer = world.peer(name)
    ballot = next(one for one in messages(world) if one.sender == peer and one.place[2] == "ballot 1")
    return world.parties[peer].signer.sign(ballot.body, task=OTHER, attempt=1, sent=ballot.sent)


def test_a_ballot_of_another_task_is_the_lie_of_the_client_that_named_it(two_rounds: World) -> None:
    """No member counted it. Its sender, who cast it honestly elsewhere, has not lied."""
    ballot = foreign_ballot(two_rounds, "node0")

    def named(world: World, said: list[Message]) -> list[Message]:
        return [
            resealed(world, one, ballots=(*one.body.ballots, Signed.of(ballot.envelope)))
            if isinstance(one.body, DatasetSelection) and one.body.round == 2
            else one
            for one in said
        ]

    found = audited(two_rounds, named)
    assert liars(two_rounds, found) == {
        "client": ["named ballots that the committee did not cast in this task"]
    }
    client = two_rounds.client(two_rounds.clients[0])
    assert (found.order, found.rewards, found.settled) == (client.order, client.split, True)


@pytest.mark.parametrize(
    "change",
    [
        naming(lambda _, inits: [*inits[1:], forged(inits[0])]),
        counting(lambda _, cast: [*cast, forged(cast[0])]),
    ],
    ids=["an answer", "a ballot"],
)
def test_what_nobody_signed_is_the_lie_of_the_client_that_states_it(finished: World, change: Change) -> None:
    """It ends the audit of nothing else: a client could make its own transcript unreadable by it."""
    found = audited(finished, change)
    assert set(liars(finished, found)) == {"client"}
    assert found.task
