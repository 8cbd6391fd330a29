"""RESP2: what servers may send, and what hostile ones do."""

from __future__ import annotations

import asyncio

import pytest

from mlnet.errors import StoreError
from mlnet.store import resp


async def decode(data: bytes, limit: int = 1000) -> resp.Reply:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await resp.Decoder(reader, limit).read()


def test_a_command_is_an_array_of_sized_words() -> None:
    assert resp.command("SET", b"a\r\n", 12) == b"*3\r\n$3\r\nSET\r\n$3\r\na\r\n\r\n$2\r\n12\r\n"


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"+PONG\r\n", b"PONG"),
        (b":-12\r\n", -12),
        (b"$4\r\na\r\nb\r\n", b"a\r\nb"),
        (b"$0\r\n\r\n", b""),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"*2\r\n*1\r\n:1\r\n$1\r\nx\r\n", [[1], b"x"]),
    ],
)
async def test_replies_are_decoded(data: bytes, value: resp.Reply) -> None:
    assert await decode(data) == value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"-NOAUTH no\x1b[31m\r\n", r"says: NOAUTH no\?\[31m"),
        (b"", "closed"),
        (b"$10\r\nabc", "closed"),
        (b"$1001\r\n", "larger than 1000"),
        (b"*9999999999\r\n", "larger than 1000"),
        (b"*100\r\n" + b"$9\r\n123456789\r\n" * 100, "larger than 1000"),
        (b"*1\r\n" * 9 + b":1\r\n", "malformed"),
        (b"$-2\r\n", "malformed"),
        (b":1_0\r\n", "malformed"),
        (b":" + b"9" * 30 + b"\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\n", "malformed"),
        (b"+" + b"x" * 100_000, "too long"),
    ],
)
async def test_errors_garbage_and_floods_are_store_errors(data: bytes, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        await decode(data)
