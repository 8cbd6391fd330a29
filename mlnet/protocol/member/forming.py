"""A member's phases from the task's announcement to the decision that the client binds."""

from __future__ import annotations

from typing import Literal

from mlnet.protocol.commands import MeasurePings, Replicate, ServeStore
from mlnet.protocol.decisions import commit_reveal, segment_order
from mlnet.protocol.machine import Phase, Wait
from mlnet.protocol.member.state import MemberState
from mlnet.protocol.phases import MemberPhase
from mlnet.protocol.wire.messages import (
    MAX_CYCLES,
    PING_SAMPLES,
    ClusterDatabaseSelection,
    ClusterReady,
    CommitteeVoting,
    DatasetSelection,
    InitCluster,
    Redis,
    TaskFailedBody,
)


class Forming(Phase[MemberState]):
    """A phase that ends for a member when the client is silent for too long."""

    def late(self, member: MemberState) -> Literal[MemberPhase.ENDED]:
        """Leave: nobody guesses what the client would have said."""
        return member.give_up()


class Preparing(Forming):
    """The node's Redis server starts, and a peer dials its port back."""

    def work(self, member: MemberState) -> Wait | Literal[MemberPhase.ANSWERED]:
        """Wait to learn whether the port is open."""
        if member.redis is None:
            return Wait("this node's Redis server and a peer that dials it back")
        return MemberPhase.ANSWERED

    def limit(self, member: MemberState) -> int:
        """waiting period"""
        return member.definition.cluster.waiting_period_ms


class Answered(Forming):
    """The node has answered; the client's CLUSTER_MEMBERS, which names it or does not, moves it on."""

    def work(self, member: MemberState) -> Wait:
        """Answer the client."""
        redis = member.redis
        assert redis is not None
        if not member.has_said("INIT_CLUSTER"):
            sealed = _is_sealed(member)
            body = InitCluster(
                Redis(redis.open, redis.host, redis.port, redis.reason),
                0 if sealed else _coin(member, 0),
                redis.addresses,
                member.resources,
                _commitments(member) if sealed else (),
                redis.tunnel,
            )
            member.say(body, [member.client], until=member.deadline)
        return Wait("CLUSTER_MEMBERS", (member.client,))

    def limit(self, member: MemberState) -> int:
        """waiting period + members"""
        return member.definition.cluster.waiting_period_ms + member.deadlines.members


class Voting(Forming):
    """The candidates vote while there are more of them than seats; workers follow the vote."""

    def work(self, member: MemberState) -> Wait | Literal[MemberPhase.MEASURING, MemberPhase.FOLLOWING]:
        """Vote in each cycle as soon as the votes of the one before are complete."""
        poll = member.attempted.poll()
        while member.me in poll.voters and not member.has_said("COMMITTEE_VOTING", str(poll.cycle)):
            opening = _vote_secret(member, poll.cycle).hex() if _is_sealed(member) else ""
            body = CommitteeVoting(poll.cycle, _coin(member, poll.cycle), opening)
            member.say(body, (*member.others, member.client), until=member.deadline, via=member.others)
            poll = member.attempted.poll()
        if poll.voters:
            return Wait(f"the votes of cycle {poll.cycle}", member.attempted.silent_voters())
        if not poll.committee:
            return Wait(f"a new attempt or the end (no committee: {poll.reason})", (member.client,))
        member.report("committee", committee=poll.committee, reason=poll.reason)
        return MemberPhase.MEASURING if member.seated else MemberPhase.FOLLOWING

    def limit(self, member: MemberState) -> int:
        """8 x cycle + grace"""
        return MAX_CYCLES * member.deadlines.cycle + member.deadlines.grace


class Measuring(Forming):
    """The committee measures its Redis ping times and shares them."""

    def work(self, member: MemberState) -> Wait | Literal[MemberPhase.REPLICATING]:
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
        if not cluster.election().master:
            why = f"no master and slave: {cluster.election().reason}"
            return Wait(f"a new attempt or the end ({why})", (member.client,))
        return MemberPhase.REPLICATING

    def limit(self, member: MemberState) -> int:
        """pings + grace"""
        return member.deadlines.pings + member.deadlines.grace


