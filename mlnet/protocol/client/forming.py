"""A client's stages from the announcement to the decision that it binds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mlnet.protocol.client.rivals import share
from mlnet.protocol.decisions.committee import nodes
from mlnet.protocol.evidence import SENDERS
from mlnet.protocol.machine import Wait
from mlnet.protocol.phases import Stage
from mlnet.protocol.wire.messages import CommitteeVoting, DatasetSelection, Message, NewMlTask

if TYPE_CHECKING:
    from mlnet.protocol.client.machine import Client

MAX_ANSWERS = SENDERS
"""Answers, and reasons for none, that a client keeps."""
MAX_REASONS = 20
"""Of them in a final error."""
NAMED = 2
"""Nodes with the same reason that are named; more are counted."""


def gather(client: Client) -> Wait | Stage:
    """Wait for nodes until the waiting period ends, enough have answered, or the user wants to go on."""
    most, least = client.definition.cluster.max_nodes, client.definition.cluster.min_nodes
    if client.hurried:
        return client.name_members()
    if client.others and len(client.answers) >= least and client.once("hurry for others"):
        # Whoever announced a task at the same moment still waits when the rest of the nodes is set free.
        client.extend((client.deadline - client.now) // 2)
    if len(client.answers) >= most:
        task = client.announcement.body
        if not isinstance(task, NewMlTask) or not task.peers:
            return client.name_members()
        if client.once("draw") and client.deadline > client.now + client.deadlines.draw:
            client.extend(client.deadlines.draw)
        return Wait(f"more nodes, among which {most} are drawn")
    return Wait(f"nodes: {len(client.answers)} of at most {most} have answered")


def gathered(client: Client) -> Stage:
    """The waiting period is over."""
    return client.name_members()


def choose(client: Client) -> tuple[str, ...]:
    """Who takes part in the next attempt: drawn from those who answered, or who is left of the last attempt.

    Nobody else can foresee the draw, so that nothing is won by an early answer.
    """
    pool = tuple(client.answers) if client.cluster is None else client.members
    fit = [peer for peer in pool if peer not in client.dropped]
    cluster = client.definition.cluster
    most = share(len(fit), client.others, cluster.min_nodes, cluster.max_nodes)
    if client.cluster is None and len(fit) > most:
        if client.others and most < cluster.max_nodes:
            client.report("shared", others=client.others, answered=len(fit), taken=most)
        secret = client.seal.secret(f"draw {client.task}")
        fit.sort(key=lambda peer: hashlib.sha256(secret + peer.encode()).digest())
        return tuple(fit[:most])
    return tuple(fit)


def shortage(client: Client, left: int) -> str:
    """Why there are too few nodes, with the reasons known."""
    least = client.definition.cluster.min_nodes
    counts = f"{nodes(left)} {'left' if client.attempt else 'answered'}; the task needs at least {least}"
    groups: dict[str, list[str]] = {}
    for peer in sorted({**client.notes, **client.dropped}):
        groups.setdefault(why(client, peer), []).append(peer)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group))
    reasons = "".join(f"; {_nodes(peers)}: {reason}" for reason, peers in ordered[:MAX_REASONS])
    return counts + reasons + _remedy(client)


def _remedy(client: Client) -> str:
    """What the user can do about nodes that did not answer; what others say of themselves, they say."""
    if client.attempt or (client.notes and not client.busy):
        return ""
    first = "submit again when they are free" if client.busy else "start more nodes"
    return f"; {first}, or wait longer (--waiting-period)"


def why(client: Client, peer: str) -> str:
    """What is known of why a node does not take part."""
    if peer in client.dropped:
        return client.dropped[peer]
    until, at_most = client.busy.get(peer, (0, False))
    left = until - client.now
    how = "at most" if at_most else "about"
    return client.notes[peer] + (f", for {how} {_span(left)} more" if left > 0 else "")


def _nodes(peers: Sequence[str]) -> str:
    return ", ".join(peers) if len(peers) <= NAMED else nodes(len(peers))


def _span(milliseconds: int) -> str:
    """A time for people, rounded up so that nodes which are free at about the same time say the same."""
    seconds = -(-milliseconds // 1000)
    for size, unit in ((3600, "h"), (60, "min"), (10, "s")):
        if seconds > size:
            return f"{-(-seconds // size) * (10 if unit == 's' else 1)} {unit}"
    return "10 s"


def vote(client: Client) -> Wait | Stage:
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
    return Stage.MEASURING


def measure(client: Client) -> Wait | Stage:
    """Wait for the committee's pings; replay the election."""
    missing = client.attempted.unmeasured()
    if missing:
        return Wait("CLUSTER_DATABASE_SELECTION", missing)
    ranking = client.attempted.ranking()
    client.report(
        "ranking",
        members=ranking.members,
        matrix=ranking.matrix,
        points=ranking.points,
        master=ranking.master,
        slave=ranking.slave,
        reason=ranking.reason,
    )
    if not ranking.master:
        return client.fail(f"no Redis master and slave could be elected: {ranking.reason}", "NoCommittee")
    return Stage.READY


