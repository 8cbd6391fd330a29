"""What client and nodes say of the course and the end of a task, by what happened to it."""

from __future__ import annotations

import datetime
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.message_cases import Case, check
from support.protocol_world import World, ends, masked

from mlnet.cli.node_log import NodeLog
from mlnet.client.result import Accuracy, ModelFile, Result
from mlnet.protocol.client.machine import Client
from mlnet.protocol.commands import Command, End, MeasurePings, Replicate, Report, Send, StartTraining
from mlnet.protocol.decisions.committee import _count
from mlnet.protocol.events import (
    Event,
    PingsMeasured,
    Replicated,
    Restarted,
    TrainingFinished,
    TrainingStopped,
)
from mlnet.protocol.member.machine import Member
from mlnet.protocol.wire.messages import Message
from mlnet.sdk.display import Display

NOON = datetime.datetime(2024, 5, 6, 12, 0, 0, tzinfo=datetime.UTC)
HOUR = 3600.0
Change = Callable[[str, Command, Event], Event | None]


def loses(*types: str, sender: str = "node0") -> Callable[[str, str, Message], bool]:
    return lambda name, _, message: name == sender and message.type in types


def ran(
    nodes: int = 3,
    cluster: str = "max-nodes: 64",
    *,
    closed: tuple[int, ...] = (),
    change: Change | None = None,
    lost: Callable[[str, str, Message], bool] | None = None,
    then: Callable[[World], None] | None = None,
) -> Case:
    """A whole task, and what was said of its end.

    Args:
        nodes: how many.
        cluster: its part of the definition.
        closed: nodes whose port nobody reaches.
        change: of what comes of an effect.
        lost: which messages do not arrive.
        then: what happens once the task is announced.
    """

    def case(_: Path) -> str:
        world = World(nodes, cluster, closed=closed)
        world.changes = change or world.changes
        world.loses = lost or world.loses
        world.submit()
        if then is not None:
            then(world)
        world.run(HOUR)
        world.run()
        return ends(world)

    return case


def stops(reason: str, *, others: str = "") -> Change:
    """Training fails on node1 for a reason; on the others too if there is one for them."""

    def change(name: str, command: Command, event: Event) -> Event | None:
        if not isinstance(command, StartTraining):
            return event
        if name == "node1":
            return TrainingStopped(command.attempt, reason)
        return TrainingStopped(command.attempt, others) if others else None

    return change


def never(kind: type[Command]) -> Change:
    return lambda _, command, event: None if isinstance(command, kind) else event


def instead(kind: type[Command], other: Callable[[Command], Event], *, of: str = "") -> Change:
    return lambda name, command, event: (
        other(command) if isinstance(command, kind) and of in (name, "") else event
    )


def at_training(action: Callable[[World], None]) -> Callable[[World], None]:
    def then(world: World) -> None:
        world.run(until=lambda: any(isinstance(command, StartTraining) for _, command in world.log))
        action(world)

    return then


def after(seconds: float, action: Callable[[World], None]) -> Callable[[World], None]:
    def then(world: World) -> None:
        world.run(seconds)
        action(world)

    return then


def restart_node0(world: World) -> None:
    world.give(world.nodes[0], world.client(world.clients[0]).task, Restarted())


def different_models(name: str, command: Command, event: Event) -> Event | None:
    if isinstance(event, TrainingFinished):
        digest = {"node0": "a", "node1": "b"}.get(name, "c") * 64
        return TrainingFinished(
            event.attempt, event.metrics, event.accuracy, digest, event.size, event.contributions
        )
    return event


