"""A member's phases from the task's announcement to the decision that the client binds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mlnet.protocol.commands import MeasurePings, Replicate, ServeStore
from mlnet.protocol.decisions import commit_reveal, segment_order
from mlnet.protocol.machine import Wait
from mlnet.protocol.phases import Phase
from mlnet.protocol.wire.messages import (
    MAX_CYCLES,
    PING_SAMPLES,
    ClusterDatabaseSelection,
    ClusterReady,
    CommitteeVoting,
    DatasetSelection,
    InitCluster,
    Redis,
    TaskFailed,
)

if TYPE_CHECKING:
    from mlnet.protocol.member.machine import Member


def prepare(member: Member) -> Wait | Phase:
    """Start a Redis server and learn whether its port is open."""
    return Phase.ANSWERED if member.redis else Wait("this node's Redis server and a peer that dials it back")


def answer(member: Member) -> Wait | Phase:
    """Answer the client; its CLUSTER_MEMBERS moves this machine on."""
    redis = member.redis
    assert redis is not None
    if not member.has_said("INIT_CLUSTER"):
        body = InitCluster(
            Redis(redis.open, redis.host, redis.port, redis.reason),
            0 if _sealed(member) else _coin(member, 0),
            redis.addresses,
            member.resources,
            _commitments(member) if _sealed(member) else (),
            redis.tunnel,
        )
        member.say(body, [member.client], until=member.deadline)
    return Wait("CLUSTER_MEMBERS", (member.client,))


def vote(member: Member) -> Wait | Phase:
    """Vote while there are more candidates than seats."""
    poll = member.attempted.poll()
    while member.me in poll.voters and not member.has_said("COMMITTEE_VOTING", str(poll.cycle)):
        opening = _vote_secret(member, poll.cycle).hex() if _sealed(member) else ""
        body = CommitteeVoting(poll.cycle, _coin(member, poll.cycle), opening)
        member.say(body, (*member.others, member.client), until=member.deadline, via=member.others)
        poll = member.attempted.poll()
    if poll.voters:
        return Wait(f"the votes of cycle {poll.cycle}", member.attempted.silent_voters())
    if not poll.committee:
        return Wait(f"a new attempt or the end (no committee: {poll.reason})", (member.client,))
    if member.once("seated"):
        member.report("committee", committee=poll.committee, reason=poll.reason)
    return Phase.MEASURING if member.seated else Phase.FOLLOWING


def measure(member: Member) -> Wait | Phase:
    """Redis-ping the rest of the committee, publish the times, wait for theirs."""
    cluster = member.attempted
    rest = tuple(peer for peer in member.committee if peer != member.me)
    if member.once("measure"):
        targets = {peer: (cluster.init(peer).redis.host, cluster.init(peer).redis.port) for peer in rest}
        member.emit(MeasurePings(member.attempt, targets, PING_SAMPLES))
    if member.pings is None:
        return Wait("this node's pings to the committee")
    pings = {peer: member.pings.get(peer, ()) for peer in rest}
    body = ClusterDatabaseSelection(pings, segment_order.commitment(ballot_secret(member)))
    member.say(body, (*rest, member.client), until=member.deadline, via=member.others)
    missing = cluster.unmeasured()
    if missing:
        return Wait("CLUSTER_DATABASE_SELECTION", missing)
    if not cluster.ranking().master:
        return Wait(
            f"a new attempt or the end (no master and slave: {cluster.ranking().reason})", (member.client,)
        )
    return Phase.REPLICATING


def replicate(member: Member) -> Wait | Phase:
    """The slave replicates the master; its READY lets the others say theirs."""
    decided = member.attempted.decision().ready
    if member.once("decided"):
        member.report("decision", master=decided.master, slave=decided.slave, digest=decided.digest)
        if member.me in (decided.master, decided.slave):
            member.emit(ServeStore(member.attempt, member.attempted.members, decided.slave, member.client))
        if member.me == decided.slave:
            member.emit(Replicate(member.attempt, decided.master))
    if member.me != decided.slave:
        if member.attempted.ready().get(decided.slave) == decided.digest:
            return Phase.READY
        return Wait("CLUSTER_READY of the slave, once it replicates the master", (decided.slave,))
    if member.replicated is None:
        return Wait("replication", (decided.master,))
    if member.replicated.reason:
        note = TaskFailed(member.replicated.reason, "StoreError")
        member.say(note, [member.client], until=member.deadline, via=member.others)
        return Wait("a new attempt or the end (replication failed)", (member.client,))
    return Phase.READY


def ready(member: Member) -> Wait | Phase:
    """Announce the decision; the client binds it, or names other members."""
    decided = member.attempted.decision().ready
    member.say(decided, (*member.others, member.client), until=member.deadline, via=member.others)
    chosen = member.evidence.get("DATASET_SELECTION", member.attempt, "1", member.client)
    if chosen is None:
        return Wait("DATASET_SELECTION", (member.client,))
    assert isinstance(chosen.body, DatasetSelection)
    if chosen.body.digest != decided.digest:
        return member.withdraw("the client bound another decision than this node computed", "ProtocolError")
    member.bound, member.selection = decided.digest, chosen.body
    return Phase.BALLOTS


def follow(member: Member) -> Wait | Phase:
    """A worker takes up what more than half of the committee announced, and says so to the client."""
    if member.followed is None:
        member.followed = member.attempted.followed()
    followed = member.followed
    if followed is None:
        announced = member.attempted.ready()
        missing = tuple(peer for peer in member.committee if peer not in announced)
        return Wait("CLUSTER_READY of more than half of the committee", missing)
    member.say(followed, [member.client], until=member.deadline, via=member.others)
    if not member.evidence.of_type("DATASET_SEGMENT", member.attempt):
        return Wait("DATASET_SEGMENT", (member.client,))
    member.bound = followed.digest
    return Phase.LINKS


def give_up(member: Member) -> Phase:
    """The deadline came without the client's word: nobody guesses, this node leaves."""
    if member.phase is Phase.ANSWERED and not member.once("closed"):
        return member.finish("released", "the client has enough nodes")
    return member.withdraw(f"gave up waiting for {member.waiting}", "NodeLost")