def ready(client: Client) -> Wait | Stage:
    """Bind the task once every member is READY under the decision that follows from the evidence here."""
    decided = client.attempted.decision().ready
    missing = _unready(client)
    if missing:
        return Wait("CLUSTER_READY", missing)
    client.bound = decided.digest
    data = client.dataset
    selection = DatasetSelection(decided.digest, data.segments, data.inputs, data.outputs)
    client.say(selection, client.committee, until=client.now + client.deadlines.dataset, via=client.members)
    client.report("bound", nodes=decided.nodes, committee=decided.committee, digest=decided.digest)
    return Stage.BALLOTS


def without_silent_voters(client: Client) -> Stage | None:
    """A cycle's deadline has come. Who is silent may lack votes of the cycle before: those who voted and are
    not silent may have told the client alone, and so may, less likely, the silent themselves."""
    cycle, silent = client.attempted.poll().cycle, client.attempted.silent_voters()
    before = client.evidence.of("COMMITTEE_VOTING", client.attempt, str(cycle - 1))
    others = [peer for peer in client.members if peer in before and peer not in silent]
    for senders in (others, [peer for peer in silent if peer in before]):
        if senders and client.once(f"pass on in cycle {cycle} of {senders[0]}"):
            client.extend(client.deadlines.cycle // 2)
            _give(client, [before[peer] for peer in senders], silent)
            return None
    return client.name_members(client.attempted.silent_voters(), "did not vote in time")


def without_unmeasured(client: Client) -> Stage | None:
    """The deadline of the pings has come."""
    if _pass_on(client, client.attempted.unmeasured()):
        return None
    return client.name_members(client.attempted.unmeasured(), "did not send its ping times in time")


def without_unready(client: Client) -> Stage | None:
    """The deadline of READY has come. All wait for the slave, so a silent slave alone is to blame."""
    missing, slave = _unready(client), client.attempted.decision().ready.slave
    if _pass_on(client, missing):
        return None
    if slave in missing:
        return client.name_members([slave], "its Redis server did not replicate the master in time")
    return client.name_members(missing, "did not send CLUSTER_READY for the cluster's decision in time")


def replication_failed(client: Client, peer: str, reason: str) -> Stage:
    """The slave cannot replicate: the silent half of the pair leaves, or the slave when it says so a second
    time."""
    decided = client.attempted.decision().ready
    if peer != decided.slave:
        return client.name_members([peer], reason)
    if peer in client.complained:
        return client.name_members([peer], f"its Redis server cannot replicate another's ({reason})")
    client.complained.add(peer)
    return client.name_members([decided.master], f"its Redis server cannot be replicated ({reason})")


def gathering_limit(client: Client) -> int:
    """ms of the waiting period."""
    return client.definition.cluster.waiting_period_ms


def cycle_limit(client: Client) -> int:
    """ms for the votes of one cycle."""
    return client.deadlines.cycle


def pings_limit(client: Client) -> int:
    """ms for the pings of all."""
    return client.deadlines.pings


def ready_limit(client: Client) -> int:
    """ms for replication and the READY of all."""
    return client.deadlines.ready


def _pass_on(client: Client, missing: tuple[str, ...]) -> bool:
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


def _give(client: Client, messages: Iterable[Message], to: Sequence[str]) -> None:
    for message in messages:
        client.forward(message, to, until=client.deadline, via=client.members)


def _cycle(message: Message) -> int:
    assert isinstance(message.body, CommitteeVoting)
    return message.body.cycle


def _unready(client: Client) -> tuple[str, ...]:
    digest = client.attempted.decision().ready.digest
    announced = client.attempted.ready()
    return tuple(peer for peer in client.members if announced.get(peer) != digest)
