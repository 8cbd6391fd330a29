"""What the user wants of a task, and may do while it runs: Enter ends the waiting, Ctrl-C gives up."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlnet.cli import console
from mlnet.util import clock
from mlnet.util.wording import count, duration

if TYPE_CHECKING:
    from mlnet.client.submission import Submission

ASK_SECONDS = 5.0
"""For the second Ctrl-C that cancels a task whose training is under way."""
BY_USER = "cancelled by the user"
LINE_BYTES = 4096
"""The longest line that a terminal hands over at once (Linux' N_TTY_BUF_SIZE)."""


@dataclass(frozen=True)
class Job:
    """What the user wants done.

    Attributes:
        file: the task definition; not used to resume.
        output: directory for the model and the result; None for the default.
        waiting_period: in place of the definition's.
        resume: beginning of the id of a task that a former process has left.
        enough: answers that end the waiting period; None for as many as the definition says.
        show_messages: whether every message is shown.
    """

    file: Path
    output: Path | None = None
    waiting_period: str | None = None
    resume: str | None = None
    enough: int | None = None
    show_messages: bool = False


class Interrupted(Exception):
    """The user has left; the message says what becomes of the task."""


class Controls:
    """The user's hand on a task.

    Args:
        say: shows the user an answer.
        leave: ends everything at once.

    Attributes:
        submission: the task, once it is announced.
        interrupted: whether the user has given up.
        doing: says what is under way while there is no task to ask.
    """

    def __init__(self, say: Callable[[str], object], leave: Callable[[], object]) -> None:
        self.interrupted = False
        self.submission: Submission | None = None
        self.doing: Callable[[], str] = lambda: ""
        self._say = say
        self._leave = leave
        self._asked_until = 0.0

    def on_signal(self, number: signal.Signals) -> None:
        """Cancel the task; while it trains ask once more, and once it is cancelled leave."""
        submission = self.submission
        if submission is None or self.interrupted or submission.machine.ended:
            self.interrupted = True
            self._leave()
            return
        now = asyncio.get_running_loop().time()
        if submission.training and number == signal.SIGINT and now > self._asked_until:
            self._asked_until = now + ASK_SECONDS
            self._say(f"training is under way; press Ctrl-C again within {ASK_SECONDS:.0f} s to cancel it")
            return
        self.interrupted = True
        submission.cancel(BY_USER)
        if submission.training:  # that is, still: the machine did not agree
            self._say("too late to cancel: training is over; press Ctrl-C again to leave")
        else:
            self._say("cancelled; telling the nodes (press Ctrl-C again to leave at once)")

    def on_enter(self) -> None:
        """End the waiting period, if enough nodes have answered."""
        submission = self.submission
        if submission is None or not submission.gathering:
            return
        answers, least = len(submission.machine.answers), submission.machine.definition.cluster.min_nodes
        if answers < least:
            self._say(f"{count(answers, 'node')} answered and the task needs {least}; still waiting")
        else:
            submission.close_enrolment()

    def now(self) -> str:
        """What the task waits for, and what the user may do."""
        submission = self.submission
        if submission is None:
            return self.doing()
        machine = submission.machine
        if machine.ended:
            return "leaves the network"
        if submission.gathering:
            left = duration((machine.deadline - clock.now()) / 1000)
            return f"waits for {machine.waiting}; {left} left, Enter ends the wait"
        return f"waits for {machine.waiting}"


@contextmanager
def controlled(say: Callable[[str], object]) -> Iterator[Controls]:
    """Let signals control the current asyncio task, in which a context runs.

    Args:
        say: shows the user an answer.

    Raises:
        Interrupted: the user left before the end.
    """
    me = asyncio.current_task()
    assert me is not None  # noqa: S101 - there is a running loop
    controls = Controls(say, me.cancel)
    try:
        with console.signals(controls.on_signal):
            yield controls
    except asyncio.CancelledError:
        if not controls.interrupted:
            raise
        submission = controls.submission
        if submission is None or submission.machine.ended:
            raise Interrupted(BY_USER) from None
        resume = submission.resume_command
        raise Interrupted(f"left by the user; `{resume}` takes the task up again") from None


@contextmanager
def entered(handler: Callable[[], None]) -> Iterator[None]:
    """Call a handler when the user presses Enter, if standard input is a terminal that is ours to read."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()

    def readable() -> None:
        # A process in the background would be stopped for reading.
        if os.tcgetpgrp(stdin) != os.getpgrp() or not os.read(stdin, LINE_BYTES):
            loop.remove_reader(stdin)
            return
        handler()

    loop.add_reader(stdin, readable)
    try:
        yield
    finally:
        loop.remove_reader(stdin)
