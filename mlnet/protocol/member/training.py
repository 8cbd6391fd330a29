"""A member's phases from the bound decision to the end: order, segments, training, rewards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mlnet.protocol.commands import RecordReceipt, ServeModel, StartTraining, TrainingAssignment
from mlnet.protocol.decisions import rewards, segment_order
from mlnet.protocol.machine import Phase, Wait
from mlnet.protocol.member.forming import Forming, ballot_secret, decided
from mlnet.protocol.member.state import MemberState
from mlnet.protocol.phases import MemberPhase
from mlnet.protocol.wire.messages import (
    DatasetSegment,
    DatasetSelection,
    HashVotes,
    Message,
    ModelInfo,
    Rewards,
    TaskFailedBody,
    TrainingCompleted,
)


class Ballots(Forming):
    """The committee opens its ballots and computes the order of the segments."""

    def work(self, member: MemberState) -> Wait | Literal[MemberPhase.LINKS, MemberPhase.ENDED]:
        """Open the ballot, wait for the others', compute the order."""
        selection = member.selection
        assert selection is not None
        hashes = tuple(segment.root for segment in selection.segments)
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
        return MemberPhase.LINKS

    def limit(self, member: MemberState) -> int:
        """2 x ballots + grace"""
        return 2 * member.deadlines.ballots + member.deadlines.grace


class Links(Forming):
    """The client hands out where the training segments are; the committee passes it on to the workers."""

    def work(
        self, member: MemberState
    ) -> Wait | Literal[MemberPhase.TRAINING, MemberPhase.BALLOTS, MemberPhase.ENDED]:
        """Collect the links to all training segments, and compare them with the voted order."""
        if member.seated and _second_round(member) and member.round == 1:
            # The client lacked a ballot that this node has: fewer count than this node thought.
            return MemberPhase.BALLOTS
        sent = member.evidence.of_type("DATASET_SEGMENT", member.attempt)
        found = {
            message.body.position: message for message in sent if isinstance(message.body, DatasetSegment)
        }
        if member.seated:
            _pass_on(member, found)
        bodies = [message.body for message in found.values() if isinstance(message.body, DatasetSegment)]
        if wrong := _wrong_links(member, bodies):
            return member.withdraw(wrong, "ProtocolError")
        if member.seated and any(body.segment.root != member.order[body.position] for body in bodies):
            return Wait("the ballots that give the order of the segments", (member.client,))
        count = bodies[0].count if bodies else member.definition.training_segments
        missing = [position for position in range(count) if position not in found]
        if missing:
            return Wait(f"the links to segments {', '.join(map(str, missing))}", (member.client,))
        member.assignment = _assignment(member, sorted(bodies, key=lambda body: body.position))
        return MemberPhase.TRAINING

    def limit(self, member: MemberState) -> int:
        """links + ballots"""
        return member.deadlines.links + member.deadlines.ballots


class Training(Phase[MemberState]):
    """The node fetches its segments and trains with the others. Each step sets the deadline anew."""

    def work(self, member: MemberState) -> Wait | Literal[MemberPhase.COMPLETED, MemberPhase.FAILING]:
        """Start the trainer once, and wait for its result."""
        assert member.assignment is not None
        if member.once("train"):
            member.emit(StartTraining(member.attempt, member.assignment))
        if member.failure:
            return MemberPhase.FAILING
        if member.result is None:
            return Wait("the trainers", member.others)
        return MemberPhase.COMPLETED

    def limit(self, member: MemberState) -> int:
        """fetch + load + rendezvous + step"""
        assert member.assignment is not None
        size = sum(segment.size for segment in member.assignment.segments)
        waits = member.deadlines
        return waits.fetch(size) + waits.load + waits.rendezvous + waits.step

    def late(self, member: MemberState) -> Literal[MemberPhase.FAILING]:
        """No step for too long."""
        member.failure = f"training made no progress for {member.deadlines.step // 1000} s"
        return MemberPhase.FAILING


class Failing(Phase[MemberState]):
    """Training has failed here; the client's word, or that of most of the committee, ends the task."""

    def work(self, member: MemberState) -> Wait:
        """Say why, to the client and to the other members."""
        note = TaskFailedBody(member.failure[:1000], "TrainingError")
        member.say(note, (*member.others, member.client), until=member.deadline, via=member.others)
        return Wait("TASK_FAILED", (member.client,))

    def limit(self, member: MemberState) -> int:
        """grace"""
        return member.deadlines.grace

    def late(self, member: MemberState) -> Literal[MemberPhase.ENDED]:
        """Nobody else spoke; the task is over for this node all the same."""
        return member.finish("failed", member.failure, "TrainingError")


class Completed(Phase[MemberState]):
    """The node has a model: it states its result and signs the split of the payment."""

    def work(self, member: MemberState) -> Wait | Literal[MemberPhase.ENDED]:
        """State the result, sign the split if seated, wait until the split is settled."""
        result = member.result
        assert result is not None
        model = ModelInfo(result.sha256, result.size, (f"mlnet:{result.sha256}",))
        body = TrainingCompleted(member.bound, result.metrics, model, result.contributions, result.accuracy)
        until = member.now + member.deadlines.offer
        member.say(body, [member.client], until=until, via=member.others)
        if member.seated:
            payment = member.definition.payment_micro
            split = Rewards(member.bound, payment, rewards.split(payment, result.contributions, member.paid))
            member.say(split, (*member.others, member.client), until=until, via=member.others)
        return await_client(member)

    def limit(self, member: MemberState) -> int:
        """completion + fetch + rewards + grace"""
        assert member.result is not None
        waits = member.deadlines
        return waits.completion + waits.fetch(member.result.size) + waits.rewards + waits.grace

    def late(self, member: MemberState) -> Literal[MemberPhase.OFFERING]:
        """The client is gone: keep the model for it, and free the node."""
        return claim(member)


