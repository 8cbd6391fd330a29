"""The loop from events to commands: its order, what it does when the disk is full, who carries out what."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from support.protocol_world import START, World

from mlnet.driver.book import FileBook, MemoryBook
from mlnet.driver.data_dir import opened
from mlnet.driver.journal import replay
from mlnet.driver.loop import DriverLoop, Executor
from mlnet.driver.parties import WORKING, ClientParty, Leave, NodeParty
from mlnet.errors import LocalProtocolError
from mlnet.protocol.commands import Command, End, Publish, Send, SetTimer
from mlnet.protocol.events import Event, Received, StopWaiting, TimerFired, TrainingProgressed
from mlnet.protocol.phases import ClientPhase
from mlnet.protocol.wire.messages import CancelTask
from mlnet.simulation.scenario import Run, Scenario

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Recording(MemoryBook):
    """Notes when it is written, between the commands."""

    def __init__(self, me: str, happened: list[str]) -> None:
        super().__init__(me)
        self.happened = happened

    def write(self, task: str, now: int, event: Event, commands: Any) -> None:
        self.happened.append("written")
        super().write(task, now, event, commands)


def said(log: list[tuple[str, Command]], name: str, since: int) -> list[Command]:
    return [command for owner, command in log[since:] if owner == name]


def test_a_step_is_written_down_before_its_commands_are_carried_out() -> None:
    world = World(1)
    client = world.client(world.submit())
    node = world.node(world.nodes[0])
    happened: list[str] = []
    loop = DriverLoop(
        NodeParty(node),
        Recording(node.signer.peer_id, happened),
        lambda task, command: happened.append(type(command).__name__),
        lambda: START,
    )
    loop.dispatch(client.task, Received(client.announcement))
    assert happened[0] == "written"
    assert {"Send", "PrepareRedis"} & set(happened[1:])
    assert "written" not in happened[1:]


def test_an_unknown_command_is_refused_by_name() -> None:
    execute = Executor("a client", {End: lambda task, command: None})
    execute("task", End("failed"))
    with pytest.raises(LocalProtocolError, match="a client does not know how to carry out SetTimer"):
        execute("task", SetTimer("deadline", 1))


def commands() -> set[type[Command]]:
    """All that machines ask for, and drivers of themselves."""
    found, new = set[type[Command]](), {Command}
    while new:
        new = {sub for one in new for sub in one.__subclasses__()} - found
        found |= new
    return found


def test_every_command_has_somebody_who_carries_it_out() -> None:
    world = World(1)
    party = next(iter(Run(Scenario(1, "calm")).world.parties.values()))
    simulated = set(Run(Scenario(1, "calm")).world._handlers(party))
    tested = set(world._handlers(world.nodes[0]))
    assert simulated == tested == commands() - {Leave}


# ------------------------------------------------------------------------------------- a disk that is full


@pytest.mark.parametrize("who", ["node0", "client"])
def test_a_party_that_cannot_write_ends_with_one_word_and_a_reason(
    who: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(2)
    peer = world.submit()
    client = world.client(peer)
    world.run(until=lambda: client.phase not in (ClientPhase.GATHERING, *WORKING))
    assert not client.ended
    (victim,) = [one for one, name in world.names.items() if name == who]
    world.parties[victim].book.failure = FULL
    since = len(world.log)
    with caplog.at_level(logging.ERROR):
        world.run()
    words = said(world.log, who, since)
    spoken = {one.message.envelope.yaml for one in words if isinstance(one, Send | Publish)}
    own = [one for one in words if isinstance(one, Send) and one.message.sender == victim]
    assert len({one.message.envelope.yaml for one in own}) <= 1, spoken
    assert world.ends[who] == End("failed", world.ends[who].reason, "StorageError")
    assert not world.parties[victim].book.records
    assert "cannot be written: No space left on device" in caplog.text
    if who == "client":
        assert "the client cannot write to its disk: No space left on device" in world.ends[who].reason
        assert isinstance(own[-1].message.body, CancelTask)
    else:
        assert "the node cannot write to its disk: No space left on device" in world.ends[who].reason


def test_a_task_that_cannot_be_written_down_is_not_announced() -> None:
    world = World(1)
    before = world.client(world.submit())
    client = type(before)(
        before.signer, before.announcement, before.definition, before.deadlines, before.dataset
    )
    book, done = MemoryBook(client.me), list[Command]()
    book.failure = FULL
    loop = DriverLoop(ClientParty(client), book, lambda _, command: done.append(command), world.clock)
    loop.dispatch(client.task, Received(client.announcement))
    problem = "the client cannot write to its disk: No space left on device"
    assert done == [Leave(problem, resumable=False)]
    assert not book.records


def test_a_client_whose_nodes_work_leaves_its_task_to_a_later_process() -> None:
    world = World(2)
    peer = world.submit()
    client = world.client(peer)
    world.run(until=lambda: client.phase is ClientPhase.TRAINING)
    book, done = world.parties[peer].book, list[Command]()
    book.failure = FULL
    loop = DriverLoop(ClientParty(client), book, lambda _, command: done.append(command), world.clock)
    loop.dispatch(client.task, TrainingProgressed(client.attempt))
    assert done == [Leave("the client cannot write to its disk: No space left on device", resumable=True)]
    assert client.task in book.records


def test_a_node_whose_result_is_said_goes_on_in_silence() -> None:
    world = World(2)
    client = world.client(world.submit())
    peer = world.nodes[0]
    world.run(until=lambda: any(member.result_said for member in world.node(peer).members.values()))
    book, since = world.parties[peer].book, len(world.log)
    book.failure = FULL
    world.give(peer, client.task, TimerFired("nothing"))
    assert client.task in world.node(peer).members
    assert client.task in book.records
    assert not [one for one in said(world.log, "node0", since) if isinstance(one, Send | Publish)]


def test_a_transcript_that_cannot_be_written_ends_no_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The journal says what was signed; the transcript is for whoever asks later."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    world = World(1)
    client = world.client(world.submit())
    with opened(tmp_path / "party") as state:
        (tmp_path / "party" / "transcripts").write_text("in the way")
        book = FileBook(state, client.me, notes_begun=False)
        done: list[Command] = []
        again = type(client)(
            client.signer, client.announcement, client.definition, client.deadlines, client.dataset
        )
        loop = DriverLoop(ClientParty(again), book, lambda _, command: done.append(command), world.clock)
        for event in (Received(client.announcement), StopWaiting()):
            loop.dispatch(client.task, event)
        assert any(isinstance(one, Publish) for one in done)
        assert not any(isinstance(one, End | Leave) and "disk" in str(one) for one in done)
        assert len(list(replay(state.journal(client.task), client.signer.verify))) == 2
        assert caplog.text.count("cut short") == 1
        assert book.remove(client.task)
        assert not state.journal(client.task).exists()
        book.close_all()
