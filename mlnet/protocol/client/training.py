"""A client's stages from the bound decision to the end: order, training, the model, rewards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlnet.protocol.commands import FetchModel, FollowProgress, PublishSegments
from mlnet.protocol.decisions import rewards, segment_order
from mlnet.protocol.machine import Wait
from mlnet.protocol.phases import Stage
from mlnet.protocol.wire.messages import (
    DatasetSegment,
    DatasetSelection,
    HashVotes,
    Message,
    Rewards,
    Signed,
    TaskFailed,
    TrainingCompleted,
)

if TYPE_CHECKING:
    from mlnet.protocol.client.machine import Client


def ballots(client: Client) -> Wait | Stage:
    """Wait for the ballots of the committee."""
    held = client.attempted.ballots()
    missing = tuple(peer for peer in client.committee if peer not in held)
    return Wait("the ballots", missing) if missing else _count(client, held)


def second_round(client: Client) -> Stage:
    """The deadline of the ballots has come: name those that are here, and they count."""
    held = client.attempted.ballots()
    if not held:
        return client.fail("no committee member sent its ballot in time", "NodeLost")
    signed = tuple(Signed.of(message.envelope) for message in held.values())
    data = client.dataset
    selection = DatasetSelection(client.bound, data.segments, data.inputs, data.outputs, 2, signed)
    client.say(selection, client.committee, until=client.now + client.deadlines.dataset, via=client.members)
    client.round = 2
    return _count(client, held)


def agree(client: Client) -> Wait | Stage:
    """Wait until more than half of the committee computed this order, then hand out the training segments."""
    sent = client.evidence.of("HASH_VOTES", client.attempt, f"order {client.round}")
    agreeing = [
        peer
        for peer in client.committee
        if peer in sent and isinstance(body := sent[peer].body, HashVotes) and body.ranking == client.order
    ]
    if 2 * len(agreeing) <= len(client.committee):
        return Wait("the order", tuple(peer for peer in client.committee if peer not in agreeing))
    data = client.dataset
    by_hash = {segment.hash: segment for segment in data.segments}
    training = client.order[: client.definition.training_segments]
    client.report("order", order=client.order, held_out=client.held_out)
    hand_out(client)
    for position, digest in enumerate(training):
        segment = by_hash[digest]
        body = DatasetSegment(
            client.bound, position, len(training), segment, client.link(digest), data.inputs, data.outputs
        )
        client.say(body, client.committee, until=client.now + client.deadlines.links, via=client.members)
    return Stage.TRAINING


def hand_out(client: Client) -> None:
    """Serve the training segments, and follow the training."""
    decided = client.attempted.decision().ready
    client.emit(
        PublishSegments(client.order[: client.definition.training_segments], client.members),
        FollowProgress(client.attempt, decided.master, decided.slave),
    )


def resume(client: Client) -> None:
    """Have done again what ended with the process."""
    if client.phase is Stage.TRAINING:
        hand_out(client)
    elif client.phase is Stage.SCORING:
        client.again("fetch")


def no_order(client: Client) -> Stage:
    """The committee does not agree with the ballots that are here, or lacks some: name those that count."""
    if client.round == 1:
        return second_round(client)
    return client.fail(
        "no order of the segments came from more than half of the committee in time", "NodeLost"
    )


def train(client: Client) -> Wait | Stage:
    """Wait for every member's result, or for a majority's and then a little longer."""
    results = _results(client)
    client.winner = _majority(client, results)
    missing = tuple(peer for peer in client.members if peer not in results)
    if not missing:
        return (
            Stage.SCORING
            if client.winner
            else client.fail(
                "the members trained different models: none is held by more than half of them",
                "TrainingError",
            )
        )
    left = client.evidence.of("TASK_FAILED", client.attempt)
    if client.winner and all(peer in left for peer in missing):
        return Stage.SCORING
    if client.winner and client.once("majority"):
        client.extend(client.deadlines.completion)
    return Wait("TRAINING_COMPLETED", missing)


def stalled(client: Client) -> Stage:
    """No step for too long, unless a majority is done."""
    if client.winner:
        return Stage.SCORING
    return client.fail(f"training made no progress for {client.deadlines.step // 1000} s", "NodeLost")


def fail(client: Client) -> Wait | Stage:
    """A member's training has failed, and so has everybody's: hear the others, note the silent."""
    silent = _silent(client)
    return Wait("the other members' account of the failure", silent) if silent else failed(client)


def failed(client: Client) -> Stage:
    """End the task, naming the silent if there are any, else the first reason."""
    told = client.evidence.of("TASK_FAILED", client.attempt)
    reasons = [message.body.reason for message in told.values() if isinstance(message.body, TaskFailed)]
    if not reasons:
        liars = ", ".join(peer for peer in client.members if peer in client.evidence.proofs)
        return client.fail(f"{liars} signed two messages that contradict each other", "NodeLost")
    if silent := _silent(client):
        return client.fail(
            f"no message from {', '.join(silent)}; the others report: {reasons[0]}", "NodeLost"
        )
    return client.fail(f"training failed: {reasons[0]}", "TrainingError")


def score(client: Client) -> Wait | Stage:
    """Have the model fetched, checked and scored on the segments that nobody has trained on."""
    body = client.completed
    if client.once("fetch"):
        holders = tuple(
            peer for peer, message in _results(client).items() if _same_model(message, body.model.sha256)
        )
        client.report("trained", accuracy=body.accuracy, metrics=body.metrics, sha256=body.model.sha256)
        client.emit(FetchModel(body.model.sha256, body.model.size, holders, client.held_out))
    if client.refused:
        return client.fail(f"the trained model cannot be used: {client.refused}", "DataError")
    if client.scored is None:
        return Wait("the model")
    client.report(
        "scored", accuracy=client.scored.accuracy, metrics=client.scored.metrics, path=client.scored.path
    )
    return Stage.REWARDS


def unfetched(client: Client) -> Stage:
    """The model did not come in time."""
    return client.fail(
        "no member delivered the model in time; for slow links, submit with a larger --patience",
        "TransportError",
    )


def reward(client: Client) -> Wait | Stage:
    """Countersign the split that more than half of the committee signed, and that follows from what was
    trained."""
    client.split = rewards.split(client.definition.payment_micro, client.completed.contributions, client.paid)
    sent = client.evidence.of("REWARDS", client.attempt)
    signed = {peer: message.body.split for peer, message in sent.items() if isinstance(message.body, Rewards)}
    if rewards.settled(client.split, signed, client.committee):
        return _countersign(client, settled=True)
    return Wait("REWARDS", tuple(peer for peer in client.committee if peer not in signed))


def unsettled(client: Client) -> Stage:
    """Sign what is due all the same; the nodes settle it when the others' signatures reach them."""
    return _countersign(client, settled=False)


