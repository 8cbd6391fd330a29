"""The page's server over real sockets, before an API that says what the test wants."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from support.api_double import TASK
from support.api_node import ApiNode, api_node

from mlnet.dashboard.serving import serving
from mlnet.errors import ConfigError, PortInUse
from mlnet.sdk.target import Target
from mlnet.v1 import tasks_pb2

EVENTS = f"/api/tasks/{TASK}/events"


@asynccontextmanager
async def page(node: ApiNode) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(Target(socket=node.socket), "127.0.0.1:0", "--listen") as url:
        base, _, token = url.partition("/#token=")
        headers = {"authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=20) as client:
            yield client


@pytest.fixture
async def node() -> AsyncIterator[ApiNode]:
    async with api_node() as running:
        yield running


@pytest.fixture
async def client(node: ApiNode) -> AsyncIterator[httpx.AsyncClient]:
    async with page(node) as caller:
        yield caller


class Stream:
    """What an EventSource reads of a stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.status, self._lines = response.status_code, response.aiter_lines()
        self.id, self.comments = 0, 0

    async def next(self) -> tuple[str, Any]:
        """The next event: its type and data."""
        kind, data = "message", ""
        async with asyncio.timeout(10):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if not line and data:
                    return kind, json.loads(data)
                if name == "id":
                    self.id = int(value)
                self.comments += line.startswith(":")
                kind = value if name == "event" else kind
                data += value if name == "data" else ""
        raise EOFError

    async def texts(self, count: int) -> list[str]:
        return [(await self.next())[1]["notice"]["text"] for _ in range(count)]


@asynccontextmanager
async def following(client: httpx.AsyncClient, after: int = 0) -> AsyncIterator[Stream]:
    headers = {"last-event-id": str(after)} if after else {}
    async with client.stream("GET", EVENTS, headers=headers) as response:
        yield Stream(response)


async def test_a_stream_goes_on_after_what_was_seen(node: ApiNode, client: httpx.AsyncClient) -> None:
    for text in "abc":
        await node.say(text)
    async with following(client) as stream:
        assert await stream.texts(3) == ["a", "b", "c"]
        await node.say("d")
        assert await stream.texts(1) == ["d"]
        await node.break_off()
        kind, problem = await stream.next()
        assert (kind, problem["status"]) == ("problem", 503)
        with pytest.raises(EOFError):
            await stream.next()
        seen = stream.id
    assert seen == 4
    await node.say("e")
    async with following(client, seen) as stream:
        await node.say("f")
        assert await stream.texts(2) == ["e", "f"]
        ended = tasks_pb2.TASK_STATE_CANCELLED
        await node.happen(ended, ended=tasks_pb2.TaskEnded(state=ended))
        _, last = await stream.next()
        assert (last["kind"], last["state"], stream.id) == ("ended", "cancelled", 7)
        with pytest.raises(EOFError):
            await stream.next()
    async with following(client, 7) as stream:
        assert stream.status == 204


async def test_a_silent_stream_has_comments_and_says_once_what_is_waited_for(
    node: ApiNode, client: httpx.AsyncClient
) -> None:
    node.bookmark = 0.05
    await node.say("a")
    async with following(client) as stream:
        assert await stream.texts(1) == ["a"]
        assert await stream.next() == ("waiting", {"waiting": "votes of 2 members"})
        await node.watched_by(1)
        await node.say("b")
        assert await stream.texts(1) == ["b"]
        assert stream.comments >= 1
        assert stream.id == 2


async def test_a_stream_that_cannot_be_has_a_status(node: ApiNode, client: httpx.AsyncClient) -> None:
    assert (await client.get(EVENTS.replace(TASK, "00" * 32))).status_code == 404
    assert (await client.get(EVENTS, headers={"last-event-id": "x"})).status_code == 400
    async with following(client, 9) as stream:
        kind, problem = await stream.next()
        assert (kind, problem["status"]) == ("problem", 416)


async def test_a_page_that_leaves_ends_its_watch(node: ApiNode, client: httpx.AsyncClient) -> None:
    await node.say("a")
    async with following(client) as stream:
        await stream.texts(1)
        await node.watched_by(1)
    await node.watched_by(0)


async def test_the_server_ends_at_once_although_pages_follow_tasks(node: ApiNode) -> None:
    await node.say("a")
    async with asyncio.timeout(2.5):  # less than it grants to calls in progress
        async with page(node) as client, client.stream("GET", EVENTS) as response:
            await Stream(response).texts(1)


