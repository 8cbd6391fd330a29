"""Server-sent events: their form, where a stream goes on, and what ends one."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from mlnet.dashboard.answers import BadRequest
from mlnet.dashboard.streams import MAX_REVISION, Streams, comment, frame, last_seen, signal
from mlnet.errors import Overloaded
from mlnet.v1 import tasks_pb2


def parsed(data: bytes) -> dict[str, str]:
    assert data.endswith(b"\n\n")
    assert data.count(b"\n\n") == 1
    return dict(line.split(": ", 1) for line in data.decode().split("\n") if line)


def test_an_event_has_its_revision_as_id_and_json_as_data() -> None:
    event = tasks_pb2.Event(revision=7, task="ab", state="TASK_STATE_FORMING")
    event.time.FromMilliseconds(1_767_225_600_000)
    event.member.peer, event.member.change = "peer", tasks_pb2.MEMBER_CHANGE_LOST
    lines = parsed(frame(event))
    assert lines["id"] == "7"
    assert json.loads(lines["data"]) == {
        "revision": 7,
        "time": "2026-01-01T00:00:00Z",
        "task": "ab",
        "state": "forming",
        "kind": "member",
        "member": {"peer": "peer", "change": "lost", "reason": ""},
    }


def test_text_with_line_breaks_stays_in_one_line_and_numbers_that_are_none_are_null() -> None:
    event = tasks_pb2.Event(revision=1, notice=tasks_pb2.Notice(text="a\n\nid: 9\r\ndata: b\u2028"))
    assert json.loads(parsed(frame(event))["data"])["notice"]["text"] == "a\n\nid: 9\r\ndata: b\u2028"
    event = tasks_pb2.Event(revision=1, progress=tasks_pb2.Progress(step=1, loss=math.nan))
    progress = json.loads(parsed(frame(event))["data"])["progress"]
    assert progress["loss"] is None
    assert "accuracy" not in progress


def test_what_is_no_event_has_no_id() -> None:
    assert "id" not in parsed(signal("problem", {"message": "gone"}))
    assert comment(12) == b": 12\n\n"


@pytest.mark.parametrize(
    ("header", "revision"), [(None, 0), ("", 0), ("0", 0), ("17", 17), (str(MAX_REVISION), MAX_REVISION)]
)
def test_where_a_stream_goes_on(header: str | None, revision: int) -> None:
    assert last_seen(header) == revision


@pytest.mark.parametrize("header", ["-1", "1.5", "a", "٣", str(MAX_REVISION + 1), "9" * 5000, "1 ", "0x1"])
def test_what_is_no_number_of_an_event(header: str) -> None:
    with pytest.raises(BadRequest, match="Last-Event-ID"):
        last_seen(header)


class Browser:
    """One end of a connection, which the test holds."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.leaves = asyncio.Event()
        self.got = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        self.got.set()


async def endless(closed: asyncio.Event) -> AsyncGenerator[bytes]:
    try:
        yield b": 1\n\n"
        await asyncio.Event().wait()
    finally:
        closed.set()


async def test_a_stream_ends_with_its_source() -> None:
    async def short() -> AsyncGenerator[bytes]:
        yield b": 1\n\n"

    browser, streams = Browser(), Streams()
    await streams.response(short())({}, browser.receive, browser.send)
    assert [message.get("body") for message in browser.sent] == [None, b": 1\n\n", b""]
    assert browser.sent[-1]["more_body"] is False
    headers = dict(browser.sent[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-store"
    assert streams.open == 0


@pytest.mark.parametrize("who", ["browser", "server"])
async def test_a_stream_ends_with_the_browser_and_with_the_server(who: str) -> None:
    browser, streams, closed = Browser(), Streams(), asyncio.Event()
    response = streams.response(endless(closed))
    serving = asyncio.create_task(response({}, browser.receive, browser.send))
    async with asyncio.timeout(10):
        await browser.got.wait()
        assert streams.open == 1
        if who == "browser":
            browser.leaves.set()
        else:
            streams.close()
        await serving
        await closed.wait()
    assert streams.open == 0


async def test_a_browser_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlnet.dashboard.streams.SEND_SECONDS", 0.01)
    browser, streams, closed = Browser(), Streams(), asyncio.Event()

    async def stuck(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async with asyncio.timeout(10):
        await streams.response(endless(closed))({}, browser.receive, stuck)
        await closed.wait()
    assert streams.open == 0


async def test_one_stream_too_many_is_told_when_to_come_again() -> None:
    browser, streams, closed = Browser(), Streams(most=1), asyncio.Event()
    serving = asyncio.create_task(streams.response(endless(closed))({}, browser.receive, browser.send))
    async with asyncio.timeout(10):
        await browser.got.wait()
        with pytest.raises(Overloaded, match="1 pages follow tasks already") as refused:
            streams.response(endless(closed))
        assert refused.value.retry_after
        browser.leaves.set()
        await serving
    assert streams.response(endless(closed)) is not None
