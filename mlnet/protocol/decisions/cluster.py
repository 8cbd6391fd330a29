"""One attempt at a cluster, as its signed messages tell it: committee, master and slave, order of the
segments.

Node, client and audit all ask this class, so that whoever holds the messages computes the same decision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mlnet.protocol.decisions import commit_reveal, committee, redis_election, segment_order
from mlnet.protocol.evidence import Evidence
from mlnet.protocol.wire.messages import (
    ClusterDatabaseSelection,
    ClusterReady,
    CommitteeVoting,
    HashVotes,
    InitCluster,
    Message,
)
from mlnet.task.schema import ClusterSpec


class Decision(NamedTuple):
    """What a cluster decided: the body of CLUSTER_READY, and the election behind it."""

    ready: ClusterReady
    election: redis_election.Election


class Cluster:
    """Members of one attempt, and what follows from the messages that they sent.

    Args:
        named: the client's CLUSTER_MEMBERS.
        inits: the INIT_CLUSTER messages in it, by sender.
        terms: the ``cluster`` part of the task definition.
        evidence: where the messages of the attempt arrive.
    """

    def __init__(
        self, named: Message, inits: Mapping[str, Message], terms: ClusterSpec, evidence: Evidence
    ) -> None:
        self.named = named
        self.attempt = named.attempt
        self.inits = dict(inits)
        self.members = tuple(sorted(inits))
        self.candidates = tuple(peer for peer in self.members if self.init(peer).redis.open)
        self._terms = terms
        self._evidence = evidence
        self._poll: committee.Poll | None = None
        self._cast: list[str] = []
        self._decision: Decision | None = None

    def init(self, peer: str) -> InitCluster:
        """What a member answered."""
        body = self.inits[peer].body
        assert isinstance(body, InitCluster)
        return body

    def closed(self) -> str:
        """Why members are no candidates, for people."""
        reasons = [
            f"{peer}: {self.init(peer).redis.reason or 'port closed'}"
            for peer in self.members
            if peer not in self.candidates
        ]
        return "; ".join(reasons)

    def poll(self) -> committee.Poll:
        """The vote, as far as the messages that are here reach."""
        if self._poll is not None:
            return self._poll
        votes: dict[int, dict[str, committee.Vote]] = {}
        if not self._terms.sealed_votes:
            votes[0] = {
                peer: committee.Vote(self.init(peer).vote, self.inits[peer].envelope.digest)
                for peer in self.candidates
            }
        while True:
            poll = committee.poll(
                self.candidates,
                votes,
                seats=self._terms.max_committee_size,
                least=self._terms.min_committee_size,
            )
            if not poll.voters or poll.cycle in votes:
                break
            votes[poll.cycle] = {
                peer: committee.Vote(message.body.vote, self._lot(message, message.body))
                for peer, message in self._votes(poll.cycle).items()
                if isinstance(message.body, CommitteeVoting)
            }
        if not poll.voters:
            self._poll = poll
            cast = poll.cycles if self._terms.sealed_votes else poll.cycles[1:]
            sent = [(self._votes(cycle.number), cycle.votes) for cycle in cast]
            self._cast = [messages[peer].envelope.digest for messages, votes_ in sent for peer in votes_]
        return poll

    def silent_voters(self) -> tuple[str, ...]:
        """Who has yet to vote in the current cycle."""
        poll = self.poll()
        cast = self._votes(poll.cycle)
        return tuple(peer for peer in poll.voters if peer not in cast)

    def measurements(self) -> dict[str, Message]:
        """CLUSTER_DATABASE_SELECTION by committee member."""
        seated = self.poll().committee
        sent = self._evidence.of("CLUSTER_DATABASE_SELECTION", self.attempt)
        return {peer: sent[peer] for peer in seated if peer in sent}

    def unmeasured(self) -> tuple[str, ...]:
        """Committee members whose measurements are missing."""
        sent = self.measurements()
        return tuple(peer for peer in self.poll().committee if peer not in sent)

    def election(self) -> redis_election.Election:
        """Master and slave; all measurements must be in."""
        pings: dict[str, dict[str, tuple[int, ...]]] = {}
        for peer, message in self.measurements().items():
            assert isinstance(message.body, ClusterDatabaseSelection)
            pings[peer] = message.body.pings
        return redis_election.rank(pings)

    def decision(self) -> Decision:
        """What follows from the evidence; all votes and measurements must be in, and two members eligible."""
        if self._decision is None:
            election = self.election()
            nodes = redis_election.training_order(election.order, self.members)
            decision = redis_election.decision_digest(
                self.named.task,
                self.attempt,
                members=self.named.envelope.digest,
                evidence=self._counted(),
                committee=election.order,
                nodes=nodes,
                master=election.master,
                slave=election.slave,
            )
            ready = ClusterReady(election.order, nodes, election.master, election.slave, decision)
            self._decision = Decision(ready, election)
        return self._decision

    def ready(self) -> dict[str, str]:
        """Decision that each member said READY for."""
        return {
            peer: message.body.decision
            for peer, message in self._evidence.of("CLUSTER_READY", self.attempt).items()
            if peer in self.inits and isinstance(message.body, ClusterReady)
        }

    def followed(self) -> ClusterReady | None:
        """The decision that more than half of the committee announced: what a worker follows."""
        seated = self.poll().committee
        sent = self._evidence.of("CLUSTER_READY", self.attempt)
        bodies = [sent[peer].body for peer in seated if peer in sent]
        for body in bodies:
            assert isinstance(body, ClusterReady)
            if 2 * bodies.count(body) > len(seated) and self._plausible(body):
                return body
        return None

    def ballots(self) -> dict[str, Message]:
        """HASH_VOTES ballots by committee member, whether or not they open."""
        sent = self._evidence.of("HASH_VOTES", self.attempt, "ballot 1")
        return {peer: sent[peer] for peer in self.poll().committee if peer in sent}

    def named_ballots(self, named: Iterable[Message]) -> dict[str, Message]:
        """Of ballots that the client names, those that this committee cast in this attempt at this task.

        Ballots of another task would open nothing here, and their senders would look like liars.
        """
        seated, place = self.poll().committee, ("HASH_VOTES", self.attempt, "ballot 1")
        return {
            message.sender: message
            for message in named
            if message.sender in seated and message.task == self.named.task and message.place == place
        }

    def secrets(self, ballots: Mapping[str, Message], hashes: tuple[str, ...]) -> dict[str, str]:
        """The secrets of those ballots that open their sender's commitment; the others are void."""
        sealed = self.measurements()
        secrets: dict[str, str] = {}
        for peer, message in ballots.items():
            body, promise = message.body, sealed[peer].body if peer in sealed else None
            if (
                isinstance(body, HashVotes)
                and isinstance(promise, ClusterDatabaseSelection)
                and segment_order.opens(body.secret, body.ranking, promise.commitment, hashes)
            ):
                secrets[peer] = body.secret
        return secrets

    def _plausible(self, body: ClusterReady) -> bool:
        """What a worker, who has the votes but no measurements, can check of a decision."""
        return (
            tuple(sorted(body.committee)) == self.poll().committee
            and body.nodes == redis_election.training_order(body.committee, self.members)
            and body.master in body.committee
            and body.slave in body.committee
            and body.master != body.slave
        )

    def _votes(self, cycle: int) -> dict[str, Message]:
        """The votes of a cycle; where votes are sealed, those that open their commitment."""
        sent = self._evidence.of("COMMITTEE_VOTING", self.attempt, str(cycle))
        if not self._terms.sealed_votes:
            return sent
        return {
            peer: message
            for peer, message in sent.items()
            if peer in self.inits
            and isinstance(message.body, CommitteeVoting)
            and commit_reveal.opens(
                message.body.opening, self.init(peer).commitments, cycle, message.body.vote
            )
        }

    def _lot(self, message: Message, body: CommitteeVoting) -> str:
        """What a vote adds to the hash that breaks ties."""
        if self._terms.sealed_votes:
            return hashlib.sha256(bytes.fromhex(body.opening)).hexdigest()
        return message.envelope.digest

    def _counted(self) -> list[str]:
        return self._cast + [message.envelope.digest for message in self.measurements().values()]
