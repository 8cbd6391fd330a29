"""What a node says of the tasks that it carries for its owner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from support.broken_disk import in_one_process, small_task
from support.message_cases import Case, check

from mlnet.client.result import ModelFile, Result
from mlnet.driver.options import NodeOptions
from mlnet.errors import MlnetError, StorageError
from mlnet.node.server import running
from mlnet.protocol.commands import Report
from mlnet.protocol.node import Terms
from mlnet.protocol.phases import ClientPhase
from mlnet.protocol.wire.messages import Resources
from mlnet.service.tasks import asking, hosted, listing, records, registry, sending, servicer
from mlnet.service.tasks.asking import Rules
from mlnet.service.tasks.events import Translator
from mlnet.service.tasks.hosted import HostedTask
from mlnet.service.tasks.hosting import hosting
from mlnet.service.tasks.registry import TaskBounds
from mlnet.service.tasks.servicer import TasksService
from mlnet.v1 import tasks_pb2 as pb

Act = Callable[[TasksService, Path], Awaitable[object]]


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    in_one_process(monkeypatch)


def served(act: Act, bounds: TaskBounds | None = None) -> Case:
    """What a node answers, or its watch and log show; ids of tasks masked."""

    async def run(directory: Path) -> object:
        options = NodeOptions(directory / "me", terms=Terms(Resources(8192, 4)))
        rules = Rules((directory,), (directory / "out",))
        async with running(options) as node, hosting(node, rules, bounds) as service:
            return await act(service, directory)

    def case(directory: Path) -> object:
        known: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            for module in (hosted, records, registry):
                logged = lambda words, *parts, **_: known.append(words % parts)  # noqa: E731
                patch.setattr(module, "logger", type("Log", (), {"error": logged, "warning": logged}))
            try:
                told = str(asyncio.run(run(directory)))
            except MlnetError as error:
                told = str(error)
        text = "\n".join([*known, told])
        for task in {path.name for path in directory.glob("me/client/*/*") if len(path.name) == 64}:
            text = text.replace(task, "TASK").replace(task[:12], "TASK").replace(task[:4], "TASK")
        return text

    return case


def asked(**fields: Any) -> Case:
    """What is said of a task that is asked for so."""

    async def submit(service: TasksService, directory: Path) -> object:
        text = small_task(directory, max_nodes=2).read_text()
        return await service.Submit(pb.SubmitRequest(definition=text, **fields), None)

    return served(submit)


def source(**fields: Any) -> Case:
    return asked(dataset=pb.DatasetSource(**fields))


async def submitted(service: TasksService, directory: Path, **fields: Any) -> pb.Task:
    text = small_task(directory, max_nodes=2).read_text()
    return (await service.Submit(pb.SubmitRequest(definition=text, **fields), None)).task


def raising(error: Exception) -> Callable[..., object]:
    def function(*_: object) -> object:
        raise error

    return function


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - all of it happens in this process
        await asyncio.sleep(0)


def test_tasks_that_are_not_begun(tmp_path: Path) -> None:
    async def twice(service: TasksService, directory: Path) -> object:
        await submitted(service, directory, idempotency_token="t")
        return await submitted(service, directory, idempotency_token="t", waiting_period=Duration(seconds=1))

    async def at_once(service: TasksService, directory: Path) -> object:
        first = asyncio.ensure_future(submitted(service, directory, idempotency_token="t"))
        await until(lambda: bool(service._registry._beginning))
        try:
            return await submitted(
                service, directory, idempotency_token="t", waiting_period=Duration(seconds=1)
            )
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    async def many(service: TasksService, directory: Path) -> object:
        return await submitted(service, directory)

    check(
        "tasks-that-are-not-begun",
        {
            "too many nodes": asked(allowed_nodes=["x"] * 1025),
            "no node": asked(allowed_nodes=["somebody"]),
            "a long token": asked(idempotency_token="t" * 129),
            "a long name": asked(dataset=pb.DatasetSource(path="d.npz", name="n" * 256)),
            "a token for something else": served(twice),
            "a relative output": asked(output="out"),
            "no output": asked(output="/out\0"),
            "an output elsewhere": asked(output="/out"),
            "a short waiting period": asked(waiting_period=Duration(nanos=1)),
            "a dataset elsewhere": source(path="/etc/passwd"),
            "no dataset": source(path="/etc\0"),
            "no source of labels": source(path="d.npz", labels=pb.DatasetSource(name="x")),
            "labels of labels": source(
                path="d.npz", labels=pb.DatasetSource(path="d.npz", labels=pb.DatasetSource(path="d.npz"))
            ),
            "another link": source(link="ftp://example.org/x"),
            "no hash": source(blob_sha256="abc"),
            "no blob": source(blob_sha256="0" * 64),
            "a token that is just being used": served(at_once),
            "too many tasks": served(many, TaskBounds(running=0)),
        },
        tmp_path,
    )


def test_calls_that_are_refused(tmp_path: Path) -> None:  # noqa: C901 - a table
    def full(name: str, most: int, call: Callable[[TasksService, str], Awaitable[object]]) -> Case:
        async def act(service: TasksService, directory: Path) -> object:
            task = await submitted(service, directory)
            setattr(service._reader if name == "_waiting" else service, name, most)
            return await call(service, task.id)

        return served(act)

    async def all_of(stream: Any) -> list[object]:
        return [one async for one in stream]

    def found(short: Callable[[str], str]) -> Case:
        async def act(service: TasksService, directory: Path) -> object:
            task = await submitted(service, directory)
            service._registry._tasks[task.id[:60] + "beef"] = service._registry._tasks[task.id]
            try:
                return await service.Get(pb.GetRequest(task=short(task.id)), None)
            finally:
                del service._registry._tasks[task.id[:60] + "beef"]

        return served(act)

    def watched(first: int, revision: int) -> Case:
        async def act(service: TasksService, directory: Path) -> object:
            task = await submitted(service, directory)
            (one,) = service._registry.ordered
            one._opened().history.first = first
            await service.Watch(pb.WatchRequest(task=task.id, from_revision=revision), None)
            return None

        return served(act)

    async def stopped(service: TasksService, directory: Path) -> object:
        task = await submitted(service, directory)
        (one,) = service._registry.ordered
        one.watched().ended = True
        past = one._opened().history.last + 1
        await service.Watch(pb.WatchRequest(task=task.id, from_revision=past), None)
        return None

    async def paged(service: TasksService, directory: Path) -> object:
        for _ in range(2):
            await submitted(service, directory)
        token = (await service.List(pb.ListRequest(page_size=1), None)).next_page_token
        return await service.List(pb.ListRequest(states=[pb.TASK_STATE_FAILED], page_token=token), None)

    async def late(service: TasksService, directory: Path) -> object:
        task = await submitted(service, directory)
        (one,) = service._registry.ordered
        assert one.submission is not None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(one.submission, "cancel", lambda reason: None)
            return await service.Cancel(pb.CancelRequest(task=task.id), None)

    async def early(service: TasksService, directory: Path) -> object:
        task = await submitted(service, directory)
        (one,) = service._registry.ordered
        one.submission = None
        return await service.Cancel(pb.CancelRequest(task=task.id), None)

    async def modelless(service: TasksService, directory: Path) -> object:
        task = await submitted(service, directory)
        return await all_of(service.Download(pb.DownloadRequest(task=task.id), None))

    async def cancelled(service: TasksService, directory: Path) -> object:
        task = await submitted(service, directory)
        await service.Cancel(pb.CancelRequest(task=task.id), None)
        (one,) = service._registry.ordered
        await until(lambda: one.ended)
        return await all_of(service.Download(pb.DownloadRequest(task=task.id), None))

    def downloads(service: TasksService, task: str) -> Awaitable[object]:
        (one,) = service._registry.ordered
        model = ModelFile("model", "")
        one.record = records.TaskRecord(task, 1, result=Result(task, "completed", model=model))
        return all_of(service.Download(pb.DownloadRequest(task=task), None))

    def reads(service: TasksService, _: str) -> Awaitable[object]:
        text = small_task(Path(service._rules.dataset_roots[0]), max_nodes=2).read_text()
        return service.Validate(pb.ValidateRequest(definition=text, read_dataset=True), None)

    check(
        "calls-of-tasks-that-are-refused",
        {
            "definitions": full(
                "_waiting",
                asking.MAX_WAITING,
                lambda service, _: service.Validate(pb.ValidateRequest(), None),
            ),
            "datasets": full("_reads", servicer.MAX_READS, reads),
            "watches": full(
                "_watchers",
                servicer.MAX_WATCHERS,
                lambda service, task: service.Watch(pb.WatchRequest(task=task), None),
            ),
            "downloads": full("_downloads", servicer.MAX_DOWNLOADS, downloads),
            "no id": found(lambda task: "no"),
            "no task": found(lambda task: "0" * 40),
            "two tasks": found(lambda task: task[:4]),
            "a page of another question": served(paged),
            "no page": lambda _: listing.page([], pb.ListRequest(page_token="?")),
            "no time": lambda _: listing.page([], pb.ListRequest(created_after=Timestamp(nanos=-1))),
            "events that are gone": watched(2, 1),
            "events to come": watched(1, 9),
            "a node that is stopped": served(stopped),
            "too late to cancel": served(late),
            "too early to cancel": served(early),
            "no model yet": served(modelless),
            "no model": served(cancelled),
        },
        tmp_path,
    )


def test_files_that_are_gone(tmp_path: Path) -> None:
    def sent(offset: int, content: bytes | None) -> Case:
        def case(directory: Path) -> object:
            path = directory / "model.safetensors"
            if content is not None:
                path.write_bytes(content)

            async def all_pieces() -> object:
                pieces = sending.model(ModelFile(str(path), "ab" * 32), 3, offset)
                return [piece async for piece in pieces]

            return asyncio.run(all_pieces())

        return case

    def unread(directory: Path) -> object:
        class Broken:
            def read(self, _: int) -> bytes:
                raise OSError(5, "Input/output error")

        return sending._read(cast(Any, Broken()), directory / "model.safetensors")

    def transcript(directory: Path) -> object:
        async def parts() -> object:
            return [part async for part in sending.transcript(directory / "gone.jsonl")]

        return asyncio.run(parts())

    check(
        "files-of-tasks-that-are-gone",
        {
            "a model": sent(0, None),
            "a model that has changed": sent(0, b"abc"),
            "a byte behind its end": sent(4, b"abc"),
            "a broken disk": unread,
            "a transcript": transcript,
            "events": lambda directory: records.unreadable(
                directory / "events", OSError(5, "Input/output error")
            ),
        },
        tmp_path,
    )


def test_what_a_node_says_of_its_tasks(tmp_path: Path) -> None:  # noqa: C901 - a table
    def shared(_: Path) -> object:
        data: dict[str, object] = {"others": 2, "answered": 9, "taken": 3}
        (event,) = Translator().events(Report("shared", data))
        return event.notice.text

    def restarted(harm: Callable[[Path], object], *, hidden: bool = False) -> Case:
        """A node starts once more after something has happened to its files."""

        async def act(service: TasksService, directory: Path) -> object:
            client = directory / "me" / "client"
            task = await submitted(service, directory, output=str(directory / "out" / "mine"))
            await service._registry.stop()
            harm(client / "kept" / task.id if hidden else client / "tasks" / task.id)
            again = registry.Registry(service._registry._client, service._registry.state)
            await again.start()
            told = [one.waiting() for one in again.ordered]
            await asyncio.gather(*again._jobs, return_exceptions=True) if not again.running else None
            for one in again.ordered:
                for _ in range(100):
                    await asyncio.sleep(0)
                told.append(one.waiting() or one.message().reason)
            await again.stop()
            return "\n".join(told)

        return served(act)

    def stalled(error: MlnetError, journal: bool) -> Case:
        async def act(service: TasksService, directory: Path) -> object:
            task = await submitted(service, directory)
            (one,) = service._registry.ordered
            assert one.submission is not None
            if not journal:
                (directory / "me" / "client" / "tasks" / task.id / "journal").unlink()
            one.submission._leave(error)
            await until(lambda: one.submission is None)
            return one.waiting() or one.message().reason

        return served(act)

    async def unwritten(service: TasksService, directory: Path) -> object:
        await submitted(service, directory)
        (one,) = service._registry.ordered
        with pytest.MonkeyPatch.context() as patch:

            def full(*_: object, **__: object) -> int:
                raise OSError(28, "No space left on device")

            patch.setattr(one._opened().history, "append", full)
            one.notice("something")
        return ""

    async def ending(service: TasksService, directory: Path) -> object:
        await submitted(service, directory)
        (one,) = service._registry.ordered
        assert one.submission is not None
        one.submission.machine.phase = ClientPhase.ENDED
        return one.waiting()

    def ended(broken: Callable[[pytest.MonkeyPatch], object], done: Callable[[HostedTask], bool]) -> Case:
        """A task is cancelled while something is broken."""

        async def act(service: TasksService, directory: Path) -> object:
            task = await submitted(service, directory)
            (one,) = service._registry.ordered
            with pytest.MonkeyPatch.context() as patch:
                broken(patch)
                await service.Cancel(pb.CancelRequest(task=task.id), None)
                await until(lambda: done(one) and not service._registry._jobs)
            return ""

        return served(act)

    async def early(service: TasksService, directory: Path) -> object:
        task = await submitted(service, directory)
        service._registry._client.forget(task.id)
        service._registry._client.expect()
        submission = service._registry.ordered[0].submission
        assert submission is not None
        return service._registry._client.receive(submission.machine.announcement)

    check(
        "what-a-node-says-of-its-tasks",
        {
            "other clients": shared,
            "a restart": restarted(lambda path: None),
            "an output that is somebody else's": restarted(
                lambda path: (path.parents[3] / "out" / "mine" / "theirs").mkdir(parents=True)
            ),
            "a damaged task": restarted(lambda path: (path / "dataset.json").write_text("{")),
            "a record that is gone": restarted(lambda path: (path / "record.json").unlink(), hidden=True),
            "a damaged record": restarted(lambda path: (path / "record.json").write_text("{"), hidden=True),
            "a full disk": stalled(StorageError("the disk is full"), True),
            "a full disk, and nothing to go on with": stalled(StorageError("the disk is full"), False),
            "a fault of ours": stalled(cast(MlnetError, KeyError("x")), True),
            "an event that cannot be written": served(unwritten),
            "the end": served(ending),
            "a message before a task is taken up": served(early),
            "a journal that stays": ended(
                lambda patch: patch.setattr("mlnet.service.tasks.registry.files.remove", lambda path: False),
                lambda one: one.ended,
            ),
            "an end that cannot be kept": ended(
                lambda patch: patch.setattr(HostedTask, "end", raising(ValueError("broken"))), lambda _: True
            ),
        },
        tmp_path,
    )
