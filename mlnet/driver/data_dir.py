"""A party's directory: one process at a time, and what the last one left behind is cleared away."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlnet.errors import ConfigError
from mlnet.identity.keys import Identity
from mlnet.util import files, sockets

TASK_ID_LENGTH = 64
"""Characters of a task's id."""


class State:
    """Paths of a party.

    Attributes:
        directory: all of it.
        identity: its key.
        tasks: a directory a task, with its journal and files.
        ledger: receipts.
    """

    def __init__(self, data_dir: Path, identity: Identity, runtime: sockets.Directory) -> None:
        self.directory = data_dir
        self.identity = identity
        self.tasks = data_dir / "tasks"
        self.ledger = data_dir / "ledger"
        self._begun = data_dir / "ended"  # named by an earlier version, which wrote it at the end of a task
        self._transcripts = data_dir / "transcripts"
        self._runtime = runtime

    @property
    def runtime(self) -> Path:
        """A private directory for sockets that exists; gone when the process is.

        Raises:
            ConfigError: it was removed, and sockets can be made nowhere else.
        """
        return self._runtime.path

    def part(self, name: str) -> State:
        """The directory of another role that the same party plays, below this one. What was prepared there
        for tasks that were never announced is removed."""
        part = State(self.directory / name, self.identity, self._runtime)
        _drop_unbegun(part.tasks)
        return part

    def task(self, task: str) -> Path:
        """The directory of a task."""
        return self.tasks / task

    def prepared(self, task: str) -> Path:
        """The directory of a task, made when it is missing.

        Raises:
            OSError: it cannot be made.
        """
        path = self.tasks / task
        if not path.is_dir():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.sync_directory(self.tasks)
        return path

    def rename(self, draft: str, task: str) -> None:
        """Give the directory that was prepared for a task its name.

        Raises:
            OSError: it cannot be renamed.
        """
        os.replace(self.tasks / draft, self.tasks / task)  # noqa: PTH105 - one name for each call to the disk
        files.sync_directory(self.tasks)

    def journal(self, task: str) -> Path:
        """The journal of a task."""
        return self.task(task) / "journal"

    def transcript(self, task: str) -> Path:
        """The signed messages of a task, kept when it is over."""
        return self._transcripts / f"{task}.jsonl"

    def discard(self, task: str) -> None:
        """Remove all that a task has left."""
        shutil.rmtree(self.tasks / task, ignore_errors=True)

    def begin(self, task: str) -> None:
        """Note that this party takes part in a task, so that no later process signs words of it anew once its
        journal is gone. It is written first, so that the end of a task needs no room on the disk.

        Raises:
            OSError: it is not written; nothing may be said in this task.
        """
        new = not self._begun.exists()
        descriptor = os.open(self._begun, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            files.append(descriptor, f"{task}\n".encode(), os.fstat(descriptor).st_size, durable=True)
        finally:
            os.close(descriptor)
        if new:
            files.sync_directory(self._begun.parent)

    def begun(self, most: int) -> list[str]:
        """The tasks that began here last, the latest last; forgets the others.

        Raises:
            OSError: they cannot be read.
        """
        if not self._begun.exists():
            return []
        text = self._begun.read_bytes().decode("ascii", "replace")
        tasks = [line for line in text.splitlines() if len(line) == TASK_ID_LENGTH]
        if len(tasks) > most or not text.endswith("\n"):
            # A line that a crash cut short would spoil the one after it.
            files.replace(self._begun, "".join(f"{task}\n" for task in tasks[-most:]).encode())
        return tasks[-most:]

    def unfinished(self) -> list[str]:
        """Tasks with a journal, by id."""
        if not self.tasks.is_dir():
            return []
        return sorted(path.parent.name for path in self.tasks.glob("*/journal"))


@contextmanager
def opened(data_dir: Path) -> Iterator[State]:
    """Take hold of a party's directory.

    Raises:
        ConfigError: it cannot be used, another process has it, or one has a copy of it on this machine.
    """
    try:
        data_dir = data_dir.absolute()
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"{data_dir} cannot be used: {error.strerror}; choose another with --data-dir"
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = (
                f"another mlnet process uses {data_dir}; stop it, or choose another directory with --data-dir"
            )
            raise ConfigError(message) from error
        except OSError as error:
            raise ConfigError(
                f"{data_dir} cannot be locked: {error.strerror}; choose a directory on another file system "
                "with --data-dir"
            ) from error
        identity = Identity.load_or_create(data_dir / "identity.key")
        with sockets.alone(identity.derive(b"mlnet-lock-1").hex(), str(data_dir)):
            _drop_unbegun(data_dir / "tasks")
            runtime = sockets.Directory(last=data_dir)
            try:
                yield State(data_dir, identity, runtime)
            finally:
                runtime.close()
    finally:
        os.close(lock)


def _drop_unbegun(tasks: Path) -> None:
    """Remove what was prepared for tasks that were never announced."""
    for directory in tasks.iterdir() if tasks.is_dir() else ():
        if not (directory / "journal").exists():
            shutil.rmtree(directory, ignore_errors=True)
