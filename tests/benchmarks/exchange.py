"""Rows of tunnel.py: signed envelopes that one node hands to another in a second, verified and decoded."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Self

from benchmarks.children import Child, Failed, running

WORKER = Path(__file__).with_name("exchange_worker.py")
ROWS = {
    True: "envelopes of 300 bytes a second, signed ahead",
    False: "envelopes of 300 bytes a second, signed meanwhile",
}
CPU = "processor-us an envelope, signed ahead"


class Exchange:
    """Two parties in two processes."""

    def __init__(self, server: Child, client: Child) -> None:
        self._server, self._client = server, client
        self._sent = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, env: Mapping[str, str] | None = None) -> AsyncIterator[Self]:
        """Start and connect them."""
        command = [sys.executable, str(WORKER)]
        async with running([*command, "server"], env) as server, running([*command, "client"], env) as client:
            await client.ask("connect", address=server.greeting["address"])
            yield cls(server, client)

    async def round(self, count: int) -> dict[str, float]:
        """Envelopes a second, by row."""
        values = {}
        for ahead, row in ROWS.items():
            if ahead:
                await self._client.ask("prepare", count=count)
            before = await self._cpu()
            took = await self._client.ask("send", count=count, ahead=ahead)
            values[row] = count / took["seconds"]
            if ahead:
                values[CPU] = (await self._cpu() - before) / count * 1e6
            self._sent += count
        received = (await self._server.ask("received"))["count"]
        if received != self._sent:
            raise Failed(f"{received} of {self._sent} envelopes were handled")
        return values

    async def _cpu(self) -> float:
        answers = [await child.ask("cpu") for child in (self._server, self._client)]
        return float(sum(answer["cpu"] for answer in answers))
