"""Ctrl-C and Enter, against a task that remembers what it was told."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlnet.cli import console
from mlnet.cli.controls import Controls, Interrupted, controlled, entered
from mlnet.client.submission import Submission


@dataclass
class Task:
    """Stands for a submission.

    Attributes:
        phase: where it is.
        obeys: whether its machine still lets itself be cancelled.
    """

    phase: str = "gathering"
    resume_command: str = "mlnet-node submit --resume abababababab"
    obeys: bool = True
    answers: int = 0
    told: list[str] = field(default_factory=list)
    task: str = "ab" * 32

    @property
    def gathering(self) -> bool:
        return self.phase == "gathering"

    @property
    def training(self) -> bool:
        return self.phase in ("training", "scoring", "rewards")

    @property
    def machine(self) -> Any:
        cluster = SimpleNamespace(min_nodes=2)
        return SimpleNamespace(
            ended=self.phase == "ended",
            answers=dict.fromkeys(range(self.answers)),
            definition=SimpleNamespace(cluster=cluster),
            deadline=0,
            waiting="nodes",
        )

    def cancel(self, reason: str) -> None:
        self.told.append(f"cancel: {reason}")
        if self.obeys:
            self.phase = "ended"

    def close_enrolment(self) -> None:
        self.told.append("close_enrolment")


class Hand:
    """Controls on a task, what they say and whether they leave."""

    def __init__(self, task: Task | None) -> None:
        self.words: list[str] = []
        self.left = 0
        self.controls = Controls(self.words.append, self.leave)
        self.controls.submission = cast("Submission | None", task)

    def leave(self) -> None:
        self.left += 1

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        self.controls.on_signal(number)


def test_before_there_is_a_task_ctrl_c_leaves() -> None:
    hand = Hand(None)
    hand.interrupt()
    assert hand.left == 1
    assert hand.controls.interrupted


async def test_before_training_ctrl_c_cancels_and_again_leaves() -> None:
    task = Task("measuring")
    hand = Hand(task)
    hand.interrupt()
    assert task.told == ["cancel: cancelled by the user"]
    assert (hand.left, hand.controls.interrupted) == (0, True)
    hand.interrupt()
    assert len(task.told) == 1
    assert hand.left == 1


async def test_during_training_ctrl_c_asks_once_more() -> None:
    task = Task("training")
    hand = Hand(task)
    hand.interrupt()
    assert task.told == []
    assert "again within 5 s" in hand.words[0]
    assert not hand.controls.interrupted
    hand.interrupt()
    assert task.told == ["cancel: cancelled by the user"]
    assert hand.left == 0


async def test_the_question_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task("training")
    hand = Hand(task)
    now = 1000.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    hand.interrupt()
    now += 5.1
    hand.interrupt()
    assert task.told == []
    now += 4.9
    hand.interrupt()
    assert len(task.told) == 1
    assert len(hand.words) == 3


async def test_a_request_to_terminate_is_not_asked_about() -> None:
    task = Task("training")
    hand = Hand(task)
    hand.interrupt(signal.SIGTERM)
    assert task.told == ["cancel: cancelled by the user"]


async def test_a_model_that_is_being_settled_cannot_be_cancelled_but_left() -> None:
    task = Task("scoring", obeys=False)
    hand = Hand(task)
    hand.interrupt()
    hand.interrupt()
    assert "too late to cancel" in hand.words[-1]
    assert hand.left == 0
    hand.interrupt()
    assert len(task.told) == 1
    assert hand.left == 1


async def test_after_the_end_ctrl_c_leaves() -> None:
    hand = Hand(Task("ended"))
    hand.interrupt()
    assert hand.left == 1


def test_enter_ends_the_waiting_once_enough_have_answered() -> None:
    task = Task(answers=1)
    hand = Hand(task)
    hand.controls.on_enter()
    assert task.told == []
    assert hand.words == ["1 node answered and the task needs 2; still waiting"]
    task.answers = 2
    hand.controls.on_enter()
    assert task.told == ["close_enrolment"]


def test_enter_does_nothing_later() -> None:
    task = Task("training", answers=5)
    Hand(task).controls.on_enter()
    Hand(None).controls.on_enter()
    assert task.told == []


def test_the_footer_tells_what_the_user_may_do() -> None:
    hand = Hand(None)
    hand.controls.doing = lambda: "looks for the peers"
    assert hand.controls.now() == "looks for the peers"
    hand.controls.submission = cast("Submission", Task())
    assert hand.controls.now() == "waits for nodes; 0.0 s left, Enter ends the wait"
    hand.controls.submission = cast("Submission", Task("voting"))
    assert hand.controls.now() == "waits for nodes"
    hand.controls.submission = cast("Submission", Task("ended"))
    assert hand.controls.now() == "leaves the network"


async def test_a_signal_reaches_the_controls_and_leaving_is_told_from_an_end() -> None:
    async def leaves(task: Task | None) -> None:
        with controlled(lambda _: None) as controls:
            controls.submission = cast("Submission | None", task)
            controls.interrupted = True
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()

    async def left(task: Task | None) -> str:
        with pytest.raises(Interrupted) as end:
            await asyncio.create_task(leaves(task))
        return str(end.value)

    resumable = "left by the user; `mlnet-node submit --resume abababababab` takes the task up again"
    assert await left(None) == "cancelled by the user"
    assert await left(Task("scoring")) == resumable
    assert await left(Task("ended")) == "cancelled by the user"


async def test_a_cancellation_of_another_origin_stays_one() -> None:
    async def waits() -> None:
        with controlled(lambda _: None):
            started.set()
            await asyncio.Event().wait()

    started = asyncio.Event()
    waiting = asyncio.create_task(waits())
    await started.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_signals_are_ours_for_as_long_as_the_context_lasts() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        caught: asyncio.Queue[int] = asyncio.Queue()
        with console.signals(caught.put_nowait):
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
                assert await caught.get() == number
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, hangup)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


class Input:
    """A standard input."""

    def __init__(self, descriptor: int, *, terminal: bool) -> None:
        self._descriptor, self._terminal = descriptor, terminal

    def isatty(self) -> bool:
        return self._terminal

    def fileno(self) -> int:
        return self._descriptor


async def test_enter_is_heard_from_a_terminal_in_the_foreground(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, child = os.openpty()
    monkeypatch.setattr("sys.stdin", Input(child, terminal=True))
    monkeypatch.setattr("os.tcgetpgrp", lambda _: os.getpgrp())
    pressed = asyncio.Event()
    try:
        with entered(pressed.set):
            os.write(terminal, b"\n")
            await pressed.wait()
            pressed.clear()
            os.write(terminal, b"go\n")
            await pressed.wait()
        assert not asyncio.get_running_loop().remove_reader(child)
    finally:
        os.close(terminal)
        os.close(child)


async def test_a_process_in_the_background_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, child = os.openpty()
    monkeypatch.setattr("sys.stdin", Input(child, terminal=True))
    looked = asyncio.Event()

    def foreground(_: int) -> int:
        looked.set()
        return os.getpgrp() + 1

    monkeypatch.setattr("os.tcgetpgrp", foreground)
    pressed = asyncio.Event()
    try:
        with entered(pressed.set):
            os.write(terminal, b"\n")
            await looked.wait()
        assert not pressed.is_set()
        assert os.read(child, 10) == b"\n"
    finally:
        os.close(terminal)
        os.close(child)


async def test_what_is_no_terminal_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr("sys.stdin", Input(reading, terminal=False))
    try:
        with entered(lambda: pytest.fail("nobody pressed Enter")):
            assert not asyncio.get_running_loop().remove_reader(reading)
    finally:
        os.close(reading)
        os.close(writing)
