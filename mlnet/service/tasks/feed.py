"""Tells any number of watchers of the events of one task.

Watchers read from the one history, each at its own pace, and hold nothing of their own: a slow one costs
nothing but its call, and holds nobody back. One that falls behind what is kept is told so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mlnet.service.tasks.history import History
from mlnet.v1 import tasks_pb2 as pb

SILENCE_SECONDS = 10.0
"""After so long without an event, watchers are shown that the stream is alive."""


class Feed:
    """The events of one task, as they come.

    Args:
        history: of the task.
        waiting: what it waits for, for bookmarks.

    Attributes:
        history: of the task.
        ended: whether no event will follow.
        watchers: how many watch now.
    """

    def __init__(self, history: History, waiting: Callable[[], str], *, ended: bool = False) -> None:
        self.history, self._waiting = history, waiting
        self.ended = ended
        self.watchers = 0
        self._news = asyncio.Event()
        self._latest = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._bookmark: bytes | None = None

    def publish(self) -> None:
        """Tell the watchers that the history has grown."""
        self._bookmark = None
        self._latest = asyncio.get_running_loop().time()
        self._wake()

    def end(self) -> None:
        """Tell them that no event follows."""
        self.ended = True
        self._stop_timer()
        self._wake()

    async def next(self) -> bytes | None:
        """Wait for an event, the end, or silence; a serialised bookmark to show in the last case."""
        if self._timer is None:
            self._start_timer(SILENCE_SECONDS)
        await self._news.wait()
        return self._bookmark

    def leave(self) -> None:
        """A watcher is gone."""
        self.watchers -= 1
        if not self.watchers:
            self._stop_timer()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _start_timer(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._on_timer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        """One timer for all: it is not set anew with each event, but looks how long ago the latest was."""
        loop = asyncio.get_running_loop()
        left = self._latest + SILENCE_SECONDS - loop.time()
        if left > 0:
            self._start_timer(left)
            return
        bookmark = pb.Bookmark(revision=self.history.last, waiting=self._waiting())
        self._bookmark = pb.WatchResponse(bookmark=bookmark).SerializeToString()
        self._latest = loop.time()
        self._wake()
        self._start_timer(SILENCE_SECONDS)