class Offering(Phase[MemberState]):
    """The client is gone. The node takes other tasks, and serves the model should the client come back."""

    def work(self, member: MemberState) -> Wait | Literal[MemberPhase.ENDED]:
        """Wait for the client's signature under the split."""
        return await_client(member)

    def limit(self, member: MemberState) -> int:
        """offer"""
        return member.deadlines.offer

    def late(self, member: MemberState) -> Literal[MemberPhase.ENDED]:
        """The offer has run out."""
        return member.finish("completed", "the client did not fetch the model in time")


def await_client(member: MemberState) -> Wait | Literal[MemberPhase.ENDED]:
    """The client's countersignature settles the split; the model is served until then."""
    final = member.evidence.get("REWARDS", member.attempt, "", member.client)
    signed = _signed(member)
    if final is None:
        return Wait("REWARDS", (member.client,))
    assert isinstance(final.body, Rewards)
    if not rewards.settled(final.body.split, signed, member.committee):
        missing = tuple(peer for peer in member.committee if peer not in signed)
        return Wait("REWARDS of more than half of the committee", missing)
    split = final.body.split
    agreeing = [
        message
        for message in _rewards(member)
        if isinstance(message.body, Rewards) and message.body.split == split
    ]
    member.emit(RecordReceipt("settled", split.get(member.me, 0), split, (*agreeing, final)))
    return member.finish("completed")


def claim(member: MemberState) -> Literal[MemberPhase.OFFERING]:
    """Write down what is due to this node, and release all that the task holds but the model.

    What the client may not have heard is said to it once more.
    """
    signed = _signed(member)
    split = next((split for split in signed.values() if rewards.settled(split, signed, member.committee)), {})
    member.emit(RecordReceipt("claimed", split.get(member.me, 0), split, tuple(_rewards(member))))
    until = member.now + member.deadlines.offer
    member.emit(ServeModel(until))
    for message in member.said():
        if message.type in ("TRAINING_COMPLETED", "REWARDS"):
            member.forward(message, [member.client], until=until, via=member.others)
    return MemberPhase.OFFERING


def _second_round(member: MemberState) -> DatasetSelection | None:
    named = member.evidence.get("DATASET_SELECTION", member.attempt, "2", member.client)
    return named.body if named is not None and isinstance(named.body, DatasetSelection) else None


def _counted_ballots(member: MemberState) -> tuple[dict[str, Message], Literal[1, 2]]:
    """The ballots that count and the round: all, or those that the client named in round 2; none while they
    are missing."""
    named = _second_round(member)
    if named is None:
        held = member.attempted.ballots()
        return (held if len(held) == len(member.committee) else {}), 1
    return member.attempted.named_ballots(member.signer.verify(one.envelope) for one in named.ballots), 2


def _pass_on(member: MemberState, found: Mapping[int, Message]) -> None:
    """Give the workers each segment's link once."""
    workers = [peer for peer in member.others if peer not in member.committee]
    for position, message in found.items():
        if member.once(f"forward {position}"):
            member.forward(message, workers, until=member.deadline, via=member.committee)


def _wrong_links(member: MemberState, bodies: list[DatasetSegment]) -> str:
    counts = {(body.count, body.inputs, body.outputs, body.decision) for body in bodies}
    if len(counts) > 1:
        return "the client's DATASET_SEGMENT messages contradict each other"
    for body in bodies:
        if body.decision != member.bound or body.count != member.definition.training_segments:
            return "a DATASET_SEGMENT of the client does not belong to the decision that it bound"
        if body.position >= body.count:
            return f"the client named training segment {body.position}; there are {body.count}, from 0"
    return ""


def _assignment(member: MemberState, bodies: list[DatasetSegment]) -> TrainingAssignment:
    ready = decided(member)
    return TrainingAssignment(
        decision=member.bound,
        nodes=ready.nodes,
        master=ready.master,
        slave=ready.slave,
        segments=tuple(body.segment for body in bodies),
        links=tuple(body.link for body in bodies),
        inputs=bodies[0].inputs,
        outputs=bodies[0].outputs,
        hosts=tuple(_host(member, peer) for peer in ready.nodes),
    )


def _host(member: MemberState, peer: str) -> str:
    """Where a rank is reached without the tunnel; empty for nowhere."""
    cluster = member.attempted
    return "" if peer not in cluster.inits or cluster.init(peer).tunnel else cluster.init(peer).redis.host


def _rewards(member: MemberState) -> list[Message]:
    sent = member.evidence.of("REWARDS", member.attempt)
    return [sent[peer] for peer in member.committee if peer in sent]


def _signed(member: MemberState) -> dict[str, dict[str, int]]:
    return {m.sender: m.body.split for m in _rewards(member) if isinstance(m.body, Rewards)}
