"""TasksService over nodes that meet in memory: what callers get, and what a crash or a restart leaves."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from support.broken_disk import MODEL, Hub, in_one_process, small_task, tensors

from mlnet.driver.options import NodeOptions
from mlnet.errors import DataError, HashMismatch, MlnetError, ServiceError, TaskError
from mlnet.node.server import NodeServer, running
from mlnet.protocol.commands import Report
from mlnet.protocol.node import Terms
from mlnet.protocol.wire.messages import Resources
from mlnet.service.tasks import history, listing, servicer
from mlnet.service.tasks.asking import Rules
from mlnet.service.tasks.hosted import HostedTask
from mlnet.service.tasks.hosting import hosting
from mlnet.service.tasks.registry import TaskBounds
from mlnet.service.tasks.servicer import TasksService
from mlnet.v1 import tasks_pb2 as pb

SECONDS = 10.0


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return in_one_process(monkeypatch)


@dataclass
class Node:
    """A node with its service, and a caller's side of it."""

    server: NodeServer
    service: TasksService
    base: Path

    async def submit(self, file: Path, **fields: Any) -> pb.Task:
        request = pb.SubmitRequest(definition=file.read_text(), **fields)  # noqa: ASYNC240
        return (await self.service.Submit(request, None)).task

    async def get(self, task: str) -> pb.Task:
        return (await self.service.Get(pb.GetRequest(task=task), None)).task

    async def watch(self, task: str, **fields: Any) -> list[pb.Event]:
        caller = Caller()
        async with asyncio.timeout(SECONDS):
            await self.service.Watch(pb.WatchRequest(task=task, **fields), caller)
        return caller.events

    async def download(self, task: str, offset: int = 0) -> list[pb.DownloadResponse]:
        return [
            piece async for piece in self.service.Download(pb.DownloadRequest(task=task, offset=offset), None)
        ]

    async def page(self, **fields: Any) -> pb.ListResponse:
        return await self.service.List(pb.ListRequest(**fields), None)


@dataclass
class Caller:
    """Takes what a stream writes; waits, if it is a slow one."""

    shown: list[pb.WatchResponse] = field(default_factory=list)
    may_take: asyncio.Event | None = None

    async def write(self, payload: bytes) -> None:
        if self.may_take is not None:
            await self.may_take.wait()
        self.shown.append(pb.WatchResponse.FromString(payload))

    @property
    def events(self) -> list[pb.Event]:
        return [one.event for one in self.shown if one.HasField("event")]


@asynccontextmanager
async def node(
    base: Path, name: str = "me", *, rules: Rules | None = None, bounds: TaskBounds | None = None
) -> AsyncIterator[Node]:
    """A node that serves callers."""
    options = NodeOptions(base / name, terms=Terms(Resources(8192, 4)))
    served = rules or Rules((base,), (base,))
    async with running(options) as server, hosting(server, served, bounds) as service:
        yield Node(server, service, base / name)


@asynccontextmanager
async def members(base: Path, number: int) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for index in range(number):
            options = NodeOptions(base / f"n{index}", terms=Terms(Resources(8192, 4)))
            await stack.enter_async_context(running(options))
        yield


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - all of it happens in this process
            await asyncio.sleep(0)


def tell_again(me: Node) -> None:
    """The network in memory tells newcomers nothing by itself."""
    for announcement in me.server.client.open_tasks():
        me.server.wire.network.publish(announcement.envelope)


def check_numbers(events: list[pb.Event], first: int = 1) -> None:
    assert [event.revision for event in events] == list(range(first, first + len(events)))


async def refused(call: Any) -> ServiceError:
    with pytest.raises(ServiceError) as error:
        await call
    return error.value


