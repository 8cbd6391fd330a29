"""What the API of a node tells its operator and its callers."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.message_cases import Case, check

from mlnet.cli.commands import start
from mlnet.cli.config_file import values
from mlnet.cli.start import reached_by
from mlnet.errors import Overloaded, ServiceError
from mlnet.service import blobs_service
from mlnet.service.blob_store import PART_SECONDS, BlobStore
from mlnet.service.blobs_service import BlobsService
from mlnet.service.bounds import Slots
from mlnet.service.options import ApiOptions
from mlnet.service.peer_names import choose
from mlnet.service.token import TokenGuard, token_in
from mlnet.v1 import blobs_pb2 as pb

CONTENT = b"0123456789"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Caller:
    """The context of a call: what it ends with."""

    def __init__(self, token: str = "") -> None:
        self.told: list[str] = []
        self._token = token

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._token}"),) if self._token else ()

    def peer(self) -> str:
        return "ipv4:192.0.2.7:40001"

    async def abort(self, code: Any, details: str, trailers: Any) -> None:
        self.told.append(f"{code.name}: {details}")
        raise Overloaded("")


async def requests(*all_of_them: pb.BlobsServicePutRequest) -> AsyncIterator[pb.BlobsServicePutRequest]:
    for one in all_of_them:
        yield one


def put(*all_of_them: pb.BlobsServicePutRequest) -> Case:
    def case(directory: Path) -> object:
        service = BlobsService(BlobStore(directory, 4 << 20))
        return asyncio.run(service.Put(requests(*all_of_them), None))

    return case


def first(offset: int = 0, data: bytes = CONTENT, size: int = 10) -> pb.BlobsServicePutRequest:
    return pb.BlobsServicePutRequest(sha256=SHA256, size=size, offset=offset, data=data)


def twice(directory: Path) -> object:
    store = BlobStore(directory, 1000)
    writing = store.begin(SHA256, 10, 0)
    try:
        return store.begin(SHA256, 10, 0)
    finally:
        writing.close()


def many_files(directory: Path) -> object:
    service = BlobsService(BlobStore(directory, 1000))
    service._transfers = blobs_service.MAX_TRANSFERS
    return asyncio.run(service.Put(requests(first()), None))


def silent(directory: Path) -> object:
    async def nothing() -> AsyncIterator[pb.BlobsServicePutRequest]:
        await asyncio.Event().wait()
        yield first()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blobs_service, "IDLE_SECONDS", 0.01)
        return asyncio.run(BlobsService(BlobStore(directory, 1000)).Put(nothing(), None))


async def one_get(store: BlobStore, offset: int) -> object:
    request = pb.BlobsServiceGetRequest(sha256=SHA256, offset=offset)
    return [piece async for piece in BlobsService(store).Get(request, None)]


def dropped(directory: Path) -> object:
    class Dropping(BlobStore):
        def find(self, sha256: str) -> Path:
            return directory / "gone"

    return asyncio.run(one_get(Dropping(directory, 1000), 0))


def taken(slots: Slots, callers: list[str]) -> Case:
    def case(_: Path) -> None:
        for caller in callers:
            slots.take(caller)

    return case


def denied(times: int, token: str = "") -> Case:
    def case(_: Path) -> str:
        async def knock() -> str:
            guard, caller = TokenGuard("x" * 43), Caller(token)
            for _ in range(times):
                with pytest.raises(Overloaded):
                    await guard._deny(None, caller)
            return caller.told[-1]

        return asyncio.run(knock())

    return case


def readable(directory: Path) -> object:
    (directory / "api.token").write_text("x" * 43)
    (directory / "api.token").chmod(0o644)
    return token_in(directory)


def malformed(directory: Path) -> object:
    (directory / "api.token").write_text("secret")
    (directory / "api.token").chmod(0o600)
    return token_in(directory)


def file(text: str) -> Case:
    def case(directory: Path) -> object:
        (directory / "node.toml").write_text(text)
        return values(directory / "node.toml", start.command)

    return case


def checking(options: ApiOptions) -> Case:
    return lambda _: options.check()


def test_the_api(tmp_path: Path) -> None:
    peers = ["12D3KooWPRvhsWVsLj8X", "12D3KooWQRvhsWVsLj8X"]
    check(
        "api",
        {
            "--api-open without an address": checking(ApiOptions(open=True)),
            "--api-cert without its key": checking(ApiOptions("127.0.0.1:0", Path("api.crt"))),
            "--api beyond loopback without TLS": checking(ApiOptions("0.0.0.0:0")),
            "--api-open beyond loopback": checking(ApiOptions("0.0.0.0:0", Path("c"), Path("k"), open=True)),
            "the address, with a token": lambda _: reached_by("127.0.0.1:50051", Path("/data/api.token")),
            "the address, without a token": lambda _: reached_by("127.0.0.1:50051", None),
            "a token that others can read": readable,
            "a token that is none": malformed,
            "a call without the token": denied(1),
            "a call with another token": denied(1, "guess"),
            "many calls without the token": denied(11),
            "as many calls as there may be": taken(Slots("calls", 2, 0.1), ["a", "b", "c"]),
            "as many calls as one caller may have": taken(Slots("calls", 4, 0.1), ["a", "a", "a"]),
            "a part of an id that nobody has": lambda _: choose("abcd", peers),
            "a part of an id that several have": lambda _: choose("Lj8X", peers),
            "a part of an id that is too short": lambda _: choose("12D", peers),
            "a file that another call stores": twice,
            "a file that begins too far": put(first(5)),
            "a file that is cut short": put(first(data=CONTENT[:5])),
            "a piece that is too large": put(first(data=bytes((1 << 20) + 1), size=2 << 20)),
            "a caller that falls silent": silent,
            "more files at a time than there may be": many_files,
            "a file that is not there": lambda d: asyncio.run(one_get(BlobStore(d, 1000), 0)),
            "a file that was dropped meanwhile": dropped,
            "--config that is no TOML": file("port = 1\nport = 2"),
            "--config with a key that is none": file("\nprot = 1"),
        },
        tmp_path,
    )


def test_what_a_refused_file_may_do_next_is_in_its_status(tmp_path: Path) -> None:
    statuses = {}
    cases: dict[str, Case] = {
        "ABORTED": put(first(data=CONTENT[:5])),
        "OUT_OF_RANGE": put(first(5)),
        "UNAVAILABLE": twice,
        "DEADLINE_EXCEEDED": silent,
    }
    for number, (status, case) in enumerate(cases.items()):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(ServiceError) as caught:
            case(tmp_path / str(number))
        statuses[status] = caught.value.status
    assert statuses == {status: status for status in cases}


def test_an_operator_learns_what_was_dropped_and_who_has_no_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1_800_000_000.0]
    store = BlobStore(tmp_path, 15, lambda: now[0])
    put_into(store, CONTENT)
    now[0] += 100 * 365 * 24 * 3600 + PART_SECONDS
    put_into(store, b"x" * 10)
    denied(2)(tmp_path)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"{tmp_path / SHA256} is dropped to make room: nobody has used it for a day",
        "calls from 192.0.2.7 have no token, or a wrong one; they are refused",
    ]


def put_into(store: BlobStore, content: bytes) -> None:
    writing = store.begin(hashlib.sha256(content).hexdigest(), len(content), 0)
    writing.write(content)
    writing.finish()
    writing.close()