def rest(_: Client) -> Stage:
    """The end."""
    return Stage.ENDED


def ballots_limit(client: Client) -> int:
    """ms for the ballots."""
    return client.deadlines.ballots


def training_limit(client: Client) -> int:
    """ms until the first step of training."""
    size = sum(segment.size for segment in client.dataset.segments)
    waits = client.deadlines
    return waits.links + waits.fetch(size) + waits.load + waits.rendezvous + waits.step + waits.grace


def failing_limit(client: Client) -> int:
    """ms for the others' account of a failure."""
    return client.deadlines.grace // 6


def scoring_limit(client: Client) -> int:
    """ms to fetch the model from any of its holders and to score it."""
    size = client.completed.model.size
    return len(client.members) * client.deadlines.fetch(size) + client.deadlines.load + client.deadlines.step


def rewards_limit(client: Client) -> int:
    """ms for the committee's signatures under the split."""
    return client.deadlines.rewards


def _count(client: Client, held: dict[str, Message]) -> Stage:
    hashes = tuple(segment.hash for segment in client.dataset.segments)
    secrets = client.attempted.secrets(held, hashes)
    if not secrets:
        return client.fail("no ballot of the committee matches its commitment", "NodeLost")
    client.order, client.paid = segment_order.order(secrets, hashes), tuple(sorted(secrets))
    void = tuple(peer for peer in client.committee if peer not in secrets)
    client.report("ballots", counted=client.paid, void=void)
    return Stage.ORDER


def _countersign(client: Client, *, settled: bool) -> Stage:
    body = Rewards(client.bound, client.definition.payment_micro, client.split)
    client.say(body, client.members, until=client.now + client.deadlines.offer, via=client.members)
    client.report("rewards", payment=body.payment, split=client.split, settled=settled)
    return client.finish("completed")


def _results(client: Client) -> dict[str, Message]:
    sent = client.evidence.of("TRAINING_COMPLETED", client.attempt)
    return {
        peer: message
        for peer, message in sent.items()
        if isinstance(message.body, TrainingCompleted)
        and message.body.digest == client.bound
        and message.body.trained
    }


def _majority(client: Client, results: dict[str, Message]) -> Message | None:
    """The first result that more than half of the members share: model, contributions and figures."""
    groups: dict[tuple[object, ...], list[Message]] = {}
    for message in results.values():
        body = message.body
        assert isinstance(body, TrainingCompleted)
        contributions, metrics = (
            tuple(sorted(body.contributions.items())),
            tuple(sorted(body.metrics.items())),
        )
        key = (body.model.sha256, body.model.size, contributions, metrics, body.accuracy)
        groups.setdefault(key, []).append(message)
    largest = max(groups.values(), key=len, default=[])
    return largest[0] if 2 * len(largest) > len(client.members) else None


def _same_model(message: Message, sha256: str) -> bool:
    return isinstance(message.body, TrainingCompleted) and message.body.model.sha256 == sha256


def _silent(client: Client) -> tuple[str, ...]:
    told = client.evidence.of("TASK_FAILED", client.attempt)
    return tuple(peer for peer in client.members if peer not in told)