async def test_from_the_submission_to_the_model(tmp_path: Path) -> None:
    async with members(tmp_path, 2), node(tmp_path) as me:
        task = await me.submit(small_task(tmp_path, max_nodes=2))
        assert (task.state, task.phase, task.name) == (pb.TASK_STATE_GATHERING, "gathering", "d.npz")
        events = await me.watch(task.id[:4])
        check_numbers(events)
        assert events[-1].ended == pb.TaskEnded(state=pb.TASK_STATE_COMPLETED)
        kinds = [event.WhichOneof("kind") for event in events]
        assert {"phase", "answer", "members", "committee", "pings", "bound", "order", "model", "rewards"} <= {
            *kinds
        }
        assert [event.state for event in events] == sorted(event.state for event in events)
        done = await me.get(task.id)
        assert done.revision == len(events)
        assert done.result.held_out_accuracy == 0.9
        assert set(done.members) == set(done.result.rewards_micro)
        assert me.server.peer_id not in done.members
        pieces = await me.download(task.id)
        data = b"".join(piece.data for piece in pieces)
        assert tensors(data) == tensors(MODEL)
        assert hashlib.sha256(data).hexdigest() == pieces[0].file_sha256 == done.result.model_sha256
        assert all(hashlib.sha256(piece.data).digest() == piece.sha256 for piece in pieces)
        assert b"".join(piece.data for piece in await me.download(task.id, offset=7)) == data[7:]
        lines = [one.lines async for one in me.service.Transcript(pb.TranscriptRequest(task=task.id), None)]
        assert b"".join(lines).count(b"\n") > 5
        assert not list((me.base / "client" / "tasks").iterdir())


async def test_a_node_that_is_killed_goes_on_with_its_task_and_its_events(tmp_path: Path) -> None:
    file = small_task(tmp_path, max_nodes=2)
    async with members(tmp_path, 1):
        async with node(tmp_path) as me:
            task = await me.submit(file, idempotency_token="once")
            seen = await me.watch(task.id, max_events=2)
            shutil.copytree(tmp_path / "me", tmp_path / "crashed", ignore=shutil.ignore_patterns("mlnet.*"))
        async with node(tmp_path, "crashed") as again:
            following = asyncio.create_task(again.watch(task.id, from_revision=3))
            assert await again.watch(task.id, max_events=2) == seen
            same = await again.submit(file, idempotency_token="once")
            assert same.id == task.id
            other = pb.SubmitRequest(definition=file.read_text() + "\n", idempotency_token="once")
            assert (await refused(again.service.Submit(other, None))).status == "ALREADY_EXISTS"
            options = NodeOptions(tmp_path / "late", terms=Terms(Resources(8192, 4)))
            async with running(options) as late:
                tell_again(again)
                events = await following
                assert late.peer_id in {event.answer.peer for event in events}
            check_numbers(events, first=3)
            assert events[0].notice.text == "the node was started again, and has taken the task up"
            assert events[-1].ended.state == pb.TASK_STATE_COMPLETED
            check_numbers(await again.watch(task.id))


async def test_reports_that_a_crash_kept_from_the_disk_are_made_up_for(tmp_path: Path) -> None:
    async with members(tmp_path, 1):
        async with node(tmp_path) as me:
            task = await me.submit(small_task(tmp_path, max_nodes=2))
            seen = await me.watch(task.id, max_events=2)
            shutil.copytree(tmp_path / "me", tmp_path / "crashed", ignore=shutil.ignore_patterns("mlnet.*"))
        # The answer is in the journal, and its event was being written.
        path = tmp_path / "crashed" / "client" / "kept" / task.id / "events"
        path.write_bytes(path.read_bytes()[:-1])
        async with node(tmp_path, "crashed") as again:
            (first, second, third) = await again.watch(task.id, max_events=3)
            assert first == seen[0]
            assert second.answer == seen[1].answer
            assert third.HasField("notice")


async def test_a_crash_between_record_and_journal_leaves_nothing(tmp_path: Path) -> None:
    async with node(tmp_path) as me:
        task = await me.submit(small_task(tmp_path, max_nodes=2), idempotency_token="x")
    kept = tmp_path / "me" / "client" / "kept" / task.id
    (kept / "events").unlink()
    shutil.rmtree(tmp_path / "me" / "client" / "tasks" / task.id)
    async with node(tmp_path) as me:
        await until(lambda: not kept.exists())
        assert not (await me.page()).tasks
        assert (await me.submit(small_task(tmp_path, max_nodes=2), idempotency_token="x")).id != task.id


async def test_a_crash_between_the_record_of_the_end_and_its_event(tmp_path: Path) -> None:
    async with members(tmp_path, 2), node(tmp_path) as me:
        task = await me.submit(small_task(tmp_path, max_nodes=2))
        seen = await me.watch(task.id)
    path = tmp_path / "me" / "client" / "kept" / task.id / "events"
    path.write_bytes(path.read_bytes()[:-3])
    async with node(tmp_path) as again:
        assert await again.watch(task.id) == seen
        assert (await again.get(task.id)).revision == len(seen)
    async with node(tmp_path) as last:
        assert await last.watch(task.id) == seen


