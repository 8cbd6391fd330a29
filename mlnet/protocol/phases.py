"""Where a party is in a task."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
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


UNBOUND = frozenset(
    {Phase.ANSWERED, Phase.VOTING, Phase.MEASURING, Phase.REPLICATING, Phase.READY, Phase.FOLLOWING}
)
"""Phases in which the client may name the members anew."""


class Stage(Enum):
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


UNBOUND_STAGES = frozenset({Stage.VOTING, Stage.MEASURING, Stage.READY})
"""Stages that a new attempt may follow."""
