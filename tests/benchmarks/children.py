"""Processes that carry out commands, one JSON line each."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

ANSWER_SECONDS = 90.0
STOP_SECONDS = 10.0
TESTS = Path(__file__).resolve().parents[1]


class Failed(Exception):
    """A process could not do what it was told; the text says why."""


class Child:
    """A process that is told what to measure."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.greeting: dict[str, Any] = {}

    @classmethod
    async def start(cls, command: Sequence[str], env: Mapping[str, str] | None = None) -> Self:
        """Start one, and wait until it is ready.

        Raises:
            Failed: it ended.
        """
        path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, **(env or {})},
        )
        child = cls(process)
        try:
            child.greeting = await child._answer()
        except BaseException:
            await child.stop()
            raise
        return child

    async def ask(self, do: str, **values: Any) -> dict[str, Any]:
        """Have a command carried out.

        Raises:
            Failed: it was not.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode({"do": do, **values}) + b"\n")
        try:
            await self._process.stdin.drain()
        except ConnectionError:
            raise Failed("the process has ended") from None
        return await self._answer()

    async def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise Failed(f"no answer within {ANSWER_SECONDS:g} s") from None
        if not line:
            raise Failed("the process has ended")
        answer: dict[str, Any] = msgspec.json.decode(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    async def stop(self) -> None:
        """End its input, and the process if it does not end by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@contextlib.asynccontextmanager
async def running(command: Sequence[str], env: Mapping[str, str] | None = None) -> AsyncIterator[Child]:
    """A child for the length of a block; see :meth:`Child.start`."""
    child = await Child.start(command, env)
    try:
        yield child
    finally:
        await child.stop()
