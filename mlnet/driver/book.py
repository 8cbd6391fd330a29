"""What a party keeps of its tasks while they run: on the disk, or in memory where there is none.

See :mod:`mlnet.driver.loop` for when a book is written.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlnet.driver.data_dir import State
from mlnet.driver.journal import Journal
from mlnet.driver.transcript import Transcript
from mlnet.errors import MlnetError
from mlnet.protocol.commands import Command, Publish, Send, speaks
from mlnet.protocol.events import Event, Received
from mlnet.protocol.wire.messages import Message
from mlnet.util import files
from mlnet.util.wording import TASK_LENGTH

logger = logging.getLogger(__name__)


class FileBook:
    """Journals and transcripts in a party's directory.

    Args:
        state: the directory.
        me: peer id of the party.
        notes_begun: whether a task is noted as begun before anything is said in it, so that no later process
            signs words of it anew; for a node, which is told of tasks again.
    """

    def __init__(self, state: State, me: str, *, notes_begun: bool) -> None:
        self._state, self._me, self._notes_begun = state, me, notes_begun
        self._tasks: dict[str, _TaskFiles] = {}

    def write(self, task: str, now: int, event: Event, commands: Sequence[Command]) -> None:
        """See :meth:`mlnet.driver.loop.Book.write`."""
        if task not in self._tasks:
            if self._notes_begun and not self._state.journal(task).exists():
                self._state.begin(task)
            self._tasks[task] = _TaskFiles(self._state, self._me, task)
        self._tasks[task].write(now, event, commands)

    def remove(self, task: str) -> bool:
        """See :meth:`mlnet.driver.loop.Book.remove`."""
        if task in self._tasks:
            self._tasks[task].close()
        journal = self._state.journal(task)
        return not journal.exists() or files.remove(journal)

    def close(self, task: str) -> None:
        """Close the files of a task and keep them; the task takes no further event."""
        found = self._tasks.pop(task, None)
        if found is not None:
            found.close()

    def close_all(self) -> None:
        """Close the files of all tasks and keep them."""
        for task in list(self._tasks):
            self.close(task)


class _TaskFiles:
    """A task's journal and transcript. Nothing is opened before the first event."""

    def __init__(self, state: State, me: str, task: str) -> None:
        self._state, self._me, self._task = state, me, task
        self._journal: Journal | None = None
        self._transcript: Transcript | None = None
        self._transcribes = True
        self._failure: OSError | None = None

    def write(self, now: int, event: Event, commands: Sequence[Command]) -> None:
        if self._failure is not None:
            raise self._failure  # an event after one that is missing would mean something else
        try:
            if self._journal is None:
                self._journal = Journal(self._state.prepared(self._task) / "journal")
            self._journal.append(now, event, durable=speaks(commands))
        except OSError as error:
            self._failure = error
            raise
        self._transcribe(event, commands)

    def _transcribe(self, event: Event, commands: Sequence[Command]) -> None:
        """A transcript that cannot be written ends there, well-formed; the task goes on without it."""
        if not self._transcribes:
            return
        try:
            if self._transcript is None:
                self._transcript = Transcript(self._state.transcript(self._task), self._me, self._task)
            self._transcript.step(event, commands)
        except (OSError, MlnetError) as error:
            self._transcribes = False
            reason = files.why(error) if isinstance(error, OSError) else str(error)
            logger.error(
                "the transcript of task %s is cut short, since it cannot be written: %s",
                self._task[:TASK_LENGTH],
                reason,
            )

    def close(self) -> None:
        if self._transcript is not None:
            self._transcript.close()
        if self._journal is not None:
            self._journal.close()


@dataclass
class MemoryRecord:
    """What a book in memory holds of one task.

    Attributes:
        events: with their times, ms.
        durable: how many of them survive a loss of power.
    """

    events: list[tuple[int, Event]] = field(default_factory=list)
    durable: int = 0


class MemoryBook:
    """Journals and transcripts of a party without a disk, for simulations and tests.

    Args:
        me: peer id of the party.

    Attributes:
        records: by task.
        transcripts: messages by task, when somebody wants to have them; else None.
        failure: what writing raises, for a disk that is full; None for one that is well.
    """

    def __init__(self, me: str) -> None:
        self._me = me
        self.records: dict[str, MemoryRecord] = {}
        self.transcripts: dict[str, list[Message]] | None = None
        self.failure: OSError | None = None

    def write(self, task: str, now: int, event: Event, commands: Sequence[Command]) -> None:
        """See :meth:`mlnet.driver.loop.Book.write`."""
        if self.failure is not None:
            raise self.failure
        record = self.records.setdefault(task, MemoryRecord())
        record.events.append((now, event))
        if speaks(commands):
            record.durable = len(record.events)
        if self.transcripts is None:
            return
        kept = self.transcripts.setdefault(task, [])
        if isinstance(event, Received):
            kept.append(event.message)
        spoken = (command.message for command in commands if isinstance(command, Send | Publish))
        kept.extend(message for message in spoken if message.sender == self._me)

    def remove(self, task: str) -> bool:
        """See :meth:`mlnet.driver.loop.Book.remove`."""
        self.records.pop(task, None)
        return True

    def lose_power(self) -> None:
        """Forget what was written but not forced to the disk."""
        for task, record in list(self.records.items()):
            del record.events[record.durable :]
            if not record.events:
                del self.records[task]
