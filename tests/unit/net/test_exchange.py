"""The callee's side of an Exchange stream, frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from mlnet.errors import RemoteProtocolError
from mlnet.identity.envelope import Envelope
from mlnet.net.gossip import Gossip
from mlnet.net.receiving.exchange import Exchange
from mlnet.net.receiving.inbox import Inbox
from mlnet.net.sending.outbox import Outcome
from mlnet.net.types import TOOL, Handlers, Limits, Source
from mlnet.v1 import peer_pb2 as pb


class Aborted(Exception):
    pass


class Call:
    """What the stream sees of gRPC."""

    def __init__(self) -> None:
        self.answers: list[pb.ExchangeResponse] = []
        self.answered = asyncio.Event()

    async def write(self, frame: pb.ExchangeResponse) -> None:
        self.answers.append(frame)
        self.answered.set()

    async def abort(self, code: object, reason: str) -> None:
        raise Aborted(reason)


class Stream:
    """A stream and what came of it. ``garbage`` is refused by verification, ``bad`` when it is handled."""

    def __init__(self, source: str = "peer", limits: Limits | None = None) -> None:
        self.opened: list[str] = []
        self.handled: list[str] = []
        self.degrees: list[int] = []
        self.scores: list[str] = []
        self.now = 0.0
        self.call = Call()
        limits = limits or Limits()
        handlers = Handlers(
            self._on_envelope,
            lambda peer, connected: None,
            lambda peer, digest: None,
            lambda peer, protocol, preamble: None,
            self._verify,
        )
        self.inbox = Inbox(
            "us",
            handlers,
            limits,
            Gossip(limits, list, lambda envelope, peer, hops: None, lambda: self.now),
            self._relay,
            lambda peer, points: self.scores.append(peer),
            lambda: self.now,
        )
        self._exchange = Exchange(
            Source(source, "192.0.2.1"),
            self.inbox,
            self.call,
            self._on_degree,
        )

    def _on_degree(self, peer: str, degree: int) -> None:
        self.degrees.append(degree)

    def _verify(self, envelopes: Sequence[Envelope]) -> list[object]:
        self.opened += [envelope.yaml for envelope in envelopes]
        return [
            RemoteProtocolError("no") if envelope.yaml == "garbage" else envelope.yaml
            for envelope in envelopes
        ]

    def _on_envelope(self, text: Any, source: str, gossip: bool) -> bool:
        if text == "bad":
            raise RemoteProtocolError("no")
        if text == "broken":
            raise RuntimeError("a defect of the handler")
        self.handled.append(text)
        return True

    def _relay(self, envelope: Envelope, to: str, seconds: float) -> asyncio.Future[Outcome] | None:
        return None

    async def run(self, *frames: pb.ExchangeRequest) -> None:
        async def iterate() -> AsyncIterator[pb.ExchangeRequest]:
            for one in frames:
                yield one

        async with asyncio.timeout(10):
            await self._exchange.run(iterate())
        await self.inbox.stop()

    @property
    def acknowledged(self) -> list[tuple[int, int, bool]]:
        """First and last number, and whether accepted."""
        return [
            (one.sequence, one.through, one.outcome == pb.OUTCOME_ACCEPTED)
            for answer in self.call.answers
            for one in answer.acknowledgements
        ]


def frame(*texts: str, first: int = 1, ranges: bool = False, hops: int = 0) -> pb.ExchangeRequest:
    envelopes = [pb.Envelope(yaml=text, signature=bytes(64)) for text in texts]
    return pb.ExchangeRequest(
        envelopes=envelopes, sequences=range(first, first + len(texts)), ranges=ranges, hops=hops, degree=5
    )


async def test_a_caller_that_knows_nothing_of_runs_gets_a_number_for_each() -> None:
    stream = Stream()
    await stream.run(frame(*"abcde"))
    assert stream.acknowledged == [(number, 0, True) for number in range(1, 6)]
    assert stream.degrees == [5]


async def test_a_tool_that_gives_no_numbers_has_its_envelopes_counted() -> None:
    stream = Stream(TOOL)
    envelopes = [pb.Envelope(yaml=text, signature=bytes(64)) for text in "abc"]
    await stream.run(pb.ExchangeRequest(envelopes=envelopes), pb.ExchangeRequest(envelopes=envelopes))
    assert [number for number, _, _ in stream.acknowledged] == [1, 2, 3, 4, 5, 6]


async def test_numbers_that_follow_are_acknowledged_as_a_run() -> None:
    stream = Stream()
    await stream.run(frame(ranges=True), frame(*"abcde", first=7))
    assert stream.acknowledged == [(7, 11, True)]


async def test_a_tool_may_read_runs_too() -> None:
    stream = Stream(TOOL)
    await stream.run(frame(*"abc", ranges=True))
    assert stream.acknowledged == [(1, 3, True)]
    assert stream.degrees == []


async def test_a_run_ends_where_numbers_or_outcomes_differ() -> None:
    stream = Stream()
    mixed = frame("a", "b", "garbage", "bad", "c", "d", "e")
    mixed.sequences[:] = [1, 2, 3, 4, 5, 6, 9]
    await stream.run(frame(ranges=True), mixed)
    assert stream.acknowledged == [(1, 2, True), (3, 0, False), (4, 0, False), (5, 6, True), (9, 0, True)]
    assert stream.handled == ["a", "b", "c", "d", "e"]
    assert stream.scores == ["peer", "peer"]


async def test_frames_are_handled_in_their_order_whatever_their_size() -> None:
    stream = Stream()
    texts = [str(index) for index in range(600)]
    frames = [frame(*texts[start : start + 200], first=start + 1) for start in range(0, 600, 200)]
    await stream.run(frame("alone"), *frames, frame("last", first=700))
    assert stream.handled == ["alone", *texts, "last"]


async def test_gossip_that_is_known_is_not_opened_again() -> None:
    stream = Stream()
    await stream.run(frame("news", "news", "garbage", hops=3), frame("news", "garbage", first=4, hops=3))
    assert stream.handled == ["news"]
    assert stream.opened == ["news", "news", "garbage"]
    assert [accepted for _, _, accepted in stream.acknowledged] == [True, True, False, True, True]


async def test_what_may_be_handled_is_acknowledged_before_the_rest_has_to_wait() -> None:
    stream = Stream(limits=Limits(envelopes_per_second=10.0))
    answered = asyncio.create_task(stream.run(frame(*map(str, range(21)))))
    async with asyncio.timeout(10):
        await stream.call.answered.wait()
    assert len(stream.acknowledged) == 20
    await answered
    assert len(stream.acknowledged) == 21


async def test_a_defect_of_the_handler_ends_the_stream() -> None:
    stream = Stream()
    with pytest.raises(RuntimeError):
        await stream.run(frame("a", "broken", "b"))
    assert stream.handled == ["a"]


@pytest.mark.parametrize(
    "hostile",
    [
        frame(*["x"] * 257),
        pb.ExchangeRequest(envelopes=[pb.Envelope(yaml="x", signature=bytes(64))], sequences=[1, 2]),
        frame("x" * (1 << 20), "y"),
    ],
    ids=["too many", "numbers", "too long"],
)
async def test_a_frame_beyond_its_bounds_ends_the_stream(hostile: pb.ExchangeRequest) -> None:
    stream = Stream()
    with pytest.raises(Aborted):
        await stream.run(hostile)
    assert stream.handled == []
    assert stream.scores == ["peer"]
