"""``mlnet-node forward``: a peer's service at an address of this machine, until a signal ends it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from mlnet.cli import console
from mlnet.net.addresses import split_full
from mlnet.service import forwarding


async def forward(named: str, local: str, data_dir: Path) -> int:
    """Forward until a signal comes; the exit code.

    Args:
        named: multiaddr or id of the peer.
        local: ``HOST:PORT`` to listen on.
        data_dir: of the node that knows the peer's addresses, for an id.

    Raises:
        PeerUnreachable: the peer does not answer.
        ConfigError: an address is malformed.
    """
    ended = asyncio.Event()
    with console.signals(lambda _: ended.set()):
        address = await forwarding.find(named, data_dir)
        _, peer = split_full(address)
        async with forwarding.forwarding(address, local, console.say) as place:
            sys.stdout.write(f"{place} leads to mlnet.v1.PeerService of {peer}; Ctrl-C ends it\n")
            sys.stdout.flush()
            await ended.wait()
    return 0
