"""Bucket links: where a segment or a model can be had, and how it is fetched without trusting anyone.

The schemes are in :mod:`mlnet.data.schemes`. Whatever the link, the bytes are bounded in number and time,
hashed while they arrive, and become a file only if size and hash are those that were promised.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, Protocol, TypeAlias

from mlnet.data.schemes import SCHEMES
from mlnet.data.schemes.base import FetchBlob, LinkPolicy, Transfer
from mlnet.errors import DataError, HashMismatch, StorageError
from mlnet.kernels import segmenthash
from mlnet.util import files

MAX_LINK_LENGTH = 2048
BASE_SECONDS = 60.0
"""Time of any transfer, for dials, redirects and a slow start."""
BYTES_PER_SECOND = 64 << 10
"""The slowest pace of a transfer beside that, half a megabit a second: a host that sends a byte now and then
ends in bounded time."""
FIX = "free some space"

Algorithm: TypeAlias = Literal["segment", "sha256"]
"""``segment``: the tree hash of segments. ``sha256``: of the whole file, for models and datasets."""


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
        seconds = time_limit(size)
        try:
            await _transfer(Transfer(link, digest, size, seconds, policy, fetch_blob, receiver))
        finally:
            receiver.close()
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


async def _transfer(transfer: Transfer) -> None:
    scheme = transfer.link.partition(":")[0]
    if scheme not in SCHEMES:
        raise DataError(f"{transfer.link[:100]!r} is not a link; use mlnet:HASH, http(s):// or file://")
    try:
        async with asyncio.timeout(transfer.seconds):
            await SCHEMES[scheme](transfer)
    except TimeoutError as error:
        raise DataError(
            f"{transfer.link} did not arrive within {transfer.seconds:.0f} s; use a faster source"
        ) from error
