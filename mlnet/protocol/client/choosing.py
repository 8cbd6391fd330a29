"""Who takes part in the next attempt, and why others do not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal

from mlnet.protocol.client.rivals import share
from mlnet.protocol.client.state import ClientState
from mlnet.protocol.commands import Publish
from mlnet.protocol.decisions.cluster import Cluster
from mlnet.protocol.decisions.committee import nodes
from mlnet.protocol.evidence import SENDERS
from mlnet.protocol.phases import ClientPhase
from mlnet.protocol.wire.messages import MAX_ATTEMPTS, ClusterMembers, Signed

MAX_ANSWERS = SENDERS
"""Answers, and reasons for not answering, that a client keeps: as many as the evidence has room for."""
MAX_REASONS = 20
"""Reasons in a final error, those of most nodes first: more do not help a reader."""
NAMED = 2
"""Nodes with the same reason that are named; more are counted."""


def name_members(
    client: ClientState, without: Iterable[str] = (), reason: str = ""
) -> Literal[ClientPhase.VOTING, ClientPhase.ENDED]:
    """Start the next attempt; returns the phase to enter.

    Args:
        client: whose task it is.
        without: peers that are left out from now on.
        reason: why they are, for people.
    """
    for peer in without:
        client.dropped.setdefault(peer, reason)
    chosen = choose(client)
    least = client.definition.cluster.min_nodes
    if client.attempt == MAX_ATTEMPTS:
        return client.fail(
            f"no cluster was formed in {MAX_ATTEMPTS} attempts; the last failure: {reason}", "NodeLost"
        )
    if client.attempt:
        client.report("retry", attempt=client.attempt + 1, without=tuple(without), reason=reason)
    if len(chosen) < least:
        return client.fail(shortage(client, len(chosen)), "TooFewNodes")
    if not client.attempt:
        closed = client.signer.sign(ClusterMembers(()), task=client.task, attempt=0, sent=client.now)
        client.emit(Publish(closed))
    client.attempt += 1
    body = ClusterMembers(tuple(Signed.of(client.answers[peer].envelope) for peer in chosen))
    before = client.members if client.cluster else ()
    told = client.answers if client.few_answered else dict.fromkeys((*chosen, *before))
    named = client.say(body, told, until=client.now + client.deadlines.members)
    inits = {peer: client.answers[peer] for peer in chosen}
    client.evidence.prune(client.attempt, {*client.answers, client.me})
    client.cluster = Cluster(named, inits, client.definition.cluster, client.evidence)
    client.report("members", attempt=client.attempt, members=client.members)
    return ClientPhase.VOTING


def choose(client: ClientState) -> tuple[str, ...]:
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
        secret = client.signer.secret(f"draw {client.task}")
        fit.sort(key=lambda peer: hashlib.sha256(secret + peer.encode()).digest())
        return tuple(fit[:most])
    return tuple(fit)


def shortage(client: ClientState, left: int) -> str:
    """Why there are too few nodes, with the reasons known."""
    least = client.definition.cluster.min_nodes
    counts = f"{nodes(left)} {'left' if client.attempt else 'answered'}; the task needs at least {least}"
    groups: dict[str, list[str]] = {}
    for peer in sorted({**client.notes, **client.dropped}):
        groups.setdefault(why(client, peer), []).append(peer)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group))
    reasons = "".join(f"; {_nodes(peers)}: {reason}" for reason, peers in ordered[:MAX_REASONS])
    return counts + reasons + _remedy(client)


def _remedy(client: ClientState) -> str:
    """What the user can do about nodes that did not answer; what others say of themselves, they say."""
    if client.attempt or (client.notes and not client.busy):
        return ""
    first = "submit again when they are free" if client.busy else "start more nodes"
    return f"; {first}, or wait longer (--waiting-period)"


def why(client: ClientState, peer: str) -> str:
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
