"""A member's phases from the bound decision to the end: order, segments, training, rewards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mlnet.protocol.commands import Offer, Plan, Record, StartTraining
from mlnet.protocol.decisions import rewards, segment_order
from mlnet.protocol.machine import Wait
from mlnet.protocol.member.forming import ballot_secret, decided
from mlnet.protocol.phases import Phase
from mlnet.protocol.wire.messages import (
    DatasetSegment,
    DatasetSelection,
    HashVotes,
    Message,
    ModelInfo,
    Rewards,
    TaskFailed,
    TrainingCompleted,
)

if TYPE_CHECKING:
    from mlnet.protocol.member.machine import Member


def ballots(member: Member) -> Wait | Phase:
    """Open the ballot, wait for the others', compute the order."""
    selection = member.selection
    assert selection is not None
    hashes = tuple(segment.hash for segment in selection.segments)
    if len(set(hashes)) != len(hashes):
        return member.withdraw("the client named one segment twice", "ProtocolError")
    rest = tuple(peer for peer in member.committee if peer != member.me)
    secret = ballot_secret(member)
    ballot = HashVotes(member.bound, "ballot", segment_order.ballot(secret, hashes), secret.hex())
    member.say(ballot, (*rest, member.client), until=member.deadline, via=member.others)
    counted, number = _counted_ballots(member)
    if not counted:
        missing = tuple(peer for peer in member.committee if peer not in member.attempted.ballots())
        return Wait("the ballots", missing)
    secrets = member.attempted.secrets(counted, hashes)
    if not secrets:
        return member.withdraw("no ballot of the committee matches its commitment", "TaskFailed")
    member.order, member.paid = segment_order.order(secrets, hashes), tuple(sorted(secrets))
    member.round = number
    member.report("order", order=member.order)
    order = HashVotes(member.bound, "order", member.order, round=number)
    member.say(order, [member.client], until=member.deadline, via=member.others)
    return Phase.LINKS


def links(member: Member) -> Wait | Phase:
    """Collect the links to the training segments; the committee passes them on to the workers."""
    if member.seated and _second_round(member) and member.round == 1:
        return Phase.BALLOTS  # the client lacked a ballot that this node has: fewer count than it thought
    sent = member.evidence.of_type("DATASET_SEGMENT", member.attempt)
    found = {message.body.position: message for message in sent if isinstance(message.body, DatasetSegment)}
    if member.seated:
        workers = [peer for peer in member.others if peer not in member.committee]
        for position, message in found.items():
            if member.once(f"forward {position}"):
                member.forward(message, workers, until=member.deadline, via=member.committee)
    bodies = [message.body for message in found.values() if isinstance(message.body, DatasetSegment)]
    if wrong := _wrong_links(member, bodies):
        return member.withdraw(wrong, "ProtocolError")
    if member.seated and any(body.segment.hash != member.order[body.position] for body in bodies):
        return Wait("the ballots that give the order of the segments", (member.client,))
    count = bodies[0].count if bodies else member.definition.training_segments
    missing = [position for position in range(count) if position not in found]
    if missing:
        return Wait(f"the links to segments {', '.join(map(str, missing))}", (member.client,))
    member.plan = _plan(member, sorted(bodies, key=lambda body: body.position))
    return Phase.TRAINING


def train(member: Member) -> Wait | Phase:
    """Fetch this node's segments and train with the others."""
    assert member.plan is not None
    if member.once("train"):
        member.emit(StartTraining(member.attempt, member.plan))
    if member.failure:
        return Phase.FAILING
    if member.result is None:
        return Wait("the trainers", member.others)
    return Phase.COMPLETED


def fail(member: Member) -> Wait | Phase:
    """Say why training failed; the task ends by the client's word, or by that of more than half of the
    committee."""
    note = TaskFailed(member.failure[:1000], "TrainingError")
    member.say(note, (*member.others, member.client), until=member.deadline, via=member.others)
    return Wait("TASK_FAILED", (member.client,))


def complete(member: Member) -> Wait | Phase:
    """State the result, sign the split, wait until it is settled."""
    result, plan = member.result, member.plan
    assert result is not None
    assert plan is not None
    model = ModelInfo(result.sha256, result.size, (f"mlnet:{result.sha256}",))
    body = TrainingCompleted(member.bound, result.metrics, model, result.contributions, result.accuracy)
    until = member.now + member.deadlines.offer
    member.say(body, [member.client], until=until, via=member.others)
    if member.seated:
        payment = member.definition.payment_micro
        split = rewards.split(payment, result.contributions, member.paid)
        member.say(
            Rewards(member.bound, payment, split),
            (*member.others, member.client),
            until=until,
            via=member.others,
        )
    return await_client(member)


