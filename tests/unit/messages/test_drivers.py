"""What a client and a node say when their disk, their files or their neighbours fail them."""

from __future__ import annotations

import asyncio
import errno
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace as Has
from typing import Any, cast

import pytest
from support.message_cases import Case, check
from support.protocol_world import World

from mlnet.client import meeting, submission
from mlnet.client.scoring import Scorer
from mlnet.client.submission import Submission
from mlnet.client.task_client import TaskClient
from mlnet.driver import book, journal, loop, messenger
from mlnet.driver.data_dir import State, opened
from mlnet.driver.parties import NodeParty
from mlnet.driver.peer_clocks import PeerClocks
from mlnet.errors import MlnetError, TransportError
from mlnet.identity.keys import Identity
from mlnet.net.types import DialBack
from mlnet.node import gloo_tunnel, liveness, server, task, training
from mlnet.node.redis import TaskRedis
from mlnet.protocol.commands import Command, End, FetchModel, Introduce, Publish, Send, TrainingAssignment
from mlnet.protocol.events import Received
from mlnet.protocol.node import Step
from mlnet.protocol.phases import ClientPhase
from mlnet.protocol.wire.messages import TaskFailedBody
from mlnet.task.segments import Segment
from mlnet.util import clock

PEER = "12D3KooWPRvhsWVsLj8XPC4wndRzoGeqAMbBRSNUfYdAtvJD9wro"
ADDRESS = f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER}"
FULL = OSError(errno.ENOSPC, "No space left on device")
TASK = "ab" * 32


def awaited(make: Callable[[Path], Awaitable[object]]) -> Case:
    async def result(directory: Path) -> object:
        return await make(directory)

    return lambda directory: asyncio.run(result(directory))


def logged(module: Any, act: Case) -> Case:
    """What is logged by a module and by the loop, and said or raised at last."""

    def case(directory: Path) -> str:
        lines: list[str] = []

        def note(words: str, *parts: object, **_: object) -> None:
            lines.append(words % parts)

        with pytest.MonkeyPatch.context() as patch:
            for where in (module, loop):
                patch.setattr(where, "logger", Has(error=note, warning=note))
            try:
                found = act(directory)
            except MlnetError as error:
                found = error
        return "\n".join([*lines, *([str(found)] if found is not None else [])])

    return case


def party(directory: Path) -> State:
    """A data directory, whose lock is let go at once."""
    with opened(directory / "data") as state:
        return state


class FullDisk:
    """A book that cannot be written."""

    def __init__(self, removed: bool = True) -> None:
        self.removed = removed

    def write(self, *_: object) -> None:
        raise FULL

    def remove(self, _: str) -> bool:
        return self.removed

    def close(self, _: str) -> None:
        return

    def close_all(self) -> None:
        return


def submitted(act: Callable[[Submission, World], object], *, removed: bool = True) -> Case:
    """What ends a submission whose journal cannot be written any more, after what is done to it."""

    async def drained(_: float) -> None:
        return None

    async def run(directory: Path) -> str:
        world = World(3)
        peer = world.submit()
        handlers = dict.fromkeys((Send, Publish, Introduce), lambda task, command: None)
        wire = Has(handlers=handlers, drain=drained, signer=world.parties[peer].signer)
        machine, state = world.client(peer), party(directory)
        made = Submission(machine, cast(Any, wire), state, {}, directory / "out", None, lambda _: None)
        state.prepared(made.task).joinpath("journal").touch()
        made._book = made._loop._book = cast(Any, FullDisk(removed))
        act(made, world)
        return (await asyncio.wait_for(made.result(), 5)).reason

    return masked(logged(submission, awaited(run)))


def test_a_client_whose_disk_is_full(tmp_path: Path) -> None:
    def announces(made: Submission, _: World) -> None:
        with pytest.raises(MlnetError):
            made.announce()

    def gathers(made: Submission, world: World) -> None:
        world.run(1)
        made.close_enrolment()

    def trains(made: Submission, world: World) -> None:
        world.run(until=lambda: made.machine.phase is ClientPhase.TRAINING)
        made.close_enrolment()

    def loses_its_files(made: Submission, world: World) -> None:
        made._state.discard(made.task)
        trains(made, world)

    def ends(made: Submission, _: World) -> None:
        made._end(TASK, End("failed", "training failed: out of memory", "TrainingError"))

    async def nobody(_: Path) -> object:
        return await Scorer.fetch(cast(Scorer, None), FetchModel(TASK, 1, (), ()))

    check(
        "full-disks",
        {
            "before the announcement": submitted(announces),
            "while nodes answer": submitted(gathers),
            "in training": submitted(trains),
            "in training, and its files are gone": submitted(loses_its_files),
            "a journal that stays": submitted(ends, removed=False),
            "no member has the model": awaited(nobody),
        },
        tmp_path,
    )


