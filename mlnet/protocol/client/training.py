"""A client's phases from the bound decision to the end: order, training, the model, rewards."""

from __future__ import annotations

from typing import Literal

from mlnet.protocol.client.state import ClientState
from mlnet.protocol.commands import FetchModel, FollowProgress, PublishSegments
from mlnet.protocol.decisions import rewards, segment_order
from mlnet.protocol.machine import Phase, Wait
from mlnet.protocol.phases import ClientPhase
from mlnet.protocol.wire.messages import (
    DatasetSegment,
    DatasetSelection,
    HashVotes,
    Message,
    Rewards,
    Signed,
    TaskFailedBody,
    TrainingCompleted,
)


class Ballots(Phase[ClientState]):
    """The committee opens its ballots."""

    def work(self, client: ClientState) -> Wait | Literal[ClientPhase.ORDER, ClientPhase.ENDED]:
        """Wait for the ballots of the committee."""
        held = client.attempted.ballots()
        missing = tuple(peer for peer in client.committee if peer not in held)
        return Wait("the ballots", missing) if missing else _count(client, held)

    def limit(self, client: ClientState) -> int:
        """ballots"""
        return client.deadlines.ballots

    def late(self, client: ClientState) -> Literal[ClientPhase.ORDER, ClientPhase.ENDED]:
        """The deadline of the ballots has come: name those that are here, and they count."""
        return second_round(client)


class Order(Phase[ClientState]):
    """The committee computes the order that the ballots give."""

    def work(self, client: ClientState) -> Wait | Literal[ClientPhase.TRAINING]:
        """Hand out the training segments once more than half of the committee computed this order."""
        sent = client.evidence.of("HASH_VOTES", client.attempt, f"order {client.round}")
        agreeing = [peer for peer in client.committee if peer in sent and _ranks(sent[peer], client.order)]
        if 2 * len(agreeing) <= len(client.committee):
            return Wait("the order", tuple(peer for peer in client.committee if peer not in agreeing))
        data = client.dataset
        by_root = {segment.root: segment for segment in data.segments}
        training = client.order[: client.definition.training_segments]
        client.report("order", order=client.order, held_out=client.held_out)
        hand_out(client)
        for position, root in enumerate(training):
            segment = by_root[root]
            body = DatasetSegment(
                client.bound, position, len(training), segment, client.link(root), data.inputs, data.outputs
            )
            client.say(body, client.committee, until=client.now + client.deadlines.links, via=client.members)
        return ClientPhase.TRAINING

    def limit(self, client: ClientState) -> int:
        """ballots"""
        return client.deadlines.ballots

    def late(self, client: ClientState) -> Literal[ClientPhase.ORDER, ClientPhase.ENDED]:
        """Name the ballots that count: the committee does not agree with those here, or lacks some."""
        if client.round == 1:
            return second_round(client)
        return client.fail(
            "no order of the segments came from more than half of the committee in time", "NodeLost"
        )


class Training(Phase[ClientState]):
    """The members train. Each step sets the deadline anew."""

    def work(self, client: ClientState) -> Wait | Literal[ClientPhase.SCORING, ClientPhase.ENDED]:
        """Wait for every member's result, or for a majority's and then a little longer."""
        results = _results(client)
        client.winner = _majority(client, results)
        missing = tuple(peer for peer in client.members if peer not in results)
        if not missing:
            differ = "the members trained different models: none is held by more than half of them"
            return ClientPhase.SCORING if client.winner else client.fail(differ, "TrainingError")
        left = client.evidence.of("TASK_FAILED", client.attempt)
        if client.winner and all(peer in left for peer in missing):
            return ClientPhase.SCORING
        if client.winner and client.once("majority"):
            client.extend(client.deadlines.completion)
        return Wait("TRAINING_COMPLETED", missing)

    def limit(self, client: ClientState) -> int:
        """links + fetch + load + rendezvous + step + grace"""
        size = sum(segment.size for segment in client.dataset.segments)
        waits = client.deadlines
        return waits.links + waits.fetch(size) + waits.load + waits.rendezvous + waits.step + waits.grace

    def late(self, client: ClientState) -> Literal[ClientPhase.SCORING, ClientPhase.ENDED]:
        """No step for too long, unless a majority is done."""
        if client.winner:
            return ClientPhase.SCORING
        return client.fail(f"training made no progress for {client.deadlines.step // 1000} s", "NodeLost")


class Failing(Phase[ClientState]):
    """A member's training has failed, and so has everybody's."""

    def work(self, client: ClientState) -> Wait | Literal[ClientPhase.ENDED]:
        """Hear the others, and note the silent."""
        silent = _silent(client)
        return Wait("the other members' account of the failure", silent) if silent else failed(client)

    def limit(self, client: ClientState) -> int:
        """grace / 6"""
        return client.deadlines.grace // 6

    def late(self, client: ClientState) -> Literal[ClientPhase.ENDED]:
        """End the task, naming the silent if there are any, else the first reason."""
        return failed(client)


