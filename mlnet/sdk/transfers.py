"""Files to and from a node, in pieces that are verified; what broke off goes on where it was."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc

from mlnet.errors import HashMismatch, MlnetError, PeerUnreachable
from mlnet.sdk.connection import PASSING, NodeConnection
from mlnet.util import files
from mlnet.util.wording import duration
from mlnet.v1 import blobs_pb2, tasks_pb2

CHUNK_BYTES = 1 << 20
"""Of a piece, as the API bounds it."""
IDLE_SECONDS = 60.0
"""For the next piece."""
PART = ".part"
"""Ends the name of a file that is not there in full."""
FIX = "free some space, or choose another directory"
Moved = Callable[[int, int], None]
"""Takes the bytes that are there, and those of the whole file."""


async def download(connection: NodeConnection, task: str, path: Path, patience: float, moved: Moved) -> None:
    """Fetch the model of a task.

    Args:
        connection: to the node.
        task: its id.
        path: of the file, which is there in full afterwards; before, there is ``PATH.part``, from which a
            later attempt goes on.
        patience: seconds without progress for which it is tried again.
        moved: see :data:`Moved`.

    Raises:
        HashMismatch: what came is not what the node promised, twice.
        StorageError: it cannot be written.
        ServiceError: the task has no model.
        PeerUnreachable: the node was away for too long.
    """
    part = path.with_name(path.name + PART)
    with files.written_to(path, FIX):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            await _fetch(connection, task, part, patience, moved)
        except HashMismatch:
            part.unlink(missing_ok=True)  # the part was of something else, or is damaged
            await _fetch(connection, task, part, patience, moved)
        part.replace(path)
        await asyncio.to_thread(files.sync_directory, path.parent)


async def _fetch(connection: NodeConnection, task: str, part: Path, patience: float, moved: Moved) -> None:
    """All that is missing of a file."""
    attempts = _Attempts(connection, patience)
    while True:
        before = _size(part)
        try:
            return await _fetch_once(connection, task, part, moved)
        except (grpc.aio.AioRpcError, TimeoutError) as failure:
            after = _size(part)
            await attempts.wait(failure, progressed=after > before)


async def _fetch_once(connection: NodeConnection, task: str, part: Path, moved: Moved) -> None:
    digest, offset = await asyncio.to_thread(_hashed, part)
    size, sha256 = 0, ""
    request = tasks_pb2.DownloadRequest(task=task, offset=offset)
    with part.open("ab") as stream:
        async for piece in connection.stream(connection.tasks.Download, request, IDLE_SECONDS):
            size, sha256 = size or piece.size, sha256 or piece.file_sha256
            fits = piece.offset == offset and offset + len(piece.data) <= size
            if not fits or hashlib.sha256(piece.data).digest() != piece.sha256:
                raise HashMismatch(f"a piece of the model of task {task[:12]} arrived damaged")
            await asyncio.to_thread(stream.write, piece.data)
            digest.update(piece.data)
            offset += len(piece.data)
            moved(offset, size)
        stream.flush()
        os.fsync(stream.fileno())
    if digest.hexdigest() != sha256:
        raise HashMismatch(f"the model of task {task[:12]} is not the one that the node promised; try again")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _hashed(path: Path) -> tuple[hashlib._Hash, int]:
    """The hash of what is there, and its length."""
    digest, size = hashlib.sha256(), 0
    if path.exists():
        with path.open("rb") as stream:
            while data := stream.read(CHUNK_BYTES):
                digest.update(data)
                size += len(data)
    return digest, size


async def upload(connection: NodeConnection, path: Path, patience: float, moved: Moved) -> str:
    """Hand a file to the node, unless it is there.

    Args:
        connection: to the node.
        path: of the file.
        patience: seconds without progress for which it is tried again.
        moved: see :data:`Moved`.

    Returns:
        Its SHA-256, hexadecimal.

    Raises:
        HashMismatch: the file changed meanwhile.
        ServiceError: the node has no room.
        OSError: it cannot be read.
    """
    digest, size = await asyncio.to_thread(_hashed, path)
    sha256 = digest.hexdigest()
    attempts, before = _Attempts(connection, patience), 0
    while True:
        stored = await connection.call(connection.blobs.Stat, blobs_pb2.StatRequest(sha256=sha256))
        if stored.complete:
            moved(size, size)
            return sha256
        call = connection.blobs.Put(
            _pieces(path, sha256, size, stored.stored, moved), metadata=connection.target.metadata
        )
        try:
            await call
        except grpc.aio.AioRpcError as failure:
            await attempts.wait(failure, progressed=stored.stored > before)
            before = stored.stored
        else:
            return sha256


async def _pieces(
    path: Path, sha256: str, size: int, offset: int, moved: Moved
) -> AsyncIterator[blobs_pb2.BlobsServicePutRequest]:
    with path.open("rb") as stream:
        stream.seek(offset)
        first = True
        while (data := await asyncio.to_thread(stream.read, CHUNK_BYTES)) or first:
            request = blobs_pb2.BlobsServicePutRequest(offset=offset, data=data)
            if first:
                request.sha256, request.size, first = sha256, size, False
            yield request
            offset += len(data)
            moved(offset, size)


class _Attempts:
    """Tries again, as long as something comes of it.

    Args:
        connection: to the node.
        patience: seconds without progress.
    """

    def __init__(self, connection: NodeConnection, patience: float) -> None:
        self._connection, self._patience = connection, patience
        self._deadline: float | None = None

    async def wait(self, failure: grpc.aio.AioRpcError | TimeoutError, *, progressed: bool) -> None:
        """Until the node is there again.

        Raises:
            MlnetError: the error stays, or lasts too long.
        """
        error = self._connection.error(failure)
        if isinstance(failure, grpc.aio.AioRpcError) and failure.code() not in PASSING:
            raise error from None
        if not self._connection.met:
            raise error from None
        now = asyncio.get_running_loop().time()
        if progressed or self._deadline is None:
            self._deadline = now + self._patience
        retry = getattr(error, "retry_after", None) or 0.2
        try:
            async with asyncio.timeout_at(self._deadline):
                await asyncio.sleep(retry)
                await self._connection.again()
        except TimeoutError:
            raise _given_up(self._connection, error, self._patience) from None


def _given_up(connection: NodeConnection, error: MlnetError, patience: float) -> MlnetError:
    return PeerUnreachable(
        f"node {connection.target} has been away for {duration(patience)}; try again, what arrived is kept",
        str(error),
    )
