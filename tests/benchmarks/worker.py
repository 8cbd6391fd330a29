"""The inside of a process of children.py: takes commands as JSON lines and ends with its input."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import resource
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

STATM = Path("/proc/self/statm")


def resident() -> int:
    """Bytes of this process in memory."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Process(ABC):
    """What both ends can say of themselves."""

    async def do(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out a command."""
        result: dict[str, Any] = await getattr(self, f"do_{request.pop('do')}")(**request)
        return result

    @abstractmethod
    async def start(self) -> dict[str, Any]:
        """Be ready; what the other side has to know."""

    @abstractmethod
    async def stop(self) -> None:
        """End."""

    async def do_cpu(self) -> dict[str, Any]:
        """Processor seconds so far."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {"cpu": used.ru_utime + used.ru_stime}

    async def do_memory(self) -> dict[str, Any]:
        """The resident set, without what is only kept for later."""
        gc.collect()
        with contextlib.suppress(AttributeError):  # musl has no such function
            ctypes.CDLL(None).malloc_trim(0)
        return {"rss": resident()}


def say(answer: dict[str, Any]) -> None:
    """Write one line."""
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


async def answer(work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """What came of it, or why nothing did."""
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - the other side prints it in place of a figure
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())[:200]}


async def serve(make: Callable[[], Process]) -> None:
    """Carry out commands until there are no more."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    process = make()
    try:
        say(await answer(process.start()))
        async for line in reader:
            say(await answer(process.do(msgspec.json.decode(line))))
    finally:
        await process.stop()
