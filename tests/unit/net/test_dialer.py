"""Dials that callers share, and those that they do not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from mlnet.errors import PeerUnreachable
from mlnet.net.peers.address_book import AddressBook
from mlnet.net.peers.dialer import Dialer
from mlnet.net.peers.neighbours import Neighbours
from mlnet.net.types import Limits

ADDRESS = "/ip4/192.0.2.1/tcp/4001"


class Host:
    """Answers at :data:`ADDRESS`; each dial ends when the test says so."""

    def __init__(self) -> None:
        self.dialled: list[list[str]] = []
        self.go = asyncio.Event()

    async def dial(self, peer: str, addresses: Sequence[str]) -> None:
        self.dialled.append(list(addresses))
        await self.go.wait()
        if ADDRESS not in addresses:
            raise PeerUnreachable(f"peer {peer} is not reachable")

    def is_banned(self, peer: str) -> bool:
        return False


def dialer(host: Any) -> Dialer:
    limits = Limits()
    return Dialer(host, AddressBook("me", limits), Neighbours(limits), limits)


async def test_a_dial_without_the_address_does_not_decide_for_a_caller_that_has_it() -> None:
    host = Host()
    made = dialer(host)
    made.dial_soon("peer")
    waiting = asyncio.ensure_future(made.connect("peer", [ADDRESS]))
    await asyncio.sleep(0)
    host.go.set()
    await waiting
    assert host.dialled == [[], [ADDRESS]]


async def test_callers_share_a_dial_that_succeeds() -> None:
    host = Host()
    made = dialer(host)
    waiting = [asyncio.ensure_future(made.connect("peer", [ADDRESS])) for _ in range(3)]
    await asyncio.sleep(0)
    host.go.set()
    await asyncio.gather(*waiting)
    assert host.dialled == [[ADDRESS]]


async def test_callers_without_an_address_share_a_failure() -> None:
    host = Host()
    made = dialer(host)
    waiting = [asyncio.ensure_future(made.connect("peer")) for _ in range(3)]
    await asyncio.sleep(0)
    host.go.set()
    for one in waiting:
        with pytest.raises(PeerUnreachable):
            await one
    assert host.dialled == [[]]
