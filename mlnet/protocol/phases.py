"""Where a party is in a task: the names of the phases.

What is due in a phase, how long it may take and what follows is one class each, in the ``forming`` and
``training`` of :mod:`mlnet.protocol.client` and :mod:`mlnet.protocol.member`.
"""

from __future__ import annotations

from enum import Enum


class MemberPhase(Enum):
    """Of a node in a task; :mod:`mlnet.protocol.member.machine` has the transitions."""

    PREPARING = "preparing"
    ANSWERED = "answered"
    VOTING = "voting"
    MEASURING = "measuring"
    REPLICATING = "replicating"
    READY = "ready"
    FOLLOWING = "following"
    BALLOTS = "ballots"
    LINKS = "links"
    TRAINING = "training"
    FAILING = "failing"
    COMPLETED = "completed"
    OFFERING = "offering"
    ENDED = "ended"


MEMBER_UNBOUND = frozenset(
    {
        MemberPhase.ANSWERED,
        MemberPhase.VOTING,
        MemberPhase.MEASURING,
        MemberPhase.REPLICATING,
        MemberPhase.READY,
        MemberPhase.FOLLOWING,
    }
)
"""Phases in which the client may name the members anew."""


class ClientPhase(Enum):
    """Of a client in its task; :mod:`mlnet.protocol.client.machine` has the transitions."""

    GATHERING = "gathering"
    VOTING = "voting"
    MEASURING = "measuring"
    READY = "ready"
    BALLOTS = "ballots"
    ORDER = "order"
    TRAINING = "training"
    FAILING = "failing"
    SCORING = "scoring"
    REWARDS = "rewards"
    ENDED = "ended"


CLIENT_UNBOUND = frozenset({ClientPhase.VOTING, ClientPhase.MEASURING, ClientPhase.READY})
"""Phases that a new attempt may follow."""
