"""What a node bears beside its tasks: many watchers of one of them, and overload while one is carried out.

::

    python tests/load/goals.py [--goal watchers] [--goal overload] [--seconds 60] [--json]

Exit code 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from benchmarks.measure import machine
from load import ghz, nodes
from load.envelopes import DATA, write
from load.processes import Server, processor_seconds, resident_bytes
from support.cluster import EXAMPLE, mission

from mlnet.util import yaml12, yaml_writer
from mlnet.v1 import tasks_pb2, tasks_pb2_grpc

MEMBERS = 3
WATCHERS, EVENTS = 500, 60
"""Watchers, and the events after which each has enough."""
CORE_SHARE = 0.10
"""Of a core that those watchers may cost at ten events a second."""
TIMES_CAPACITY = 4
SLOWER = 1.3
"""How many times as long a task may take under overload."""
GROWTH = 1.10
"""How much more memory the last third of an overload may take than the first."""
SHED = "ResourceExhausted"


class Goal(msgspec.Struct, frozen=True):
    """A goal and what was measured.

    Attributes:
        what: it is about.
        value: that was measured.
        most: that is allowed.
    """

    what: str
    value: float
    most: float

    @property
    def is_met(self) -> bool:
        """Whether it is."""
        return self.value <= self.most


def definition(epochs: int) -> str:
    """The example's task, for three nodes that are there."""
    plain: Any = yaml12.load(EXAMPLE.read_text())
    plain["ml"]["optimizer"]["epochs"] = epochs
    plain["cluster"] = {"waiting-period": "20s", "min-nodes": MEMBERS, "max-nodes": MEMBERS}
    return yaml_writer.dump_block(plain)


class Loaded:
    """A node that is called, with others that train for it.

    Args:
        server: the node.
        program: ghz.
    """

    def __init__(self, server: Server, program: Path) -> None:
        self.server, self.program = server, program
        self._way = nodes.Way(server, DATA)

    def with_stub(self, use: Callable[[Any], Any]) -> Any:
        """What some calls result in; blocks."""
        with self._way.channel() as channel:
            return use(tasks_pb2_grpc.TasksServiceStub(channel))  # type: ignore[no-untyped-call]

    def submit(self, epochs: int) -> str:
        """Begin a task; its id."""
        request = tasks_pb2.SubmitRequest(definition=definition(epochs))
        answer = self.with_stub(lambda stub: stub.Submit(request, timeout=60))
        return str(answer.task.id)

    def wait(
        self, task: str, state: tasks_pb2.TaskState = tasks_pb2.TASK_STATE_UNSPECIFIED
    ) -> tasks_pb2.Event:
        """The event with which a task reaches a state, or its end."""

        def follow(stub: Any) -> Any:
            request = tasks_pb2.WatchRequest(task=task, until_state=state)
            events = [one.event for one in stub.Watch(request, timeout=600) if one.HasField("event")]
            return events[-1]

        event: tasks_pb2.Event = self.with_stub(follow)
        return event

    async def ghz(self, seconds: float, *arguments: str) -> dict[str, Any]:
        """The report of a run."""
        return await ghz.run(self.program, [*arguments, self.server.address], seconds)


async def watchers(loaded: Loaded) -> list[Goal]:
    """What many watchers of one training cost: the node's processor time with them, less that without."""
    task = await asyncio.to_thread(loaded.submit, 100_000)
    event = await asyncio.to_thread(loaded.wait, task, tasks_pb2.TASK_STATE_TRAINING)
    assert event.state == tasks_pb2.TASK_STATE_TRAINING, event
    await _events(loaded, task, EVENTS)
    before, at = processor_seconds(loaded.server.pid), time.monotonic()
    await _events(loaded, task, EVENTS)
    alone = (processor_seconds(loaded.server.pid) - before) / EVENTS
    rate = EVENTS / (time.monotonic() - at)
    write(
        DATA / "watchers.json",
        [{"task": task, "fromRevision": await _revision(loaded, task) + 1, "maxEvents": EVENTS}],
    )
    before = processor_seconds(loaded.server.pid)
    report = await loaded.ghz(
        EVENTS / rate,
        *("--config", "tests/load/watch.json", "--data-file", str(DATA / "watchers.json")),
        *("--concurrency", str(WATCHERS), "--total", str(WATCHERS), "--duration", "0", "--timeout", "300s"),
    )
    took = processor_seconds(loaded.server.pid) - before - alone * EVENTS
    await asyncio.to_thread(
        loaded.with_stub, lambda stub: stub.Cancel(tasks_pb2.CancelRequest(task=task), timeout=20)
    )
    codes = report["statusCodeDistribution"]
    each = took / (WATCHERS * EVENTS)
    sys.stderr.write(f"{rate:.1f} events a second; {each * 1e6:.0f} us for an event and a watcher; {codes}\n")
    return [
        Goal("watches that did not end well", WATCHERS - codes.get("OK", 0), 0),
        Goal(f"core for {WATCHERS} watchers at 10 events a second", each * WATCHERS * 10, CORE_SHARE),
    ]


