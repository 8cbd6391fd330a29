"""What a party keeps of one task on its disk while the task runs, in the order in which it must be there.

A driver takes every step of a state machine in the same three parts: the event goes into the journal and the
messages into the transcript (:meth:`Book.write`), and only then are the commands carried out. What is not in
the journal is not said, since a later process would not know that it was, and might say something else in its
place. So a party whose journal cannot be written is mute from there on but for one last word that is the same
string whoever says it again: ``last_word`` of its machine.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mlnet.driver.data_dir import State
from mlnet.driver.journal import Journal
from mlnet.driver.transcript import Transcript
from mlnet.errors import MlnetError
from mlnet.protocol.commands import Command, speaks
from mlnet.protocol.events import Event
from mlnet.util import files

logger = logging.getLogger(__name__)


class Book:
    """A task's journal and transcript. Nothing is opened before the first event.

    Args:
        state: the party's directory.
        me: its peer id.
        task: the task's id.
    """

    def __init__(self, state: State, me: str, task: str) -> None:
        self._state, self._me, self._task = state, me, task
        self._journal: Journal | None = None
        self._transcript: Transcript | None = None
        self._transcribes = True
        self._failure: OSError | None = None

    def write(self, now: int, event: Event, commands: Sequence[Command]) -> None:
        """Write a step down; to be called before its commands are carried out.

        Raises:
            OSError: the journal is not written, now or before: nothing that this step signed may be said.
        """
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
                self._task[:12],
                reason,
            )

    def close(self) -> None:
        """Close the files and keep them."""
        if self._transcript is not None:
            self._transcript.close()
        if self._journal is not None:
            self._journal.close()

    def remove(self) -> bool:
        """The task has ended: keep the transcript alone. Whether the journal is gone, and with it the task
        for later processes."""
        self.close()
        return files.remove(self._state.journal(self._task))
