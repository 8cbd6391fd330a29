"""Files that callers hand to a node before a task needs them, by the SHA-256 of their content.

A name on the disk is a hash that was checked, and never a text of the caller.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mlnet.errors import ConfigError, HashMismatch, ServiceError, StorageError
from mlnet.util import files

logger = logging.getLogger(__name__)
MAX_BLOBS = 1000
"""Files, the unfinished ones among them."""
PART_SECONDS = 24 * 3600.0
"""How long an unfinished file is kept after its last piece, and a whole one at least after its last use."""
_HASH = re.compile(r"[0-9a-f]{64}")
_PART = ".part"
_READ_BYTES = 1 << 20
_FIX = "free some space, or choose another --data-dir"


def checked(sha256: str) -> str:
    """A hash as a caller gave it, in lower case.

    Raises:
        ConfigError: it is none.
    """
    if not _HASH.fullmatch(sha256.lower()):
        raise ConfigError(f"{sha256[:80]!r} is no SHA-256; it has 64 hexadecimal digits")
    return sha256.lower()


class BlobStore:
    """A directory of such files, bounded in bytes and in number. Everything here may block.

    Args:
        directory: made when it is missing.
        most: bytes of all files together.
        now: seconds since 1970, as the file system has them.
    """

    def __init__(self, directory: Path, most: int, now: Callable[[], float] = time.time) -> None:
        self._directory, self._now = directory, now
        self.most = most
        self._writing: dict[str, int] = {}
        self._lock = threading.Lock()

    def find(self, sha256: str) -> Path | None:
        """The file with this hash, if it is there in full. It is not dropped for a day.

        Raises:
            ConfigError: that is no hash.
        """
        path = self._whole(checked(sha256))
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def stored(self, sha256: str) -> tuple[int, bool]:
        """How many bytes from its beginning are there, and whether that is all of it."""
        for path, complete in ((self._whole(sha256), True), (self._part(sha256), False)):
            try:
                return path.stat().st_size, complete
            except OSError:
                continue
        return 0, False

    @property
    def used(self) -> int:
        """Bytes of all files, and of what is being written."""
        return sum(self._sizes().values())

    def begin(self, sha256: str, size: int, offset: int) -> Writing:
        """Go on with a file.

        Args:
            sha256: of the whole file, checked.
            size: of it, bytes.
            offset: where the next piece belongs.

        Raises:
            ServiceError: another call writes the file, or it does not reach as far as ``offset``, or
                has no such byte.
            StorageError: there is no room, or it cannot be written.
        """
        with self._lock:
            return self._begin(sha256, size, offset)

    def _begin(self, sha256: str, size: int, offset: int) -> Writing:
        if sha256 in self._writing:
            raise ServiceError(
                f"another call stores {sha256[:12]} already; ask Stat how far it is",
                status="UNAVAILABLE",
                retry_after=1.0,
            )
        there, _ = self.stored(sha256)
        if offset > there:
            raise ServiceError(
                f"{there} bytes of {sha256[:12]} are stored; the next piece begins there, not at {offset}",
                status="OUT_OF_RANGE",
            )
        if offset > size:
            raise ServiceError(f"a file of {size} bytes has no piece at {offset}", status="OUT_OF_RANGE")
        with files.written_to(self._directory, _FIX):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(sha256, size)
            files.require_room(self._directory, size - there, "the file takes", "choose another --data-dir")
            self._writing[sha256] = size
            try:
                return Writing(self._part(sha256), self._whole(sha256), sha256, size, offset, self._written)
            except BaseException:
                self._written(sha256)
                raise

    def _written(self, sha256: str) -> None:
        self._writing.pop(sha256, None)

    def _sizes(self) -> dict[str, int]:
        """Bytes by hash; of what is being written, those that it will have."""
        sizes: dict[str, int] = {}
        if self._directory.is_dir():
            for entry in os.scandir(self._directory):
                sizes[entry.name.removesuffix(_PART)] = entry.stat().st_size
        return sizes | self._writing

    def _make_room(self, sha256: str, size: int) -> None:
        """Drop what nobody has used for long, the oldest first, until one more file fits.

        Raises:
            StorageError: it does not.
        """
        sizes = self._sizes()
        sizes.pop(sha256, None)
        for path in self._unused():
            if sum(sizes.values()) + size <= self.most and len(sizes) < MAX_BLOBS:
                break
            logger.warning("%s is dropped to make room: nobody has used it for a day", path)
            files.remove(path)
            sizes.pop(path.name, None)
        if sum(sizes.values()) + size > self.most:
            raise StorageError(
                f"the file takes {files.mib(size)}, but of {files.mib(self.most)} for such files "
                f"{files.mib(sum(sizes.values()))} are taken; start the node with a larger --disk"
            )
        if len(sizes) >= MAX_BLOBS:
            raise StorageError(f"{MAX_BLOBS} files are stored already; the oldest is dropped within a day")

    def _unused(self) -> list[Path]:
        """Whole files that may be dropped, the oldest first."""
        aged = [
            (entry.stat().st_mtime, Path(entry.path))
            for entry in os.scandir(self._directory)
            if not entry.name.endswith(_PART)
        ]
        return [path for used, path in sorted(aged) if used < self._now() - PART_SECONDS]

    def sweep(self) -> None:
        """Drop the unfinished files that nobody went on with for a day."""
        if not self._directory.is_dir():
            return
        for path in self._directory.glob(f"*{_PART}"):
            sha256 = path.name.removesuffix(_PART)
            if sha256 not in self._writing and path.stat().st_mtime < self._now() - PART_SECONDS:
                files.remove(path)

    def _whole(self, sha256: str) -> Path:
        return self._directory / sha256

    def _part(self, sha256: str) -> Path:
        return self._directory / f"{sha256}{_PART}"


class Writing:
    """A file that is being written, and hashed meanwhile. It may be closed while a thread still writes.

    Args:
        part: where it is kept until it is whole.
        whole: where then.
        sha256: that it must have.
        size: bytes that it must have.
        offset: where the next piece belongs; what lies behind is written anew.
        ended: is told of the end.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(
        self, part: Path, whole: Path, sha256: str, size: int, offset: int, ended: Callable[[str], None]
    ) -> None:
        self._part, self._whole, self._sha256, self._size = part, whole, sha256, size
        self._ended = ended
        self.done = 0
        self._lock = threading.Lock()
        self._hash = hashlib.sha256()
        self._file = part.open("r+b" if part.exists() else "w+b")
        try:
            part.chmod(0o600)
            while self.done < offset and (data := self._file.read(min(_READ_BYTES, offset - self.done))):
                self._hash.update(data)
                self.done += len(data)
            self._file.truncate(self.done)
        except BaseException:
            self._file.close()
            raise

    def write(self, data: bytes) -> None:
        """Write the next piece.

        Raises:
            ConfigError: the file would become larger than was said.
            StorageError: it cannot be written.
        """
        if self.done + len(data) > self._size:
            raise ConfigError(f"more came than the {self._size} bytes that were announced")
        with self._lock:
            if self._file.closed:
                return
            with files.written_to(self._part, _FIX):
                self._file.write(data)
            self._hash.update(data)
            self.done += len(data)

    def finish(self) -> None:
        """Check the hash, and give the file its name.

        Raises:
            ServiceError: it is not whole; what is there is kept.
            HashMismatch: it has another hash; nothing of it is kept.
            StorageError: it cannot be written.
        """
        if self.done < self._size:
            raise ServiceError(
                f"{self.done} of {self._size} bytes came; they are kept for a day, go on from there",
                status="ABORTED",
            )
        # Until the file has its name nobody else may begin to write it, also when this caller is gone.
        with self._lock:
            if self._file.closed:
                return
            if self._hash.hexdigest() != self._sha256:
                files.remove(self._part)
                raise HashMismatch(
                    f"the content has the hash {self._hash.hexdigest()}, not {self._sha256}; send it again, "
                    "or name its own hash"
                )
            with files.written_to(self._part, _FIX):
                self._file.flush()
                os.fsync(self._file.fileno())
                os.replace(self._part, self._whole)  # noqa: PTH105 - one name for each call to the disk
                files.sync_directory(self._whole.parent)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            try:
                self._file.close()
            except OSError as error:
                logger.warning("%s: %s", self._part, files.why(error))
            finally:
                self._ended(self._sha256)
