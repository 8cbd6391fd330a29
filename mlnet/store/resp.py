"""RESP2, the protocol of Redis, with every size bounded: the server may be hostile.

https://valkey.io/topics/protocol/
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias, Union

from mlnet.errors import StoreError
from mlnet.util import files

Reply: TypeAlias = Union[bytes, int, list["Reply"], None]  # noqa: UP007 - a string has no |

MAX_REPLY = 1 << 20
"""Bytes of one reply. An array is charged four bytes an element before it is read, since a few bytes can
announce a million of them."""
MAX_DEPTH = 8
"""Nesting of arrays. Replies to XREAD nest four deep; the decoder recurses."""
MAX_WORDS = 200
"""Characters of a server's error that are shown."""


def command(*parts: str | bytes | int) -> bytes:
    """A command as a client sends it."""
    chunks = [b"*%d\r\n" % len(parts)]
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        chunks.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(chunks)


class Decoder:
    """Reads replies, or a client's commands, from a stream.

    Args:
        reader: where they come from.
        limit: bytes of one of them.
    """

    def __init__(self, reader: asyncio.StreamReader, limit: int = MAX_REPLY) -> None:
        self._reader = reader
        self._limit = limit
        self._left = limit

    async def read(self) -> Reply:
        """The next reply.

        Raises:
            StoreError: it is an error (with the server's words), malformed or too large, or the stream ends.
        """
        self._left = self._limit
        try:
            return await self._value(0)
        except asyncio.IncompleteReadError as error:
            raise StoreError("the Redis server closed the connection") from error
        except asyncio.LimitOverrunError as error:
            raise StoreError("the Redis server sent a line that is too long") from error
        except OSError as error:
            raise StoreError(f"the connection to the Redis server is lost: {files.why(error)}") from error

    async def _value(self, depth: int) -> Reply:
        line = await self._reader.readuntil(b"\r\n")
        self._take(len(line))
        kind, text = line[:1], line[1:-2]
        if kind == b"+":
            return text
        if kind == b"-":
            raise StoreError(f"the Redis server says: {printable(text)}")
        number = self._number(text)
        if kind == b":":
            return number
        if number == -1 and kind in b"$*":
            return None
        if kind == b"$" and number >= 0:
            self._take(number + 2)
            return (await self._reader.readexactly(number + 2))[:-2]
        if kind == b"*" and number >= 0 and depth < MAX_DEPTH:
            self._take(4 * number)
            return [await self._value(depth + 1) for _ in range(number)]
        raise StoreError("the Redis server's reply is malformed")

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise StoreError(f"the Redis server's reply is larger than {self._limit} bytes")

    @staticmethod
    def _number(text: bytes) -> int:
        # 20 characters hold every 64-bit number; int() on a longer one costs more than linear time.
        if len(text) > 20 or not text.removeprefix(b"-").isdigit():
            raise StoreError("the Redis server's reply is malformed")
        return int(text)


def printable(text: bytes) -> str:
    """A server's text, safe for a terminal and a log."""
    shown = text[:MAX_WORDS].decode("ascii", "replace")
    return "".join(char if char.isprintable() else "?" for char in shown)


class RespConnection:
    """One connection to a server: a command, its reply, the next command."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._decoder = Decoder(reader)
        self._writer = writer

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[RespConnection]:
        """Connect to a unix socket, and close at the end.

        Raises:
            StoreError: nothing listens there.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError as error:
            raise StoreError(f"no Redis server answers at {path.name}: {error.strerror}") from error
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    async def call(self, *parts: str | bytes | int, timeout: float) -> Reply:
        """Send a command and wait for its reply.

        Raises:
            StoreError: an error of the server's, a malformed reply, or none in time.
        """
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(command(*parts))
                await self._writer.drain()
                return await self._decoder.read()
        except TimeoutError as error:
            raise StoreError(f"the Redis server did not answer in {timeout:g} s") from error
        except OSError as error:
            raise StoreError(f"the connection to the Redis server is lost: {files.why(error)}") from error