async def test_a_journal_that_is_damaged_ends_its_task_and_no_other(tmp_path: Path) -> None:
    async with node(tmp_path) as me:
        task = await me.submit(small_task(tmp_path, max_nodes=2))
        other = await me.submit(small_task(tmp_path, max_nodes=2))
    (tmp_path / "me" / "client" / "tasks" / task.id / "dataset.json").write_text("{")
    async with node(tmp_path) as me:
        (*_, last) = await me.watch(task.id)
        assert last.ended.state == pb.TASK_STATE_FAILED
        assert "dataset.json is missing or damaged" in last.ended.reason
        await until(lambda: bool(me.server.client.busy))
        assert (await me.get(other.id)).state == pb.TASK_STATE_GATHERING


async def test_cancelled(tmp_path: Path) -> None:
    async with members(tmp_path, 1), node(tmp_path) as me:
        task = await me.submit(small_task(tmp_path, max_nodes=2))
        await me.watch(task.id, max_events=2)
        for _ in range(2):
            await me.service.Cancel(pb.CancelRequest(task=task.id, reason="no longer wanted"), None)
        (*_, last) = await me.watch(task.id)
        assert last.ended == pb.TaskEnded(
            state=pb.TASK_STATE_CANCELLED, reason="no longer wanted", code="TaskCancelled"
        )
        await me.service.Cancel(pb.CancelRequest(task=task.id), None)
        assert (await me.get(task.id)).reason == "no longer wanted"
        with pytest.raises(ServiceError, match="has no model: no longer wanted"):
            await me.download(task.id)


async def test_a_watch_ends_where_its_caller_wants(tmp_path: Path) -> None:
    async with members(tmp_path, 2), node(tmp_path) as me:
        task = await me.submit(small_task(tmp_path, max_nodes=2))
        every = await me.watch(task.id)
        assert len(await me.watch(task.id, max_events=3)) == 3
        until_forming = await me.watch(task.id, until_state=pb.TASK_STATE_FORMING)
        assert until_forming[-1].state == pb.TASK_STATE_FORMING
        assert all(event.state < pb.TASK_STATE_FORMING for event in until_forming[:-1])
        assert await me.watch(task.id, from_revision=len(every)) == every[-1:]
        assert await me.watch(task.id, from_revision=len(every) + 1) == []
        beyond = await refused(me.watch(task.id, from_revision=len(every) + 2))
        assert beyond.status == "OUT_OF_RANGE"
        assert f"the latest event of the task is {len(every)}" in str(beyond)


async def test_history_that_is_gone_names_the_first_event_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history.History.__init__, "__kwdefaults__", {"most_events": 5, "most_bytes": 1 << 20})
    async with members(tmp_path, 2), node(tmp_path) as me:
        task = await me.submit(small_task(tmp_path, max_nodes=2))
        await until(lambda: bool(me.service._registry.ordered[0].ended))
        last = (await me.get(task.id)).revision
        gone = await refused(me.watch(task.id))
        assert gone.status == "OUT_OF_RANGE"
        assert f"the first one is {last - 4}" in str(gone)
        check_numbers(await me.watch(task.id, from_revision=last - 4), last - 4)


async def test_a_slow_watcher_holds_nobody_back(tmp_path: Path) -> None:
    slow = Caller(may_take=asyncio.Event())
    async with members(tmp_path, 2), node(tmp_path) as me:
        task = await me.submit(small_task(tmp_path, max_nodes=2))
        watching = asyncio.create_task(me.service.Watch(pb.WatchRequest(task=task.id), slow))
        events = await me.watch(task.id)
        assert slow.shown == []
        assert slow.may_take is not None
        slow.may_take.set()
        await watching
        assert slow.events == events


async def test_silence_is_told_with_what_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlnet.service.tasks.feed.SILENCE_SECONDS", 0.01)
    caller = Caller()
    async with node(tmp_path) as me:
        task = await me.submit(small_task(tmp_path, max_nodes=2))
        watching = asyncio.create_task(me.service.Watch(pb.WatchRequest(task=task.id), caller))
        await until(lambda: len(caller.shown) >= 3)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert caller.shown[1].bookmark == pb.Bookmark(
            revision=1, waiting="nodes: 0 of at most 2 have answered"
        )
        assert caller.shown[1] == caller.shown[2]


