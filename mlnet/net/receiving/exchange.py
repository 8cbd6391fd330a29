"""The callee's side of an Exchange stream: envelopes in, acknowledgements out.

A peer's envelopes are handled in the order in which it sent them. While one batch is verified, off the event
loop, the next frame is read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc

from mlnet.errors import StorageError
from mlnet.identity.envelope import Envelope
from mlnet.net.receiving.inbox import Disposition, Inbox
from mlnet.net.sending.outbox import MAX_FRAME_ENVELOPES, Outcome, Route
from mlnet.net.types import MAX_ENVELOPE_BYTES, TOOL, Source
from mlnet.v1 import peer_pb2 as pb

MAX_CARRIED = 64
"""Envelopes of one stream that may wait for their addressees' acknowledgement. Each is a task of up to
RELAY_SECONDS; further ones hold the stream back, and with it the sender."""
MAX_BATCHES = 4
"""Batches of one stream that may be under verification at a time, as long as all but the last one hold less
than :data:`MAX_BATCHED_BYTES` together: two threads verify (verifier.py), and the others wait for them."""
MAX_BATCHED_BYTES = 1 << 20
"""Characters of the batches under verification beyond which no further frame is read; bounds the memory of
one stream to two frames."""
_OUTCOMES = {
    Outcome.ACCEPTED: pb.OUTCOME_ACCEPTED,
    Outcome.REFUSED: pb.OUTCOME_REFUSED,
    Outcome.UNREACHABLE: pb.OUTCOME_UNREACHABLE,
}


@dataclass(eq=False, slots=True)
class _Batch:
    """Envelopes of one frame.

    Attributes:
        numbers: sequence numbers by which they are acknowledged.
        envelopes: as many.
        route: how they travel.
        screened: the disposition of each envelope that needs no verification; None for the others.
        opened: the results of verification, for the others.
        size: characters of all envelopes.
    """

    numbers: Sequence[int]
    envelopes: Sequence[Envelope]
    route: Route
    screened: list[Disposition | None]
    opened: asyncio.Future[Sequence[object]]
    size: int


class Exchange:
    """One stream.

    Args:
        source: who calls.
        inbox: where envelopes go.
        context: the call.
        on_degree: ``(peer, connections)`` as the caller states it.
    """

    def __init__(
        self, source: Source, inbox: Inbox, context: Any, on_degree: Callable[[str, int], None]
    ) -> None:
        self._source, self._inbox, self._context = source, inbox, context
        self._on_degree = on_degree
        self._write_lock = asyncio.Lock()
        self._batches: deque[_Batch] = deque()
        self._carried: set[asyncio.Task[None]] = set()
        self._count = 0
        self._ranges = False

    async def run(self, frames: AsyncIterator[pb.ExchangeRequest]) -> None:
        """Serve until the caller ends the stream, or is gone: then envelopes that are not verified yet are
        dropped. They are not acknowledged, so the caller still has them."""
        first = True
        try:
            while (frame := await self._next(frames)) is not None:
                # Only the first frame of a stream states the caller's degree and whether it understands
                # ranges.
                if first:
                    self._ranges = frame.ranges
                    if self._source.peer != TOOL:
                        self._on_degree(self._source.peer, frame.degree)
                first = False
                await self._take(frame)
            await self._finish_all()
            if self._carried:
                await asyncio.wait(self._carried)
        finally:
            for batch in self._batches:
                batch.opened.cancel()
            for task in self._carried:
                task.cancel()

    async def _next(self, frames: AsyncIterator[pb.ExchangeRequest]) -> pb.ExchangeRequest | None:
        """The next frame; None at the end of the stream. Batches that are verified meanwhile are handled."""
        reading = asyncio.ensure_future(anext(frames, None))
        try:
            while self._batches:
                opened = self._batches[0].opened
                if not opened.done() and not self._is_busy():
                    await asyncio.wait((reading, opened), return_when=asyncio.FIRST_COMPLETED)
                    if not opened.done():
                        break
                await self._finish_first()
            return await reading
        finally:
            reading.cancel()

    def _is_busy(self) -> bool:
        return (
            len(self._batches) >= MAX_BATCHES or sum(one.size for one in self._batches) >= MAX_BATCHED_BYTES
        )

    async def _take(self, frame: pb.ExchangeRequest) -> None:
        received = frame.envelopes
        if len(frame.sequences) not in (0, len(received)) or len(received) > MAX_FRAME_ENVELOPES:
            self._inbox.on_oversized(self._source.peer)
            await self._abort("a frame has at most 256 envelopes, and no sequence numbers or one for each")
        envelopes = [Envelope(one.yaml, one.signature) for one in received]
        sizes = [len(envelope.yaml) for envelope in envelopes]
        if sum(sizes) > MAX_ENVELOPE_BYTES:
            self._inbox.on_oversized(self._source.peer)
            await self._abort("a frame has at most 1 MiB of envelopes")
        numbers = list(frame.sequences) or [self._count + 1 + index for index in range(len(received))]
        self._count += len(received)
        route = Route(frame.to, frame.relayed, frame.hops)
        start = 0
        # The common case takes the whole frame at once. Otherwise each envelope waits for its turn, and those
        # before it are handled and acknowledged first: the sender is slowed down, not cut off.
        if not self._inbox.may_pass(self._source.peer, self._source.ip, sizes):
            for index, size in enumerate(sizes):
                pause = self._inbox.pause(self._source.peer, self._source.ip, size)
                if pause:
                    await self._begin(numbers[start:index], envelopes[start:index], route)
                    start = index
                    await self._finish_all()
                    await asyncio.sleep(pause)
        await self._begin(numbers[start:], envelopes[start:], route)

    async def _begin(self, numbers: Sequence[int], envelopes: Sequence[Envelope], route: Route) -> None:
        """Begin to relay or to verify envelopes whose turn has come."""
        if not envelopes:
            return
        if self._inbox.is_foreign(route):
            for number, envelope in zip(numbers, envelopes, strict=True):
                await self._start_carrying(number, envelope, route)
            return
        screened = [self._inbox.screen(envelope, self._source.peer, route) for envelope in envelopes]
        opened = self._inbox.open(
            [envelope for envelope, known in zip(envelopes, screened, strict=True) if known is None]
        )
        size = sum(len(envelope.yaml) for envelope in envelopes)
        self._batches.append(_Batch(numbers, envelopes, route, screened, opened, size))

    async def _finish_all(self) -> None:
        while self._batches:
            await self._finish_first()

    async def _finish_first(self) -> None:
        """Wait until the first batch is verified, handle its envelopes, and acknowledge them in one frame."""
        batch = self._batches[0]
        opened = iter(await batch.opened)
        self._batches.popleft()
        answer = pb.ExchangeResponse()
        for number, envelope, known in zip(batch.numbers, batch.envelopes, batch.screened, strict=True):
            try:
                disposition = known or self._inbox.accept(
                    next(opened), envelope, self._source.peer, batch.route
                )
            except StorageError as error:
                # The envelope could not be stored, so it is not acknowledged: its sender still has it.
                await self._context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
            self._add(answer, number, disposition)
        await self._answer(answer)

    async def _start_carrying(self, number: int, envelope: Envelope, route: Route) -> None:
        if len(self._carried) >= MAX_CARRIED:
            await asyncio.wait(self._carried, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._carry(number, envelope, route))
        self._carried.add(task)
        task.add_done_callback(self._carried.discard)

    async def _carry(self, number: int, envelope: Envelope, route: Route) -> None:
        answer = pb.ExchangeResponse()
        self._add(answer, number, await self._inbox.carry(envelope, self._source.peer, route))
        # The caller may be gone by now; it sends the envelope again, or through another relay.
        with contextlib.suppress(grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            await self._answer(answer)

    def _add(self, answer: pb.ExchangeResponse, number: int, disposition: Disposition) -> None:
        outcome = _OUTCOMES[disposition.outcome]
        if self._ranges and answer.acknowledgements and not disposition.error:
            last = answer.acknowledgements[-1]
            if last.outcome == outcome and number == max(last.through, last.sequence) + 1:
                last.through = number
                return
        answer.acknowledgements.add(sequence=number, outcome=outcome, error=disposition.error)

    async def _answer(self, answer: pb.ExchangeResponse) -> None:
        if answer.acknowledgements:
            # Relayed envelopes are answered by tasks of their own, and grpc.aio allows one write at a time.
            async with self._write_lock:
                await self._context.write(answer)

    async def _abort(self, reason: str) -> NoReturn:
        await self._context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
        raise AssertionError("abort raises")
