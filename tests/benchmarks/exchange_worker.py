"""One process of exchange.py: a party that sends or receives messages. Takes commands as JSON lines.

Usage: exchange_worker.py server|client
"""

from __future__ import annotations

import asyncio
import cProfile
import logging
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.worker import Process, serve

from mlnet.driver.messenger import Wire, WireHandlers, WireOptions
from mlnet.identity.keys import Identity
from mlnet.net.types import Limits
from mlnet.protocol.wire.messages import Message, TaskFailedBody

LISTEN = ("/ip4/127.0.0.1/tcp/0",)
LIMITS = Limits(envelopes_per_second=1e6, envelope_bytes_per_second=1e9)
"""The bound on one peer is not what is measured."""
TASK = "0f" * 32
BYTES = 300
IN_FLIGHT = 1000
SEND_SECONDS = 30.0


class Party(Process):
    """A wire, and what came by it."""

    def __init__(self, folder: Path) -> None:
        handlers = WireHandlers(
            on_message=self._on_message,
            open_tasks=lambda: (),
            find_blob=lambda peer, digest: None,
            admit=lambda peer, protocol, preamble: None,
            on_traffic=lambda inbound, peer, message: None,
        )
        self._wire = Wire(Identity.generate(), handlers, folder / "run", WireOptions(LISTEN, limits=LIMITS))
        self._peer = ""
        self._received = 0
        self._padding = 0
        self._prepared: list[Message] = []

    def _on_message(self, message: Message, source: str) -> bool:
        self._received += 1
        return True

    async def start(self) -> dict[str, Any]:
        await self._wire.network.start()
        return {"address": self._wire.network.addresses()[0]}

    async def stop(self) -> None:
        await self._wire.network.stop()

    async def do_connect(self, address: str) -> dict[str, Any]:
        """Dial the other party, and see how long a message is that has nothing to say."""
        self._peer = await self._wire.network.connect(address)
        self._padding = BYTES - len(self._message("").envelope.yaml)
        return {}

    async def do_received(self) -> dict[str, Any]:
        """Messages that were verified and read."""
        return {"count": self._received}

    def _message(self, reason: str) -> Message:
        return self._wire.signer.sign(TaskFailedBody(reason), task=TASK, attempt=1, sent=1_700_000_000_000)

    def _messages(self, count: int) -> Iterator[Message]:
        return (self._message(f"{number:x}".ljust(self._padding, ".")) for number in range(count))

    async def do_prepare(self, count: int) -> dict[str, Any]:
        """Sign so many messages of 300 bytes."""
        self._prepared = list(self._messages(count))
        return {}

    async def do_send(self, count: int, ahead: bool) -> dict[str, Any]:
        """Seconds until so many messages are acknowledged: those prepared, or fresh ones."""
        messages = iter(self._prepared) if ahead else self._messages(count)
        waiting: deque[asyncio.Future[bool]] = deque()
        start = time.perf_counter()
        for message in messages:
            if len(waiting) >= IN_FLIGHT:
                await self._settle(waiting.popleft())
            waiting.append(self._wire.network.send(message.envelope, self._peer, timeout=SEND_SECONDS))
        while waiting:
            await self._settle(waiting.popleft())
        return {"seconds": time.perf_counter() - start}

    async def _settle(self, sending: asyncio.Future[bool]) -> None:
        if not await sending:
            raise ValueError("a message was not acknowledged")


def main() -> None:
    logging.disable()
    with tempfile.TemporaryDirectory(prefix="mlnet-") as folder:
        asyncio.run(serve(lambda: Party(Path(folder))))


if __name__ == "__main__":
    if os.environ.get("XPROF"):
        p = cProfile.Profile()
        p.runcall(main)
        p.dump_stats(f"{os.environ['XPROF']}.{sys.argv[1]}")
    else:
        main()