async def test_a_task_is_submitted_as_it_was_written(node: ApiNode, client: httpx.AsyncClient) -> None:
    body = {
        "definition": "version: 1",
        "dataset": {"link": "https://example.org/a.npz", "name": "a.npz"},
        "waiting_period": "1m30s",
        "allowed_nodes": ["one", "two"],
        "idempotency_token": "token",
    }
    response = await client.post("/api/tasks", json=body)
    assert response.status_code == 201
    assert response.json()["task"]["state"] == "gathering"
    (asked,) = node.submitted
    assert (asked.definition, asked.dataset.link, asked.idempotency_token) == (
        "version: 1",
        "https://example.org/a.npz",
        "token",
    )
    assert (asked.waiting_period.ToMilliseconds(), list(asked.allowed_nodes)) == (90_000, ["one", "two"])


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"\xff", b'{"definition": 1}', b'{"definition": "", "more": 1}', b"{" * 100_000),
        *(b'{"definition": "' + b"a" * 300_000 + b'"}', b'{"definition": "", "waiting_period": "soon"}'),
        *(b'{"definition": "", "dataset": {}}', b'{"definition": "", "dataset": {"path": "a", "link": "b"}}'),
    ],
)
async def test_what_the_page_would_not_send_is_refused_with_a_reason(
    node: ApiNode, client: httpx.AsyncClient, body: bytes
) -> None:
    response = await client.post("/api/tasks", content=body)
    assert response.status_code == 400
    assert response.json()["message"]
    assert not node.submitted


async def test_problems_of_a_definition_have_their_lines(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/validate", json={"definition": "wrong"})
    (problem,) = response.json()["problems"]
    assert (problem["path"], problem["line"], problem["column"]) == ("ml.model", 2, 3)


async def test_a_file_is_uploaded_once(node: ApiNode, client: httpx.AsyncClient) -> None:
    data = bytes(range(256)) * 10_000  # three pieces
    first = await client.post("/api/blobs", content=data)
    digest = hashlib.sha256(data).hexdigest()
    assert first.json() == {"sha256": digest, "size": len(data)}
    assert node.blobs == {digest: data}
    assert (await client.post("/api/blobs", content=data)).status_code == 200
    assert node.puts == [0]
    assert (await client.post("/api/blobs", content=b"")).status_code == 400


async def test_one_upload_at_a_time(client: httpx.AsyncClient) -> None:
    more = asyncio.Event()
    begun_ = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        begun_.set()
        await more.wait()
        yield b"b"

    headers = {"content-length": "2"}
    first = asyncio.create_task(client.post("/api/blobs", content=slow(), headers=headers))
    await begun_.wait()
    while (second := await client.post("/api/blobs", content=b"c")).status_code == 200:
        pass  # the first one has not arrived yet
    assert (second.status_code, "retry-after" in second.headers) == (429, True)
    more.set()
    assert (await first).status_code == 200


async def test_a_model_is_downloaded_as_a_file(node: ApiNode, client: httpx.AsyncClient) -> None:
    path = f"/api/tasks/{TASK[:8]}/model"
    refused = await client.post(path)
    assert (refused.status_code, refused.json()["message"]) == (409, "the task has no model yet")
    node.model = b"weights" * 400_000
    saved = await client.post(path)
    assert saved.content == node.model
    assert saved.headers["content-disposition"] == f'attachment; filename="mlnet-{TASK[:12]}.safetensors"'


async def test_a_transcript_is_checked_by_the_program_that_checks_them(
    node: ApiNode, client: httpx.AsyncClient
) -> None:
    node.transcript = b'{"chain": 1}\n'
    checked = await client.get(f"/api/tasks/{TASK}/audit")
    assert checked.status_code == 409
    assert "is not a transcript" in checked.json()["message"]
    assert (await client.post(f"/api/tasks/{TASK}/transcript")).content == node.transcript


async def test_lists_are_filtered_by_states_that_there_are(node: ApiNode, client: httpx.AsyncClient) -> None:
    assert len((await client.get("/api/tasks?state=gathering")).json()["tasks"]) == 1
    assert (await client.get("/api/tasks?state=failed")).json()["tasks"] == []
    assert (await client.get("/api/tasks?state=nothing")).status_code == 400


async def test_a_node_that_is_gone_is_named(node: ApiNode) -> None:
    async with page(ApiNode(socket=node.socket.with_name("gone.sock"))) as client:
        response = await client.get("/api/status")
        assert response.status_code == 503
        assert "mlnet-node start" in response.json()["message"]


async def test_pages_and_files_are_served_and_nothing_beside_them(client: httpx.AsyncClient) -> None:
    page_ = (await client.get("/")).text
    for path in ("/tasks", f"/tasks/{TASK}", "/submit"):
        assert (await client.get(path)).text == page_
    script = await client.get("/static/js/main.js")
    assert script.headers["content-type"].startswith("text/javascript")
    fresh = await client.get("/static/js/main.js", headers={"if-none-match": script.headers["etag"]})
    assert fresh.status_code == 304
    for path in (
        "/static/%2e%2e/gate.py",
        "/static/..%2fgate.py",
        "/static//etc/passwd",
        "/static/",
        "/more",
    ):
        assert (await client.get(path)).status_code == 404


async def test_the_page_is_for_this_machine_only(node: ApiNode) -> None:
    target = Target(socket=node.socket)
    with pytest.raises(ConfigError, match="ssh -L"):
        async with serving(target, "0.0.0.0:0", "--listen"):
            pass
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortInUse):
            async with serving(target, f"127.0.0.1:{taken.getsockname()[1]}", "--listen"):
                pass
