"""A client's phases from the announcement to the decision that it binds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from mlnet.protocol.client.choosing import name_members
from mlnet.protocol.client.state import ClientState
from mlnet.protocol.machine import Phase, Wait
from mlnet.protocol.phases import ClientPhase
from mlnet.protocol.wire.messages import CommitteeVoting, DatasetSelection, Message, NewMlTask


class Gathering(Phase[ClientState]):
    """Nodes answer the announcement."""

    def work(self, client: ClientState) -> Wait | Literal[ClientPhase.VOTING, ClientPhase.ENDED]:
        """Wait for nodes until the waiting period ends, enough have answered, or the user wants to go on."""
        most, least = client.definition.cluster.max_nodes, client.definition.cluster.min_nodes
        if client.enrolment_closed:
            return name_members(client)
        if client.others and len(client.answers) >= least and client.once("crowded"):
            # Whoever announced a task at the same moment still waits when the rest of the nodes is set free.
            client.extend((client.deadline - client.now) // 2)
        if len(client.answers) >= most:
            task = client.announcement.body
            if not isinstance(task, NewMlTask) or not task.peers:
                return name_members(client)
            if client.once("draw") and client.deadline > client.now + client.deadlines.draw:
                client.extend(client.deadlines.draw)
            return Wait(f"more nodes, among which {most} are drawn")
        return Wait(f"nodes: {len(client.answers)} of at most {most} have answered")

    def limit(self, client: ClientState) -> int:
        """waiting period"""
        return client.definition.cluster.waiting_period_ms

    def late(self, client: ClientState) -> Literal[ClientPhase.VOTING, ClientPhase.ENDED]:
        """The waiting period is over: go on with those who have answered."""
        return name_members(client)


class Voting(Phase[ClientState]):
    """The candidates vote, cycle by cycle."""

    def work(self, client: ClientState) -> Wait | Literal[ClientPhase.MEASURING, ClientPhase.ENDED]:
        """Follow the vote of the candidates."""
        poll = client.attempted.poll()
        for cycle in poll.cycles:
            if client.once(f"report cycle {cycle.number}"):
                client.report(
                    "cycle", number=cycle.number, votes=cycle.votes, kept=cycle.kept, reason=cycle.reason
                )
        if poll.voters:
            if client.once(f"await cycle {poll.cycle}"):
                client.extend(client.deadlines.cycle)
            return Wait(f"the votes of cycle {poll.cycle}", client.attempted.silent_voters())
        if not poll.committee:
            return client.fail(f"no committee: {poll.reason}; {client.attempted.closed()}", "NoCommittee")
        client.report("committee", committee=poll.committee, reason=poll.reason)
        return ClientPhase.MEASURING

    def limit(self, client: ClientState) -> int:
        """cycle, anew for each"""
        return client.deadlines.cycle

    def late(self, client: ClientState) -> Literal[ClientPhase.VOTING, ClientPhase.ENDED] | None:
        """Give the silent the votes of the cycle before, which they may lack; then go on without them.

        Those who voted and are not silent may have told the client alone; and so may, less likely, the silent
        themselves.
        """
        cycle, silent = client.attempted.poll().cycle, client.attempted.silent_voters()
        before = client.evidence.of("COMMITTEE_VOTING", client.attempt, str(cycle - 1))
        others = [peer for peer in client.members if peer in before and peer not in silent]
        for senders in (others, [peer for peer in silent if peer in before]):
            if senders and client.once(f"pass on in cycle {cycle} of {senders[0]}"):
                client.extend(client.deadlines.cycle // 2)
                _give(client, [before[peer] for peer in senders], silent)
                return None
        return name_members(client, client.attempted.silent_voters(), "did not vote in time")


class Measuring(Phase[ClientState]):
    """The committee measures its Redis ping times."""

    def work(self, client: ClientState) -> Wait | Literal[ClientPhase.READY, ClientPhase.ENDED]:
        """Wait for the committee's pings; replay the election."""
        missing = client.attempted.unmeasured()
        if missing:
            return Wait("CLUSTER_DATABASE_SELECTION", missing)
        election = client.attempted.election()
        client.report(
            "ranking",
            members=election.members,
            matrix=election.matrix,
            points=election.points,
            master=election.master,
            slave=election.slave,
            reason=election.reason,
        )
        if not election.master:
            return client.fail(
                f"no Redis master and slave could be elected: {election.reason}", "NoCommittee"
            )
        return ClientPhase.READY

    def limit(self, client: ClientState) -> int:
        """pings"""
        return client.deadlines.pings

    def late(self, client: ClientState) -> Literal[ClientPhase.VOTING, ClientPhase.ENDED] | None:
        """Pass on what the silent may lack; then go on without them."""
        if _pass_on(client, client.attempted.unmeasured()):
            return None
        return name_members(client, client.attempted.unmeasured(), "did not send its ping times in time")


