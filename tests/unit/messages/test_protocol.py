"""What the sender of a message that violates the protocol is told, and what others note of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from support.message_cases import Case, check
from support.protocol_world import World, resealed

from mlnet.errors import RemoteProtocolError
from mlnet.protocol.commands import Report, Send
from mlnet.protocol.events import Received
from mlnet.protocol.wire import codec
from mlnet.protocol.wire.messages import CancelTask, ClusterMembers, Message, Signed

PEER = "12D3KooWPRvhsWVsLj8XPC4wndRzoGeqAMbBRSNUfYdAtvJD9wro"
GOOD: dict[str, Any] = {
    "v": 1,
    "type": "CANCEL_TASK",
    "from": PEER,
    "task": "ab" * 32,
    "attempt": 1,
    "sent": 1700,
    "body": {"reason": "no"},
}


def test_messages_that_cannot_be_read(tmp_path: Path) -> None:
    def read(text: str = "", **changes: object) -> Case:
        return lambda _: codec.decode(text or json.dumps(GOOD | changes))

    check(
        "codec",
        {
            "no YAML": read("a: [1"),
            "a list": read("[1]"),
            "a message that is too long": read("#" * 10_000_000),
            "a body that is too long for its type": read(body={"reason": "x" * 100_000}),
            "half of a surrogate pair": read('{"v": "\ud800"}'),
            "a type that there is not": read(type="HELLO"),
            "a key that is missing": read("{v: 1, type: CANCEL_TASK}"),
            "a key too many": read(extra=1),
            "too long a key": read(body={"k" * 129: 1}),
            "too deep a body": read(body={"reason": [[[[[[[]]]]]]]}),
            "too many items": read(body={"reason": list(range(8200))}),
            "an integer of 64 bits": read(sent=2**63),
            "the least integer of 64 bits": read(sent=-(2**63)),
            "a message that is too long for its type": read(json.dumps(GOOD) + " " * 140_000),
            "a decimal with seven places": read(body={"reason": 0.1234567}),
            "null": read(body={"reason": None}),
            "another version": read(v=2),
        },
        tmp_path,
    )


def announced() -> tuple[World, Message]:
    """A world in which the client has named the members, and the message with which it did."""
    world = World(3)
    world.submit()
    world.run(until=lambda: bool(named(world)))
    return world, named(world)[-1]


def named(world: World) -> list[Message]:
    sent = [command.message for _, command in world.log if isinstance(command, Send)]
    return [message for message in sent if message.type == "CLUSTER_MEMBERS" and message.attempt]


def forged(change: Callable[[World, Message], tuple[str, str, Any, int]]) -> Case:
    """A message of one party to another: sender, receiver, body and attempt."""

    def case(_: Path) -> str:
        world, members = announced()
        sender, receiver, body, attempt = change(world, members)
        signer = world.parties[sender].signer
        message = signer.sign(body, task=members.task, attempt=attempt, sent=members.sent)
        world.give(receiver, members.task, Received(message))
        found = [command for _, command in world.log if isinstance(command, Report)][-1]
        return f"{found.what}: {found.data.get('reason', '')}"

    def masked(directory: Path) -> str:
        try:
            return case(directory)
        except RemoteProtocolError as error:
            text = str(error)
            for peer, name in announced()[0].names.items():
                text = text.replace(peer, name)
            return text

    return masked


def test_messages_that_their_receiver_refuses(tmp_path: Path) -> None:
    def from_client(change: Callable[[tuple[Signed, ...]], tuple[Signed, ...]], attempt: int = 2) -> Case:
        def forge(world: World, members: Message) -> tuple[str, str, Any, int]:
            body = members.body
            assert isinstance(body, ClusterMembers)
            return world.clients[0], world.nodes[0], ClusterMembers(change(body.members)), attempt

        return forged(forge)

    def init_of(world: World, name: str) -> Any:
        return next(
            command.message.body
            for who, command in world.log
            if who == name and isinstance(command, Send) and command.message.type == "INIT_CLUSTER"
        )

    def cancel(receiver: str) -> Case:
        def forge(world: World, _: Message) -> tuple[str, str, Any, int]:
            to = world.clients[0] if receiver == "client" else world.nodes[1]
            return world.nodes[0], to, CancelTask("enough"), 1

        return forged(forge)

    def another_answer(attempt: int) -> Case:
        def forge(world: World, _: Message) -> tuple[str, str, Any, int]:
            body = init_of(world, "node0")
            other = msgspec.structs.replace(body, addresses=("/ip4/192.0.2.9/tcp/4001",))
            return world.nodes[0], world.clients[0], other, attempt

        return forged(forge)

    def other_answer() -> Case:
        """The client names the receiver with an answer that the receiver has not given to it."""

        def forge(world: World, members: Message) -> tuple[str, str, Any, int]:
            body, node = members.body, world.nodes[0]
            assert isinstance(body, ClusterMembers)
            answer = resealed(world, world.client(world.clients[0]).answers[node], vote=1, addresses=())
            others = [one for one in body.members if node not in one.yaml]
            return world.clients[0], node, ClusterMembers((*others, Signed.of(answer.envelope))), 2

        return forged(forge)

    check(
        "refusals",
        {
            "a node cancels the task, and the client hears it": cancel("client"),
            "a node cancels the task, and another hears it": cancel("node1"),
            "an answer to an attempt": another_answer(1),
            "members before the first attempt": from_client(lambda members: members, 0),
            "too few members": from_client(lambda members: members[:1]),
            "a member twice": from_client(lambda members: (*members, members[0])),
            "another answer of a member": other_answer(),
        },
        tmp_path,
    )
