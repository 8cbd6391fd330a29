"""How much of the progress of a training is kept: all of it in the first minutes, ever less of a long one."""

from __future__ import annotations

from mlnet.v1 import tasks_pb2 as pb

STEP_MS = 100
"""Trainers report about ten times a second."""
DOUBLES_AFTER = 1000
"""Events after which the time between two that are kept doubles: a day is about 10,000 of them."""


class Thinning:
    """Decides which reports of progress become events. The latest that did not does so before another kind
    of event, so that what was reached by then is known."""

    def __init__(self) -> None:
        self._kept = 0
        self._next = 0
        self._skipped: pb.Event | None = None

    def restore(self, kept: int) -> None:
        """A former process has kept so many."""
        self._kept = kept

    def admits(self, event: pb.Event, now: int) -> bool:
        """Whether a report at a time (ms) is kept."""
        if now < self._next:
            self._skipped = event
            return False
        interval = STEP_MS << min(self._kept // DOUBLES_AFTER, 20)
        # In the first minutes nothing is left out, however irregularly the reports arrive.
        self._next = now + interval if self._kept >= DOUBLES_AFTER else 0
        self._kept += 1
        self._skipped = None
        return True

    def rest(self) -> pb.Event | None:
        """The latest report if it was not kept; once."""
        skipped, self._skipped = self._skipped, None
        return skipped