def masked(case: Case) -> Case:
    """What a case says without the ids of tasks."""

    def shortened(directory: Path) -> str:
        try:
            text = str(case(directory))
        except MlnetError as error:
            text = str(error)
        return re.sub(r"\b[0-9a-f]{12}(?:[0-9a-f]{52})?\b", "TASK", text)

    return shortened


def test_a_node_whose_disk_is_full(tmp_path: Path) -> None:
    def muted(_: Path) -> str:
        """A member cannot write down that it was named."""
        world = World(3)
        world.submit()
        world.run(until=lambda: world.node(world.nodes[0]).members != {})
        node = world.node(world.nodes[0])
        ((name, member),) = node.members.items()
        step = Step(name, Received(member.announcement), world.now, [], member)
        said: list[Command] = []
        driven = loop.DriverLoop(
            NodeParty(node), FullDisk(), lambda _, command: said.append(command), world.clock
        )
        driven.carry_out(step)
        bodies = [one.message.body for one in said if isinstance(one, Send)]
        return "\n".join(body.reason for body in bodies if isinstance(body, TaskFailedBody))

    def ended(directory: Path) -> None:
        serving = Has(
            _timers=Has(clear=lambda task: None),
            _book=FullDisk(removed=False),
            _runs={},
            _unrecorded={},
            _later=lambda job: job.close(),
            _discard=lambda *_, **__: Has(close=lambda: None),
            _show=lambda task, command: None,
            _state=party(directory),
        )
        server.NodeServer._end(cast(Any, serving), TASK, End("completed"))

    def transcribed(directory: Path) -> None:
        state = party(directory)
        path = state.transcript(TASK)
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.touch()
        world = World(1)
        announcement = world.client(world.submit()).announcement
        book._TaskFiles(state, PEER, TASK)._transcribe(Received(announcement), [])

    def unwritable(directory: Path) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Identity, "_store", raising(PermissionError(errno.EACCES, "Permission denied")))
            return Identity.load_or_create(directory / "identity.key")

    check(
        "full-disks-of-nodes",
        {
            "a member's journal": masked(logged(server, muted)),
            "a journal that stays": masked(logged(server, ended)),
            "a transcript": masked(logged(book, transcribed)),
            "an identity": unwritable,
        },
        tmp_path,
    )


def raising(error: Exception) -> Callable[..., Any]:
    def function(*_: object, **__: object) -> object:
        raise error

    return function


def test_tasks_that_cannot_be_resumed(tmp_path: Path) -> None:
    def resumed(begin: Callable[[State, World], object]) -> Case:
        async def resume(directory: Path) -> object:
            world, state = World(1), party(directory)
            client = world.client(world.submit())
            state.prepared(client.task)
            begin(state, world)
            asking = Has(_state=state, wire=Has(signer=client.signer))
            return await TaskClient.resume(cast(Any, asking), client.task)

        return masked(awaited(resume))

    def empty(state: State, world: World) -> None:
        state.journal(world.client(world.clients[0]).task).touch()

    def bare(state: State, world: World) -> None:
        client = world.client(world.clients[0])
        written = journal.Journal(state.journal(client.task))
        written.append(world.now, Received(client.announcement), durable=False)
        written.close()

    check(
        "resumes",
        {"an empty journal": resumed(empty), "a journal alone": resumed(bare)},
        tmp_path,
    )