class Scoring(Phase[ClientState]):
    """The client fetches the model and scores it on the segments that nobody has trained on."""

    def work(self, client: ClientState) -> Wait | Literal[ClientPhase.REWARDS, ClientPhase.ENDED]:
        """Have the model fetched, checked and scored."""
        body = client.completed
        if client.once("trained"):
            client.report("trained", accuracy=body.accuracy, metrics=body.metrics, sha256=body.model.sha256)
        if client.once("fetch"):
            holders = tuple(
                peer for peer, message in _results(client).items() if _same_model(message, body.model.sha256)
            )
            client.emit(FetchModel(body.model.sha256, body.model.size, holders, client.held_out))
        if client.refused:
            return client.fail(f"the trained model cannot be used: {client.refused}", "DataError")
        if client.scored is None:
            return Wait("the model")
        client.report(
            "scored", accuracy=client.scored.accuracy, metrics=client.scored.metrics, path=client.scored.path
        )
        return ClientPhase.REWARDS

    def limit(self, client: ClientState) -> int:
        """fetch from each member + load + step"""
        waits = client.deadlines
        return len(client.members) * waits.fetch(client.completed.model.size) + waits.load + waits.step

    def late(self, client: ClientState) -> Literal[ClientPhase.ENDED]:
        """The model did not come in time."""
        slow = "no member delivered the model in time; for slow links, submit with a larger --patience"
        return client.fail(slow, "TransportError")


class Rewarding(Phase[ClientState]):
    """The committee signs the split of the payment; the client's signature settles it."""

    def work(self, client: ClientState) -> Wait | Literal[ClientPhase.ENDED]:
        """Countersign the split that follows from what was trained, once most of the committee signed it."""
        payment, rows = client.definition.payment_micro, client.completed.contributions
        client.split = rewards.split(payment, rows, client.paid)
        sent = client.evidence.of("REWARDS", client.attempt)
        signed = {peer: one.body.split for peer, one in sent.items() if isinstance(one.body, Rewards)}
        if rewards.settled(client.split, signed, client.committee):
            return _countersign(client, settled=True)
        return Wait("REWARDS", tuple(peer for peer in client.committee if peer not in signed))

    def limit(self, client: ClientState) -> int:
        """rewards"""
        return client.deadlines.rewards

    def late(self, client: ClientState) -> Literal[ClientPhase.ENDED]:
        """Sign what is due all the same; the nodes settle it when the others' signatures reach them."""
        return _countersign(client, settled=False)


def second_round(client: ClientState) -> Literal[ClientPhase.ORDER, ClientPhase.ENDED]:
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


def hand_out(client: ClientState) -> None:
    """Serve the training segments, and follow the training."""
    decided = client.attempted.decision().ready
    client.emit(
        PublishSegments(client.order[: client.definition.training_segments], client.members),
        FollowProgress(client.attempt, decided.master, decided.slave),
    )


def resume(client: ClientState) -> None:
    """Have done again what ended with the process."""
    if client.phase is ClientPhase.TRAINING:
        hand_out(client)
    elif client.phase is ClientPhase.SCORING:
        client.again("fetch")


def failed(client: ClientState) -> Literal[ClientPhase.ENDED]:
    """End the task, naming the silent if there are any, else the first reason."""
    told = client.evidence.of("TASK_FAILED", client.attempt)
    reasons = [message.body.reason for message in told.values() if isinstance(message.body, TaskFailedBody)]
    if not reasons:
        liars = ", ".join(peer for peer in client.members if peer in client.evidence.proofs)
        return client.fail(f"{liars} signed two messages that contradict each other", "NodeLost")
    if silent := _silent(client):
        return client.fail(
            f"no message from {', '.join(silent)}; the others report: {reasons[0]}", "NodeLost"
        )
    return client.fail(f"training failed: {reasons[0]}", "TrainingError")


def _count(client: ClientState, held: dict[str, Message]) -> Literal[ClientPhase.ORDER, ClientPhase.ENDED]:
    hashes = tuple(segment.root for segment in client.dataset.segments)
    secrets = client.attempted.secrets(held, hashes)
    if not secrets:
        return client.fail("no ballot of the committee matches its commitment", "NodeLost")
    client.order, client.paid = segment_order.order(secrets, hashes), tuple(sorted(secrets))
    void = tuple(peer for peer in client.committee if peer not in secrets)
    client.report("ballots", counted=client.paid, void=void)
    return ClientPhase.ORDER


def _countersign(client: ClientState, *, settled: bool) -> Literal[ClientPhase.ENDED]:
    body = Rewards(client.bound, client.definition.payment_micro, client.split)
    client.say(body, client.members, until=client.now + client.deadlines.offer, via=client.members)
    client.report("rewards", payment=body.payment, split=client.split, settled=settled)
    return client.finish("completed")


def _results(client: ClientState) -> dict[str, Message]:
    sent = client.evidence.of("TRAINING_COMPLETED", client.attempt)
    return {
        peer: message
        for peer, message in sent.items()
        if isinstance(message.body, TrainingCompleted)
        and message.body.decision == client.bound
        and message.body.trained
    }


def _majority(client: ClientState, results: dict[str, Message]) -> Message | None:
    """The first result that more than half of the members share: model, contributions and figures."""
    groups: dict[tuple[object, ...], list[Message]] = {}
    for message in results.values():
        body = message.body
        assert isinstance(body, TrainingCompleted)
        contributions = tuple(sorted(body.contributions.items()))
        metrics = tuple(sorted(body.metrics.items()))
        key = (body.model.sha256, body.model.size, contributions, metrics, body.accuracy)
        groups.setdefault(key, []).append(message)
    largest = max(groups.values(), key=len, default=[])
    return largest[0] if 2 * len(largest) > len(client.members) else None


def _ranks(message: Message, order: tuple[str, ...]) -> bool:
    return isinstance(message.body, HashVotes) and message.body.ranking == order


def _same_model(message: Message, sha256: str) -> bool:
    return isinstance(message.body, TrainingCompleted) and message.body.model.sha256 == sha256


def _silent(client: ClientState) -> tuple[str, ...]:
    told = client.evidence.of("TASK_FAILED", client.attempt)
    return tuple(peer for peer in client.members if peer not in told)
