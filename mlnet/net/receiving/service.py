"""The gRPC service, which peers call through the tunnel and tools at the node's API."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc

from mlnet.identity.envelope import Envelope
from mlnet.net import blobs, dialback
from mlnet.net.rates import REMEMBERED_PEERS, Clock, Recent, TokenBucket
from mlnet.net.receiving.exchange import MAX_CARRIED, Exchange
from mlnet.net.receiving.inbox import Inbox
from mlnet.net.sending.outbox import DIRECT, Outcome
from mlnet.net.types import TOOL, Limits, Source
from mlnet.v1 import peer_pb2 as pb
from mlnet.v1 import peer_pb2_grpc

logger = logging.getLogger(__name__)
MAX_EXCHANGES_PER_PEER = 4
"""Exchange streams of one peer. It uses one at a time; others are left of connections whose end we have not
noticed."""
MAX_SENDS_PER_PEER = 64
"""Calls of Send by one peer that may wait for their turn. Each holds up to a megabyte of memory."""
MAX_SENDS_OF_TOOLS = 4096
"""The same for all tools together, which have no identity: load testers open many calls at once."""
_ANONYMOUS = Source(TOOL, "")


def anonymous(_: str) -> Source:
    """The source of a call by a tool."""
    return _ANONYMOUS


class Service(peer_pb2_grpc.PeerServiceServicer):
    """Answers the calls of peers and tools.

    Args:
        limits: how many calls one peer may have under way.
        inbox: where envelopes go.
        find_source: finds the peer behind a ``context.peer()``; None when its stream has ended. It is
            :func:`anonymous` where tools call.
        find_blob: see :class:`mlnet.net.types.Handlers`.
        on_degree: ``(peer, connections)`` as a caller states it.
        clock: seconds.
    """

    def __init__(
        self,
        limits: Limits,
        inbox: Inbox,
        find_source: Callable[[str], Source | None],
        find_blob: Callable[[str, str], Path | None],
        on_degree: Callable[[str, int], None],
        clock: Clock,
    ) -> None:
        self._limits, self._inbox = limits, inbox
        self._find_source, self._find_blob, self._on_degree = find_source, find_blob, on_degree
        self._exchanges: dict[str, int] = {}
        self._fetches: dict[str, int] = {}
        self._sends: dict[str, int] = {}
        self._dial_backs: Recent[str, TokenBucket] = Recent(
            lambda: TokenBucket(limits.dial_backs_per_minute / 60, clock, limits.dial_backs_per_minute / 3),
            REMEMBERED_PEERS,
        )

    async def _source(self, context: Any) -> Source:
        source = self._find_source(context.peer())
        if source is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the connection has ended")
        return source or _ANONYMOUS

    async def _peer(self, context: Any) -> Source:
        source = await self._source(context)
        if source.peer == TOOL:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "only peers may make this call, not tools")
        return source

    @contextlib.asynccontextmanager
    async def _slot(
        self, slots: dict[str, int], source: Source, limit: int, context: Any
    ) -> AsyncIterator[None]:
        if slots.get(source.peer, 0) >= limit:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "too many calls of this kind at a time; try again when one has ended",
            )
        slots[source.peer] = slots.get(source.peer, 0) + 1
        try:
            yield
        finally:
            slots[source.peer] -= 1
            if not slots[source.peer]:
                del slots[source.peer]

    # Upper-case names here and below: grpc calls the methods by their names in proto/mlnet/v1/peer.proto.
    async def Exchange(self, request_iterator: AsyncIterator[pb.ExchangeRequest], context: Any) -> None:  # noqa: N802
        """Take envelopes, answer with acknowledgements."""
        source = await self._source(context)
        limit = MAX_CARRIED if source.peer == TOOL else MAX_EXCHANGES_PER_PEER
        async with self._slot(self._exchanges, source, limit, context):
            await Exchange(source, self._inbox, context, self._on_degree).run(request_iterator)

    async def Send(self, request: pb.SendRequest, context: Any) -> pb.SendResponse:  # noqa: N802
        """Take one envelope."""
        source = await self._source(context)
        limit = MAX_SENDS_OF_TOOLS if source.peer == TOOL else MAX_SENDS_PER_PEER
        async with self._slot(self._sends, source, limit, context):
            await asyncio.sleep(self._inbox.pause(source.peer, source.ip, len(request.envelope.yaml)))
            envelope = Envelope(request.envelope.yaml, request.envelope.signature)
            disposition = self._inbox.screen(envelope, source.peer, DIRECT)
            if disposition is None:
                (opened,) = await self._inbox.open([envelope])
                disposition = self._inbox.accept(opened, envelope, source.peer, DIRECT)
        if disposition.outcome is not Outcome.ACCEPTED:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, disposition.error)
        return pb.SendResponse(accepted=disposition.wanted)

    async def DialBack(self, request: pb.DialBackRequest, context: Any) -> pb.DialBackResponse:  # noqa: N802
        """Dial the caller back, at the remote address of its connection."""
        source = await self._peer(context)
        if not source.ip or not self._dial_backs[source.peer].try_take():
            return pb.DialBackResponse(
                host=source.ip, reason="this peer asked for too many dial-backs; try again in a minute"
            )
        return await dialback.serve(request, source.ip)

    async def Fetch(self, request: pb.FetchRequest, context: Any) -> AsyncIterator[pb.FetchResponse]:  # noqa: N802
        """Stream a blob that the user serves to this peer."""
        source = await self._peer(context)
        async with self._slot(self._fetches, source, self._limits.fetches_per_peer, context):
            if not blobs.is_digest(request.digest):
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT, "a digest is 64 lower-case hexadecimal digits"
                )
            path = self._find_blob(source.peer, request.digest)
            if path is None:
                await context.abort(
                    grpc.StatusCode.NOT_FOUND, "this node has no blob with that digest for this peer"
                )
                return
            try:
                async for chunk in blobs.read(path, request.offset):
                    yield chunk
            except ValueError as error:
                await context.abort(grpc.StatusCode.OUT_OF_RANGE, str(error))
            except OSError as error:
                logger.warning("cannot serve blob %s: %s", request.digest, error)
                await context.abort(grpc.StatusCode.NOT_FOUND, "the blob cannot be read")
