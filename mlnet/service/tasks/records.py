"""What is kept of each task of this node as client: a directory each, with the record, the definition and the
events. The journal of a task that runs lies elsewhere, with the client's."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mlnet.client.result import Result
from mlnet.driver.data_dir import TASK_ID_LENGTH
from mlnet.errors import StorageError
from mlnet.util import files, local_json

logger = logging.getLogger(__name__)
RECORD = "record.json"
DEFINITION = "definition.yaml"
EVENTS = "events"
FIX = "free some space, or choose another --data-dir"


class TaskRecord(msgspec.Struct, frozen=True):
    """One task.

    Attributes:
        task: its id.
        created: ms since 1970.
        name: of its dataset's file.
        output: directory for the model and the result.
        token: of the caller, for a call that is repeated; empty when there is none.
        content: SHA-256 of what was asked for, without the token, hexadecimal.
        warnings: what might not be meant in the dataset.
        ended: ms since 1970; 0 before.
        state: a terminal TaskState, once it has ended.
        revision: number of the latest event, once it has ended.
        phase: the last one.
        members: peer ids, the training rank 0 first.
        progress: the latest.
        result: once it has ended.
        model_size: bytes of the file; 0 when there is none.
    """

    task: str
    created: int
    name: str = ""
    output: str = ""
    token: str = ""
    content: str = ""
    warnings: tuple[str, ...] = ()
    ended: int = 0
    state: int = 0
    revision: int = 0
    phase: str = ""
    members: tuple[str, ...] = ()
    progress: dict[str, int | float | None] = {}
    result: Result | None = None
    model_size: int = 0

    @property
    def key(self) -> tuple[int, str]:
        """What tasks are ordered by; no two have the same."""
        return self.created, self.task


class Records:
    """The records of a node.

    Args:
        directory: theirs.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self) -> Iterator[TaskRecord]:
        """All records, in any order. What a crash has left of one that was never written is removed."""
        for path in self._directory.iterdir() if self._directory.is_dir() else ():
            try:
                yield local_json.decode((path / RECORD).read_bytes(), TaskRecord)
            except FileNotFoundError:
                if len(path.name) == TASK_ID_LENGTH:
                    shutil.rmtree(path, ignore_errors=True)
            except (OSError, msgspec.MsgspecError) as error:
                logger.error("%s is left out: it cannot be read: %s", path / RECORD, error)

    def begin(self, record: TaskRecord, definition: str) -> None:
        """Keep a new task.

        Raises:
            StorageError: it cannot be kept.
        """
        path = self._directory / record.task
        with files.written_to(path, FIX):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (path / DEFINITION).write_text(definition, encoding="utf-8")
            files.replace(path / RECORD, local_json.encode(record))
            files.sync_directory(self._directory)

    def write(self, record: TaskRecord) -> None:
        """Replace a record.

        Raises:
            StorageError: it cannot be written; the old one stays.
        """
        path = self._directory / record.task
        with files.written_to(path, FIX):
            files.replace(path / RECORD, local_json.encode(record))

    def events(self, task: str) -> Path:
        """The file of a task's events."""
        return self._directory / task / EVENTS

    def size(self, task: str) -> int:
        """Bytes that are kept of a task, without its model."""
        total = 0
        for name in (RECORD, DEFINITION, EVENTS):
            try:
                total += (self._directory / task / name).stat().st_size
            except OSError:
                continue
        return total

    def drop(self, task: str) -> None:
        """Remove what is kept of a task, but for its model."""
        shutil.rmtree(self._directory / task, ignore_errors=True)


def unreadable(path: Path, error: OSError) -> StorageError:
    """The events of a task cannot be read."""
    return StorageError(f"{path} cannot be read: {files.why(error)}; check the disk")