def test_how_tasks_end(tmp_path: Path) -> None:
    small = "max-committee-size: 2, min-committee-size: 2"
    check(
        "task-ends",
        {
            "all goes well": ran(),
            "too few nodes answer": ran(1),
            "too few ports are open": ran(3, closed=(0, 1)),
            "one port is closed": ran(3, closed=(1,)),
            "more candidates than seats": ran(5, small),
            "a voter is silent": ran(4, small, lost=loses("COMMITTEE_VOTING")),
            "no ping times of a member arrive": ran(4, lost=loses("CLUSTER_DATABASE_SELECTION")),
            "a member announces no decision": ran(4, lost=loses("CLUSTER_READY")),
            "no decision of anybody arrives": ran(
                3, lost=lambda _, __, message: message.type == "CLUSTER_READY"
            ),
            "nobody reaches anybody": ran(
                3,
                change=instead(MeasurePings, lambda command: PingsMeasured(command.attempt, {})),  # type: ignore[attr-defined]
            ),
            "a ballot does not arrive": ran(4, lost=loses("HASH_VOTES")),
            "no ballot of anybody arrives": ran(3, lost=lambda _, __, message: message.type == "HASH_VOTES"),
            "the order of a member does not arrive": ran(3, lost=loses("DATASET_SEGMENT", sender="client")),
            "replication fails once": ran(4, change=failing_replication()),
            "replication always fails": ran(
                3,
                change=instead(Replicate, lambda command: Replicated(command.attempt, "connection refused")),  # type: ignore[attr-defined]
            ),
            "replication never ends": ran(3, change=never(Replicate)),
            "training fails on one node before the others meet it": ran(4, change=stops("out of memory")),
            "training fails everywhere": ran(3, change=stops("out of memory", others="connection lost")),
            "training never ends": ran(3, change=never(StartTraining)),
            "the members train different models": ran(3, change=different_models),
            "a node dies before the cluster is formed": ran(
                4, then=after(9, lambda world: world.kill(world.nodes[0]))
            ),
            "a node dies in training": ran(
                3,
                change=stops("connection lost", others="connection lost"),
                then=at_training(lambda world: world.kill(world.nodes[0])),
            ),
            "a node restarts before the cluster is formed": ran(4, then=after(5, restart_node0)),
            "a node restarts in training": ran(4, then=at_training(restart_node0)),
            "the client dies while nodes answer": ran(
                3, then=after(1, lambda world: world.kill(world.clients[0]))
            ),
            "the client dies in training": ran(
                3, then=at_training(lambda world: world.kill(world.clients[0]))
            ),
        },
        tmp_path,
    )


def failing_replication() -> Change:
    failed: list[str] = []

    def change(_: str, command: Command, event: Event) -> Event | None:
        if isinstance(command, Replicate) and not failed:
            failed.append(command.master)
            return Replicated(command.attempt, "connection refused")
        return event

    return change


def waited(world: World) -> str:
    """Each thing that machines waited for, once, while a task ran."""
    seen: dict[str, None] = {}
    while world.heap:
        moments = iter((False, True))
        world.run(until=lambda: next(moments))  # noqa: B023 - called at once
        for peer, party in world.parties.items():
            machines = (
                [party.machine] if isinstance(party.machine, Client) else world.node(peer).members.values()
            )
            for machine in machines:
                who = "node" if isinstance(machine, Member) else "client"
                seen[f"{who} waits for {re.sub(r' from .*', '', str(machine.waiting))}"] = None
    return masked(world, "\n".join(seen))


def test_what_is_waited_for(tmp_path: Path) -> None:
    def waits(nodes: int, cluster: str, change: Change | None = None, **options: Any) -> Case:
        def case(_: Path) -> str:
            world = World(nodes, cluster)
            world.changes = change or world.changes
            world.loses = options.get("lost", world.loses)
            world.submit(peers=options.get("peers", 0))
            return waited(world)

        return case

    check(
        "waits",
        {
            "a task of three nodes": waits(3, "max-nodes: 64"),
            "a task with two seats for five nodes": waits(5, "max-committee-size: 2, min-committee-size: 2"),
            "a task of fewer nodes than answer": waits(4, "max-nodes: 2"),
            "a task of two of many nodes": waits(4, "max-nodes: 2", peers=6),
            "a task of which members do not hear each other's splits": waits(
                3,
                "max-nodes: 64",
                lost=lambda sender, receiver, message: (
                    message.type == "REWARDS" and "client" not in (sender, receiver)
                ),
            ),
            "a task whose training fails": waits(3, "max-nodes: 64", stops("out of memory")),
        },
        tmp_path,
    )


