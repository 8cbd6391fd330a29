"""Decisions of a client derived once more, from nothing but its messages and the pure rules."""

from __future__ import annotations

import hashlib

from mlnet.protocol.client.machine import Client
from mlnet.protocol.decisions import committee, redis_election, rewards, segment_order
from mlnet.protocol.wire.messages import (
    ClusterDatabaseSelection,
    CommitteeVoting,
    HashVotes,
    InitCluster,
    Message,
)


class Violation(Exception):
    """An invariant does not hold.

    Attributes:
        invariant: its name.
        problem: what was seen.
    """

    def __init__(self, invariant: str, problem: str) -> None:
        self.invariant, self.problem = invariant, problem
        super().__init__(f"{invariant}: {problem}")


def check_decision(client: Client) -> None:
    """Derive the decision that a client has bound once more, from nothing but the messages that it holds.

    Raises:
        Violation: it does not follow, or breaks its bounds.
    """
    cluster, terms = client.attempted, client.definition.cluster
    decided = cluster.decision().ready
    seated = decided.committee
    if not terms.min_committee_size <= len(seated) <= terms.max_committee_size:
        raise Violation("validity", f"{len(seated)} members sit on the committee")
    if not terms.min_nodes <= len(client.members) <= terms.max_nodes:
        raise Violation("validity", f"the cluster has {len(client.members)} members")
    inits = {peer: message.body for peer, message in cluster.inits.items()}
    closed = [peer for peer in seated if not _is_open(inits[peer])]
    if closed:
        raise Violation("validity", f"{closed} sit on the committee with a closed port")
    sealed = terms.sealed_votes
    votes = {} if sealed else {0: {peer: _vote(cluster.inits[peer]) for peer in cluster.candidates}}
    for message in client.evidence.of_type("COMMITTEE_VOTING", client.attempt):
        body = message.body
        if isinstance(body, CommitteeVoting) and (not sealed or _opens(body, inits[message.sender])):
            votes.setdefault(body.cycle, {})[message.sender] = _vote(message)
    poll = committee.poll(
        cluster.candidates, votes, seats=terms.max_committee_size, least=terms.min_committee_size
    )
    if tuple(sorted(seated)) != poll.committee:
        raise Violation("validity", "the committee does not follow from the votes")
    pings = {}
    for peer, message in client.evidence.of("CLUSTER_DATABASE_SELECTION", client.attempt).items():
        if peer in poll.committee and isinstance(message.body, ClusterDatabaseSelection):
            pings[peer] = message.body.pings
    ranking = redis_election.rank(pings)
    if (decided.master, decided.slave, decided.committee) != (ranking.master, ranking.slave, ranking.order):
        raise Violation("validity", "master and slave do not follow from the pings")
    told = client.evidence.of("CLUSTER_READY", client.attempt)
    agreeing = sum(
        1 for peer in seated if peer in told and getattr(told[peer].body, "decision", "") == decided.decision
    )
    if 2 * agreeing <= len(seated):
        raise Violation("validity", f"only {agreeing} of {len(seated)} announced the decision that was bound")


def check_order(client: Client) -> None:
    """Derive the order of the segments once more, from the ballots that count.

    Raises:
        Violation: they do not follow.
    """
    hashes = tuple(segment.root for segment in client.dataset.segments)
    held = client.attempted.ballots()
    secrets = client.attempted.secrets({peer: held[peer] for peer in client.paid if peer in held}, hashes)
    if segment_order.order(secrets, hashes) != client.order:
        raise Violation("validity", "the order of the segments does not follow from the ballots")
    for message in held.values():
        if isinstance(message.body, HashVotes) and message.sender in client.paid:
            promise = client.attempted.measurements()[message.sender].body
            opened = segment_order.commitment(bytes.fromhex(message.body.secret))
            if not isinstance(promise, ClusterDatabaseSelection) or opened != promise.commitment:
                raise Violation("validity", "a ballot counts that does not open its commitment")


def check_rewards(client: Client) -> None:
    """Derive the split of a completed task once more.

    Raises:
        Violation: it does not follow.
    """
    due = rewards.split(client.definition.payment_micro, client.completed.contributions, client.paid)
    if client.split != due or sum(due.values()) != client.definition.payment_micro:
        raise Violation("conservation", "the split does not follow from what was trained")


def _is_open(body: object) -> bool:
    return isinstance(body, InitCluster) and body.redis.open


def _opens(body: CommitteeVoting, init: object) -> bool:
    promised = init.commitments[body.cycle] if isinstance(init, InitCluster) and init.commitments else ""
    opened = bytes.fromhex(body.opening) + bytes((body.cycle, body.vote))
    return hashlib.sha256(b"mlnet-vote-1\0" + opened).hexdigest() == promised


def _vote(message: Message) -> committee.Vote:
    opening = getattr(message.body, "opening", "")
    lot = hashlib.sha256(bytes.fromhex(opening)).hexdigest() if opening else message.envelope.digest
    return committee.Vote(getattr(message.body, "vote", 0), lot)