def test_neighbours(tmp_path: Path) -> None:
    async def met(_: Path) -> None:
        """Nothing came within the time, and nothing is known of why."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(meeting, "CONNECT_SECONDS", 0.01)
            await meeting.Meeting((ADDRESS,), lambda text: None).wait(())

    def silent(_: Path) -> object:
        said: list[str] = []
        wire = Has(
            network=Has(connected_peers=list),
            _named=(PEER,),
            _told=set(),
            signer=Has(peer_id=""),
            _handlers=Has(
                on_unreachable=lambda peer, why: said.append(f"peer {peer} does not answer: {why}")
            ),
        )
        messenger.Wire._look_for_silent(cast(Any, wire))
        return said[0]

    def stepped(milliseconds: int) -> Case:
        def case(_: Path) -> object:
            said: list[str] = []
            times = iter((0, milliseconds))
            wire = Has(
                _steps=clock.Steps(lambda: next(times), lambda: 0),
                network=Has(connected_peers=list),
                _handlers=Has(on_notice=said.append),
                clocks=PeerClocks(),
            )
            messenger.Wire._look_at_clock(cast(Any, wire))
            return said[0]

        return case

    async def lost(_: Path) -> None:
        async def gone(*_: object) -> None:
            return

        await liveness._watch(cast(Any, Has(lost=gone)), PEER, 5.0)

    async def alone(_: Path) -> object:
        options = Has(deadlines=Has(pings=100))
        redis = Has(_server=Has(port=1), _wire=Has(network=Has(connected_peers=list)), _options=options)
        found: tuple[DialBack, int] = await TaskRedis.dialled_back(cast(Any, redis))
        return found[0].reason

    check(
        "neighbours",
        {
            "no peer answers": awaited(met),
            "a peer that is silent": silent,
            "a clock that is set forward": stepped(90_000),
            "a clock that is set back": stepped(-7_200_000),
            "a member that is lost": awaited(lost),
            "nobody to test a port": awaited(alone),
        },
        tmp_path,
    )


async def not_released(directory: Path) -> None:
    async def stopped() -> None:
        raise FULL

    ended = Has(drop_segments=lambda: None, stop=stopped)
    run = Has(
        task=TASK,
        _jobs=set(),
        _runtime=directory / "run",
        _place=lambda: directory,
        _training=ended,
        _redis=ended,
    )
    await task.NodeTask.release(cast(Any, run))


async def broken(_: Path) -> object:
    said: list[str] = []
    failed = asyncio.get_running_loop().create_future()
    failed.set_exception(FULL)
    run = Has(task=TASK, _jobs=set(), _tell=lambda event: said.append(event.reason))
    task.NodeTask._job_done(cast(Any, run), cast(Any, failed))
    return said[0]


async def removed(directory: Path) -> None:
    made = gloo_tunnel.GlooTunnelServer(cast(Any, None), directory / "gone" / "c", TASK, 1, (PEER,))
    try:
        made.start()
    finally:
        await made.stop()


async def no_tunnel(_: Path) -> object:
    said: list[str] = []
    asking = Has(_task=TASK, _attempt=1, _nodes=(PEER,), _ways=[])
    asking._network = Has(forward=raising(TransportError("there is no such peer")))
    asking._answer = lambda trainer, text: said.append(text)
    await gloo_tunnel.GlooTunnelServer._open(
        cast(Any, asking), cast(Any, None), 0, cast(Any, Has(close=list))
    )
    return said[0]


def test_tasks_of_a_node(tmp_path: Path) -> None:
    segment = Segment("cd" * 32, 1 << 30, 100)
    plan = TrainingAssignment("ab" * 32, (PEER,), PEER, PEER, (segment,) * 8, ("",) * 8, 64, 10, ("",))

    def training_(**parts: object) -> Any:
        wire = Has(network=Has(peer_id=PEER))
        return Has(**{"_wire": wire, "_trainer": None, "_redis": Has(narrow=lambda peers: None)} | parts)

    async def not_started(_: Path) -> object:
        return await training.TaskTraining._trained(training_(), 1, plan, lambda: None)

    async def without_result(_: Path) -> object:
        async def nothing(_: object) -> AsyncIterator[object]:
            for event in tuple[object, ...]():
                yield event

        async def done(*_: object) -> dict[int, Path]:
            return {}

        async def never() -> None:
            await asyncio.Event().wait()

        made = training_(_trainer=Has(run=nothing), _fetch_segments=done, _request=done, died=never)
        return await training.TaskTraining._trained(made, 1, plan, lambda: None)

    async def too_large(_: Path) -> object:
        made = training_(_options=Has(disk=1 << 20))
        return await training.TaskTraining._fetch_segments(made, 1, plan, 0)

    check(
        "node-tasks",
        {
            "no trainer": awaited(not_started),
            "a trainer without a result": awaited(without_result),
            "segments that are too large": awaited(too_large),
            "a task that is not cleared away": logged(task, awaited(not_released)),
            "a task that cannot go on": logged(task, awaited(broken)),
            "a directory for sockets that is gone": awaited(removed),
            "no tunnel to a member": logged(gloo_tunnel, awaited(no_tunnel)),
        },
        tmp_path,
    )
