"""Blobs: files streamed from peer to peer in chunks of 1 MiB."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, BinaryIO

import grpc

from mlnet.errors import DataError, TransportError
from mlnet.net.sending.grpc_channel import uncut
from mlnet.net.types import CHUNK_BYTES
from mlnet.v1 import peer_pb2 as pb

logger = logging.getLogger(__name__)
# Hexadecimal only: the text becomes part of a file name on this machine.
_DIGEST = re.compile(r"[0-9a-f]{1,128}")
RETRY_SECONDS = 0.2
"""Pause before a broken transfer goes on. Each retry opens a stream or dials, so it must not spin; dialling
has its own backoff for a peer that is gone."""
# Answers that will be the same at the next try. Everything else (UNAVAILABLE, RESOURCE_EXHAUSTED, ...) is
# retried until the time is up.
_LASTING = frozenset(
    {
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


def is_digest(text: str) -> bool:
    """Whether a string from the network may be looked up at all: lower-case hex, at most 128 digits."""
    return _DIGEST.fullmatch(text) is not None


def _open(path: Path, offset: int) -> tuple[BinaryIO, int]:
    file = path.open("rb")
    try:
        size = file.seek(0, 2)
        if offset > size:
            raise ValueError(f"the blob has {size} bytes")
        file.seek(offset)
    # A cancelled or failed open must not leave the descriptor behind.
    except BaseException:
        file.close()
        raise
    return file, size


def _close(opened: asyncio.Future[tuple[BinaryIO, int]]) -> None:
    if not opened.cancelled() and opened.exception() is None:
        opened.result()[0].close()


async def read(path: Path, offset: int) -> AsyncIterator[pb.FetchResponse]:
    """The chunks of a file from ``offset`` on; at least one, since the first one tells the size.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is shorter than ``offset``.
    """
    # In a thread: a disk that is slow would otherwise stop the loop, and with it all peers.
    opening = asyncio.ensure_future(asyncio.to_thread(_open, path, offset))
    try:
        file, size = await asyncio.shield(opening)
    except asyncio.CancelledError:
        # The thread opens the file all the same.
        opening.add_done_callback(_close)
        raise
    try:
        yield pb.FetchResponse(data=await asyncio.to_thread(file.read, CHUNK_BYTES), size=size)
        while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield pb.FetchResponse(data=data)
    finally:
        file.close()


async def fetch(
    connect: Callable[[], Awaitable[Any]],
    digest: str,
    *,
    max_bytes: int,
    timeout: float,
    sink: Callable[[bytes], None],
) -> int:
    """Fetch a blob, and resume where it stopped when the connection breaks; see ``Network.fetch_blob``.

    The offset counts what ``sink`` has got, so nothing is written twice. Whether all parts belong together is
    for the caller's hash to tell: after a reconnect the peer may serve another file.
    """
    done = 0
    reason = "no connection"
    try:
        # One timeout over all attempts: a peer that breaks off again and again gains no time.
        async with asyncio.timeout(timeout):
            while True:
                try:
                    call = (await connect()).Fetch(pb.FetchRequest(digest=digest, offset=done))
                    size: int | None = None
                    while isinstance(chunk := await uncut(call, call.read()), pb.FetchResponse):
                        if size is None:
                            size = chunk.size
                            _check_size(digest, size, done, max_bytes)
                        done += len(chunk.data)
                        # Checked before the sink sees the chunk: what the peer sends beyond its promise is
                        # never written.
                        if len(chunk.data) > CHUNK_BYTES or done > size:
                            call.cancel()
                            raise DataError(f"the peer sent more of blob {digest} than it promised")
                        sink(chunk.data)
                    if size is None or done != size:
                        raise DataError(f"the peer sent {done} bytes of blob {digest}, not {size}")
                    return done
                except grpc.aio.AioRpcError as error:
                    reason = error.details() or error.code().name
                    if error.code() in _LASTING:
                        raise DataError(f"the peer does not serve blob {digest}: {reason}") from error
                except TransportError as error:
                    reason = str(error)
                logger.debug("blob %s stopped at %d bytes: %s", digest, done, reason)
                await asyncio.sleep(RETRY_SECONDS)
    except TimeoutError as error:
        raise TransportError(
            f"blob {digest} did not arrive within {timeout:g} s ({done} bytes came; last problem: {reason})"
        ) from error


def _check_size(digest: str, size: int, done: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise DataError(f"blob {digest} has {size} bytes, more than the {max_bytes} that are allowed")
    if size < done:
        raise DataError(f"blob {digest} has shrunk to {size} bytes while it was fetched")
