"""What goes to a caller in pieces: models and transcripts, read beside the event loop."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from mlnet.client.result import ModelFile
from mlnet.errors import HashMismatch, NotFound
from mlnet.service.tasks.refused import out_of_range, precondition
from mlnet.util import files
from mlnet.v1 import tasks_pb2 as pb

CHUNK_BYTES = 1 << 20


async def model(file: ModelFile, size: int, offset: int) -> AsyncIterator[pb.DownloadResponse]:
    """A model from an offset on.

    Args:
        file: the model of a result.
        size: bytes that it had when the task ended.
        offset: the first byte that is wanted.

    Raises:
        ServiceError: it is not there any more, or has no such byte.
        HashMismatch: it is no longer what it was.
    """
    if offset > size:
        raise out_of_range(f"offset: the model has {size} bytes")
    path = Path(file.path)
    digest = hashlib.sha256()
    stream = await asyncio.to_thread(_opened, path)
    with stream:
        # What was sent before is read again: so the last piece never comes of a file that has changed.
        start = 0
        while start < size or not size:
            data = await asyncio.to_thread(_read, stream, path)
            digest.update(data)
            end = start + len(data)
            if not data or end > size or (end == size and digest.hexdigest() != file.sha256):
                raise HashMismatch(f"{path} is no longer the model that was written there; restore it")
            if end > offset or (end == size and offset == size):
                begin = max(start, offset)
                piece = data[begin - start :]
                yield _piece(piece, begin, size, file.sha256, first=begin == offset)
            start = end


def _piece(data: bytes, offset: int, size: int, sha256: str, *, first: bool) -> pb.DownloadResponse:
    piece = pb.DownloadResponse(data=data, offset=offset, sha256=hashlib.sha256(data).digest())
    if first:
        piece.size, piece.file_sha256 = size, sha256
    return piece


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise precondition(f"the model cannot be read at {path}: {files.why(error)}") from error


def _read(stream: IO[bytes], path: Path) -> bytes:
    try:
        return stream.read(CHUNK_BYTES)
    except OSError as error:
        raise precondition(f"the model cannot be read at {path}: {files.why(error)}") from error


async def transcript(path: Path) -> AsyncIterator[pb.TranscriptResponse]:
    """The whole lines of a transcript, in pieces that need not end with a line.

    Raises:
        ServiceError: it is not there any more.
    """
    try:
        stream = await asyncio.to_thread(path.open, "rb")
    except OSError as error:
        raise NotFound(f"the transcript cannot be read at {path}: {files.why(error)}") from error
    with stream:
        left = await asyncio.to_thread(_whole, stream)
        while left and (lines := await asyncio.to_thread(stream.read, min(left, CHUNK_BYTES))):
            left -= len(lines)
            yield pb.TranscriptResponse(lines=lines)


def _whole(stream: IO[bytes]) -> int:
    """Bytes up to the end of the last whole line: one after it is being written."""
    end = stream.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - CHUNK_BYTES)
        stream.seek(start)
        found = stream.read(end - start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    stream.seek(0)
    return end