async def test_a_watch_of_a_node_that_is_stopped_is_not_taken_for_the_end_of_the_task(tmp_path: Path) -> None:
    caller = Caller()
    async with node(tmp_path) as me:
        task = await me.submit(small_task(tmp_path, max_nodes=2))
        watching = asyncio.create_task(me.service.Watch(pb.WatchRequest(task=task.id), caller))
        await until(lambda: bool(caller.events))
    cut = await refused(watching)
    assert cut.status == "UNAVAILABLE"
    assert f"from event {len(caller.events) + 1} on" in str(cut)


async def test_there_are_not_more_watchers_than_a_node_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servicer, "MAX_WATCHERS", 1)
    async with node(tmp_path) as me:
        task = await me.submit(small_task(tmp_path, max_nodes=2))
        first = asyncio.create_task(me.service.Watch(pb.WatchRequest(task=task.id), Caller()))
        await asyncio.sleep(0)
        many = await refused(me.watch(task.id))
        assert (many.status, many.retry_after) == ("RESOURCE_EXHAUSTED", 5.0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert len(await me.watch(task.id, max_events=1)) == 1


async def test_tasks_in_pages_that_do_not_move(tmp_path: Path) -> None:
    file = small_task(tmp_path, max_nodes=2)
    async with node(tmp_path) as me:
        tasks = [(await me.submit(file)).id for _ in range(5)]
        page = await me.page(page_size=2)
        found = [task.id for task in page.tasks]
        late = (await me.submit(file)).id  # what is new moves nothing
        while page.next_page_token:
            token = page.next_page_token
            page = await me.page(page_size=2, page_token=token)
            found += [task.id for task in page.tasks]
        assert sorted(found) == sorted(tasks)
        assert (await me.page(page_size=1)).tasks[0].id == late
        assert (await me.page(page_size=3, page_token=token)).tasks == page.tasks
        other = await refused(me.page(states=[pb.TASK_STATE_FAILED], page_token=token))
        assert (other.status, "another question" in str(other)) == ("INVALID_ARGUMENT", True)
        assert (await refused(me.page(page_token="?"))).status == "INVALID_ARGUMENT"
        assert (await refused(me.page(page_token="YWJj"))).status == "INVALID_ARGUMENT"
        no_time = Timestamp(seconds=1, nanos=-1)
        assert (await refused(me.page(created_after=no_time))).status == "INVALID_ARGUMENT"
        await me.service.Cancel(pb.CancelRequest(task=late), None)
        await me.watch(late)
        assert [task.id for task in (await me.page(states=[pb.TASK_STATE_CANCELLED])).tasks] == [late]
        created = (await me.get(late)).created_at
        assert len((await me.page(created_after=created)).tasks) >= 1


async def test_a_page_of_large_tasks_ends_before_it_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = small_task(tmp_path, max_nodes=2)
    async with node(tmp_path) as me:
        tasks = [(await me.submit(file)).id for _ in range(3)]
        room = max(hosted.brief().ByteSize() for hosted in me.service._registry.ordered) * 2
        monkeypatch.setattr(listing, "MAX_PAGE_BYTES", room)
        first = await me.page()
        second = await me.page(page_token=first.next_page_token)
        assert (len(first.tasks), len(second.tasks), second.next_page_token) == (2, 1, "")
        assert sorted(task.id for task in (*first.tasks, *second.tasks)) == sorted(tasks)
        monkeypatch.setattr(listing, "MAX_PAGE_BYTES", 0)  # one fits always
        assert len((await me.page()).tasks) == 1


async def test_short_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with node(tmp_path) as me:
        task = await me.submit(small_task(tmp_path, max_nodes=2))
        assert (await me.get(task.id[:4])).id == task.id
        for short in ("", task.id[:3], "xyz!", task.id.upper() + "/"):
            assert (await refused(me.get(short))).status == "INVALID_ARGUMENT"
        unknown = "0" * 64 if task.id[0] != "0" else "1" * 64
        assert (await refused(me.get(unknown))).status == "NOT_FOUND"
        registry = me.service._registry
        twin = task.id[:8] + "f" * 56
        registry._tasks[twin] = registry._tasks[task.id]
        ambiguous = await refused(me.get(task.id[:6]))
        assert (ambiguous.status, "write more" in str(ambiguous)) == ("INVALID_ARGUMENT", True)
        del registry._tasks[twin]


async def test_a_call_that_is_given_up_has_no_effect_unless_it_has_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = small_task(tmp_path, max_nodes=2)
    async with node(tmp_path) as me:
        client, begun = me.server.client, asyncio.Event()
        prepare = client._prepare

        async def noted(*arguments: Any) -> Any:
            begun.set()
            return await prepare(*arguments)

        monkeypatch.setattr(client, "_prepare", noted)
        for token in ("", "mine"):
            begun.clear()
            call = asyncio.create_task(me.submit(file, idempotency_token=token))
            await begun.wait()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        again = await me.submit(file, idempotency_token="mine")
        assert [task.id for task in (await me.page()).tasks] == [again.id]
        assert not [
            path for path in (me.base / "client" / "tasks").iterdir() if path.name.startswith("draft")
        ]


async def test_calls_with_one_token_at_once_are_one_task(tmp_path: Path) -> None:
    file = small_task(tmp_path, max_nodes=2)
    async with node(tmp_path) as me:
        tasks = await asyncio.gather(*(me.submit(file, idempotency_token="t") for _ in range(5)))
        assert len({task.id for task in tasks}) == 1
        assert (await refused(me.submit(file, idempotency_token="t" * 129))).status == "INVALID_ARGUMENT"


async def test_a_node_carries_so_many_tasks_and_no_more(tmp_path: Path) -> None:
    file = small_task(tmp_path, max_nodes=2)
    async with node(tmp_path, bounds=TaskBounds(running=1)) as me:
        task = await me.submit(file, idempotency_token="t")
        many = await refused(me.submit(file))
        assert (many.status, many.retry_after) == ("RESOURCE_EXHAUSTED", 30.0)
        assert (await me.submit(file, idempotency_token="t")).id == task.id


async def test_the_oldest_that_have_ended_are_dropped_with_the_models_that_are_ours(tmp_path: Path) -> None:
    file = small_task(tmp_path, max_nodes=2)
    async with members(tmp_path, 2), node(tmp_path, bounds=TaskBounds(kept=2)) as me:
        theirs = await me.submit(file, output=str(tmp_path / "theirs"))
        await me.watch(theirs.id)
        ours = await me.submit(file)
        await me.watch(ours.id)
        model = Path(ours.output, "model.safetensors")
        assert tensors(model.read_bytes()) == tensors(MODEL)  # noqa: ASYNC240
        for _ in range(2):
            last = await me.submit(file)
            await me.watch(last.id)
        assert len((await me.page()).tasks) == 2
        for gone in (theirs, ours):
            assert (await refused(me.get(gone.id))).status == "NOT_FOUND"
        assert not list(model.parent.parent.glob(model.parent.name))
        assert (tmp_path / "theirs" / "model.safetensors").exists()
        assert len(await me.download(last.id)) == 1


async def test_a_model_that_has_changed_is_not_handed_out(tmp_path: Path) -> None:
    async with members(tmp_path, 2), node(tmp_path) as me:
        task = await me.submit(small_task(tmp_path, max_nodes=2))
        with pytest.raises(ServiceError, match="has no model yet"):
            await me.download(task.id)
        await me.watch(task.id)
        model = Path(task.output) / "model.safetensors"
        size = model.stat().st_size
        assert [piece.data for piece in await me.download(task.id, size)] == [b""]
        with pytest.raises(ServiceError, match=f"the model has {size} bytes"):
            await me.download(task.id, size + 1)
        model.write_bytes(bytes(size))
        with pytest.raises(HashMismatch, match="no longer the model"):
            await me.download(task.id)
        model.unlink()
        with pytest.raises(ServiceError, match="cannot be read"):
            await me.download(task.id)


async def test_an_output_that_somebody_else_has_filled_leaves_the_model_with_the_node(tmp_path: Path) -> None:
    async with members(tmp_path, 1), node(tmp_path) as me:
        task = await me.submit(small_task(tmp_path, max_nodes=2), output=str(tmp_path / "out"))
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").touch()
        options = NodeOptions(tmp_path / "late", terms=Terms(Resources(8192, 4)))
        async with running(options):
            tell_again(me)
            (*_, last) = await me.watch(task.id)
        done = await me.get(task.id)
        assert (last.ended.state, last.ended.code) == (pb.TASK_STATE_COMPLETED, "StorageError")
        assert "is not empty" in last.ended.reason
        assert Path(done.output).parent == me.base / "client" / "models"
        (piece,) = await me.download(task.id)
        assert tensors(piece.data) == tensors(MODEL)


async def test_where_datasets_come_from(tmp_path: Path) -> None:
    (allowed := tmp_path / "allowed").mkdir()
    (outside := tmp_path / "outside").mkdir()
    file = small_task(outside, max_nodes=2)
    shutil.copy(outside / "d.npz", allowed / "d.npz")
    (allowed / "link.npz").symlink_to(outside / "d.npz")
    (allowed / "directory").mkdir()
    (allowed / "directory" / "inner.npz").symlink_to(outside / "d.npz")
    digest = hashlib.sha256((outside / "d.npz").read_bytes()).hexdigest()
    blobs = {digest: outside / "d.npz"}
    async with node(tmp_path, rules=Rules((allowed,), (), find_blob=blobs.get)) as me:

        async def asked(**source: Any) -> pb.Task:
            return await me.submit(file, dataset=pb.DatasetSource(**source))

        assert (await me.submit(file)).name == "d.npz"  # of the definition, below the first root
        assert (await asked(path=str(allowed / "d.npz"))).name == "d.npz"
        assert (await asked(blob_sha256=digest, name="rows.npz")).name == "rows.npz"
        forbidden = (
            outside / "d.npz",
            allowed / "link.npz",
            allowed / "directory",
            allowed / ".." / "outside",
        )
        for path in forbidden:
            denied = await refused(asked(path=str(path)))
            assert denied.status == "PERMISSION_DENIED"
            assert "does not lie below a directory" in str(denied)
        with pytest.raises(DataError, match="put it first"):
            await asked(blob_sha256="0" * 64)
        with pytest.raises(DataError, match="not a public address"):
            await asked(link="http://127.0.0.1:1/d.npz")
        (allowed / "loop").symlink_to("loop")
        for path in (allowed / "loop", allowed / "loop" / "d.npz"):
            with pytest.raises(DataError, match="cannot be reached"):
                await asked(path=str(path))
        for wrong in ({"link": "http://["}, {"path": "file://[/x"}):
            with pytest.raises(DataError, match="is no link: Invalid IPv6 URL"):
                await asked(**wrong)
        for wrong in (
            {"link": "ftp://example.org/x"},
            {"blob_sha256": "../../etc/passwd"},
        ):
            assert (await refused(asked(**wrong))).status == "INVALID_ARGUMENT"
        # Nodes are told what the definition says, and nothing of this machine.
        (announced, *_) = me.server.client.open_tasks()
        assert str(tmp_path) not in announced.envelope.yaml


async def test_what_else_a_caller_may_ask_for(tmp_path: Path) -> None:
    file = small_task(tmp_path, max_nodes=2)
    (tmp_path / "loop").symlink_to("loop")
    async with node(tmp_path) as me:
        peer = me.server.peer_id
        task = await me.submit(file, waiting_period=Duration(seconds=90), allowed_nodes=[peer])
        submission = me.server.client._submissions[task.id]
        assert submission.machine.allowed == frozenset({peer})
        assert submission.machine.definition.cluster.waiting_period == "90s"
        for wrong in (
            {"allowed_nodes": ["somebody"]},
            {"dataset": pb.DatasetSource(path=str(tmp_path / "d.npz"), name="n" * 256)},
            {"waiting_period": Duration(nanos=1)},
            {"waiting_period": Duration(seconds=1 << 30)},
            {"output": "relative"},
            {"output": "/elsewhere"},
            {"output": str(tmp_path / "loop" / "model")},
        ):
            assert (await refused(me.submit(file, **wrong))).status == "INVALID_ARGUMENT"
        with pytest.raises(MlnetError, match="is not empty"):
            await me.submit(file, output=str(tmp_path))
    async with node(tmp_path) as again:
        await until(lambda: again.server.client.busy)
        assert again.server.client._submissions[task.id].machine.allowed == frozenset({peer})


async def test_what_a_definition_amounts_to(tmp_path: Path) -> None:
    file = small_task(tmp_path, max_nodes=2)
    async with node(tmp_path) as me:

        async def validated(text: str, **fields: Any) -> pb.ValidateResponse:
            return await me.service.Validate(pb.ValidateRequest(definition=text, **fields), None)

        text = file.read_text()
        bare, full = await validated(text), await validated(text, read_dataset=True)
        assert not bare.problems
        assert bare.parameters == 0
        facts = [{tuple(line.split()) for line in one.summary} for one in (bare, full)]
        assert facts[0] < facts[1]
        assert full.parameters > 0
        assert full.warnings
        wrong = await validated(text.replace("Adam", "Adim"))
        (problem,) = wrong.problems
        assert (problem.path, problem.line > 0, not wrong.summary) == ("ml.optimizer.type", True, True)
        (problem,) = (await validated(text.replace("d.npz", "e.npz"), read_dataset=True)).problems
        assert problem.path == "ml.dataset"
        assert (await validated("")).problems
        with pytest.raises(TaskError):
            await me.submit(write(tmp_path / "empty.yaml", ""))
        assert not list((me.base / "client" / "tasks").iterdir())


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


async def test_a_node_is_never_a_member_of_its_own_task_not_even_after_a_restart(tmp_path: Path) -> None:
    async with members(tmp_path, 1):
        async with node(tmp_path) as me:
            task = await me.submit(small_task(tmp_path, max_nodes=2))
            await me.watch(task.id, max_events=2)
        async with node(tmp_path) as again:
            # The other node gives every newcomer the announcement that it has answered.
            await again.watch(task.id, max_events=3)
            assert not again.server.node.members
            assert not again.server.node.pending


async def test_what_the_operator_is_told_is_shown_to_tasks_under_way(tmp_path: Path) -> None:
    async with node(tmp_path) as me:
        task = await me.submit(small_task(tmp_path, max_nodes=2))
        for _ in range(3):
            me.server.client.meeting.on_unreachable("peer", "refused")
        (_, told) = await me.watch(task.id, max_events=2)
        assert told.notice.text == "peer peer does not answer: refused; trying on"
        assert (await me.get(task.id)).revision == 2


async def test_progress_that_comes_once_more_is_told_once(tmp_path: Path) -> None:
    def told(step: int, accuracy: float | None = None) -> Report:
        figures = {"epoch": 1, "epochs": 1, "step": step, "steps": 9, "loss": 0.5, "rank": 0}
        return Report("progress", {**figures, "accuracy": accuracy})

    def steps(events: list[pb.Event]) -> list[int]:
        return [event.progress.step for event in events if event.HasField("progress")]

    async with node(tmp_path) as me:
        task = await me.submit(small_task(tmp_path, max_nodes=2))
        (hosted,) = me.service._registry.ordered
        for report in (told(1), told(2), told(2, 0.9), told(1), told(2), told(2, 0.9), told(3)):
            hosted.observe(report)
        assert steps(await me.watch(task.id, max_events=5)) == [1, 2, 2, 3]
    async with node(tmp_path) as again:
        await again.watch(task.id, max_events=7)  # it is taken up
        (hosted,) = again.service._registry.ordered
        assert (await again.get(task.id)).progress == pb.Progress(
            epoch=1, epochs=1, step=3, steps=9, loss=0.5
        )
        for report in (told(1), told(3), told(4)):
            hosted.observe(report)
        assert steps(await again.watch(task.id, max_events=8)) == [1, 2, 2, 3, 4]
        await again.service.Cancel(pb.CancelRequest(task=task.id), None)
        await again.watch(task.id)
    async with node(tmp_path) as later:
        assert (await later.get(task.id)).progress.step == 4
        assert (await later.page()).tasks[0].progress.step == 4


async def test_the_phase_is_known_before_a_task_is_taken_up_again(tmp_path: Path) -> None:
    async with node(tmp_path) as me:
        await me.submit(small_task(tmp_path, max_nodes=2))
        (hosted,) = me.service._registry.ordered
        hosted.observe(Report("phase", {"phase": "training", "waiting": "the nodes"}))
        hosted.notice("another event")
        later = HostedTask(hosted.record, hosted._records)
        later.expect()
        assert (later.message().phase, later.state) == ("training", pb.TASK_STATE_TRAINING)
        later.close()
