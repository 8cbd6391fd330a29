"""Nodes that do not answer say why, and clients share nodes: real machines, no network."""

from __future__ import annotations

import msgspec
import pytest
from support.protocol_world import World, reports, sent

from mlnet.protocol.client.machine import NOT_ALLOWED
from mlnet.protocol.client.rivals import MAX_SHARES, Rivals, share
from mlnet.protocol.commands import Report, Send
from mlnet.protocol.events import OthersWait, Received, Restarted
from mlnet.protocol.node import MAX_PENDING_OF_CLIENT
from mlnet.protocol.wire.messages import NewMlTask, TaskFailedBody

HOUR = 3_600_000


def declined(world: World, node: str) -> list[TaskFailedBody]:
    bodies = [send.message.body for send in sent(world, node, "TASK_FAILED") if send.neighbours_only]
    return [body for body in bodies if isinstance(body, TaskFailedBody)]


def unanswered(world: World) -> list[str]:
    return [str(report.data["reason"]) for report in reports(world, "unanswered")]


@pytest.mark.parametrize("ahead", [-3 * HOUR, 3 * HOUR])
def test_a_misdated_task_is_answered_if_any_clock_finds_it_fresh_and_declined_with_reason_else(
    ahead: int,
) -> None:
    world = World(1)
    node = world.node(next(iter(world.nodes)))
    announcement = world.client(world.submit(created=world.now + ahead)).announcement
    steps = node.step(announcement.task, Received(announcement), world.now)
    said = [command for step in steps for command in step.commands]
    (reason,) = [command.data["reason"] for command in said if isinstance(command, Report)]
    assert f"180 min {'ahead' if ahead > 0 else 'ago'}" in str(reason)
    again = node.step(announcement.task, Received(announcement), world.now)
    assert again == []  # once is enough
    clocks = (world.now, world.now + ahead)
    assert node.step(announcement.task, Received(announcement), world.now, clocks)
    assert announcement.task in node.members


def test_a_busy_node_says_for_how_long_and_the_client_groups_what_nodes_said() -> None:
    world = World(3)
    world.submit("one")
    world.run(1)
    world.client(world.submit("two"))
    world.run()
    notes = [report.data["reason"] for report in reports(world, "note")]
    assert notes
    assert all("busy with another task (it takes 1 at a time: --tasks)" in str(note) for note in notes)
    assert any(", which still gathers nodes, for at most " in str(note) for note in notes), notes
    assert "; 3 nodes: busy with another task" in world.ends["two"].reason
    assert any(reason.startswith("busy with another task") for reason in unanswered(world))


def test_a_node_that_the_user_does_not_allow_is_told_and_free_at_once() -> None:
    world = World(5)
    client = world.client(world.submit())
    client.allowed = frozenset(world.nodes[:4])
    world.run(10)
    stranger = world.nodes[4]
    told = list(sent(world, "client", "TASK_FAILED"))
    assert [send.to for send in told] == [(stranger,)]
    assert not world.node(stranger).members
    assert NOT_ALLOWED in world.ends["node4"].reason
    assert all(world.node(peer).members for peer in world.nodes[:4])
    # After a restart of the client's process it is not said to the others.
    before = len(world.log)
    world.give(client.me, client.task, Restarted())
    again = [command for name, command in world.log[before:] if name == "client"]
    assert not any(isinstance(one, Send) and one.message.type == "TASK_FAILED" for one in again)
    world.run()
    assert set(client.members) == set(world.nodes[:4])


def test_a_node_with_too_many_tasks_of_one_client_says_so() -> None:
    world = World(1)
    peer = world.submit()
    node, signer = next(iter(world.nodes)), world.parties[peer].signer
    body = world.client(peer).announcement.body
    assert isinstance(body, NewMlTask)
    said: list[object] = []
    for number in range(MAX_PENDING_OF_CLIENT + 2):
        task = signer.sign(msgspec.structs.replace(body, created=world.now + number), sent=world.now)
        steps = world.node(node).step(task.task, Received(task), world.now)
        said += [c.data["reason"] for s in steps for c in s.commands if isinstance(c, Report)]
    assert any(str(reason).endswith(", which still gathers nodes") for reason in said)
    assert said[-1] == "too many tasks wait for this node already (of this client)"


def test_a_busy_word_that_comes_after_the_answer_does_not_drop_the_node() -> None:
    world = World(3)
    client = world.client(world.submit())
    world.run(1)
    peer, answer = next(iter(client.answers.items()))
    signer = world.parties[peer].signer
    busy = TaskFailedBody("busy with another task", "TooFewNodes", 5_000)
    late = signer.sign(busy, task=client.task, sent=1)
    client.step(Received(late), world.now)
    assert client.answers[peer] is answer


def test_while_others_wait_a_client_takes_its_share_and_stops_gathering_earlier() -> None:
    world = World(6, "min-nodes: 2")
    peer = world.submit()
    world.run(1)
    client = world.client(peer)
    assert len(client.answers) == 6
    deadline = client.deadline
    world.give(peer, client.task, OthersWait(2))
    assert client.deadline < deadline
    world.run()
    assert len(client.members) == 2
    assert reports(world, "shared")[0].data == {"others": 2, "answered": 6, "taken": 2}
    assert world.ends["client"].state == "completed"
    assert all(not world.node(node).busy for node in world.nodes)


def test_a_share_is_never_below_the_least_nor_above_the_most() -> None:
    assert share(answers=10, others=0, least=2, most=64) == 10
    assert share(answers=10, others=1, least=2, most=64) == 5
    assert share(answers=10, others=1, least=8, most=64) == 8
    assert share(answers=100, others=1, least=2, most=16) == 16
    assert share(answers=800, others=10**6, least=2, most=1024) == 800 // MAX_SHARES


def test_a_rival_counts_once_until_its_waiting_period_or_its_word_ends_it() -> None:
    world = World(1)
    first = world.client(world.submit("one")).announcement
    second = world.client(world.submit("two")).announcement
    rivals = Rivals("me")
    assert rivals.heard(first, 1000)
    assert not rivals.heard(first, 1000)
    assert rivals.heard(second, 1000)
    assert rivals.count(1000) == 2
    assert rivals.next_end() == 11_000
    assert rivals.count(11_000) == 0
    assert not Rivals(first.sender).heard(first, 1000)
