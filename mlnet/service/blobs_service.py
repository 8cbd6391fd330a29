"""BlobsService: files by hash, in pieces, so that a broken call goes on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from mlnet.errors import ConfigError, NotFound, Overloaded, ServiceError
from mlnet.net import blobs
from mlnet.net.types import CHUNK_BYTES
from mlnet.service.blob_store import BlobStore, Writing, checked
from mlnet.v1 import blobs_pb2 as pb
from mlnet.v1 import blobs_pb2_grpc

MAX_TRANSFERS = 32
"""Files that come or go at the same time. Each holds a piece of a megabyte."""
IDLE_SECONDS = 60.0
"""How long the next piece may take: a caller that fell silent must not keep others from writing the file."""
SWEEP_SECONDS = 3600.0


class BlobsService(blobs_pb2_grpc.BlobsServiceServicer):
    """Answers the calls of BlobsService.

    Args:
        store: of the files.
    """

    service: str = pb.DESCRIPTOR.services_by_name["BlobsService"].full_name

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._transfers = 0

    def add_to(self, server: grpc.aio.Server) -> None:
        """Have a server answer its calls."""
        blobs_pb2_grpc.add_BlobsServiceServicer_to_server(self, server)  # type: ignore[no-untyped-call]

    async def sweep(self) -> None:
        """Drop what was left unfinished, for as long as the node runs."""
        while True:
            await asyncio.to_thread(self._store.sweep)
            await asyncio.sleep(SWEEP_SECONDS)

    async def Put(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.BlobsServicePutRequest], context: Any
    ) -> pb.BlobsServicePutResponse:
        """Store a file."""
        with _Transfer(self):
            first = await _next(request_iterator)
            if first is None:
                raise ConfigError("the stream is empty; its first request names sha256 and size")
            sha256 = checked(first.sha256)
            there, complete = await asyncio.to_thread(self._store.stored, sha256)
            if complete:
                return pb.BlobsServicePutResponse(size=there)
            writing = await self._begun(sha256, first)
            try:
                await _take(writing, first, request_iterator)
                await asyncio.to_thread(writing.finish)
            finally:
                await asyncio.shield(asyncio.to_thread(writing.close))
        return pb.BlobsServicePutResponse(size=first.size)

    async def _begun(self, sha256: str, first: pb.BlobsServicePutRequest) -> Writing:
        """The file to write to. A caller that hangs up meanwhile leaves it to others: the thread goes on, and
        what it has opened is closed."""
        opening = asyncio.ensure_future(
            asyncio.to_thread(self._store.begin, sha256, first.size, first.offset)
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_abandon)
            raise

    async def Stat(self, request: pb.StatRequest, context: Any) -> pb.StatResponse:  # noqa: N802
        """How much of a file is there."""
        stored, complete = await asyncio.to_thread(self._store.stored, checked(request.sha256))
        return pb.StatResponse(stored=stored, complete=complete)

    async def Get(  # noqa: N802
        self, request: pb.BlobsServiceGetRequest, context: Any
    ) -> AsyncIterator[pb.BlobsServiceGetResponse]:
        """Stream a file."""
        with _Transfer(self):
            path = await asyncio.to_thread(self._store.find, request.sha256)
            if path is None:
                raise NotFound(f"there is no whole file with the hash {checked(request.sha256)}")
            try:
                async for piece in blobs.read(path, request.offset):
                    yield pb.BlobsServiceGetResponse(data=piece.data, size=piece.size)
            except ValueError as error:
                raise ServiceError(str(error), status="OUT_OF_RANGE") from error
            except FileNotFoundError as error:
                raise NotFound(f"the file with the hash {request.sha256} was dropped") from error


def _abandon(opening: asyncio.Future[Writing]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


async def _next(requests: AsyncIterator[pb.BlobsServicePutRequest]) -> pb.BlobsServicePutRequest | None:
    """The next request; None at the end.

    Raises:
        ServiceError: none came in time.
    """
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            return await anext(requests, None)
    except TimeoutError as error:
        raise ServiceError(
            f"nothing came for {IDLE_SECONDS:g} s; what came before is kept, go on from there",
            status="DEADLINE_EXCEEDED",
        ) from error


async def _take(
    writing: Writing, first: pb.BlobsServicePutRequest, requests: AsyncIterator[pb.BlobsServicePutRequest]
) -> None:
    """Write what comes, until the stream ends."""
    request: pb.BlobsServicePutRequest | None = first
    while request is not None:
        if len(request.data) > CHUNK_BYTES:
            raise ConfigError(
                f"a piece has {len(request.data)} bytes; at most {CHUNK_BYTES} are taken at a time"
            )
        if request.offset != writing.done and request is not first:
            raise ConfigError(
                f"a piece is for offset {request.offset}; the next one belongs at {writing.done}"
            )
        if request.data:
            await asyncio.to_thread(writing.write, request.data)
        request = await _next(requests)


class _Transfer:
    """A place among the transfers."""

    def __init__(self, service: BlobsService) -> None:
        self._service = service

    def __enter__(self) -> None:
        if self._service._transfers >= MAX_TRANSFERS:
            raise Overloaded(f"{MAX_TRANSFERS} files are under way already", retry_after=1.0)
        self._service._transfers += 1

    def __exit__(self, *_: object) -> None:
        self._service._transfers -= 1
