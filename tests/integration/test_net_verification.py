"""Envelopes are verified off the event loop, in batches, and what must hold of them holds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from support.network import SECONDS, Node, accepted, join, running

from mlnet.errors import RemoteProtocolError
from mlnet.identity.envelope import Envelope
from mlnet.identity.keys import verify_all
from mlnet.net.types import Limits


class Verifying(Node):
    """Verifies the signatures of one sender; ``held`` batches wait for :meth:`release`."""

    def __init__(self, sender: Node, *, held: int = 0) -> None:
        super().__init__()
        self._sender = sender.id
        self._held = held
        self._gate = threading.Event()
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self.threads: set[int] = set()
        self.sizes: list[int] = []
        self.finished = 0

    def release(self) -> None:
        self._gate.set()

    def verify(self, envelopes: Sequence[Envelope]) -> Sequence[Envelope | RemoteProtocolError]:
        with self._lock:
            self.threads.add(threading.get_ident())
            self.sizes.append(len(envelopes))
            held = len(self.sizes) <= self._held
        self._loop.call_soon_threadsafe(self._notify)
        if held:
            assert self._gate.wait(SECONDS)
        genuine = verify_all([(self._sender, one.signing_input, one.signature) for one in envelopes])
        with self._lock:
            self.finished += 1
        self._loop.call_soon_threadsafe(self._notify)
        return [
            envelope if good else RemoteProtocolError("its signature is false")
            for envelope, good in zip(envelopes, genuine, strict=True)
        ]


def send(source: Node, target: Node, envelopes: Sequence[Envelope]) -> list[asyncio.Future[bool]]:
    return [source.network.send(one, target.id, timeout=SECONDS) for one in envelopes]


async def test_envelopes_stay_in_order_though_a_later_batch_is_verified_first() -> None:
    a = Node()
    b = Verifying(a, held=1)
    async with running(a), running(b):
        await join(a, b)
        texts = [str(index) for index in range(700)]
        sent = send(a, b, [a.envelope(text) for text in texts])
        await b.until(lambda: b.finished >= 1)
        assert b.received == []
        b.release()
        assert all(await asyncio.gather(*sent))
        assert b.texts == texts
        assert max(b.sizes) > 100
        assert threading.get_ident() not in b.threads


async def test_a_false_signature_in_a_batch_refuses_that_envelope_alone() -> None:
    a = Node()
    b = Verifying(a)
    async with running(a), running(b):
        await join(a, b)
        envelopes = [a.envelope(str(index)) for index in range(100)]
        envelopes[40] = envelopes[40]._replace(signature=envelopes[41].signature)
        results = await asyncio.gather(*send(a, b, envelopes))
        assert [index for index, result in enumerate(results) if not result] == [40]
        assert b.texts == [str(index) for index in range(100) if index != 40]


async def test_false_signatures_count_against_who_brings_them() -> None:
    a = Node()
    b = Verifying(a)
    async with running(a), running(b, limits=Limits(garbage_score=3.0, ban_seconds=60.0)):
        await join(a, b)
        sent = send(a, b, [Envelope(str(index), bytes(64)) for index in range(10)])
        await b.until_alone()
        assert b.received == []
        for future in sent:
            future.cancel()


async def test_one_envelope_alone_is_verified_without_a_thread() -> None:
    a = Node()
    b = Verifying(a)
    async with running(a), running(b):
        await join(a, b)
        assert await accepted(a.network.send(a.envelope("hello"), b.id, timeout=SECONDS))
        assert not await accepted(a.network.send(Envelope("x", bytes(64)), b.id, timeout=SECONDS))
        assert b.texts == ["hello"]
        assert b.threads == {threading.get_ident()}


async def test_a_large_envelope_is_verified_in_a_thread() -> None:
    a = Node()
    b = Verifying(a)
    async with running(a), running(b):
        await join(a, b)
        assert await accepted(a.network.send(a.envelope("x" * 100_000), b.id, timeout=SECONDS))
        assert threading.get_ident() not in b.threads


async def test_what_is_under_verification_when_its_sender_goes_is_dropped() -> None:
    a = Node()
    b = Verifying(a, held=1)
    async with running(b):
        async with running(a):
            await join(a, b)
            sent = send(a, b, [a.envelope(str(index)) for index in range(50)])
            await b.until(lambda: sum(b.sizes) > 0)
        assert not any(await asyncio.gather(*sent))
        await b.until_alone()
        b.release()
        await b.until(lambda: b.finished == len(b.sizes))
        # Another peer's envelope comes behind what was dropped.
        c = Node()
        async with running(c):
            await join(c, b)
            assert not await accepted(c.network.send(c.envelope("of c"), b.id, timeout=SECONDS))
        assert b.received == []


async def test_the_end_of_a_node_waits_for_what_is_verified_and_handles_none_of_it() -> None:
    before = set(threading.enumerate())
    a = Node()
    b = Verifying(a, held=100)
    async with running(a):
        async with running(b):
            await join(a, b)
            sent = send(a, b, [a.envelope(str(index)) for index in range(900)])
            await b.until(lambda: len(b.sizes) >= 2)
            stopping = asyncio.create_task(b.network.stop())
            await a.until_alone()
            assert not stopping.done()
            b.release()
            async with asyncio.timeout(SECONDS):
                await stopping
            assert not {one for one in threading.enumerate() if one.name.startswith("mlnet-verify")} - before
        assert b.received == []
        for future in sent:
            future.cancel()
