"""A watch shows every event once, whatever breaks; and gives up with a reason."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.api_double import TASK, Break, Double, course, served

from mlnet.errors import NotFound, PeerUnreachable, RemoteProtocolError, ServiceError
from mlnet.sdk import watching
from mlnet.sdk.async_client import AsyncClient
from mlnet.sdk.events import TaskEnded
from mlnet.sdk.records import TaskState
from mlnet.v1 import tasks_pb2

CODES = (
    None,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
breaks = st.lists(st.builds(Break, st.integers(0, 7), st.sampled_from(CODES), st.integers(0, 3)), max_size=6)


async def seen(place: Path, double: Double, first: int = 1, **options: float) -> list[int]:
    async with served(double, f"unix:{place}"), AsyncClient(socket=place, **options) as client:  # type: ignore[arg-type]
        await client.get(TASK)
        return [event.revision async for event in client.watch(TASK[:6], first)]


@settings(max_examples=30, deadline=None)
@given(breaks, st.integers(1, 8), st.integers(1, 9))
def test_no_event_is_missing_and_none_comes_twice(plan: list[Break], length: int, first: int) -> None:
    double = Double(events=course(length), breaks=plan)
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "FIRST_PAUSE", 0.001)
        patch.setattr(watching, "LONGEST_PAUSE", 0.001)
        found = asyncio.run(seen(Path(directory) / "s", double, first))
    assert found == list(range(first, length + 1))


async def test_a_watch_goes_on_where_it_was(place: Path) -> None:
    double = Double(events=course(6), breaks=[Break(2), Break(3)])
    assert await seen(place, double) == [1, 2, 3, 4, 5, 6]
    assert [request.from_revision for request in double.watched] == [1, 3, 6]


async def test_it_says_that_it_waits_and_goes_on_when_the_node_is_back(place: Path) -> None:
    said: list[str] = []
    double = Double(events=course(4), breaks=[Break(2)])
    async with AsyncClient(socket=place, notice=said.append) as client:
        async with served(double, f"unix:{place}"):
            watch = client.watch(TASK)
            assert [(await anext(watch)).revision for _ in range(2)] == [1, 2]
        third = asyncio.ensure_future(anext(watch))
        while not said:
            await asyncio.wait([third], timeout=0.01)
        async with served(double, f"unix:{place}"):
            assert (await third).revision == 3
            assert isinstance(await anext(watch), TaskEnded)
    assert len(said) == 1
    assert said[0].startswith(f"node {place} went away (")
    assert said[0].endswith("); waiting for it for at most 1:00")


async def test_it_gives_up_when_the_node_stays_away(place: Path) -> None:
    double = Double(events=course(4), breaks=[Break(2)])
    async with AsyncClient(socket=place, patience=0.2, notice=lambda text: None) as client:
        async with served(double, f"unix:{place}"):
            watch = client.watch(TASK)
            await anext(watch)
            await anext(watch)
        with pytest.raises(
            PeerUnreachable, match=r"has been away for 0\.2 s; .* watch it again from event 3"
        ):
            await anext(watch)


async def test_where_there_is_no_node_it_does_not_wait(place: Path) -> None:
    async with AsyncClient(socket=place) as client:
        with pytest.raises(PeerUnreachable, match="no node listens at"):
            await anext(client.watch(TASK))


async def test_an_event_that_is_left_out_is_told(place: Path) -> None:
    double = Double(events=[event for event in course(5) if event.revision != 3])
    with pytest.raises(RemoteProtocolError, match="left out the events of task ab12ab12ab12 from 3 to 3"):
        await seen(place, double)


async def test_what_the_node_refuses_is_not_asked_again(place: Path) -> None:
    double = Double(breaks=[Break(0, grpc.StatusCode.OUT_OF_RANGE)])
    with pytest.raises(ServiceError) as refused:
        await seen(place, double)
    assert refused.value.status == "OUT_OF_RANGE"
    assert len(double.watched) == 1


async def test_it_ends_at_the_state_that_was_asked_for(place: Path) -> None:
    events = course(6)
    for event in events[:2]:
        event.state = tasks_pb2.TASK_STATE_GATHERING
    async with served(Double(events=events), f"unix:{place}"), AsyncClient(socket=place) as client:
        found = [event.state async for event in client.watch(TASK, until=TaskState.TRAINING)]
    assert found == ["gathering", "gathering", "training"]


async def test_a_task_that_is_unknown(place: Path) -> None:
    async with served(Double(), f"unix:{place}"), AsyncClient(socket=place) as client:
        with pytest.raises(NotFound, match="no task whose id begins with ffff"):
            await client.get("ffff")
