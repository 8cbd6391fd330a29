"""One task of this node as client: its record, its events, and what is under way of it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp

from mlnet.client.result import Result
from mlnet.client.submission import Submission
from mlnet.errors import StorageError
from mlnet.protocol.commands import Report
from mlnet.service.tasks import events
from mlnet.service.tasks.feed import Feed
from mlnet.service.tasks.history import Entry, History
from mlnet.service.tasks.records import Records, TaskRecord, unreadable
from mlnet.service.tasks.thinning import Thinning
from mlnet.util import clock, files
from mlnet.v1 import tasks_pb2 as pb

logger = logging.getLogger(__name__)
MAX_BACKLOG = 1000
"""Events that wait in memory while the disk takes none; the oldest go first, before they have a number."""
MAX_NOTICES = 100
"""Of this machine, in the events of one task."""


class HostedTask:
    """A task, from its record.

    Args:
        record: of it.
        records: where it is kept.

    Attributes:
        record: as it is on the disk.
        submission: the task under way; None when it has ended, or is not taken up yet.
        stalled: why this process cannot go on with the task for now; empty when it can.
    """

    def __init__(self, record: TaskRecord, records: Records) -> None:
        self.record = record
        self.submission: Submission | None = None
        self.stalled = ""
        self._records = records
        self._feed: Feed | None = None
        self._translator = events.Translator()
        self._thinning = Thinning()
        self._backlog: deque[tuple[pb.Event, int, int]] = deque(maxlen=MAX_BACKLOG)
        self._state = pb.TASK_STATE_GATHERING
        self._phase = record.phase or "gathering"
        self._members = record.members
        self._progress: dict[str, int | float | None] = dict(record.progress)
        self._reached = (0, False)
        self._seen = 0
        self._known = 0
        self._held: list[Report] | None = None
        self._noticed: set[str] = set()
        self._message: pb.Task | None = None
        self._brief: pb.Task | None = None

    @property
    def ended(self) -> bool:
        """Whether it is over, and its result kept."""
        return bool(self.record.ended)

    @property
    def state(self) -> pb.TaskState:
        """Where it is."""
        return _state(self.record.state) if self.ended else self._state

    @property
    def revision(self) -> int:
        """Number of the latest event."""
        return self._feed.history.last if self._feed is not None else self.record.revision

    # ---------------------------------------------------------------------------------------- to be looked at

    def waiting(self) -> str:
        """What is waited for now, and from whom."""
        if self.ended:
            return ""
        if self.stalled:
            return self.stalled
        if self.submission is None:
            return "the node takes the task up again"
        machine = self.submission.machine
        return "the end" if machine.ended else str(machine.waiting)

    def message(self) -> pb.Task:
        """The task as it is now, for callers; not to be changed."""
        if self._message is None or not self.ended:
            self._message = self._described()
            if self.ended and self.record.result is not None:
                self._message.result.CopyFrom(events.result(self.record.result, self.record.model_size))
        return self._message

    def brief(self) -> pb.Task:
        """The same without the result; not to be changed either."""
        if not self.ended:
            return self.message()
        if self._brief is None:
            self._brief = self._described()
        return self._brief

    def _described(self) -> pb.Task:
        record, result = self.record, self.record.result
        described = pb.Task(
            id=record.task,
            state=self.state,
            phase=self._phase,
            name=record.name,
            created_at=_timestamp(record.created),
            ended_at=_timestamp(record.ended) if record.ended else None,
            output=record.output,
            revision=self.revision,
            waiting=self.waiting(),
            members=self._members,
        )
        if result is not None:
            described.reason, described.code = result.reason, result.code
        if self._progress:
            described.progress.CopyFrom(events.progress(self._progress))
        return described

    def watched(self) -> Feed:
        """The events for one more watcher, who calls :meth:`left` in the end.

        Raises:
            StorageError: they cannot be read.
        """
        feed = self._opened()
        feed.watchers += 1
        return feed

    def left(self, feed: Feed) -> None:
        """A watcher is gone. The events of a task that is over are held for watchers alone."""
        feed.leave()
        if not feed.watchers and self.ended and self._feed is feed:
            self.close()

    def _opened(self) -> Feed:
        if self._feed is None:
            path = self._records.events(self.record.task)
            try:
                history = History(path)
            except OSError as error:
                raise unreadable(path, error) from error
            self._feed = Feed(history, self.waiting, ended=self.ended)
            if self.ended:
                self._complete(history)
        return self._feed

    def _complete(self, history: History) -> None:
        """A crash between the record of the end and its event has left the event to be written."""
        if history.state not in events.TERMINAL:
            entry = Entry(self._serialised(self._last_event(), history.last + 1), self.record.state, 0)
            try:
                history.append(entry, durable=True)
            except OSError:
                history.append_unwritten(entry)

    # ------------------------------------------------------------------------------------------ what happens

    def begin(self, submission: Submission) -> None:
        """The task is announced."""
        self.submission = submission
        self._emit(_entered("gathering", str(submission.machine.waiting)))

    def expect(self) -> None:
        """The task is about to be taken up: what is reported meanwhile may be known already.

        Raises:
            StorageError: its events cannot be read.
        """
        history = self._opened().history
        self._known, self._seen = history.reports, 0
        self._state = _state(history.state or pb.TASK_STATE_GATHERING)
        self._thinning.restore(history.last)
        self._recall(history)
        self._translator = events.Translator()
        self._backlog.clear()
        self._held = []

    def taken_up(self, submission: Submission) -> None:
        """It is: what former processes were told and did not come to write down is made up for."""
        held, self._held = self._held or [], None
        self.submission, self.stalled = submission, ""
        for report in (*submission.restored, *held):
            self.observe(report)
        machine = submission.machine
        if machine.cluster is not None:
            decided = machine.attempted.decision().ready.nodes if machine.bound else machine.members
            self._members = decided
        if not machine.ended:
            self._emit(events.notice("the node was started again, and has taken the task up"))
            self._phase = machine.phase.value
            self._state = events.STATES[self._phase]
            self._emit(_entered(self._phase, str(machine.waiting)))

    def observe(self, report: Report) -> None:
        """Take in a report of the machine or its driver."""
        if self._held is not None:
            self._held.append(report)
            return
        if report.what == "progress" and not self._advances(report.data):
            return
        if report.what not in events.OF_THE_DRIVER:
            self._seen += 1
            if self._seen <= self._known:
                for _ in self._translator.events(report):
                    pass  # it remembers what later ones need
                return
        self._remember(report)
        for event in self._translator.events(report):
            event.time.CopyFrom(_timestamp(clock.wall()))
            self._take(event)

    def notice(self, text: str) -> None:
        """The machine's operator was told something that may bear on the task."""
        if self.submission is not None and text not in self._noticed and len(self._noticed) < MAX_NOTICES:
            self._noticed.add(text)
            self._emit(events.notice(text))

    def stall(self, why: str) -> None:
        """This process cannot go on with the task for now."""
        self.submission, self.stalled = None, why
        self._emit(events.notice(why))

    def end(self, result: Result, model_size: int) -> None:
        """The task is over. The record says so first: a later process writes the event where this one cannot.

        Raises:
            StorageError: it cannot be written down, and so is not over yet.
        """
        if (last := self._thinning.rest()) is not None:
            self._append(last)
        self._flush()
        self._held = None
        feed = self._opened()
        state = events.ENDS[result.state]
        record = msgspec.structs.replace(
            self.record,
            ended=clock.wall(),
            state=state,
            revision=feed.history.last + 1,
            phase=self._phase,
            members=self._members,
            progress=self._progress,
            output=str(Path(result.model.path).parent) if result.model else self.record.output,
            result=result,
            model_size=model_size,
        )
        self._records.write(record)
        self.record, self.submission, self._message = record, None, None
        self._state = state
        self._complete(feed.history)
        feed.end()
        if not feed.watchers:
            self.close()

    def close(self) -> None:
        """Close what is open of it; nothing is lost."""
        if self._feed is not None:
            self._feed.end()
            self._feed.history.close()
            self._feed = None

    # ------------------------------------------------------------------------------------------------ inside

    def _recall(self, history: History) -> None:
        """The phase, and where the training was, by the latest events that tell them."""
        missing = {"phase", "progress"}
        for revision in range(history.last, max(history.first, history.last - MAX_BACKLOG) - 1, -1):
            event = pb.WatchResponse.FromString(history.at(revision).payload).event
            kind = event.WhichOneof("kind")
            if kind not in missing:
                continue
            missing.discard(kind)
            if kind == "phase":
                self._phase = event.phase.phase
                continue
            names = [field.name for field, _ in event.progress.ListFields()]
            self._progress = {name: getattr(event.progress, name) for name in names}
            self._advances(self._progress)

    def _advances(self, data: Mapping[str, Any]) -> bool:
        """Whether progress is new: whoever asks another server, or asks again, gets all of it once more."""
        reached = (int(data["step"]), data.get("accuracy") is not None)
        if reached <= self._reached:
            return False
        self._reached = reached
        return True

    def _remember(self, report: Report) -> None:
        data = report.data
        self._state = events.REACHED.get(report.what, self._state)
        if report.what == "phase" and data["phase"] in events.STATES:
            self._phase = str(data["phase"])
            self._state = events.STATES[self._phase]
        elif report.what == "members":
            self._members = tuple(data["members"])  # type: ignore[arg-type]
        elif report.what == "bound":
            self._members = tuple(data["nodes"])  # type: ignore[arg-type]
        elif report.what == "progress":
            self._progress = dict(data)  # type: ignore[arg-type]

    def _take(self, event: pb.Event) -> None:
        if event.WhichOneof("kind") == "progress":
            if self._thinning.admits(event, clock.elapsed()):
                self._append(event)
                self._flush()
            return
        self._emit(event)

    def _emit(self, event: pb.Event) -> None:
        if (last := self._thinning.rest()) is not None:
            self._append(last)
        self._append(event)
        self._flush()

    def _append(self, event: pb.Event) -> None:
        if not event.HasField("time"):
            event.time.CopyFrom(_timestamp(clock.wall()))
        self._backlog.append((event, self._state, self._seen))

    def _flush(self) -> None:
        """Write down what waits, in order; what the disk does not take waits for the next event."""
        try:
            feed = self._opened()
            while self._backlog:
                event, state, seen = self._backlog[0]
                event.state = _state(state)
                entry = Entry(self._serialised(event, feed.history.last + 1), state, seen)
                feed.history.append(entry, durable=not event.HasField("progress"))
                self._backlog.popleft()
                feed.publish()
        except (OSError, StorageError) as error:
            why = files.why(error) if isinstance(error, OSError) else error
            logger.error("an event of task %s cannot be written: %s", self.record.task[:12], why)

    def _serialised(self, event: pb.Event, revision: int) -> bytes:
        event.revision, event.task = revision, self.record.task
        return pb.WatchResponse(event=event).SerializeToString()

    def _last_event(self) -> pb.Event:
        state, result = _state(self.record.state), self.record.result
        last = events.ended(state, result.reason if result else "", result.code if result else "")
        last.state = state
        last.time.CopyFrom(_timestamp(self.record.ended))
        return last


def _state(number: int) -> pb.TaskState:
    return cast("pb.TaskState", number)


def _entered(phase: str, waiting: str) -> pb.Event:
    return pb.Event(phase=pb.PhaseEntered(phase=phase, waiting=waiting))


def _timestamp(milliseconds: int) -> Timestamp:
    seconds, rest = divmod(milliseconds, 1000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000_000)
