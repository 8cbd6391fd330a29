"""Files that go through the page: models and transcripts to the browser, datasets from it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import IO, Any

import grpc
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mlnet.dashboard.answers import BadRequest, answer
from mlnet.dashboard.streams import first, gone
from mlnet.errors import HashMismatch, MlnetError, Overloaded, StorageError
from mlnet.sdk.connection import NodeConnection
from mlnet.sdk.transfers import upload
from mlnet.v1 import tasks_pb2

logger = logging.getLogger(__name__)
IDLE_SECONDS = 60.0
"""For the next piece of a file, from the node, from the browser, or to it."""
MAX_UPLOAD = 16 << 30
PATIENCE = 60.0
"""Seconds for which a node that went away during an upload is waited for."""
BUSY_SECONDS = 10.0


async def model_pieces(connection: NodeConnection, task: str) -> AsyncGenerator[bytes]:
    """The model of a task, each piece verified, and the whole before its last piece is given away.

    Raises:
        MlnetError: the node refuses it, or the connection broke.
        HashMismatch: it is not what the node has announced.
    """
    whole, promised = hashlib.sha256(), ""
    held = b""
    request = tasks_pb2.DownloadRequest(task=task)
    async with aclosing(_answers(connection, connection.tasks.Download, request)) as answers:
        async for piece in answers:
            promised = promised or piece.file_sha256
            if hashlib.sha256(piece.data).digest() != piece.sha256:
                raise HashMismatch("a piece of the model is not what the node says that it is; try again")
            whole.update(piece.data)
            if held:
                yield held
            held = piece.data
    if whole.hexdigest() != promised:
        raise HashMismatch("the model is not what the node says that it is; try again")
    yield held


async def transcript_pieces(connection: NodeConnection, task: str) -> AsyncGenerator[bytes]:
    """The transcript of a task.

    Raises:
        MlnetError: the node refuses it, or the connection broke.
    """
    request = tasks_pb2.TranscriptRequest(task=task)
    async with aclosing(_answers(connection, connection.tasks.Transcript, request)) as answers:
        async for piece in answers:
            yield piece.lines


async def _answers(connection: NodeConnection, method: Any, request: Any) -> AsyncGenerator[Any]:
    try:
        async with aclosing(connection.stream(method, request, IDLE_SECONDS)) as answers:
            async for one in answers:
                yield one
    except (grpc.RpcError, TimeoutError) as failure:
        raise connection.error(failure) from None


class Download(Response):
    """A file that the browser saves. One that breaks off has no end, so that the browser says so.

    Args:
        first: the first piece.
        rest: those after it.
        name: that the browser suggests.
        size: of all pieces together; 0 if unknown.
    """

    media_type = "application/octet-stream"

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes], name: str, size: int) -> None:
        super().__init__(
            headers={"cache-control": "no-store", "content-disposition": f'attachment; filename="{name}"'}
        )
        del self.headers["content-length"]
        if size:
            self.headers["content-length"] = str(size)
        self._first, self._rest = first, rest

    @classmethod
    async def begun(cls, pieces: AsyncGenerator[bytes], name: str, size: int = 0) -> Download:
        """A download whose first piece is there: what goes wrong before it has a status of its own.

        Raises:
            MlnetError: there is no such file.
        """
        return cls(await anext(pieces, b""), pieces, name, size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the pieces."""
        try:
            await first(self._pump(send), gone(receive))
        except MlnetError as error:
            logger.warning("a download broke off: %s", error)

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._rest) as rest:
            await _send(send, self._first)
            async for piece in rest:
                await _send(send, piece)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send(send: Send, piece: bytes) -> None:
    async with asyncio.timeout(IDLE_SECONDS):
        await send({"type": "http.response.body", "body": piece, "more_body": True})


class Uploads:
    """Takes files from the browser and puts them to the node, one at a time. The node wants the hash of the
    whole first, and browsers cannot compute that of a large file; so the file is kept here meanwhile.

    Args:
        connection: to the node.
    """

    def __init__(self, connection: NodeConnection) -> None:
        self._connection = connection
        self._busy = False

    async def put(self, request: Request) -> Response:
        """Store the body of a request; the answer has its hash and size.

        Raises:
            BadRequest: it is empty, too large, or broke off.
            Overloaded: another file is uploaded just now.
            StorageError: there is no room for it.
        """
        declared = request.headers.get("content-length", "")
        if not declared.isdecimal() or not 0 < int(declared) <= MAX_UPLOAD:
            raise BadRequest(f"a file of 1 byte to {MAX_UPLOAD >> 30} GiB can be uploaded")
        if self._busy:
            raise Overloaded("another file is being uploaded; try again after it", retry_after=BUSY_SECONDS)
        self._busy = True
        try:
            with tempfile.NamedTemporaryFile(prefix="mlnet-upload-") as file:
                size = await _received(request, file)
                sha256 = await upload(self._connection, Path(file.name), PATIENCE, lambda there, whole: None)
                return answer({"sha256": sha256, "size": size})
        except OSError as error:
            raise StorageError(f"the file cannot be kept here: {error.strerror}; free some space") from error
        finally:
            self._busy = False


async def _received(request: Request, file: IO[bytes]) -> int:
    """Write the body of a request to a file; its size."""
    size = 0
    chunks = request.stream()
    try:
        async with aclosing(chunks):
            while True:
                async with asyncio.timeout(IDLE_SECONDS):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    break
                size += len(chunk)
                if size > MAX_UPLOAD:
                    raise BadRequest(f"the file is larger than {MAX_UPLOAD >> 30} GiB")
                await asyncio.to_thread(file.write, chunk)
    except TimeoutError:
        raise BadRequest(f"nothing of the file came for {IDLE_SECONDS:.0f} s; upload it again") from None
    except ClientDisconnect:
        raise BadRequest("the upload broke off") from None
    await asyncio.to_thread(file.flush)
    return size
