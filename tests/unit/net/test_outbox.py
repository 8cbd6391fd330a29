from __future__ import annotations

import asyncio

from mlnet.identity.envelope import Envelope
from mlnet.net.sending.outbox import MAX_FRAME_ENVELOPES, MAX_IN_FLIGHT, Outbox, OutboxBudget, Outcome, Route
from mlnet.net.types import Limits
from mlnet.v1 import peer_pb2 as pb


def envelope(text: str) -> Envelope:
    return Envelope(text, bytes(64))


def box(limits: Limits | None = None, budget: int = 1 << 30) -> Outbox:
    return Outbox(limits or Limits(), OutboxBudget(budget))


def texts(frame: pb.ExchangeRequest | None) -> list[str]:
    return [] if frame is None else [one.yaml for one in frame.envelopes]


def acknowledgement(sequence: int, outcome: pb.Outcome = pb.OUTCOME_ACCEPTED) -> pb.Acknowledgement:
    return pb.Acknowledgement(sequence=sequence, outcome=outcome)


async def test_envelopes_leave_in_order_and_are_settled_by_number() -> None:
    outbox = box()
    futures = [outbox.put(envelope(str(index)), 60, Route()) for index in range(3)]
    frame = outbox.next_frame()
    assert frame is not None
    assert texts(frame) == ["0", "1", "2"]
    assert list(frame.sequences) == [1, 2, 3]
    assert outbox.next_frame() is None
    outbox.acknowledge([acknowledgement(3), acknowledgement(1, pb.OUTCOME_REFUSED), acknowledgement(99)])
    assert futures[2].result() is Outcome.ACCEPTED
    assert futures[0].result() is Outcome.REFUSED
    assert not futures[1].done()
    assert len(outbox) == 1


async def test_what_was_not_acknowledged_is_sent_again_with_its_number() -> None:
    outbox = box()
    for index in range(3):
        outbox.put(envelope(str(index)), 60, Route())
    outbox.next_frame()
    outbox.acknowledge([acknowledgement(2)])
    outbox.put(envelope("later"), 60, Route())
    outbox.rewind()
    frame = outbox.next_frame()
    assert frame is not None
    assert texts(frame) == ["0", "2", "later"]
    assert list(frame.sequences) == [1, 3, 4]
    assert outbox.resent == 2


async def test_an_acknowledgement_of_what_was_not_sent_settles_nothing() -> None:
    outbox = box()
    future = outbox.put(envelope("x"), 60, Route())
    outbox.acknowledge([acknowledgement(1)])
    assert not future.done()


async def test_a_frame_holds_what_travels_alike() -> None:
    outbox = box()
    outbox.put(envelope("a"), 60, Route())
    outbox.put(envelope("b"), 60, Route(to="peer"))
    outbox.put(envelope("c"), 60, Route(hops=4))
    outbox.put(envelope("d"), 60, Route(hops=4))
    frames = [outbox.next_frame() for _ in range(4)]
    assert [texts(frame) for frame in frames] == [["a"], ["b"], ["c", "d"], []]
    assert frames[1] is not None
    assert frames[1].to == "peer"
    assert frames[2] is not None
    assert frames[2].hops == 4


async def test_frames_and_what_is_in_flight_are_bounded() -> None:
    outbox = box(Limits(outbox_envelopes=2000))
    for index in range(2000):
        outbox.put(envelope(str(index)), 60, Route())
    sizes = [len(texts(outbox.next_frame())) for _ in range(4)]
    assert max(sizes) == MAX_FRAME_ENVELOPES
    assert sum(sizes) == MAX_IN_FLIGHT
    outbox.acknowledge([acknowledgement(1)])
    assert texts(outbox.next_frame()) == [str(MAX_IN_FLIGHT)]


async def test_large_envelopes_travel_alone() -> None:
    outbox = box()
    for _ in range(2):
        outbox.put(envelope("x" * (1 << 20)), 60, Route())
    assert len(texts(outbox.next_frame())) == 1
    assert len(texts(outbox.next_frame())) == 1


async def test_there_is_no_room_beyond_the_limits() -> None:
    outbox = box(Limits(outbox_envelopes=1))
    outbox.put(envelope("a"), 60, Route())
    assert outbox.put(envelope("b"), 60, Route()).result() is Outcome.NO_ROOM
    budget = OutboxBudget(1000)
    one, other = Outbox(Limits(), budget), Outbox(Limits(), budget)
    one.put(envelope("x" * 500), 60, Route())
    assert other.put(envelope("x" * 500), 60, Route()).result() is Outcome.NO_ROOM
    one.clear()
    assert budget.used == 0
    assert not other.put(envelope("x" * 500), 60, Route()).done()


async def test_the_deadline_settles_and_gives_room_back() -> None:
    budget = OutboxBudget(1 << 20)
    outbox = Outbox(Limits(), budget)
    future = outbox.put(envelope("x"), 0.0, Route())
    async with asyncio.timeout(5):
        assert await future is Outcome.TIMEOUT
    assert (len(outbox), budget.used) == (0, 0)
    assert outbox.next_frame() is None


async def test_cancelling_takes_an_envelope_back() -> None:
    budget = OutboxBudget(1 << 20)
    outbox = Outbox(Limits(), budget)
    future = outbox.put(envelope("x"), 60, Route())
    other = outbox.put(envelope("y"), 60, Route())
    outbox.next_frame()
    future.cancel()
    outbox.clear()
    async with asyncio.timeout(5):
        assert await other is Outcome.STOPPED
    await asyncio.sleep(0)
    assert budget.used == 0


async def test_a_run_of_numbers_is_settled_alike() -> None:
    outbox = box()
    futures = [outbox.put(envelope(str(index)), 60, Route()) for index in range(4)]
    outbox.next_frame()
    outbox.acknowledge(
        [
            pb.Acknowledgement(sequence=4, outcome=pb.OUTCOME_REFUSED),
            pb.Acknowledgement(sequence=1, through=3, outcome=pb.OUTCOME_ACCEPTED),
        ]
    )
    assert [future.result() for future in futures] == [*[Outcome.ACCEPTED] * 3, Outcome.REFUSED]


async def test_a_run_beyond_what_a_frame_holds_is_cut() -> None:
    outbox = box(Limits(outbox_envelopes=2 * MAX_FRAME_ENVELOPES))
    futures = [outbox.put(envelope("x"), 60, Route()) for _ in range(MAX_FRAME_ENVELOPES + 1)]
    while outbox.next_frame() is not None:
        pass
    outbox.acknowledge([pb.Acknowledgement(sequence=1, through=2**64 - 1)])
    assert [future.done() for future in futures] == [True] * MAX_FRAME_ENVELOPES + [False]


async def test_each_envelope_has_its_own_deadline() -> None:
    outbox = box()
    late = outbox.put(envelope("late"), 60, Route())
    early = outbox.put(envelope("early"), 0.01, Route())
    async with asyncio.timeout(5):
        assert await early is Outcome.TIMEOUT
    assert not late.done()
    assert texts(outbox.next_frame()) == ["late"]


async def test_cancelling_a_task_that_waits_takes_the_envelope_back() -> None:
    budget = OutboxBudget(1 << 20)
    outbox = Outbox(Limits(), budget)

    async def wait() -> Outcome:
        return await outbox.put(envelope("x"), 60, Route())

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    assert len(outbox) == 1
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()
    assert (len(outbox), budget.used) == (0, 0)
