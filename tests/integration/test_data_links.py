"""Links of every kind, against a real web server and real files."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.datasets import DIGITS, definition

from mlnet.data import FetchBlob, LinkPolicy, fetch, fetching, split
from mlnet.errors import DataError, HashMismatch
from mlnet.kernels import segmenthash

CONTENT = bytes(range(256)) * 8192
DIGEST = segmenthash.digest(CONTENT).hex()
SIZE = len(CONTENT)
PRIVATE = LinkPolicy(allow_private=True)


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT and a few ways to misbehave."""

    protocol_version = "HTTP/1.1"
    released: threading.Event
    requested: threading.Event

    def do_GET(self) -> None:
        if self.path == "/loop":
            self.redirect("/loop")
        elif self.path == "/once":
            self.redirect("/file")
        elif self.path == "/away":
            self.redirect("file:///etc/passwd")
        elif self.path == "/missing":
            self.send_error(404)
        elif self.path == "/stall":
            self.send_response(200)
            self.send_header("Content-Length", str(SIZE))
            self.end_headers()
            self.wfile.write(CONTENT[:1000])
            self.requested.set()
            self.released.wait(20)
        elif self.path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, SIZE, 500_000):
                piece = CONTENT[start : start + 500_000]
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        else:
            body = {
                "/digits": DIGITS.read_bytes(),
                "/file": CONTENT,
                "/short": CONTENT[:-1],
                "/other": CONTENT[::-1],
                "/long": CONTENT * 2,
            }
            self.send_response(200)
            self.send_header("Content-Length", str(len(body[self.path])))
            self.end_headers()
            self.wfile.write(body[self.path])

    def redirect(self, location: str) -> None:
        self.send_response(302)
        self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


class Server(ThreadingHTTPServer):
    """Without tracebacks when a client hangs up, which some of the tests are about."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no error here."""


@contextmanager
def serving() -> Iterator[tuple[str, threading.Event]]:
    class Once(Handler):
        released = threading.Event()
        requested = threading.Event()

    with Server(("127.0.0.1", 0), Once) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", Once.requested
        finally:
            Once.released.set()
            server.shutdown()
            thread.join()


def content(path: Path) -> bytes:
    return path.read_bytes()


def names(room: Path) -> list[str]:
    return [path.name for path in room.iterdir()]


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with serving() as (url, _):
        yield url


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """An empty directory to fetch into."""
    path = tmp_path / "room"
    path.mkdir()
    return path


@pytest.mark.parametrize("path", ["/file", "/chunked", "/once"])
async def test_http(web: str, room: Path, path: str) -> None:
    target = room / "segment"
    assert await fetch(web + path, digest=DIGEST, size=SIZE, destination=target, policy=PRIVATE) == target
    assert content(target) == CONTENT
    assert names(room) == ["segment"]


