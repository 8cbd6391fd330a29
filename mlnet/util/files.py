"""Writing to the disk so that a failure leaves a file as it was: whole, or absent.

Every write may fail: the disk is full, read-only or broken, or the process has no descriptor left. These
functions then raise OSError and leave nothing half written. They call ``os`` directly, so that tests can make
each kind of operation fail.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlnet.errors import StorageError


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``: write(2) may take a part only, as on a disk that is nearly full."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def append(descriptor: int, data: bytes, size: int, *, durable: bool) -> int:
    """Append to a file, all or nothing.

    Args:
        descriptor: opened with O_APPEND.
        data: what to append.
        size: bytes of the file now.
        durable: whether the data must survive a crash of the machine (fsync).

    Returns:
        Bytes of the file afterwards.
    """
    try:
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    except OSError:
        # If this fails as well, half a record stays; readers of journals stop there.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, size)
        raise
    return size + len(data)


def replace(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file atomically and durably: a reader finds the old content or the new one, also after a
    crash."""
    part = path.with_name(f"{path.name}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            write_all(descriptor, data)
            # Before the rename: otherwise a crash may leave the new name with no content.
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(part, path)  # noqa: PTH105 - one name for each call that reaches the disk
    except OSError:
        remove(part)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a crash of the machine, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> bool:
    """Delete a file; return whether it is gone."""
    try:
        os.unlink(path)  # noqa: PTH108 - as above
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def why(error: OSError) -> str:
    """The system's text for an error."""
    return error.strerror or str(error)


def existing(path: Path) -> Path:
    """The path itself, or the nearest directory above it that exists."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


def free(path: Path) -> int:
    """Free bytes on the file system of a path, which need not exist yet.

    Raises:
        OSError: it cannot be reached.
    """
    return shutil.disk_usage(existing(path)).free


def require_room(path: Path, size: int, what: str, fix: str) -> None:
    """Make sure that ``size`` bytes may be written below a path, which need not exist yet.

    Args:
        path: where they will be written.
        size: bytes.
        what: what takes them, with its verb, for the message.
        fix: what to do, beside freeing some space, for the message.

    Raises:
        OSError: it cannot be reached.
        StorageError: there is not enough room.
    """
    there = free(path)
    if there < size:
        raise StorageError(f"{path} has {mib(there)} free, but {what} {mib(size)}; free some space, or {fix}")


def mib(size: int) -> str:
    """A number of bytes for people.

    Example:
        >>> mib(1 << 31)
        '2,048.0 MiB'
    """
    return f"{size / (1 << 20):,.1f} MiB"


def check_writable(path: Path, fix: str) -> None:
    """Write a file below a path, or below the nearest existing directory above it, and remove it.

    Raises:
        StorageError: it cannot be written; the message ends with ``fix``.
    """
    place = existing(path)
    with written_to(path, fix), tempfile.TemporaryFile(dir=place) as file:
        # A block: an empty file can be made on a full disk.
        file.write(b"\0" * 4096)
        file.flush()


@contextmanager
def written_to(path: Path, fix: str) -> Iterator[None]:
    """Turn an OSError of the block into a StorageError that names the path and what to do.

    Raises:
        StorageError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {why(error)}; {fix}") from error