def await_client(member: Member) -> Wait | Phase:
    """The client's countersignature settles the split; the model is served until then."""
    final = member.evidence.get("REWARDS", member.attempt, "", member.client)
    signed = _signed(member)
    if final is None or not isinstance(final.body, Rewards):
        return Wait("REWARDS", (member.client,))
    if not rewards.settled(final.body.split, signed, member.committee):
        missing = tuple(peer for peer in member.committee if peer not in signed)
        return Wait("REWARDS of more than half of the committee", missing)
    split = final.body.split
    agreeing = [
        message
        for message in _rewards(member)
        if isinstance(message.body, Rewards) and message.body.split == split
    ]
    member.emit(Record("settled", split.get(member.me, 0), split, (*agreeing, final)))
    return member.finish("completed")


def claim(member: Member) -> Phase:
    """The client is gone: write down what is due, free the node, and keep the model for it."""
    signed = _signed(member)
    split = next((split for split in signed.values() if rewards.settled(split, signed, member.committee)), {})
    member.emit(Record("claimed", split.get(member.me, 0), split, tuple(_rewards(member))))
    offer(member)
    return Phase.OFFERING


def offer(member: Member) -> None:
    """Release all but the model, and say once more what the client may not have heard."""
    until = member.now + member.deadlines.offer
    member.emit(Offer(until))
    for message in member.said():
        if message.type in ("TRAINING_COMPLETED", "REWARDS"):
            member.forward(message, [member.client], until=until, via=member.others)


def stalled(member: Member) -> Phase:
    """No step for too long."""
    member.failure = f"training made no progress for {member.deadlines.step // 1000} s"
    return Phase.FAILING


def failed(member: Member) -> Phase:
    """Nobody else spoke; the task is over for this node all the same."""
    return member.finish("failed", member.failure, "TrainingError")


def forgotten(member: Member) -> Phase:
    """The offer has run out."""
    return member.finish("completed", "the client did not fetch the model in time")


def ballots_limit(member: Member) -> int:
    """ms for the ballots."""
    return 2 * member.deadlines.ballots + member.deadlines.grace


def links_limit(member: Member) -> int:
    """ms for the links to all training segments."""
    return member.deadlines.links + member.deadlines.ballots


def training_limit(member: Member) -> int:
    """ms until the first step of training."""
    assert member.plan is not None
    size = sum(segment.size for segment in member.plan.segments)
    waits = member.deadlines
    return waits.fetch(size) + waits.load + waits.rendezvous + waits.step


def failing_limit(member: Member) -> int:
    """ms for the others' account of a failure."""
    return member.deadlines.grace


def completed_limit(member: Member) -> int:
    """ms for the client to score the model and sign the split."""
    assert member.result is not None
    waits = member.deadlines
    return waits.completion + waits.fetch(member.result.size) + waits.rewards + waits.grace


def offer_limit(member: Member) -> int:
    """ms for a client that is gone."""
    return member.deadlines.offer


def _second_round(member: Member) -> DatasetSelection | None:
    named = member.evidence.get("DATASET_SELECTION", member.attempt, "2", member.client)
    return named.body if named is not None and isinstance(named.body, DatasetSelection) else None


def _counted_ballots(member: Member) -> tuple[dict[str, Message], Literal[1, 2]]:
    """The ballots that count and the round: all, or those that the client named in round 2; none while they
    are missing."""
    named = _second_round(member)
    if named is None:
        held = member.attempted.ballots()
        return (held if len(held) == len(member.committee) else {}), 1
    opened = (member.seal.open(signed.envelope) for signed in named.ballots)
    counted = {
        message.sender: message
        for message in opened
        if message.sender in member.committee
        and message.task == member.task
        and message.place == ("HASH_VOTES", member.attempt, "ballot 1")
    }
    return counted, 2


def _wrong_links(member: Member, bodies: list[DatasetSegment]) -> str:
    counts = {(body.count, body.inputs, body.outputs, body.digest) for body in bodies}
    if len(counts) > 1:
        return "the client's DATASET_SEGMENT messages contradict each other"
    for body in bodies:
        if body.digest != member.bound or body.count != member.definition.training_segments:
            return "a DATASET_SEGMENT of the client does not belong to the decision that it bound"
        if body.position >= body.count:
            return f"the client named training segment {body.position}; there are {body.count}, from 0"
    return ""


def _plan(member: Member, bodies: list[DatasetSegment]) -> Plan:
    ready = decided(member)
    return Plan(
        digest=member.bound,
        nodes=ready.nodes,
        master=ready.master,
        slave=ready.slave,
        segments=tuple(body.segment for body in bodies),
        links=tuple(body.link for body in bodies),
        inputs=bodies[0].inputs,
        outputs=bodies[0].outputs,
        hosts=tuple(_host(member, peer) for peer in ready.nodes),
    )


def _host(member: Member, peer: str) -> str:
    """Where a rank is reached without the tunnel; empty for nowhere."""
    cluster = member.attempted
    return "" if peer not in cluster.inits or cluster.init(peer).tunnel else cluster.init(peer).redis.host


def _rewards(member: Member) -> list[Message]:
    sent = member.evidence.of("REWARDS", member.attempt)
    return [sent[peer] for peer in member.committee if peer in sent]


def _signed(member: Member) -> dict[str, dict[str, int]]:
    return {m.sender: m.body.split for m in _rewards(member) if isinstance(m.body, Rewards)}