async def test_sha256_of_a_model(web: str, room: Path) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    target = room / "model"
    await fetch(
        web + "/file", digest=digest, size=SIZE, destination=target, policy=PRIVATE, algorithm="sha256"
    )
    with pytest.raises(HashMismatch):
        await fetch(web + "/file", digest=digest, size=SIZE, destination=room / "x", policy=PRIVATE)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("/other", HashMismatch, "has the hash"),
        ("/short", HashMismatch, f"has {SIZE - 1} of the promised {SIZE} bytes"),
        ("/long", DataError, f"has {2 * SIZE} bytes, but {SIZE} were expected"),
        ("/missing", DataError, "answered 404"),
        ("/loop", DataError, "more than 5 redirects"),
        ("/away", DataError, "not an http or https link"),
    ],
)
async def test_http_leaves_nothing_when_it_fails(
    web: str, room: Path, path: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await fetch(web + path, digest=DIGEST, size=SIZE, destination=room / "x", policy=PRIVATE)
    assert names(room) == []


async def test_http_to_a_private_address_needs_permission(web: str, room: Path) -> None:
    with pytest.raises(DataError, match=r"127\.0\.0\.1, which is not a public address"):
        await fetch(web + "/file", digest=DIGEST, size=SIZE, destination=room / "x", policy=LinkPolicy())


async def test_a_stalled_server_is_left_at_the_deadline(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "BASE_SECONDS", 0.5)
    monkeypatch.setattr(fetching, "BYTES_PER_SECOND", 1 << 40)
    with serving() as (url, _), pytest.raises(DataError, match="did not arrive within"):
        await fetch(url + "/stall", digest=DIGEST, size=SIZE, destination=room / "x", policy=PRIVATE)
    assert names(room) == []


async def test_a_cancelled_download_leaves_nothing(room: Path) -> None:
    with serving() as (url, requested):
        task = asyncio.create_task(
            fetch(url + "/stall", digest=DIGEST, size=SIZE, destination=room / "x", policy=PRIVATE)
        )
        await asyncio.to_thread(requested.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert names(room) == []


async def test_no_server(web: str, room: Path) -> None:
    with serving() as (url, _):
        pass
    with pytest.raises(DataError, match="cannot be fetched"):
        await fetch(url + "/file", digest=DIGEST, size=SIZE, destination=room / "x", policy=PRIVATE)


async def test_a_dataset_from_a_web_server(web: str, room: Path) -> None:
    task = definition(dataset={"source": {"features": f"{web}/digits"}})
    dataset = await asyncio.to_thread(split, task, Path(), room)
    assert dataset.sha256 == hashlib.sha256(DIGITS.read_bytes()).hexdigest()
    assert sorted(names(room)) == [f"segment-{index}.safetensors" for index in range(10)]
    missing = definition(dataset={"source": {"features": f"{web}/missing"}})
    with pytest.raises(DataError, match="answered 404"):
        await asyncio.to_thread(split, missing, Path(), room)


def blob(content: bytes) -> FetchBlob:
    async def fetch_blob(
        digest: str,
        *,
        max_bytes: int,
        timeout: float,
        sink: Callable[[bytes], None],
    ) -> int:
        assert (digest, max_bytes) == (DIGEST, SIZE)
        assert timeout == fetching.time_limit(SIZE)
        for start in range(0, len(content), 1 << 20):
            sink(content[start : start + (1 << 20)])
        return len(content)

    return fetch_blob


async def test_network(room: Path) -> None:
    target = room / "segment"
    await fetch(
        f"mlnet:{DIGEST}",
        digest=DIGEST,
        size=SIZE,
        destination=target,
        policy=LinkPolicy(),
        fetch_blob=blob(CONTENT),
    )
    assert content(target) == CONTENT


@pytest.mark.parametrize(
    ("link", "content", "message"),
    [
        (f"mlnet:{DIGEST}", CONTENT[::-1], "has the hash"),
        (f"mlnet:{DIGEST}", CONTENT * 2, "more than the promised"),
        (f"mlnet:{DIGEST}", CONTENT[1:], "of the promised"),
        (f"mlnet:{'0' * 64}", CONTENT, "names another file"),
    ],
)
async def test_network_leaves_nothing_when_it_fails(
    room: Path, link: str, content: bytes, message: str
) -> None:
    with pytest.raises(HashMismatch, match=message):
        await fetch(
            link,
            digest=DIGEST,
            size=SIZE,
            destination=room / "x",
            policy=LinkPolicy(),
            fetch_blob=blob(content),
        )
    assert names(room) == []


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory that an operator names, beside a file that it does not hold."""
    path = tmp_path / "shared data"
    path.mkdir()
    (tmp_path / "secret").write_bytes(CONTENT)
    (path / "segment").write_bytes(CONTENT)
    (path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(path / "pipe")
    return path


async def test_file_below_a_named_directory(shared: Path, room: Path) -> None:
    policy = LinkPolicy(file_roots=(shared,))
    link = (shared / "segment").as_uri()
    await fetch(link, digest=DIGEST, size=SIZE, destination=room / "x", policy=policy)
    assert content(room / "x") == CONTENT
    with pytest.raises(DataError, match="operator of this node"):
        await fetch(link, digest=DIGEST, size=SIZE, destination=room / "y", policy=LinkPolicy())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../secret", "operator of this node"),
        ("%2e%2e/secret", "operator of this node"),
        ("link", "operator of this node"),
        ("missing", "cannot be read"),
        ("pipe", "not a regular file"),
        (".", "Is a directory"),
        ("segment?x", "not a link to a file"),
        ("bad%00name", "cannot be read"),
    ],
)
async def test_file_links_stay_inside(shared: Path, room: Path, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        await fetch(
            f"file://{shared}/{name}",
            digest=DIGEST,
            size=SIZE,
            destination=room / "x",
            policy=LinkPolicy(file_roots=(shared,)),
        )
    assert names(room) == []


@pytest.mark.parametrize("link", ["ftp://x/y", "", "mlnet", "file://other/x", "x" * 3000])
async def test_other_links(room: Path, link: str) -> None:
    with pytest.raises(DataError):
        await fetch(link, digest=DIGEST, size=SIZE, destination=room / "x", policy=LinkPolicy())
    assert names(room) == []
