"""One client or one node that hears only what a test tells it."""

from __future__ import annotations

from support.protocol_world import START, World

from mlnet.protocol.client.machine import Client
from mlnet.protocol.commands import Command, Report, Send
from mlnet.protocol.deadlines import Deadlines
from mlnet.protocol.events import Received
from mlnet.protocol.node import Node, Step, Terms
from mlnet.protocol.wire.messages import InitCluster, Message, NewMlTask, Redis, Resources, TaskFailedBody

SEATS = "max-committee-size: 2, min-committee-size: 2"
ANSWER = InitCluster(Redis(True, "192.0.2.1", 7000), 0, ("/ip4/192.0.2.1/tcp/1",), Resources(1, 1))


def alone(cluster: str = "max-nodes: 64", peers: int = 0) -> tuple[World, Client]:
    """A client that hears only what a test tells it."""
    world = World(0, cluster)
    return world, world.client(world.submit(peers=peers))


def answer(world: World, client: Client, name: str, body: InitCluster = ANSWER) -> list[Command]:
    """A stranger answers the announcement."""
    message = world._signer(name).sign(body, task=client.task, sent=world.now)
    return client.step(Received(message), world.now)


def note(world: World, client: Client, name: str, body: TaskFailedBody, attempt: int = 0) -> list[Command]:
    message = world._signer(name).sign(body, task=client.task, attempt=attempt, sent=world.now)
    return client.step(Received(message), world.now)


def peer(name: str) -> str:
    return World._signer(name).peer_id


WAITING = 10_000
"""The waiting period of the world's definition, ms."""
TERMS = Terms(Resources(4096, 4))
NEEDS = "requirements: {memory: 512MiB, cpus: 1}"


def node_of(world: World, terms: Terms = TERMS, **options: object) -> Node:
    """A node that is not in the world, so that it hears only what a test tells it."""
    return Node(world._signer("a node of its own"), terms, Deadlines(), **options)  # type: ignore[arg-type]


def announced(world: World, client: str = "client", created: int = START, peers: int = 0) -> Message:
    """A task that nobody in the world has heard of."""
    return world._signer(client).sign(NewMlTask(world.text, (), created, peers), sent=created)


def hear(node: Node, message: Message, now: int = START) -> list[Step]:
    return node.step(message.task, Received(message), now)


def word(step: Step) -> TaskFailedBody:
    """What a node tells a client that it does not answer, and tells its operator as well."""
    send, report = step.commands
    assert isinstance(send, Send)
    assert isinstance(report, Report)
    body = send.message.body
    assert isinstance(body, TaskFailedBody)
    assert send.neighbours_only
    assert report == Report("unanswered", {"reason": body.reason, "busy": body.busy, "at_most": body.at_most})
    return body
