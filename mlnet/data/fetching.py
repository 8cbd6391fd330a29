"""Bucket links: where a segment or a model can be had, and how it is fetched without trusting anyone.

``mlnet:HASH`` asks the network's own members, ``http(s)://`` a web server, ``file://`` a directory that the
operator named. Whatever the link, the bytes are bounded in number and time, hashed while they arrive, and
become a file only if size and hash are those that were promised.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Protocol, TypeAlias
from urllib.parse import unquote, urlsplit

from mlnet.data.http import CHUNK_BYTES, Interrupter, download
from mlnet.errors import DataError, HashMismatch, StorageError
from mlnet.kernels import segmenthash
from mlnet.util import files

MAX_LINK_LENGTH = 2048
BASE_SECONDS = 60.0
BYTES_PER_SECOND = 64 << 10
FIX = "free some space"

Algorithm: TypeAlias = Literal["segment", "sha256"]
"""``segment``: the tree hash of segments. ``sha256``: of the whole file, for models and datasets."""


class FetchBlob(Protocol):
    """Gets a blob from a member of the network; raises TransportError or DataError when it cannot."""

    def __call__(
        self, digest: str, *, max_bytes: int, timeout: float, sink: Callable[[bytes], None]
    ) -> Awaitable[int]:
        """Give the blob to ``sink`` in pieces, within ``timeout`` seconds; the number of bytes."""
        ...


@dataclass(frozen=True)
class LinkPolicy:
    """What the operator of a node allows links to do.

    Attributes:
        file_roots: directories below which file:// links may read.
        allow_private: whether http links may lead to addresses that are not of the public Internet.
    """

    file_roots: tuple[Path, ...] = ()
    allow_private: bool = False


class _Hash(Protocol):
    def update(self, data: bytes, /) -> object: ...

    def hexdigest(self) -> str: ...


def time_limit(size: int) -> float:
    """Seconds that a transfer of ``size`` bytes may take: 60 s and 1 s for each 64 KiB."""
    return BASE_SECONDS + size / BYTES_PER_SECOND


async def fetch(
    link: str,
    *,
    digest: str,
    size: int,
    destination: Path,
    policy: LinkPolicy,
    fetch_blob: FetchBlob | None = None,
    algorithm: Algorithm = "segment",
) -> Path:
    """Fetch what a link names, and verify it.

    Args:
        link: ``mlnet:HASH``, ``http://``, ``https://`` or ``file://``.
        digest: the promised hash, hex.
        size: the promised size in bytes; the caller has compared it with what it has room for.
        destination: the file to make; it appears complete and verified, or not at all.
        policy: what the operator allows.
        fetch_blob: serves ``mlnet:`` links.
        algorithm: how ``digest`` was made.

    Returns:
        ``destination``.

    Raises:
        DataError: the link is refused, unreachable or too slow.
        StorageError: the file cannot be written, such as for want of room.
        HashMismatch: the bytes are not those that were promised.
        TransportError: from ``fetch_blob``.
    """
    if len(link) > MAX_LINK_LENGTH:
        raise DataError(f"a link of {len(link)} characters is longer than {MAX_LINK_LENGTH}")
    with _complete_or_absent(destination) as file:

        def write(chunk: bytes) -> None:
            # Within a transfer, an OSError would be taken for one of the link.
            with files.written_to(destination, FIX):
                file.write(chunk)

        receiver = _Receiver(write, link, digest, size, algorithm)
        await _transfer(link, digest, size, policy, fetch_blob, receiver)
        receiver.verify()
    return destination


@contextmanager
def _complete_or_absent(destination: Path) -> Iterator[IO[bytes]]:
    """A file beside ``destination`` that takes its place if the context ends well, and is removed if not."""
    try:
        descriptor, name = tempfile.mkstemp(
            prefix=f".{destination.name}.", suffix=".part", dir=destination.parent
        )
        part = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
            part.replace(destination)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{destination} cannot be written: {files.why(error)}; {FIX}") from error


class _Receiver:
    """Takes the bytes of one transfer: counts, hashes and stores them."""

    def __init__(
        self, write: Callable[[bytes], None], link: str, digest: str, size: int, algorithm: Algorithm
    ) -> None:
        self._write, self._link, self._digest, self._size = write, link, digest, size
        self._hash: _Hash = segmenthash.Hasher() if algorithm == "segment" else hashlib.sha256()
        self._received = 0
        self._closed = False

    def __call__(self, chunk: bytes) -> None:
        if self._closed:
            raise DataError(f"{self._link}: the transfer has ended")
        self._received += len(chunk)
        if self._received > self._size:
            raise HashMismatch(
                f"{self._link} has more than the promised {self._size} bytes; it is not that file"
            )
        self._hash.update(chunk)
        self._write(chunk)

    def close(self) -> None:
        """Refuse further bytes."""
        self._closed = True

    def verify(self) -> None:
        """Raise HashMismatch unless what arrived is what was promised."""
        if self._received != self._size:
            raise HashMismatch(f"{self._link} has {self._received} of the promised {self._size} bytes")
        found = self._hash.hexdigest()
        if found != self._digest:
            raise HashMismatch(
                f"{self._link} has the hash {found}, promised was {self._digest}; it is not that file"
            )


async def _transfer(
    link: str,
    digest: str,
    size: int,
    policy: LinkPolicy,
    fetch_blob: FetchBlob | None,
    receiver: _Receiver,
) -> None:
    scheme, _, rest = link.partition(":")
    seconds = time_limit(size)
    try:
        async with asyncio.timeout(seconds):
            if scheme == "mlnet":
                if rest != digest:
                    raise HashMismatch(f"{link[:100]} names another file than the one promised, {digest}")
                if fetch_blob is None:
                    raise DataError(
                        f"{link}: no member of the network is known to ask; use another kind of link"
                    )
                await fetch_blob(digest, max_bytes=size, timeout=seconds, sink=receiver)
            elif scheme in ("http", "https"):
                await _fetch_http(link, size, seconds, policy, receiver)
            elif scheme == "file":
                await asyncio.to_thread(_read_file, link, policy, receiver)
            else:
                raise DataError(f"{link[:100]!r} is not a link; use mlnet:HASH, http(s):// or file://")
    except TimeoutError as error:
        raise DataError(f"{link} did not arrive within {seconds:.0f} s; use a faster source") from error
    finally:
        receiver.close()


async def _fetch_http(link: str, size: int, seconds: float, policy: LinkPolicy, receiver: _Receiver) -> None:
    interrupter = Interrupter()
    thread = asyncio.create_task(
        asyncio.to_thread(
            download,
            link,
            receiver,
            max_bytes=size,
            seconds=seconds,
            allow_private=policy.allow_private,
            interrupter=interrupter,
        )
    )
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:
        # The thread writes to our file: it has to end before the file is closed.
        interrupter.interrupt()
        await asyncio.wait([thread])
        if not thread.cancelled():
            thread.exception()
        raise


def _read_file(link: str, policy: LinkPolicy, receiver: _Receiver) -> None:
    path = _resolve(link, policy)
    try:
        # Not blocking, so that a named pipe cannot hold the thread.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise DataError(f"{link} is not a regular file")
            while chunk := file.read(CHUNK_BYTES):
                receiver(chunk)
    except OSError as error:
        raise DataError(f"{link} cannot be read: {error.strerror}; check the path") from error


def _resolve(link: str, policy: LinkPolicy) -> Path:
    """The file behind a file:// link, symbolic links followed, if it lies below a directory that is
    allowed."""
    parts = urlsplit(link)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise DataError(f"{link} is not a link to a file of this machine; write file:///path")
    try:
        path = Path(unquote(parts.path)).resolve(strict=True)
        roots = [root.resolve(strict=True) for root in policy.file_roots]
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{link} cannot be read: {error}; check the path") from error
    if not any(path.is_relative_to(root) for root in roots):
        raise DataError(
            f"{link} is not below a directory that the operator of this node named for file:// links"
        )
    return path