def shown(world: World) -> str:
    stream = io.StringIO()
    with Display(stream, width=110) as display:
        for name, command in world.log:
            if name == "client" and isinstance(command, Report):
                display.report(command)
    return masked(world, stream.getvalue())


def test_the_course_of_a_task(tmp_path: Path) -> None:
    def course(
        nodes: int, cluster: str = "max-nodes: 64", closed: tuple[int, ...] = (), **options: object
    ) -> Case:
        def case(_: Path) -> str:
            world = World(nodes, cluster, closed=closed)
            if options:
                world.loses = loses("CLUSTER_DATABASE_SELECTION")
            world.submit()
            world.run()
            return shown(world)

        return case

    def concluded(state: str, reason: str = "") -> Case:
        result = Result(
            task="cd" * 32,
            state=state,  # type: ignore[arg-type]
            reason=reason,
            accuracy=Accuracy(0.95, 0.9375),
            metrics={"Accuracy": 0.9375, "CrossEntropy": 0.21},
            model=ModelFile("/somewhere/model.safetensors", "ef" * 32),
            seconds={"starting": 2.0, "training": 30.0},
        )

        def case(_: Path) -> str:
            stream = io.StringIO()
            with Display(stream, width=110) as display:
                display.result(result)
            return stream.getvalue()

        return case

    check(
        "display",
        {
            "three nodes, one port closed": course(3, closed=(1,)),
            "two seats for five nodes": course(5, "max-committee-size: 2, min-committee-size: 2"),
            "a second attempt": course(4, lost=True),
            "the end": concluded("completed"),
            "a failure": concluded("failed", "training failed"),
        },
        tmp_path,
    )


def test_the_log_of_a_node(tmp_path: Path) -> None:
    def log(nodes: int, closed: tuple[int, ...] = (), change: Change | None = None) -> Case:
        def case(_: Path) -> str:
            world = World(nodes, closed=closed)
            world.changes = change or world.changes
            world.submit()
            world.run()
            lines: list[str] = []
            me = world.nodes[0]
            written = NodeLog(me, lines.append, lambda: NOON)
            task = world.client(world.clients[0]).task
            for name, command in world.log:
                if isinstance(command, Send):
                    for receiver in command.to:
                        if name == "node0":
                            written.message(False, receiver, command.message)
                        elif receiver == me:
                            written.message(True, name, command.message)
                elif name == "node0" and isinstance(command, Report | End):
                    written.report(task, command)
            written.report(task, Report("equivocation", {"peer": world.nodes[1]}))
            written.report(task, Report("receipt", {"state": "claimed", "amount": 12_500_000}))
            return masked(world, "\n".join(lines))

        return case

    check(
        "node-log",
        {
            "a whole task": log(3),
            "a closed port": log(4, closed=(0,)),
            "a training that fails": log(3, change=stops("out of memory")),
        },
        tmp_path,
    )


def test_reports_of_other_courses(tmp_path: Path) -> None:
    """What a course of its own would take to bring about."""

    def report(what: str, **data: object) -> Case:
        def case(_: Path) -> str:
            stream = io.StringIO()
            with Display(stream, width=110) as display:
                display.report(Report(what, data))
            return stream.getvalue()

        return case

    def cycle(*votes: int, least: int = 2) -> Case:
        cast = {f"node{number}": vote for number, vote in enumerate(votes)}
        return lambda _: _count(0, tuple(cast), cast, b"\0", least).reason

    check(
        "reports",
        {
            "a ballot that does not count": report("ballots", counted=["node0"], void=["node1"]),
            "rewards that not all have signed": report(
                "rewards", split={"node0": 1}, payment=1, settled=False
            ),
            "a model without metrics": report("trained", metrics={}, accuracy=None, sha256="ab" * 32),
            "a report without a form": report("weather", rain="none today"),
            "all vote alike": cycle(1, 1, 1),
            "as many vote for one side as for the other": cycle(1, 1, 0, 0),
            "the minority is too small": cycle(1, 0, 0, 0),
        },
        tmp_path,
    )
