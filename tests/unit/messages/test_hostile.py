"""How a task ends when a party says something else than it should, by what it says."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.message_cases import Case, check
from support.protocol_world import START, World, ends, masked, resealed

from mlnet.cli.node_log import NodeLog
from mlnet.errors import RemoteProtocolError
from mlnet.protocol.commands import Command, End, FetchModel, Replicate, Report, Send, StartTraining
from mlnet.protocol.events import Event, ModelRefused, Received, Replicated, TrainingStopped
from mlnet.protocol.wire.messages import HashVotes, Message, NewMlTask, Signed

OTHER = "ab" * 32
Forge = Callable[[World, str, Message], Message]
Lost = Callable[[str, str, Message], bool]
NOON = datetime.datetime(2024, 5, 6, 12, 0, 0, tzinfo=datetime.UTC)
NOTHING: tuple[Any, ...] = ()


def ran(
    nodes: int = 3,
    cluster: str = "max-nodes: 64",
    *,
    closed: tuple[int, ...] = (),
    forge: Forge = lambda _, __, message: message,
    lost: Lost = lambda _, __, message: False,
    change: Callable[[str, Command, Event], Event | None] = lambda _, __, event: event,
    then: Callable[[World], object] = lambda world: None,
) -> Case:
    """A whole task, and what was said of its end.

    Args:
        nodes: how many.
        cluster: its part of the definition.
        closed: nodes whose port nobody reaches.
        forge: what arrives in place of a message of this sender.
        lost: which messages do not arrive.
        change: of what comes of an effect.
        then: what happens once the task is announced.
    """

    def case(_: Path) -> str:
        world = World(nodes, cluster, closed=closed)
        world.loses, world.changes = lost, change
        world.forges = lambda sender, _, message: forge(world, sender, message)
        world.submit()
        then(world)
        world.run()
        return ends(world)

    return case


def says(type_: str, *senders: str, of: str = "", **values: Any) -> Forge:
    """These senders, or all, say something else in a message of a type (of a round or stage)."""

    def forge(world: World, sender: str, message: Message) -> Message:
        is_meant = message.type == type_ and message.attempt and of in message.place[2]
        return (
            resealed(world, message, **values) if is_meant and sender in (senders or (sender,)) else message
        )

    return forge


def loses(*types: str, sender: str = "", of: str = "") -> Lost:
    return lambda name, _, message: sender in ("", name) and message.type in types and of in message.place[2]


def first(world: World, type_: str, sender: str = "") -> Message:
    """The first message of a type that somebody said, once it is said."""

    def said() -> list[Message]:
        return [
            command.message
            for name, command in world.log
            if isinstance(command, Send) and command.message.type == type_ and sender in ("", name)
        ]

    world.run(until=lambda: bool([one for one in said() if one.attempt or one.type != "CLUSTER_MEMBERS"]))
    return next(one for one in said() if one.attempt or one.type != "CLUSTER_MEMBERS")


def twice(type_: str, sender: str, receivers: Callable[[World], list[str]], **values: Any) -> Any:
    """A sender contradicts a message of its own."""

    def then(world: World) -> None:
        other = resealed(world, first(world, type_, sender), **values)
        for receiver in receivers(world):
            world.give(receiver, other.task, Received(other))

    return then


def test_a_client_that_does_not_keep_to_the_protocol(tmp_path: Path) -> None:
    def segment_twice(world: World, _: str, message: Message) -> Message:
        if message.type != "DATASET_SELECTION":
            return message
        segments = getattr(message.body, "segments", NOTHING)
        return resealed(world, message, segments=(segments[1], *segments[1:]))

    def one_of_other_inputs(world: World, _: str, message: Message) -> Message:
        is_first = message.type == "DATASET_SEGMENT" and message.place[2] == "0"
        return resealed(world, message, inputs=7) if is_first else message

    def worthless_ballots(world: World) -> None:
        """A second round of ballots with other secrets, before those of the first are in."""
        selection = first(world, "DATASET_SELECTION")
        node = next(name for name in world.nodes if name in world.client(world.clients[0]).committee)
        hashes = tuple(segment.root for segment in getattr(selection.body, "segments", NOTHING))
        signer = world.parties[node].signer
        body = HashVotes(world.client(world.clients[0]).bound, "ballot", hashes, OTHER)
        ballot = signer.sign(body, task=selection.task, attempt=selection.attempt, sent=selection.sent)
        second = resealed(world, selection, round=2, ballots=(Signed.of(ballot.envelope),))
        for receiver in world.nodes:
            world.at(50, lambda receiver=receiver: world.give(receiver, second.task, Received(second)))  # type: ignore[misc]

    def members(world: World) -> list[str]:
        return world.nodes

    check(
        "hostile-clients",
        {
            "it binds another decision": ran(forge=says("DATASET_SELECTION", decision=OTHER)),
            "it says two things": ran(then=twice("DATASET_SELECTION", "client", members, inputs=7)),
            "it names a segment twice": ran(forge=segment_twice),
            "its second round has worthless ballots": ran(
                lost=loses("HASH_VOTES", of="ballot"), then=worthless_ballots
            ),
            "its links are of another decision": ran(forge=says("DATASET_SEGMENT", decision=OTHER)),
            "its links contradict each other": ran(forge=one_of_other_inputs),
            "it hands out a segment that there is not": ran(
                forge=says("DATASET_SEGMENT", of="0", position=9), lost=loses("DATASET_SEGMENT", of="1")
            ),
            "it hands out the segments in another order": ran(forge=other_order),
            "it says nothing though no pair can be elected": ran(
                lost=loses("TASK_FAILED", sender="client"), forge=says("CLUSTER_DATABASE_SELECTION", pings={})
            ),
            "it says nothing though there is no committee": ran(
                closed=(0, 1), lost=loses("TASK_FAILED", sender="client")
            ),
        },
        tmp_path,
    )


def other_order(world: World, _: str, message: Message) -> Message:
    """The links to the first two segments change places."""
    order = world.client(world.clients[0]).order
    if message.type != "DATASET_SEGMENT" or message.place[2] not in ("0", "1"):
        return message
    position = 1 - int(message.place[2])
    by_hash = {segment.root: segment for segment in world.client(world.clients[0]).dataset.segments}
    return resealed(world, message, segment=by_hash[order[position]])


def test_members_that_do_not_keep_to_the_protocol(tmp_path: Path) -> None:
    def only_client(world: World) -> list[str]:
        return world.clients

    def not_allowed(world: World) -> None:
        world.client(world.clients[0]).allowed = frozenset(world.nodes[1:2])

    def contradicts_its_failure(world: World) -> None:
        twice("TASK_FAILED", "node1", only_client, reason="none")(world)

    def stopped(name: str, command: Command, event: Event) -> Event | None:
        if not isinstance(command, StartTraining):
            return event
        return TrainingStopped(command.attempt, "out of memory") if name == "node1" else None

    def refused(_: str, command: Command, event: Event) -> Event | None:
        return (
            ModelRefused("it holds values that are not finite") if isinstance(command, FetchModel) else event
        )

    def nothing(_: str, command: Command, event: Event) -> Event | None:
        return None if isinstance(command, FetchModel) else event

    def not_replicated(_: str, command: Command, event: Event) -> Event | None:
        return Replicated(command.attempt, "connection refused") if isinstance(command, Replicate) else event

    other_address = ("/ip4/192.0.2.9/tcp/4001",)
    check(
        "hostile-members",
        {
            "one sends two answers": ran(
                2,
                then=twice("INIT_CLUSTER", "node0", only_client, addresses=other_address),
            ),
            "one that is not allowed answers": ran(then=not_allowed),
            "one does not confirm the decision": ran(4, lost=loses("CLUSTER_READY", sender="node1")),
            "one in each attempt does not replicate": ran(8, lost=loses("CLUSTER_READY")),
            "their ballots are worthless": ran(forge=says("HASH_VOTES", of="ballot", secret=OTHER)),
            "their orders do not arrive": ran(lost=loses("HASH_VOTES", of="order")),
            "one contradicts what it said of its failure": ran(
                change=stopped, lost=to_client("TASK_FAILED", "node0", "node2"), then=contradicts_its_failure
            ),
            "nobody hands out the model": ran(change=nothing),
            "the model is not usable": ran(change=refused),
            "replication fails and the client is gone": ran(change=not_replicated, then=client_dies),
        },
        tmp_path,
    )


def to_client(type_: str, *senders: str) -> Lost:
    return lambda sender, receiver, message: (
        sender in senders and receiver == "client" and message.type == type_
    )


def client_dies(world: World) -> None:
    """When replication begins."""
    world.run(until=lambda: any(isinstance(command, Replicate) for _, command in world.log))
    world.kill(world.clients[0])


def test_nodes_that_do_not_answer(tmp_path: Path) -> None:
    """What they show their operator, and what the client is told."""

    def announced(*clients: str, nodes: int = 2, tasks: int = 1, **options: Any) -> Case:
        def case(_: Path) -> str:
            world = World(nodes, options.get("cluster", "max-nodes: 64"))
            for name in world.nodes:
                world.node(name).terms = msgspec.structs.replace(world.node(name).terms, tasks=tasks)
                world.node(name).closing = options.get("closing", False)
            for client in clients:
                world.submit(client, created=options.get("created"), peers=options.get("peers", 0))
                world.run(options.get("later", 1))
            world.run()
            return shown(world)

        return case

    def invalid(_: Path) -> str:
        world = World(1)
        signer = world.parties[world.submit()].signer
        body = NewMlTask("version: 1\n", (), world.now)
        task = signer.sign(body, sent=world.now)
        with pytest.raises(RemoteProtocolError) as caught:
            world.node(world.nodes[0]).step(task.task, Received(task), world.now)
        return masked(world, str(caught.value))

    hour = 3_600_000
    check(
        "unanswered",
        {
            "busy": announced("client", "other"),
            "busy with two": announced("client", "other", "third", tasks=2),
            "busy and about to train": announced("client", "other", later=10),
            "busy in training": announced("client", "other", later=11),
            "an old announcement": announced("client", created=START - 3 * hour),
            "an announcement of tomorrow": announced("client", created=START + 24 * hour),
            "not drawn": announced("client", nodes=8, peers=1000, cluster="max-nodes: 2"),
            "being stopped": announced("client", closing=True),
            "nobody is there": announced("client", nodes=0),
            "a definition that is none": invalid,
        },
        tmp_path,
    )


def shown(world: World) -> str:
    """What nodes show of tasks that they do not answer, and how the clients end."""
    lines: list[str] = []
    for name, command in world.log:
        if isinstance(command, Report) and command.what == "unanswered":
            written = NodeLog("", lines.append, lambda: NOON)
            written.report("HASH", command)
            lines[-1] = f"{name} shows: {lines[-1]}"
        elif name not in world.nodes and isinstance(command, End):
            lines.append(f"{name} ends, {command.state}: {command.reason}".removesuffix(": "))
    return masked(world, "\n".join(dict.fromkeys(lines)))