class Replicating(Forming):
    """The slave replicates the master; its READY lets the others say theirs."""

    def work(self, member: MemberState) -> Wait | Literal[MemberPhase.READY]:
        """Serve as master, replicate as slave, or wait for the slave's word."""
        decided = member.attempted.decision().ready
        if member.once("decided"):
            member.report("decision", master=decided.master, slave=decided.slave, digest=decided.decision)
            if member.me in (decided.master, decided.slave):
                members = member.attempted.members
                member.emit(ServeStore(member.attempt, members, decided.slave, member.client))
            if member.me == decided.slave:
                member.emit(Replicate(member.attempt, decided.master))
        if member.me != decided.slave:
            if member.attempted.ready().get(decided.slave) == decided.decision:
                return MemberPhase.READY
            return Wait("CLUSTER_READY of the slave, once it replicates the master", (decided.slave,))
        if member.replicated is None:
            return Wait("replication", (decided.master,))
        if member.replicated.reason:
            note = TaskFailedBody(member.replicated.reason, "StoreError")
            member.say(note, [member.client], until=member.deadline, via=member.others)
            return Wait("a new attempt or the end (replication failed)", (member.client,))
        return MemberPhase.READY

    def limit(self, member: MemberState) -> int:
        """ready + grace"""
        return member.deadlines.ready + member.deadlines.grace


class Ready(Forming):
    """A committee member has announced the decision; the client binds it, or names other members."""

    def work(self, member: MemberState) -> Wait | Literal[MemberPhase.BALLOTS, MemberPhase.ENDED]:
        """Announce the decision and compare it with the one that the client binds."""
        decided = member.attempted.decision().ready
        member.say(decided, (*member.others, member.client), until=member.deadline, via=member.others)
        chosen = member.evidence.get("DATASET_SELECTION", member.attempt, "1", member.client)
        if chosen is None:
            return Wait("DATASET_SELECTION", (member.client,))
        assert isinstance(chosen.body, DatasetSelection)
        if chosen.body.decision != decided.decision:
            return member.withdraw(
                "the client bound another decision than this node computed", "ProtocolError"
            )
        member.bound, member.selection = decided.decision, chosen.body
        return MemberPhase.BALLOTS

    def limit(self, member: MemberState) -> int:
        """dataset"""
        return member.deadlines.dataset


class Following(Forming):
    """A worker, which has the votes but no measurements, takes up the decision of the committee."""

    def work(self, member: MemberState) -> Wait | Literal[MemberPhase.LINKS]:
        """Repeat to the client what more than half of the committee announced; wait for the segments."""
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
        member.bound = followed.decision
        return MemberPhase.LINKS

    def limit(self, member: MemberState) -> int:
        """pings + ready + dataset + 2 x ballots + links"""
        # A worker sees only the ends of what the committee goes through meanwhile.
        waits = member.deadlines
        return waits.pings + waits.ready + waits.dataset + 2 * waits.ballots + waits.links


def decided(member: MemberState) -> ClusterReady:
    """The decision that this node trains under."""
    return member.followed or member.attempted.decision().ready


def ballot_secret(member: MemberState) -> bytes:
    """Fresh in every task and attempt, and known to this node alone until it opens its ballot."""
    return member.signer.secret(f"ballot {member.task} {member.attempt}")


def _coin(member: MemberState, cycle: int) -> Literal[0, 1]:
    """An unbiased bit that nobody else can predict; of one cycle always the same.

    Sealed votes are committed to before there is an attempt, so that every attempt opens the same ones.
    """
    attempt = 0 if _is_sealed(member) else member.attempt
    return 1 if member.signer.secret(f"vote {member.task} {attempt} {cycle}")[-1] & 1 else 0


def _is_sealed(member: MemberState) -> bool:
    return member.definition.cluster.sealed_votes


def _vote_secret(member: MemberState, cycle: int) -> bytes:
    return member.signer.secret(f"sealed vote {member.task} {cycle}")


def _commitments(member: MemberState) -> tuple[str, ...]:
    return tuple(
        commit_reveal.commitment(_vote_secret(member, cycle), cycle, _coin(member, cycle))
        for cycle in range(MAX_CYCLES)
    )
