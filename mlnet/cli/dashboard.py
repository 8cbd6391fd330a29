"""``mlnet-node dashboard``: the page of a node, until a signal ends it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from mlnet.cli import console

if TYPE_CHECKING:
    from mlnet.sdk.target import Target

PAGE = "the page is at "
"""How the line with the page's address begins."""


async def show(target: Target, listen: str) -> int:
    """Serve the page of a node until a signal comes; the exit code.

    Raises:
        ConfigError: the address to listen on is wrong or taken.
    """
    from mlnet.dashboard.serving import serving

    leave = asyncio.Event()
    with console.signals(lambda _: leave.set()):
        async with serving(target, listen, "--listen") as url:
            tell(url)
            await leave.wait()
    return 0


def tell(url: str) -> None:
    """Say where the page is. Who reads the address can use the page."""
    try:
        sys.stdout.write(f"{PAGE}{url}\n")
        sys.stdout.flush()
    except OSError as error:
        console.lost_output(error)
