"""``file://``: a directory that the operator named has it."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from urllib.parse import unquote

from mlnet.data.http import CHUNK_BYTES
from mlnet.data.schemes.base import LinkPolicy, Transfer
from mlnet.errors import DataError
from mlnet.util import links


async def fetch(transfer: Transfer) -> None:
    """Read it; see :data:`mlnet.data.schemes.SCHEMES`."""
    await asyncio.to_thread(_read, transfer)


def _read(transfer: Transfer) -> None:
    link = transfer.link
    path = _resolve(link, transfer.policy)
    try:
        # Not blocking, so that a named pipe cannot hold the thread.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise DataError(f"{link} is not a regular file")
            while chunk := file.read(CHUNK_BYTES):
                transfer.sink(chunk)
    except OSError as error:
        raise DataError(f"{link} cannot be read: {error.strerror}; check the path") from error


def _resolve(link: str, policy: LinkPolicy) -> Path:
    """The file behind a file:// link, symbolic links followed, if it lies below a directory that is
    allowed."""
    parts = links.split(link)
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
