"""What was said in a task of :mod:`support.protocol_world`, as it was or with some of it changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from support.protocol_world import World, resealed

from mlnet.protocol.commands import Publish, Send
from mlnet.protocol.wire.messages import ClusterMembers, DatasetSelection, Message, Redis, Signed

Change = Callable[[World, list[Message]], Sequence[Message]]


def messages(world: World) -> list[Message]:
    """What was said in a task, each message once."""
    said = [command.message for _, command in world.log if isinstance(command, Send | Publish)]
    return list({message.envelope.yaml: message for message in said}.values())


def changed(type_: str, *senders: str, of: str = "", **values: Any) -> Change:
    """Another body, validly signed, in the messages of a type (of a round or stage) from some senders."""

    def change(world: World, said: list[Message]) -> list[Message]:
        return [
            resealed(world, message, **values)
            if message.type == type_
            and message.attempt
            and of in message.place[2]
            and (not senders or world.names[message.sender] in senders)
            else message
            for message in said
        ]

    return change


def without(*types: str, of: str = "") -> Change:
    """None of the messages of some types (of a round or stage)."""
    return lambda _, said: [one for one in said if one.type not in types or of not in one.place[2]]


def naming(change: Callable[[World, list[Message]], Iterable[Message]]) -> Change:
    """Other INIT_CLUSTER messages in the client's CLUSTER_MEMBERS."""

    def named(world: World, said: list[Message]) -> list[Message]:
        out = []
        for message in said:
            if isinstance(message.body, ClusterMembers) and message.body.members:
                signer = world.parties[message.sender].signer
                inits = change(world, [signer.verify(one.envelope) for one in message.body.members])
                members = tuple(Signed.of(init.envelope) for init in inits)
                message = resealed(world, message, members=members)
            out.append(message)
        return out

    return named


def closed(world: World, init: Message) -> Message:
    """The same answer of a node whose port nobody reaches."""
    return resealed(world, init, redis=Redis(False, "", 0, "behind a firewall"))


def forged(message: Message) -> Message:
    """The same message with a signature of nobody."""
    return msgspec.structs.replace(message, envelope=message.envelope._replace(signature=bytes(64)))


def counting(change: Callable[[World, list[Message]], Iterable[Message]]) -> Change:
    """A second round, in which the client names other ballots than those that were cast."""

    def counted(world: World, said: list[Message]) -> list[Message]:
        cast = [one for one in said if one.place[2] == "ballot 1"]
        signed = tuple(Signed.of(one.envelope) for one in change(world, cast))
        (first,) = (one for one in said if isinstance(one.body, DatasetSelection))
        return [*said, resealed(world, first, round=2, ballots=signed)]

    return counted
