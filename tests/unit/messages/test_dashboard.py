"""What the page's server says to the page, and to whoever is not the page."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from starlette.requests import ClientDisconnect, Request
from support.message_cases import Case, check

from mlnet.cli import dashboard
from mlnet.dashboard import answers, auditing, files, gate, nodes, serving, streams, tasks
from mlnet.errors import ConfigError, DataError, HashMismatch
from mlnet.sdk.target import Target
from mlnet.v1 import tasks_pb2


def request(*chunks: bytes, error: BaseException | None = None, **headers: str) -> Request:
    """A request whose body comes in these pieces, and then breaks off if there is an error."""

    async def stream() -> AsyncGenerator[bytes]:
        for chunk in chunks:
            yield chunk
        if error is not None:
            raise error

    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return cast("Request", SimpleNamespace(stream=stream, headers=named, query_params={}, path_params={}))


def reading(*chunks: bytes, error: BaseException | None = None) -> Case:
    return lambda _: asyncio.run(answers.read(request(*chunks, error=error), tasks.TaskBody))


def test_requests(tmp_path: Path) -> None:
    def upload(*chunks: bytes, error: BaseException | None = None, size: str = "3") -> Case:
        asked = request(*chunks, error=error, content_length=size)
        return lambda _: asyncio.run(files.Uploads(cast("Any", None)).put(asked))

    def task(**fields: Any) -> Case:
        return lambda _: tasks.TaskBody("", **fields).request()

    labels = tasks.DatasetBody(
        path="a", labels=tasks.DatasetBody(path="b", labels=tasks.DatasetBody(path="c"))
    )
    state = request()
    state.query_params["state"] = "lost"  # type: ignore[index]
    routes = tasks.TaskRoutes(cast("Any", None), streams.Streams())
    check(
        "dashboard-requests",
        {
            "no JSON": reading(b"{"),
            "a field of another type": reading(b'{"definition": 1}'),
            "a field that there is not": reading(b'{"definition": "", "more": 1}'),
            "too long": reading(b"a" * (answers.MAX_BODY + 1)),
            "too slow": reading(error=TimeoutError()),
            "broken off": reading(error=ClientDisconnect()),
            "no dataset": task(dataset=tasks.DatasetBody()),
            "two datasets": task(dataset=tasks.DatasetBody(path="a", link="b")),
            "labels of labels": task(dataset=labels),
            "a waiting period that is none": task(waiting_period="soon"),
            "a state that is none": lambda _: asyncio.run(routes.list(state)),
            "the number of an event that is none": lambda _: streams.last_seen("x"),
            "an upload of nothing": upload(size="0"),
            "an upload without a size": upload(size=""),
            "an upload that broke off": upload(b"a", error=ClientDisconnect()),
            "an upload that stopped": upload(b"a", error=TimeoutError()),
            "an upload onto a full disk": upload(b"a", error=OSError(28, "No space left on device")),
        },
        tmp_path,
    )


def test_uploads_are_bounded_also_when_their_size_is_a_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_UPLOAD", 2 << 30)
    monkeypatch.setattr(files, "len", lambda _: 3 << 30, raising=False)
    asked = request(b"a", content_length="1")
    check(
        "dashboard-upload",
        {"too large": lambda _: asyncio.run(files.Uploads(cast("Any", None)).put(asked))},
        tmp_path,
    )


def test_one_at_a_time(tmp_path: Path) -> None:
    uploads, auditor = files.Uploads(cast("Any", None)), auditing.Auditor(cast("Any", None))
    uploads._busy = auditor._busy = True
    none = cast("Any", None)
    check(
        "dashboard-busy",
        {
            "an upload": lambda _: asyncio.run(uploads.put(request(content_length="1"))),
            "a check": lambda _: asyncio.run(auditor.audit("ab")),
            "a stream": lambda _: streams.Streams(most=0).response(none),
        },
        tmp_path,
    )


class Answering:
    """A connection whose streams are these answers."""

    def __init__(self, *answers_: Any) -> None:
        self._answers = answers_
        self.tasks = SimpleNamespace(Download=None, Transcript=None)

    async def stream(self, *_: object) -> AsyncGenerator[Any]:
        for one in self._answers:
            yield one


async def whole(pieces: AsyncGenerator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


def test_files_of_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tasks_pb2.DownloadResponse(data=b"a", sha256=b"b")
    digest = bytes.fromhex("ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")
    other = tasks_pb2.DownloadResponse(data=b"a", sha256=digest, file_sha256="00")
    long = tasks_pb2.TranscriptResponse(lines=b"a" * 100)
    monkeypatch.setattr(auditing, "MAX_BYTES", 99)

    def model(answer: Any) -> Case:
        return lambda _: asyncio.run(whole(files.model_pieces(cast("Any", Answering(answer)), "ab")))

    check(
        "dashboard-files",
        {
            "a damaged piece": model(damaged),
            "another model": model(other),
            "a long transcript": lambda _: asyncio.run(
                auditing.Auditor(cast("Any", Answering(long))).audit("ab")
            ),
        },
        tmp_path,
    )


async def test_a_check_that_fails_and_one_that_takes_too_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("mlnet.dashboard.auditing.subprocesses.python", lambda *_: ["/bin/false"])
    with pytest.raises(DataError, match=r"^the check failed$"):
        await auditing._replay(tmp_path)
    monkeypatch.setattr("mlnet.dashboard.auditing.subprocesses.python", lambda *_: ["/bin/sleep", "60"])
    monkeypatch.setattr(auditing, "SECONDS", 0.0)
    with pytest.raises(DataError, match=r"^the check took longer than 0 s; use mlnet-node replay$"):
        await auditing._replay(tmp_path)


def test_where_the_page_is(capsys: pytest.CaptureFixture[str]) -> None:
    dashboard.tell("http://127.0.0.1:8080/#token=secret")
    assert capsys.readouterr().out == "the page is at http://127.0.0.1:8080/#token=secret\n"


async def test_a_download_that_breaks_off_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> AsyncGenerator[bytes]:
        yield b"a"
        raise HashMismatch("the model is damaged")

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(_: object) -> None:
        return

    with caplog.at_level(logging.WARNING):
        await (await files.Download.begun(broken(), "name"))({}, receive, send)
    assert caplog.messages == ["a download broke off: the model is damaged"]


async def test_what_others_are_told() -> None:
    transport = httpx.ASGITransport(gate.Gate(cast("Any", None), "token"))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        foreign = await client.get("/", headers={"host": "example.org"})
        site = await client.post("/api/tasks", headers={"origin": "http://example.org"})
        stranger = await client.get("/api/tasks")
    assert foreign.text == (
        "This page is served at loopback addresses only: open it at 127.0.0.1 or localhost.\n"
    )
    assert site.text == "Another web site has sent this request.\n"
    assert stranger.json()["message"] == (
        "the token is missing or wrong: open the address that mlnet-node printed when it started"
    )


async def test_where_the_page_is_not_served() -> None:
    with pytest.raises(ConfigError) as refused:
        async with serving.serving(Target(), "0.0.0.0:8080", "--listen"):
            pass
    assert str(refused.value) == (
        "--listen 0.0.0.0:8080: the page is plain HTTP and can be served to this machine only; use 127.0.0.1,"
        " and reach it from another machine through `ssh -L 8080:127.0.0.1:8080`"
    )
    assert nodes.EXAMPLE.is_file()
