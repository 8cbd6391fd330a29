"""Detects a second process with our identity, such as after a data directory was copied, and tells both
operators.

A process that presents our identity in a handshake, while we do not dial ourselves, has a copy of our key.
Peers tell us at which addresses they know us; those that are not ours are dialled to see who answers there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from mlnet.errors import TransportError

logger = logging.getLogger(__name__)
MAX_SUSPECTED = 8
"""Addresses of one message that are dialled: a peer chooses how many it names, and each costs us a dial."""
MAX_REMEMBERED = 64
"""Addresses that are not dialled again, and twins that are not reported again. Bounded, since a peer can make
up any number of addresses."""


class Twins:
    """Looks for other processes with our identity, and names them.

    Args:
        own: our peer id.
        dial: dials addresses at which our own identity is expected.
        is_own: whether we listen at an address.
    """

    def __init__(
        self,
        own: str,
        dial: Callable[[str, Sequence[str]], Awaitable[None]],
        is_own: Callable[[str], bool],
    ) -> None:
        self._own, self._dial, self._is_own = own, dial, is_own
        self._dialled: dict[str, None] = {}
        self._found: dict[str, None] = {}
        self._looking: set[asyncio.Task[None]] = set()

    def suspect(self, addresses: Iterable[str]) -> None:
        """Dial these addresses, unless they are ours or were dialled before, or others are being dialled
        now."""
        if self._looking:
            return
        new = [address for address in addresses if address not in self._dialled and not self._is_own(address)]
        if not new:
            return
        for address in new[:MAX_SUSPECTED]:
            _remember(self._dialled, address)
        task = asyncio.create_task(self._look(new[:MAX_SUSPECTED]), name="looking for a twin")
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def _look(self, addresses: Sequence[str]) -> None:
        try:
            await self._dial(self._own, addresses)
        except TransportError as error:
            logger.debug("no twin: %s", error)

    def found(self, ip: str) -> None:
        """A process at this IP address has our identity."""
        if ip in self._found:
            return
        _remember(self._found, ip)
        logger.error(
            "a process at %s runs with this one's identity %s: one of the two has a copy of the other's data "
            "directory; stop one of them, or give it another --data-dir",
            ip,
            self._own,
        )

    async def stop(self) -> None:
        """Cancel the dials."""
        for task in self._looking:
            task.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)


def _remember(remembered: dict[str, None], address: str) -> None:
    remembered[address] = None
    if len(remembered) > MAX_REMEMBERED:
        del remembered[next(iter(remembered))]