async def _revision(loaded: Loaded, task: str) -> int:
    request = tasks_pb2.GetRequest(task=task)
    answer = await asyncio.to_thread(loaded.with_stub, lambda stub: stub.Get(request, timeout=20))
    return int(answer.task.revision)


async def _events(loaded: Loaded, task: str, count: int) -> None:
    """Wait for so many events."""
    request = tasks_pb2.WatchRequest(
        task=task, from_revision=await _revision(loaded, task) + 1, max_events=count
    )
    await asyncio.to_thread(loaded.with_stub, lambda stub: list(stub.Watch(request, timeout=300)))


async def overload(loaded: Loaded, seconds: float) -> list[Goal]:
    """What happens when more is asked than the node can do, and to a task meanwhile."""
    status = ("--config", "tests/load/status.json", "--duration")
    capacity = (await loaded.ghz(3, *status, "3s"))["rps"]
    alone = await _timed(loaded)
    wanted = ("--rps", str(int(capacity * TIMES_CAPACITY)), "--concurrency", "2000", "--connections", "4")
    loading = asyncio.ensure_future(loaded.ghz(seconds, *status, f"{seconds:g}s", *wanted))
    sampling = asyncio.ensure_future(_memory(loaded.server.pid, loading))
    meanwhile = await _timed(loaded)
    report, memory = await loading, await sampling
    codes = report["statusCodeDistribution"]
    third = len(memory) // 3
    sys.stderr.write(
        f"capacity {capacity:,.0f}/s; {report['rps']:,.0f}/s asked, {codes}; a task took {alone:.1f} s alone,"
        f" {meanwhile:.1f} s meanwhile; {memory[0] >> 20} to {memory[-1] >> 20} MiB\n"
        f"{report.get('errorDistribution')}\n"
    )
    return [
        Goal("errors other than refusals", sum(codes.values()) - codes.get("OK", 0) - codes.get(SHED, 0), 0),
        Goal("a task's time, of that alone", meanwhile / alone, SLOWER),
        Goal(
            "memory at the end, of that at the beginning",
            statistics.median(memory[-third:]) / statistics.median(memory[:third]),
            GROWTH,
        ),
    ]


async def _timed(loaded: Loaded) -> float:
    """Seconds that a whole task takes."""
    at = time.monotonic()
    event = await asyncio.to_thread(lambda: loaded.wait(loaded.submit(12)))
    if event.state != tasks_pb2.TASK_STATE_COMPLETED:
        raise RuntimeError(f"the task ended otherwise: {event.ended}")
    return time.monotonic() - at


async def _memory(pid: int, loading: asyncio.Future[Any]) -> list[int]:
    """Bytes, every half second until the load is over."""
    found = [resident_bytes(pid)]
    while not loading.done():
        await asyncio.wait((loading,), timeout=0.5)
        found.append(resident_bytes(pid))
    return found


@asynccontextmanager
async def cluster(program: Path) -> AsyncIterator[Loaded]:
    """A node that is the client, and those that train."""
    async with mission(0) as running:
        address = f"127.0.0.1:{nodes.free_port()}"
        node = await running.start_one("--api", address, "--api-open", *nodes.ROOTS)
        await running.start(MEMBERS)
        yield Loaded(Server(address, node.process.pid), program)


async def measure(goals: Sequence[str], seconds: float, program: Path) -> list[Goal]:
    """Start everything, and measure."""
    found: list[Goal] = []
    async with cluster(program) as loaded:
        if "watchers" in goals:
            found += await watchers(loaded)
        if "overload" in goals:
            found += await overload(loaded, seconds)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--goal", action="append", choices=("watchers", "overload"), help="default: both")
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        program = ghz.build()
    except ghz.NoGhz as error:
        sys.stderr.write(f"{error}\n")
        return 2
    found = asyncio.run(measure(options.goal or ("watchers", "overload"), options.seconds, program))
    if options.json:
        sys.stdout.write(msgspec.json.encode({"machine": machine(), "goals": found}).decode() + "\n")
    else:
        for goal in found:
            met = "met" if goal.is_met else "not met"
            sys.stdout.write(f"| {goal.what} | <= {goal.most:g} | {goal.value:.2f} | {met} |\n")
    return 0 if all(goal.is_met for goal in found) else 1


if __name__ == "__main__":
    sys.exit(main())
