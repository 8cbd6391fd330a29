"""The tasks of a node: ``mlnet-node tasks``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from mlnet.cli import console
from mlnet.cli.remote import Address, ask, print_document, print_line, show, table, write
from mlnet.errors import MlnetError
from mlnet.sdk.async_client import AsyncClient
from mlnet.sdk.records import TaskInfo, TaskState
from mlnet.sdk.result import AsyncResult, default_path
from mlnet.sdk.transfers import Moved
from mlnet.util import files
from mlnet.util.wording import TASK_LENGTH, clean, duration, printable, share

FAILED = 1
"""Exit code of ``tasks wait`` for a task that has no model."""
TIMED_OUT = 3
"""Exit code of ``tasks wait`` when the task has not ended in time."""


def show_list(address: Address, states: Sequence[TaskState], limit: int, *, json: bool) -> None:
    """Show tasks, the latest first."""
    found = ask(address, lambda client: client.tasks(states, limit=limit))
    if json:
        print_document(found)
        return
    if not found:
        show("no tasks; `mlnet-node submit FILE` begins one")
        return
    rows = table("task", "state", "phase", "submitted", "training", "name", right=("training",))
    for task in found:
        rows.add_row(*_row(task))
    show(rows)


def _row(task: TaskInfo) -> tuple[str, ...]:
    done = task.progress
    training = f"{share(done.step / done.steps)}" if done is not None and done.steps else ""
    submitted = f"{task.created_at.astimezone():%Y-%m-%d %H:%M}" if task.created_at else ""
    phase = "" if task.state.ended else task.phase
    return task.id[:TASK_LENGTH], str(task.state), phase, submitted, training, clean(task.name)


def show_one(address: Address, task: str, *, json: bool) -> None:
    """Show a task."""
    found = ask(address, lambda client: client.get(task))
    if json:
        print_document(found)
        return
    for line in described(found):
        show(line)


def described(task: TaskInfo) -> Iterator[str]:
    """A task in lines."""
    name = f"  {clean(task.name)}" if task.name else ""
    yield f"task {task.id}{name}"
    reason = f": {clean(task.reason)}" if task.reason else ""
    yield f"  {task.state}{'' if task.state.ended else f', {task.phase}'}{reason}"
    if task.waiting:
        yield f"  waits for {clean(task.waiting)}"
    if task.created_at is not None:
        ended = "" if task.ended_at is None else f", took {_took(task)}"
        yield f"  submitted {task.created_at.astimezone():%Y-%m-%d %H:%M:%S}{ended}"
    if (done := task.progress) is not None:
        loss = "" if done.loss is None else f", loss {done.loss:.4f}"
        yield f"  epoch {done.epoch} of {done.epochs}, step {done.step} of {done.steps}{loss}"
    if task.members:
        yield f"  members {' '.join(task.members)}"
    if task.result is not None and task.result.model_sha256:
        found = task.result
        yield (
            f"  accuracy {share(found.validation_accuracy)} validation,"
            f" {share(found.held_out_accuracy)} held back"
        )
        yield f"  model {printable(task.output)}, {files.mib(found.model_size)}, SHA-256 {found.model_sha256}"


def _took(task: TaskInfo) -> str:
    if task.ended_at is None or task.created_at is None:
        return ""
    return duration((task.ended_at - task.created_at).total_seconds())


def watch(address: Address, task: str, revision: int, until: TaskState | None, *, json: bool) -> None:
    """Show the events of a task on standard output as they come, to its end."""

    async def lines(client: AsyncClient) -> None:
        async with aclosing(client.watch(task, revision, until=until)) as events:
            async for event in events:
                print_line(event)

    async def display(client: AsyncClient) -> None:
        from mlnet.sdk import showing
        from mlnet.sdk.display import Display

        info = await client.get(task)
        with Display(sys.stdout) as shown:
            view = showing.Shown(shown)
            view.began(info)
            with shown.following(view.now):
                async with aclosing(client.follow(info.id, revision, until=until)) as events:
                    async for event in events:
                        view.event(event)
                done = await client.get(info.id)
                if done.state.ended:
                    view.ended(AsyncResult(done, client.download))

    ask(address, lines if json else display)


def wait(address: Address, task: str, seconds: float | None, *, json: bool) -> int:
    """Wait for the end of a task; the exit code."""

    async def waited(client: AsyncClient) -> int:
        try:
            async with asyncio.timeout(seconds):
                result = await client.result(task)
        except TimeoutError:
            info = await client.get(task)
            console.say(
                f"task {info.id[:TASK_LENGTH]} has not ended within {duration(seconds or 0)}:"
                f" {info.phase}, waits for {info.waiting}"
            )
            if json:
                print_document(info)
            return TIMED_OUT
        if json:
            print_document(result.document())
        else:
            show(str(result))
        return FAILED if result.error is not None else 0

    return ask(address, waited)


def cancel(address: Address, task: str, reason: str, *, json: bool) -> None:
    """Give a task up."""
    found = ask(address, lambda client: client.cancel(task, reason))
    if json:
        print_document(found)
    elif found.state.ended:
        show(f"task {found.id[:TASK_LENGTH]} had ended before: {found.state}")
    else:
        show(f"task {found.id[:TASK_LENGTH]} is given up; the nodes are told")


def download(address: Address, task: str, output: Path | None, *, json: bool) -> None:
    """Fetch the model of a task, and result.json."""

    async def fetched(client: AsyncClient) -> AsyncResult:
        result = AsyncResult(await client.get(task), client.download)
        result.require_model()
        with progress(f"model of {result.task[:TASK_LENGTH]}") as moved:
            await deliver(client, result, output, moved)
        return result

    result = ask(address, fetched)
    place = _place(result, output)
    if json:
        print_document(result.document(place))
    else:
        show(f"model {printable(str(place))}, SHA-256 {result.details.model_sha256}")


async def deliver(client: AsyncClient, result: AsyncResult, output: Path | None, moved: Moved) -> Path:
    """Put the model and result.json of a task where the user wants them; the model's path.

    Raises:
        StorageError: it cannot be written.
    """
    from mlnet.client import outputs

    place = _place(result, output)
    await client.download(result.task, place, moved=moved)
    with files.written_to(place.parent, outputs.FIX):
        result.document(place).write(place.parent / outputs.RESULT)
    return place


def _place(result: AsyncResult, output: Path | None) -> Path:
    folder = default_path(result.task)
    return (output / folder.name if output is not None else folder).absolute()


@contextmanager
def progress(what: str) -> Iterator[Moved]:
    """How far a transfer is, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda there, size: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        line = bar.add_task(what, total=None)
        yield lambda there, size: bar.update(line, completed=there, total=size)


def transcript(address: Address, task: str, output: Path | None) -> None:
    """Write the signed messages of a task to a file, or to standard output."""

    async def copied(client: AsyncClient) -> None:
        async with aclosing(client.transcript(task)) as pieces:
            if output is None:
                async for piece in pieces:
                    write(piece)
                return
            with files.written_to(output, "choose another file with --output"), output.open("wb") as stream:
                async for piece in pieces:
                    stream.write(piece)

    ask(address, copied)


def complete(beginning: str) -> list[str]:
    """Ids of tasks of the node here that begin so, for shells; none where it does not answer at once."""

    async def found() -> list[str]:
        async with asyncio.timeout(1), Address().client(lambda text: None) as client:
            return [task.id[:TASK_LENGTH] for task in await client.tasks(limit=50)]

    try:
        return [task for task in asyncio.run(found()) if task.startswith(beginning)]
    except (MlnetError, TimeoutError):
        return []
