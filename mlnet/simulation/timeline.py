"""Virtual time: what happens in the world, in the order in which it is due."""

from __future__ import annotations

import heapq
from collections.abc import Callable

SECOND = 1_000_000
"""Microseconds."""
MILLISECOND = 1000


class Timeline:
    """Actions on one heap. Nothing waits: the time jumps to the next action.

    Attributes:
        now: microseconds since the world began.
    """

    def __init__(self) -> None:
        self.now = 0
        self._heap: list[tuple[int, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = 0

    def at(self, when: int, action: Callable[..., None], *arguments: object) -> None:
        """Schedule an action at a time (us)."""
        # Actions of the same time happen in the order in which they were scheduled; callables cannot be
        # compared.
        self._order += 1
        heapq.heappush(self._heap, (max(when, self.now), self._order, action, arguments))

    def after(self, delay: int, action: Callable[..., None], *arguments: object) -> None:
        """Schedule an action ``delay`` microseconds from now."""
        self.at(self.now + delay, action, *arguments)

    def advance(self, until: int | None = None, enough: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until nothing happens any more, a time (us) has come, or it is enough."""
        heap = self._heap
        while heap and not enough():
            if until is not None and heap[0][0] > until:
                self.now = until
                return
            self.now, _, action, arguments = heapq.heappop(heap)
            action(*arguments)
