"""Time for the drivers. Three clocks, each for what it is good at:

- :func:`elapsed` measures: it never steps, and it counts the time that the machine was suspended.
- :func:`wall` dates: it is the system's clock, which somebody may set at any moment.
- :func:`now` drives the state machines: it never goes back, since journals and deadlines hang on it, and
  follows the system's clock slowly, so that a clock that is set in the middle of a task upsets no deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SLEW = 20
"""While :class:`Clock` follows a step, it runs at most one part in SLEW fast or slow: deadlines shift by at
most 5 %, and a step of a minute is made up for in twenty minutes."""
STEP_MS = 1000
"""A difference in ms from which on it counts as a step. Smaller ones are the work of NTP, which slews."""
_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS' monotonic clock counts sleep


def wall() -> int:
    """Milliseconds since 1970 by the system's clock as it stands; may go back."""
    return time.time_ns() // 1_000_000


def elapsed() -> int:
    """Milliseconds since an arbitrary moment, including the time in which the machine was suspended."""
    return time.clock_gettime_ns(_ELAPSED) // 1_000_000


class Clock:
    """Milliseconds since 1970 that never go back and follow the system's clock.

    Args:
        wall: the system's clock, ms since 1970.
        elapsed: a steady clock, ms.
    """

    def __init__(self, wall: Callable[[], int], elapsed: Callable[[], int]) -> None:
        self._wall, self._elapsed = wall, elapsed
        self._shown, self._at = wall(), elapsed()
        self._spare = 0

    def now(self) -> int:
        """The time in ms. It runs at most a twentieth faster or slower than :func:`elapsed`."""
        at = self._elapsed()
        passed = max(0, at - self._at)
        self._at = at
        self._spare += passed
        shown = self._shown + passed
        # The remainder is kept: calls in quick succession would otherwise never add up to a millisecond.
        most, self._spare = divmod(self._spare, SLEW)
        # At most one part in SLEW of the time that has passed: the result never goes back.
        self._shown = shown + max(-most, min(most, self._wall() - shown))
        return self._shown

    def settle(self) -> None:
        """Jump to the system's clock. The caller knows that no deadline is running that the jump could
        upset."""
        if abs(self._wall() - self.now()) > STEP_MS:
            self._shown = self._wall()


class Steps:
    """Notices that the system's clock was set.

    Args:
        wall: the system's clock, ms since 1970.
        elapsed: ms, steady.
    """

    def __init__(self, wall: Callable[[], int] = wall, elapsed: Callable[[], int] = elapsed) -> None:
        self._wall, self._elapsed = wall, elapsed
        self._between = wall() - elapsed()

    def look(self) -> int:
        """ms by which the system's clock was set forward (back: negative) since the last look."""
        step = self._wall() - self._elapsed() - self._between
        if abs(step) <= STEP_MS:
            return 0
        self._between += step
        return step


_clock = Clock(wall, elapsed)
now = _clock.now
"""See :meth:`Clock.now`."""
settle = _clock.settle
"""See :meth:`Clock.settle`."""
