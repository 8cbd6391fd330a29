"""What a node tells its operator, over whole tasks of real machines."""

from __future__ import annotations

import datetime

from support.protocol_world import World

from mlnet.cli import traffic
from mlnet.cli.node_log import NodeLog
from mlnet.protocol.commands import End, Publish, RecordReceipt, Report, Send
from mlnet.protocol.wire.messages import Message
from mlnet.util import yaml12
from mlnet.util.wording import short

NOON = datetime.datetime(2024, 5, 6, 12, 0, 0, tzinfo=datetime.UTC)


def log(world: World, node: str) -> list[str]:
    """The lines of one node: all that it sent and heard and reported, in order."""
    lines: list[str] = []
    peer = next(peer for peer, name in world.names.items() if name == node)
    written = NodeLog(peer, lines.append, lambda: NOON)
    task = world.client(world.clients[0]).task
    for name, command in world.log:
        match command:
            case Send(to=receivers, message=message) if name == node:
                for receiver in receivers:
                    written.message(False, receiver, message)
            case Send(to=receivers, message=message) if peer in receivers:
                written.message(True, name, message)
            case Publish(message=message) if name != node:
                written.message(True, name, message)
            case Report() | End() if name == node:
                written.report(task, command)
            case RecordReceipt(state=state, amount=amount) if name == node:
                written.report(task, Report("receipt", {"state": state, "amount": amount}))
            case _:
                pass
    prefix = f"12:00:00 task {task[:12]}  "
    assert all(line.startswith(prefix) for line in lines)
    return [line.removeprefix(prefix) for line in lines]


def test_a_node_tells_its_part_from_the_first_word_to_the_reward() -> None:
    world = World(3)
    client = world.submit()
    world.run()
    lines = log(world, "node0")
    decided = world.client(client).attempted.decision().ready
    me = world.nodes[0]
    reward = world.client(client).split[me]
    pair = [
        f"{role} {'this node' if peer == me else short(peer)}"
        for role, peer in (("master", decided.master), ("slave", decided.slave))
    ]
    seats = " ".join(map(short, sorted(decided.committee)))
    assert lines == [
        f"announced by client {short(client)}",
        "answered; Redis port open at 127.0.0.1:7000",
        "in a cluster of 3 nodes, attempt 1",
        f"seated on the committee of {seats}",
        f"Redis {', '.join(pair)}",
        "trains on its share of 8 segments",
        "trained; validation accuracy 90.00 %",
        f"reward {reward // 10**6}.{reward % 10**6:06d}".rstrip("0").rstrip(".") + ", settled",
        "over, completed",
    ]


def test_a_worker_and_a_closed_port() -> None:
    world = World(4, closed=(0,))
    world.submit()
    world.run()
    lines = log(world, "node0")
    assert "answered; Redis port closed, behind a firewall" in lines
    assert any(line.startswith("works for the committee of ") for line in lines)


def test_why_a_task_failed() -> None:
    world = World(1)
    world.submit()
    world.run()
    assert log(world, "node0")[-1].startswith("over, failed: 1 node answered; the task needs at least 2")


def test_text_of_others_cannot_move_the_cursor() -> None:
    lines: list[str] = []
    written = NodeLog("me", lines.append, lambda: NOON)
    written.report("ab" * 32, Report("note", {"peer": "x" * 52, "reason": "\x1b[2J\nx\x9b"}))
    written.report("ab" * 32, End("failed", "\x1b[31m" + "y" * 5000))
    assert all(line.isprintable() and len(line) < 600 for line in lines)


def messages(world: World) -> list[Message]:
    return [command.message for _, command in world.log if isinstance(command, Send | Publish)]


def test_a_shown_message_is_yaml_with_the_values_that_were_signed() -> None:
    world = World(5, "max-committee-size: 3")
    world.submit()
    world.run()
    types = set()
    for message in messages(world):
        text = traffic.written(True, message.sender, message)
        head, _, body = text.partition("\n")
        assert head == f"--- # from {short(message.sender)}"
        size = len(body.encode())
        assert yaml12.load(body, max_bytes=size) == yaml12.load(message.envelope.yaml)
        types.add(message.type)
    assert {"NEW_ML_TASK", "INIT_CLUSTER", "CLUSTER_MEMBERS", "HASH_VOTES", "REWARDS"} <= types


def test_a_shown_message_says_where_it_goes() -> None:
    world = World(1)
    world.submit()
    message = messages(world)[0]
    assert traffic.written(False, "all", message).startswith("--- # to all\n")
    peer = world.nodes[0]
    assert traffic.written(False, peer, message).startswith(f"--- # to {short(peer)}\n")