def rest(_: Member) -> Phase:
    """The end."""
    return Phase.ENDED


def decided(member: Member) -> ClusterReady:
    """The decision that this node trains under."""
    return member.followed or member.attempted.decision().ready


def ballot_secret(member: Member) -> bytes:
    """Fresh in every task and attempt, and known to this node alone until it opens its ballot."""
    return member.seal.secret(f"ballot {member.task} {member.attempt}")


def preparing_limit(member: Member) -> int:
    """ms for a Redis server and the peer that dials it back."""
    return member.definition.cluster.waiting_period_ms


def answered_limit(member: Member) -> int:
    """ms until the client must have named the members."""
    return member.definition.cluster.waiting_period_ms + member.deadlines.members


def voting_limit(member: Member) -> int:
    """ms for all cycles of the vote."""
    return MAX_CYCLES * member.deadlines.cycle + member.deadlines.grace


def measuring_limit(member: Member) -> int:
    """ms for the pings of all."""
    return member.deadlines.pings + member.deadlines.grace


def ready_limit(member: Member) -> int:
    """ms for replication and the READY of all."""
    return member.deadlines.ready + member.deadlines.grace


def dataset_limit(member: Member) -> int:
    """ms until the client must have bound the decision."""
    return member.deadlines.dataset


def following_limit(member: Member) -> int:
    """A worker sees only the ends of what the committee goes through."""
    waits = member.deadlines
    return waits.pings + waits.ready + waits.dataset + 2 * waits.ballots + waits.links


def _coin(member: Member, cycle: int) -> Literal[0, 1]:
    """An unbiased bit that nobody else can predict; of one cycle always the same."""
    attempt = 0 if _sealed(member) else member.attempt
    return 1 if member.seal.secret(f"vote {member.task} {attempt} {cycle}")[-1] & 1 else 0


def _sealed(member: Member) -> bool:
    return member.definition.cluster.sealed_votes


def _vote_secret(member: Member, cycle: int) -> bytes:
    return member.seal.secret(f"sealed vote {member.task} {cycle}")


def _commitments(member: Member) -> tuple[str, ...]:
    return tuple(
        commit_reveal.commitment(_vote_secret(member, cycle), cycle, _coin(member, cycle))
        for cycle in range(MAX_CYCLES)
    )
