"""Keeps connections up: to the peers that the operator named, and to enough others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence

from mlnet.errors import PeerUnreachable
from mlnet.net.peers.address_book import AddressBook
from mlnet.net.peers.neighbours import Neighbours
from mlnet.net.transport.host import Host
from mlnet.net.types import Limits

logger = logging.getLogger(__name__)
FIRST_RETRY_SECONDS = 0.5
"""Pause after the first failed dial of a peer; it doubles with each further one."""
LAST_RETRY_SECONDS = 30.0
"""The longest pause: what a peer that was away for long waits at most until we are back. A dial to a silent
address holds a slot for dial_seconds, so shorter pauses keep the slots busy with dead peers."""
LONELY_RETRY_SECONDS = 5.0
"""The longest pause while no peer at all is connected: a user may be waiting at the terminal for the first
one."""
MAX_DIALS = 4
"""Dials that the maintenance runs at a time; dials for a caller are not counted. Each may race several
addresses."""


class Dialer:
    """Dials peers, each at most once at a time.

    Args:
        host: dials.
        book: where peers are.
        neighbours: who is connected.
        limits: how many connections are enough.
        on_unreachable: see :class:`~mlnet.net.types.Handlers`.
    """

    def __init__(
        self,
        host: Host,
        book: AddressBook,
        neighbours: Neighbours,
        limits: Limits,
        on_unreachable: Callable[[str, str], None] = lambda peer, why: None,
    ) -> None:
        self._host, self._book, self._neighbours, self._limits = host, book, neighbours, limits
        self._dials: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, tuple[int, float]] = {}
        self._on_unreachable = on_unreachable
        self._told: dict[str, str] = {}
        # Unaffected by a user's random.seed().
        self._random = random.SystemRandom()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep connections."""
        self._task = asyncio.create_task(self._maintain(), name="keeping connections")

    async def stop(self) -> None:
        """Stop, and cancel the dials under way."""
        tasks = [*self._dials.values(), *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """Something changed: a connection, or what is known of a peer."""
        self._changed.set()

    def on_connected(self, peer: str) -> None:
        """Forget that peer's failures."""
        self._failures.pop(peer, None)
        self._told.pop(peer, None)
        self.wake()

    async def connect(self, peer: str, addresses: Sequence[str] = ()) -> None:
        """Bring up a connection unless there is one; several callers share one dial.

        A dial under way does not know a caller's own ``addresses``: when it fails, they are tried next.

        Raises:
            PeerUnreachable: no address answered.
            TransportError: the network stops.
        """
        if peer in self._neighbours:
            return
        under_way = self._dials.get(peer)
        # Wait for it rather than dial beside it: two connections would come up.
        if under_way is not None and addresses:
            await asyncio.wait((under_way,))
            if not under_way.cancelled() and under_way.exception() is None:
                return
        # Shielded: a caller that gives up must not cancel the dial of the others.
        await asyncio.shield(self._start_dial(peer, addresses))

    def dial_soon(self, peer: str) -> None:
        """Begin to bring up a connection, without reporting the outcome."""
        if peer not in self._neighbours:
            self._start_dial(peer, ())

    def _start_dial(self, peer: str, addresses: Sequence[str]) -> asyncio.Task[None]:
        dial = self._dials.get(peer)
        if dial is None:
            found = list(dict.fromkeys([*addresses, *self._book.get(peer)]))
            dial = self._dials[peer] = asyncio.create_task(self._dial(peer, found), name=f"dialling {peer}")
            dial.add_done_callback(_look_at)
        return dial

    async def _dial(self, peer: str, addresses: Sequence[str]) -> None:
        try:
            await self._host.dial(peer, addresses)
        except PeerUnreachable as error:
            # The operator hears of it once for each reason, not at every retry.
            if peer in self._book.pinned and self._told.get(peer) != error.why:
                self._told[peer] = error.why
                self._on_unreachable(peer, error.why)
            count = self._failures.get(peer, (0, 0.0))[0] + 1
            last = LAST_RETRY_SECONDS if len(self._neighbours) else LONELY_RETRY_SECONDS
            # Exponential backoff with a quarter of jitter: nodes that lost a peer together must not dial it
            # together.
            pause = min(FIRST_RETRY_SECONDS * 2 ** (count - 1), last)
            until = asyncio.get_running_loop().time() + pause * self._random.uniform(0.75, 1.25)
            self._failures[peer] = (count, until)
            while len(self._failures) > self._limits.known_peers:
                del self._failures[next(iter(self._failures))]
            raise
        finally:
            del self._dials[peer]
            self.wake()

    def _candidates(self) -> list[str]:
        """Peers that should be connected and are not, in the order in which to dial them."""
        missing = [peer for peer in self._book.pinned if peer not in self._neighbours]
        wanted = self._limits.min_neighbours - len(self._neighbours)
        if wanted > len(missing):
            others = [p for p in self._book.known() if p not in self._neighbours and p not in missing]
            # More than wanted, since some may be gone; at random, so that nodes do not all choose the same
            # ones.
            missing += self._random.sample(others, len(others))[: 4 * wanted]
        return [peer for peer in missing if peer not in self._dials and not self._host.is_banned(peer)]

    async def _maintain(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            now = loop.time()
            next_at = now + LAST_RETRY_SECONDS
            for peer in self._candidates():
                ready_at = self._failures.get(peer, (0, now))[1]
                if ready_at > now:
                    next_at = min(next_at, ready_at)
                elif len(self._dials) < MAX_DIALS:
                    self._start_dial(peer, ())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(next_at):
                    await self._changed.wait()


def _look_at(dial: asyncio.Task[None]) -> None:
    """Retrieve the exception of a dial that nobody may be waiting for; asyncio would report it otherwise."""
    if not dial.cancelled() and (error := dial.exception()) is not None:
        logger.debug("%s", error)
