"""Many deadlines on one timer of the event loop.

A timer for each envelope costs the loop a heap entry and a cancellation for each one that is acknowledged in
time, which is nearly all of them.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Container

_SPARE = 64
"""Entries of keys that have gone, beyond as many as are there, before the heap is tidied: each tidying is
paid for by at least that many additions."""


class ExpiryQueue:
    """Expires what is still there at its deadline.

    Args:
        keys: the keys that are there now. A key that is removed does not expire, and must not come back.
        expire: called with a key that is still there at its deadline.
    """

    def __init__(self, keys: Container[int], expire: Callable[[int], None]) -> None:
        self._keys, self._expire = keys, expire
        self._heap: list[tuple[float, int]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0.0
        self._most = _SPARE

    def __len__(self) -> int:
        """Remembered deadlines, including some of keys that were removed."""
        return len(self._heap)

    def add(self, key: int, seconds: float) -> None:
        """Set the deadline of a key, ``seconds`` from now."""
        at = asyncio.get_running_loop().time() + seconds
        heapq.heappush(self._heap, (at, key))
        if len(self._heap) > self._most:
            self._forget_gone()
        if self._timer is None or at < self._at:
            self._set_timer()

    def clear(self) -> None:
        """Forget all deadlines."""
        self._heap.clear()
        self._set_timer()

    def _forget_gone(self) -> None:
        self._heap = [entry for entry in self._heap if entry[1] in self._keys]
        heapq.heapify(self._heap)
        self._most = 2 * len(self._heap) + _SPARE

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._at = self._heap[0][0]
            self._timer = asyncio.get_running_loop().call_at(self._at, self._fire)

    def _fire(self) -> None:
        # The loop may call a little early, within the resolution of its clock.
        now = max(self._at, asyncio.get_running_loop().time())
        self._timer = None
        while self._heap and self._heap[0][0] <= now:
            _, key = heapq.heappop(self._heap)
            if key in self._keys:
                self._expire(key)
        while self._heap and self._heap[0][1] not in self._keys:
            heapq.heappop(self._heap)
        self._set_timer()