class Ready(Phase[ClientState]):
    """The slave replicates the master, and every member announces the same decision."""

    def work(self, client: ClientState) -> Wait | Literal[ClientPhase.BALLOTS]:
        """Bind the task once every member is READY under the decision that follows from the evidence here."""
        decided = client.attempted.decision().ready
        missing = _unready(client)
        if missing:
            return Wait("CLUSTER_READY", missing)
        client.bound = decided.decision
        data, until = client.dataset, client.now + client.deadlines.dataset
        selection = DatasetSelection(decided.decision, data.segments, data.inputs, data.outputs)
        client.say(selection, client.committee, until=until, via=client.members)
        client.report("bound", nodes=decided.nodes, committee=decided.committee, digest=decided.decision)
        return ClientPhase.BALLOTS

    def limit(self, client: ClientState) -> int:
        """ready"""
        return client.deadlines.ready

    def late(self, client: ClientState) -> Literal[ClientPhase.VOTING, ClientPhase.ENDED] | None:
        """Pass on what the silent may lack; then go on without them.

        All wait for the slave, so that a silent slave alone is to blame.
        """
        missing, slave = _unready(client), client.attempted.decision().ready.slave
        if _pass_on(client, missing):
            return None
        if slave in missing:
            return name_members(client, [slave], "its Redis server did not replicate the master in time")
        return name_members(client, missing, "did not send CLUSTER_READY for the cluster's decision in time")


def replication_failed(
    client: ClientState, peer: str, reason: str
) -> Literal[ClientPhase.VOTING, ClientPhase.ENDED]:
    """The slave cannot replicate: the silent half of the pair leaves, or the slave when it says so a second
    time."""
    decided = client.attempted.decision().ready
    if peer != decided.slave:
        return name_members(client, [peer], reason)
    if peer in client.complained:
        return name_members(client, [peer], f"its Redis server cannot replicate another's ({reason})")
    client.complained.add(peer)
    return name_members(client, [decided.master], f"its Redis server cannot be replicated ({reason})")


def _pass_on(client: ClientState, missing: tuple[str, ...]) -> bool:
    """Before it drops the silent, a client gives them once all the evidence that it has: a hostile member
    may have told its part to the client alone, to have the blame fall on those who wait for it."""
    if not client.once(f"pass on in {client.phase.value}"):
        return False
    client.extend(client.deadlines.ready)
    votes = client.evidence.of_type("COMMITTEE_VOTING", client.attempt)
    for peer in missing:
        # Who voted in a cycle had the votes of the cycles before it.
        voted = max((_cycle(vote) for vote in votes if vote.sender == peer), default=0)
        _give(client, [vote for vote in votes if _cycle(vote) >= voted], [peer])
    for type_ in ("CLUSTER_DATABASE_SELECTION", "CLUSTER_READY"):
        sent = client.evidence.of_type(type_, client.attempt)
        _give(client, [message for message in sent if message.sender in client.committee], missing)
    return True


def _give(client: ClientState, messages: Iterable[Message], to: Sequence[str]) -> None:
    for message in messages:
        client.forward(message, to, until=client.deadline, via=client.members)


def _cycle(message: Message) -> int:
    assert isinstance(message.body, CommitteeVoting)
    return message.body.cycle


def _unready(client: ClientState) -> tuple[str, ...]:
    decision = client.attempted.decision().ready.decision
    announced = client.attempted.ready()
    return tuple(peer for peer in client.members if announced.get(peer) != decision)
