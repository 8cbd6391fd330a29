"""Ends that must not hang what comes after them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger(__name__)


async def within(seconds: float, what: str, stopping: Coroutine[Any, Any, None]) -> None:
    """Wait for an end, but not for ever; what hangs is reported with the place where it does, and cancelled.

    Args:
        seconds: that it may take.
        what: ends, for the report.
        stopping: the end.
    """
    task = asyncio.ensure_future(stopping)
    try:
        await asyncio.wait((task,), timeout=seconds)
        if task.done():
            task.result()
        else:
            logger.error("%s did not end within %g s: %s", what, seconds, task.get_stack())
    finally:
        task.cancel()
