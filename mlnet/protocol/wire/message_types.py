"""The table of message types, a row each: who sends it, who reads it, how large it may be, whether by gossip.

To add a message, write its body in :mod:`mlnet.protocol.wire.messages`, its row here, its row in
``proto/README.md`` (a test compares the two), and what the machines do with it. A body that one sender may
say more than once in an attempt needs a case in :func:`~mlnet.protocol.wire.messages.detail`.
"""

from __future__ import annotations

from enum import Enum, Flag, auto
from typing import NamedTuple

from mlnet.protocol.wire import messages
from mlnet.protocol.wire.messages import Body, Message, Place, detail


class Role(Flag):
    """What a peer is to a task. A seated member is a member, and a member is a node."""

    CLIENT = auto()
    NODE = auto()
    """Any node that hears of the task, whether or not it takes part."""
    MEMBER = auto()
    """A node that the client has named in CLUSTER_MEMBERS."""
    COMMITTEE = auto()
    """A member that the vote has seated."""
    PEER = auto()
    """Whoever is connected, with or without a task."""


class GossipRule(Enum):
    """Whether a message of a type may go by gossip; what may not is refused to be passed on."""

    NEVER = "never"
    FALLBACK = "fallback"
    """Where nothing else reaches the receiver."""
    ALWAYS = "always"
    ATTEMPT_0 = "attempt-0"


class MessageType(NamedTuple):
    """A row of :data:`MESSAGE_TYPES`.

    Attributes:
        name: on the wire.
        body: what the body is.
        senders: who may sign it. A party refuses what only its task's client may sign from anybody else.
        receivers: who reads it; anybody else ignores it.
        max_bytes: the largest string, bytes of UTF-8.
        gossip: whether it may go by gossip.
        has_task: whether its header has ``task`` and ``attempt``.
        early: whether it may overtake the CLUSTER_MEMBERS that makes its sender a member.
    """

    name: str
    body: type[Body]
    senders: Role
    receivers: Role
    max_bytes: int = 128 << 10
    gossip: GossipRule = GossipRule.NEVER
    has_task: bool = True
    early: bool = False


MAX_BYTES = 1 << 20
"""No envelope string is larger, whatever its type. The network carries none that is larger either."""
_NESTED = 7168
"""Of what goes into a list of envelopes: 64 of these, each with an escape for every character, still fit into
:data:`MAX_BYTES`."""
_DEFINITION = 192 << 10
"""A definition of 64 KiB doubles when each character needs an escape; 64 KiB are for what stands around
it."""
_CLIENT, _NODE, _MEMBER, _COMMITTEE = Role.CLIENT, Role.NODE, Role.MEMBER, Role.COMMITTEE

# What is to be known of a type before its body is read stands here alone. Codec, machines, the passing on of
# gossip and the simulation read it; a test compares it with the table in the protocol's documentation.
MESSAGE_TYPES: dict[str, MessageType] = {
    row.name: row
    for row in (
        # name, body, senders, receivers, and what differs from the usual
        MessageType(
            "NEW_ML_TASK", messages.NewMlTask, _CLIENT, _NODE, _DEFINITION, GossipRule.ALWAYS, has_task=False
        ),
        MessageType("INIT_CLUSTER", messages.InitCluster, _NODE, _CLIENT, _NESTED, GossipRule.FALLBACK),
        MessageType(
            "CLUSTER_MEMBERS", messages.ClusterMembers, _CLIENT, _NODE, MAX_BYTES, GossipRule.ATTEMPT_0
        ),
        MessageType("COMMITTEE_VOTING", messages.CommitteeVoting, _MEMBER, _MEMBER | _CLIENT, early=True),
        MessageType(
            "CLUSTER_DATABASE_SELECTION",
            messages.ClusterDatabaseSelection,
            _COMMITTEE,
            _COMMITTEE | _CLIENT,
            early=True,
        ),
        MessageType("CLUSTER_READY", messages.ClusterReady, _MEMBER, _MEMBER | _CLIENT, early=True),
        MessageType("DATASET_SELECTION", messages.DatasetSelection, _CLIENT, _COMMITTEE, MAX_BYTES),
        MessageType("HASH_VOTES", messages.HashVotes, _COMMITTEE, _COMMITTEE | _CLIENT, _NESTED),
        MessageType("DATASET_SEGMENT", messages.DatasetSegment, _CLIENT, _MEMBER),
        MessageType("TRAINING_COMPLETED", messages.TrainingCompleted, _MEMBER, _CLIENT),
        MessageType("REWARDS", messages.Rewards, _COMMITTEE | _CLIENT, _MEMBER | _CLIENT),
        MessageType("TASK_FAILED", messages.TaskFailedBody, _NODE | _CLIENT, _NODE | _CLIENT),
        MessageType("CANCEL_TASK", messages.CancelTask, _CLIENT, _NODE, gossip=GossipRule.ALWAYS),
        MessageType("PEERS", messages.Peers, Role.PEER, Role.PEER, has_task=False),
    )
}
_BY_BODY = {row.body: row for row in MESSAGE_TYPES.values()}


def type_of(body: Body) -> MessageType:
    """The row of a body's type."""
    return _BY_BODY[type(body)]


def is_gossiped(message: Message) -> bool:
    """Whether a message that came as gossip is passed on; anything else is for its receiver or for nobody."""
    match MESSAGE_TYPES[message.type].gossip:
        case GossipRule.NEVER:
            return False
        case GossipRule.ATTEMPT_0:
            # The one that names members goes to them: it is long, and nobody else has a use for it.
            return isinstance(message.body, messages.ClusterMembers) and not (
                message.attempt or message.body.members
            )
        case _:
            return True


def place(attempt: int, body: Body) -> Place:
    """Where a message with a body belongs among those of its sender in its task."""
    return (type_of(body).name, attempt, detail(attempt, body))
