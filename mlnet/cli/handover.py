"""``mlnet-node submit`` where a node runs: the node carries the task, and this command shows its course.

The task goes on when the command ends; so Ctrl-C asks what is meant.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from mlnet.cli import console, ending
from mlnet.cli.remote import Address, print_document, show
from mlnet.cli.tasks import deliver
from mlnet.client import outputs
from mlnet.client.result import Result
from mlnet.driver.directories import default_data_dir
from mlnet.errors import MlnetError
from mlnet.sdk.async_client import AsyncClient, AsyncTask, unmoved
from mlnet.sdk.display import Display
from mlnet.sdk.result import AsyncResult
from mlnet.sdk.showing import Shown
from mlnet.sdk.transfers import Moved
from mlnet.util.wording import TASK_LENGTH

BY_USER = "cancelled by the user"
ASKED = "Enter d to detach (the task goes on at the node) or c to cancel it; Enter alone goes on watching"
LINE_BYTES = 4096


@dataclass(frozen=True)
class Handover:
    """What the user wants done.

    Attributes:
        file: the task definition.
        output: directory for the model and the result; None for ``mlnet-TASK`` in the current one.
        waiting_period: in place of the definition's.
        allowed: peer ids of the nodes that may take part; empty for all.
    """

    file: Path
    output: Path | None = None
    waiting_period: str | None = None
    allowed: tuple[str, ...] = ()


class Hand:
    """The user's hand on a task of a node.

    Args:
        say: shows the user a line.

    Attributes:
        task: once it has begun.
        cancelled: whether the user has given it up.
        left: is done when the user leaves the task alone.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self.task: AsyncTask | None = None
        self.cancelled = False
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._say = say
        self._asking = False
        self._jobs: set[asyncio.Task[None]] = set()

    def on_signal(self, number: signal.Signals) -> None:
        """Ask at a terminal, else cancel; whoever insists leaves, and so does who hangs up."""
        if self.cancelled or self._asking or number == signal.SIGHUP:
            self.leave()
        elif number == signal.SIGINT and self.task is not None and _is_terminal():
            self._ask()
        else:
            self.cancel()

    def leave(self) -> None:
        """Let the task go on alone."""
        self._stop_asking()
        if not self.left.done():
            self.left.set_result(None)

    def cancel(self) -> None:
        """Give the task up, as soon as it has begun."""
        self._stop_asking()
        self.cancelled = True
        if self.task is None:
            self._say("the task is cancelled as soon as the node has cut its dataset; Ctrl-C again leaves it")
            return
        job = asyncio.get_running_loop().create_task(self._cancel(self.task))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _cancel(self, task: AsyncTask) -> None:
        try:
            await task.cancel(BY_USER)
        except MlnetError as error:
            self.cancelled = False
            self._say(f"not cancelled: {error}")
        else:
            self._say("cancelled; the node tells the others (Ctrl-C again leaves at once)")

    def _ask(self) -> None:
        self._asking = True
        self._say(f"{ASKED}; Ctrl-C again detaches")
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._answered)

    def _answered(self) -> None:
        answer = os.read(sys.stdin.fileno(), LINE_BYTES).strip().lower()[:1]
        self._stop_asking()
        if answer == b"d":
            self.leave()
        elif answer == b"c":
            self.cancel()

    def _stop_asking(self) -> None:
        if self._asking:
            self._asking = False
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())


def detach(address: Address, job: Handover, *, json: bool) -> int:
    """Hand a task over and print its id; the exit code."""

    async def begun() -> AsyncTask:
        async with address.client() as client:
            return await _submit(client, job, unmoved)

    task = asyncio.run(begun())
    if json:
        print_document(task.info)
    else:
        show(task.id)
    return 0


def carry_out(address: Address, job: Handover, *, json: bool) -> int:
    """Hand a task over, show its course, and fetch its model; the exit code."""
    display = Display()
    try:
        with display:
            result, hand = asyncio.run(_followed(address, job, display))
            if result is not None:
                display.result(result)
    except MlnetError as error:
        if json:
            ending.print_result(ending.document(error))
        return console.fail(error)
    if result is None:
        _say_where(hand.task)
        if json and hand.task is not None:
            print_document(hand.task.info)
        return 0
    if json:
        ending.print_result(result)
    return ending.exit_code(result, interrupted=hand.cancelled)


async def _followed(address: Address, job: Handover, display: Display) -> tuple[Result | None, Hand]:
    """The result of a task, or None when the user left; and the user's hand."""
    view = Shown(display)
    hand = Hand(view.notice)
    if job.output is not None:
        outputs.check(outputs.absolute(job.output), private=default_data_dir("client"))
    async with address.client(view.notice) as client:
        with console.signals(hand.on_signal), display.following(view.now):
            carrying = asyncio.ensure_future(_carried(client, job, view, hand))
            await asyncio.wait((carrying, hand.left), return_when=asyncio.FIRST_COMPLETED)
            if carrying.done():
                return carrying.result(), hand
            carrying.cancel()
            await asyncio.gather(carrying, return_exceptions=True)
            return None, hand


async def _carried(client: AsyncClient, job: Handover, view: Shown, hand: Hand) -> Result:
    hand.task = task = await _submit(client, job, view.moved("the dataset goes to the node"))
    view.began(task.info)
    if hand.cancelled:
        hand.cancel()
    async with aclosing(client.follow(task.id)) as events:
        async for event in events:
            view.event(event)
    result = await task.result()
    if result.error is not None:
        return result.document()
    return result.document(await _delivered(client, result, job.output, view))


async def _delivered(client: AsyncClient, result: AsyncResult, output: Path | None, view: Shown) -> Path:
    try:
        return await deliver(client, result, output, view.moved("the model comes from the node"))
    except MlnetError:
        console.say(
            "the node keeps the model; this fetches it:"
            f" {console.NAME} tasks download {result.task[:TASK_LENGTH]} --output DIR"
        )
        raise


async def _submit(client: AsyncClient, job: Handover, moved: Moved) -> AsyncTask:
    return await client.submit(
        job.file, waiting_period=job.waiting_period, allowed_nodes=job.allowed, moved=moved
    )


def _say_where(task: AsyncTask | None) -> None:
    if task is None:
        console.say(f"left before the task had an id; if the node begins it, `{console.NAME} tasks` lists it")
        return
    name = task.id[:TASK_LENGTH]
    console.say(
        f"task {name} goes on at the node: `{console.NAME} tasks watch {name}` shows it,"
        f" `{console.NAME} tasks cancel {name}` gives it up"
    )


def _is_terminal() -> bool:
    """Whether the user can answer."""
    return sys.stdin is not None and sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
