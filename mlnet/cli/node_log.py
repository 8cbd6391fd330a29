"""What a running node tells its operator: a short line for each thing that happens to it."""

from __future__ import annotations

import datetime
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from mlnet.protocol.commands import End, Report
from mlnet.protocol.wire.messages import (
    DatasetSegment,
    InitCluster,
    Message,
    NewMlTask,
    TaskFailedBody,
    TrainingCompleted,
)
from mlnet.util.hosts import join
from mlnet.util.wording import TASK_LENGTH, amount, clean, count, duration, share, short, shorts

MAX_REMEMBERED = 4096
"""Lines that are not written a second time."""


class NodeLog:
    """Turns reports and messages into lines. Messages come more than once; each thing is said once.

    Args:
        me: the node's peer id.
        write: takes a line.
        clock: the time of a line.
    """

    def __init__(
        self,
        me: str,
        write: Callable[[str], None],
        clock: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC).astimezone(),
    ) -> None:
        self._me = me
        self._write = write
        self._clock = clock
        self._said: OrderedDict[tuple[str, str], None] = OrderedDict()

    def message(self, incoming: bool, _: str, message: Message) -> None:
        """Take in a message that came or goes."""
        text = _heard(message) if incoming else _said(message)
        if text:
            self._once(message.task, f"{message.type} {message.attempt} {incoming}", text)

    def notice(self, text: str) -> None:
        """Take in what concerns no task: a clock that is off, a peer that does not answer."""
        if ("", text) not in self._said:
            self._remember("", text)
            self._write(f"{self._clock():%H:%M:%S} {clean(text)}")

    def report(self, task: str, report: Report | End) -> None:
        """Take in a report of a task's machine."""
        if isinstance(report, End):
            reason = f": {report.reason}" if report.reason else ""
            self._line(task, f"over, {report.state}{reason}")
            return
        data: Mapping[str, Any] = report.data
        if text := self._reported(report.what, data):
            self._line(task, text)

    def _reported(self, what: str, data: Mapping[str, Any]) -> str:
        match what:
            case "members":
                return f"in a cluster of {count(len(data['members']), 'node')}, attempt {data['attempt']}"
            case "committee":
                seat = "seated on" if self._me in data["committee"] else "works for"
                return f"{seat} the committee of {shorts(data['committee'])}"
            case "decision":
                pair = (("master", data["master"]), ("slave", data["slave"]))
                named = (f"{role} {'this node' if peer == self._me else short(peer)}" for role, peer in pair)
                return f"Redis {', '.join(named)}"
            case "unanswered":
                how = "at most" if data["at_most"] else "about"
                busy = f", for {how} {duration(data['busy'] / 1000)} more" if data["busy"] else ""
                return f"not answered: {data['reason']}{busy}"
            case "note":
                return f"{short(data['peer'])} says: {data['reason']}"
            case "equivocation":
                return f"{short(data['peer'])} signed two messages that contradict each other"
            case "receipt":
                return f"reward {amount(data['amount'])}, {data['state']}"
            case _:
                return ""

    def _once(self, task: str, what: str, text: str) -> None:
        if (task, what) in self._said:
            return
        self._remember(task, what)
        self._line(task, text)

    def _remember(self, task: str, what: str) -> None:
        self._said[task, what] = None
        if len(self._said) > MAX_REMEMBERED:
            self._said.popitem(last=False)

    def _line(self, task: str, text: str) -> None:
        self._write(f"{self._clock():%H:%M:%S} task {task[:TASK_LENGTH]}  {clean(text)}")


def _heard(message: Message) -> str:
    match message.body:
        case NewMlTask():
            return f"announced by client {short(message.sender)}"
        case DatasetSegment(count=segments):
            return f"trains on its share of {count(segments, 'segment')}"
        case _:
            return ""


def _said(message: Message) -> str:
    match message.body:
        case InitCluster(redis=redis):
            port = f"open at {join(redis.host, redis.port)}" if redis.open else f"closed, {redis.reason}"
            return f"answered; Redis port {port}"
        case TrainingCompleted(accuracy=accuracy):
            return "trained" if accuracy is None else f"trained; validation accuracy {share(accuracy)}"
        case TaskFailedBody(reason=reason) if message.attempt:
            return f"reported: {reason}"
        case _:
            return ""
