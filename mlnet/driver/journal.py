"""What a party was told, on disk before it acts on it.

The state machines are pure, so that the events of a task and their times are all that a restarted process
needs to stand where it stood, and to find every message that it has signed - byte for byte, since Ed25519
signatures are deterministic.

One file a task. A line holds a checksum and a JSON record; a last line that a crash cut short is dropped.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from mlnet.errors import ConfigError
from mlnet.identity.envelope import Envelope
from mlnet.protocol.events import AnyEvent, Event, Received
from mlnet.protocol.wire.messages import Message, Signed
from mlnet.util import files, local_json


class _Record(msgspec.Struct, frozen=True, omit_defaults=True):
    now: int
    event: AnyEvent | None = None
    envelope: Signed | None = None


class Journal:
    """An append-only file of events.

    Args:
        path: of the file; made with mode 0600 when it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._size = path.read_bytes().rfind(b"\n") + 1
            os.ftruncate(self._file, self._size)  # what a crash cut short would spoil the record after it
            files.sync_directory(path.parent)
        except OSError:
            self.close()
            raise

    def append(self, now: int, event: Event, *, durable: bool) -> None:
        """Write an event down; with ``durable`` it survives the machine's sudden end when this returns.

        Raises:
            OSError: it is not written, and what was written before is as it was.
        """
        if isinstance(event, Received):
            record = _Record(now, envelope=Signed.of(event.message.envelope))
        else:
            record = _Record(now, event=event)  # type: ignore[arg-type]
        line = local_json.encode(record)
        record_line = b"%08x %s\n" % (zlib.crc32(line), line)
        self._size = files.append(self._file, record_line, self._size, durable=durable)

    def close(self) -> None:
        """Close the file and keep it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def remove(self) -> bool:
        """Close the file and delete it: the task has ended. Whether it is gone."""
        self.close()
        return files.remove(self.path)


def replay(path: Path, open_: Callable[[Envelope], Message]) -> Iterator[tuple[int, Event]]:
    """The events of a journal with their times, ms.

    Args:
        path: of the file.
        open_: reads an envelope and checks its signature.

    Raises:
        ConfigError: the file is damaged elsewhere than in its last line.
    """
    *lines, _ = path.read_bytes().split(b"\n")  # the last was cut short: nothing was sent that depends on it
    for number, line in enumerate(lines, 1):
        checksum, _, payload = line.partition(b" ")
        try:
            if int(checksum, 16) != zlib.crc32(payload):
                raise ValueError("checksum")
            record = local_json.decode(payload, _Record)
        except (ValueError, msgspec.MsgspecError) as error:
            raise ConfigError(
                f"{path}, line {number}: the journal is damaged; move the file away to give the task up"
            ) from error
        if record.envelope is not None:
            yield record.now, Received(open_(record.envelope.envelope))
        elif record.event is not None:
            yield record.now, record.event
