"""The numbered events of one task, on the disk before anybody is shown them.

A file of frames. A frame holds an event as it goes to watchers, its number, the task's state after it, and
how many reports of the client's machine had been taken in by then, so that a process that restarts knows
which are missing. A frame that a crash cut short is dropped: nobody has seen it.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mlnet.util import files

MAX_EVENTS = 12_000
"""Events of a task that are kept; the oldest go first. Progress is thinned so that a week fits."""
MAX_BYTES = 16 << 20
"""Of the events of a task. They are held in memory while the task runs or is watched."""
MAX_EVENT_BYTES = 1 << 20
SLACK = 8
LEAST_SLACK = 4096
"""The file is written anew when it is a part in SLACK, and so many bytes, longer than what is kept."""
_HEADER = struct.Struct("<IIQIB")
"""Length of the event, CRC-32 of all that follows this field, number, reports, state."""
_CHECKED = 8
"""Where the checked part of a header begins."""


class Entry(NamedTuple):
    """An event.

    Attributes:
        payload: as watchers get it: a serialised WatchResponse.
        state: the task's state after it.
        reports: of the client's machine, taken in by then.
    """

    payload: bytes
    state: int
    reports: int


class History:
    """The events of one task, in a file and in memory.

    Args:
        path: of the file; made when it is missing, taken up where it ends well.
        most_events: that are kept.
        most_bytes: of their payloads.

    Attributes:
        first: number of the oldest event that is kept; ``last + 1`` when there is none.
        last: number of the latest; 0 when there has not been one.

    Raises:
        OSError: the file cannot be read or made.
    """

    def __init__(self, path: Path, *, most_events: int = MAX_EVENTS, most_bytes: int = MAX_BYTES) -> None:
        self._path, self._most_events, self._most_bytes = path, most_events, most_bytes
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self.first, self.last = 1, 0
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._size = self._load(path.read_bytes())
            os.ftruncate(self._file, self._size)
        except OSError:
            self.close()
            raise

    @property
    def reports(self) -> int:
        """Reports of the client's machine that the events account for."""
        return self._entries[-1].reports if self._entries else 0

    @property
    def state(self) -> int:
        """The state after the latest event; 0 when there is none."""
        return self._entries[-1].state if self._entries else 0

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._size

    def at(self, revision: int) -> Entry:
        """The event with a number, which is one of ``first`` to ``last``."""
        return self._entries[revision - self.first]

    def append(self, entry: Entry, *, durable: bool) -> int:
        """Write the next event down; its number. With ``durable`` it survives the machine's sudden end.

        Raises:
            OSError: it is not written, and what was written before is as it was.
        """
        frame = _frame(self.last + 1, entry)
        self._size = files.append(self._file, frame, self._size, durable=durable)
        return self._take(entry)

    def append_unwritten(self, entry: Entry) -> int:
        """The same in memory only, for what a later process can write down as well as this one."""
        return self._take(entry)

    def close(self) -> None:
        """Close the file and keep it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _take(self, entry: Entry) -> int:
        self._entries.append(entry)
        self._bytes += len(entry.payload)
        self.last += 1
        while len(self._entries) > self._most_events or self._bytes > self._most_bytes:
            self._bytes -= len(self._entries.popleft().payload)
            self.first += 1
        self._compact()
        return self.last

    def _compact(self) -> None:
        """Write the file anew when it holds much that is not kept. If that fails, it stays as it is."""
        wanted = self._bytes + len(self._entries) * _HEADER.size
        if self._size - wanted <= max(wanted // SLACK, LEAST_SLACK):
            return
        frames = b"".join(_frame(self.first + index, entry) for index, entry in enumerate(self._entries))
        try:
            files.replace(self._path, frames)
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError:
            return
        os.close(self._file)
        self._file, self._size = descriptor, len(frames)

    def _load(self, content: bytes) -> int:
        """Take in what is whole; bytes of it."""
        end = 0
        for revision, entry, end_of_frame in _frames(content):
            if not self._entries:
                self.first, self.last = revision, revision - 1
            if revision != self.last + 1:
                break
            self._entries.append(entry)
            self._bytes += len(entry.payload)
            self.last, end = revision, end_of_frame
        if excess := max(0, len(self._entries) - self._most_events):
            self._bytes -= sum(len(entry.payload) for entry in islice(self._entries, excess))
            for _ in range(excess):
                self._entries.popleft()
            self.first += excess
        return end


def _frame(revision: int, entry: Entry) -> bytes:
    head = _HEADER.pack(len(entry.payload), 0, revision, entry.reports, entry.state)
    checksum = zlib.crc32(entry.payload, zlib.crc32(head[_CHECKED:]))
    return _HEADER.pack(len(entry.payload), checksum, revision, entry.reports, entry.state) + entry.payload


def _frames(content: bytes) -> Iterator[tuple[int, Entry, int]]:
    """The whole frames at the beginning of a file: number, event, where the frame ends."""
    start = 0
    while start + _HEADER.size <= len(content):
        length, checksum, revision, reports, state = _HEADER.unpack_from(content, start)
        end = start + _HEADER.size + length
        if length > MAX_EVENT_BYTES or end > len(content):
            return
        checked = content[start + _CHECKED : end]
        if zlib.crc32(checked) != checksum:
            return
        yield revision, Entry(content[start + _HEADER.size : end], state, reports), end
        start = end
