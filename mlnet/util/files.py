"""Writing to the disk so that a failure leaves a file as it was: whole, or not there.

Every write of mlnet's own may fail: the disk is full, read-only or broken, or the process has no descriptor
left. Whoever calls these functions hears of it as an OSError, and finds nothing half written.
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
    """Write all of it: a disk that is nearly full takes a part first."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def append(descriptor: int, data: bytes, size: int, *, durable: bool) -> int:
    """Append to a file, all or nothing.

    Args:
        descriptor: opened with O_APPEND.
        data: what to append.
        size: bytes of the file now.
        durable: whether it must survive the machine's sudden end.

    Returns:
        Bytes of the file afterwards.
    """
    try:
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, size)
        raise
    return size + len(data)


def replace(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put a file in the place of another, durably: a reader finds the old one or the new one."""
    part = path.with_name(f"{path.name}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(part, path)  # noqa: PTH105 - one name for each call that reaches the disk
    except OSError:
        remove(part)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Have the names in a directory survive the machine's sudden end, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> bool:
    """Delete a file; whether it is gone."""
    try:
        os.unlink(path)  # noqa: PTH108 - as above
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def why(error: OSError) -> str:
    """What the system says of an error, for people."""
    return error.strerror or str(error)


def existing(path: Path) -> Path:
    """The path itself, or the nearest directory above it that is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


def free(path: Path) -> int:
    """Bytes that may be written below a path, which need not be there yet.

    Raises:
        OSError: it cannot be reached.
    """
    return shutil.disk_usage(existing(path)).free


def require_room(path: Path, size: int, what: str, fix: str) -> None:
    """Make sure that so many bytes may be written below a path, which need not be there yet.

    Args:
        path: where to.
        size: bytes.
        what: takes them, with its verb.
        fix: what to do, beside freeing some space.

    Raises:
        OSError: it cannot be reached.
        StorageError: there is no room.
    """
    there = free(path)
    if there < size:
        raise StorageError(f"{path} has {mib(there)} free, but {what} {mib(size)}; free some space, or {fix}")


def mib(size: int) -> str:
    """Bytes, for people."""
    return f"{size / (1 << 20):,.1f} MiB"


def check_writable(path: Path, fix: str) -> None:
    """Write a file below a path, or below the nearest directory above it that is there, and remove it.

    Raises:
        StorageError: it cannot be done; ends with ``fix``.
    """
    place = existing(path)
    with written_to(path, fix), tempfile.TemporaryFile(dir=place) as file:
        file.write(b"\0" * 4096)
        file.flush()


@contextmanager
def written_to(path: Path, fix: str) -> Iterator[None]:
    """Say of an OSError which path could not be written, and what to do.

    Raises:
        StorageError: in the place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {why(error)}; {fix}") from error
