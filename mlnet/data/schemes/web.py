"""``http://`` and ``https://``: a web server has it."""

from __future__ import annotations

import asyncio

from mlnet.data.http import Interrupter, download
from mlnet.data.schemes.base import Transfer


async def fetch(transfer: Transfer) -> None:
    """Download it; see :data:`mlnet.data.schemes.SCHEMES`."""
    interrupter = Interrupter()
    thread = asyncio.create_task(
        asyncio.to_thread(
            download,
            transfer.link,
            transfer.sink,
            max_bytes=transfer.size,
            seconds=transfer.seconds,
            allow_private=transfer.policy.allow_private,
            interrupter=interrupter,
        )
    )
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:
        # The thread writes to our file: it has to end before the file is closed.
        interrupter.interrupt()
        await asyncio.wait([thread])
        if not thread.cancelled():
            thread.exception()
        raise
