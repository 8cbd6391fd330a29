"""The wait of a client for the first of the peers that it was given, before it announces anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from mlnet.errors import PeerUnreachable
from mlnet.util import clock
from mlnet.util.wording import duration

CONNECT_SECONDS = 15.0
"""How long a client waits at least for the first of the peers that it was given."""
Notice = Callable[[str], None]
"""Takes what the user should know of this machine or of a peer, beside any task."""


class Meeting:
    """Knows which of the peers that were given have not answered, and why.

    Args:
        peers: their addresses.
        notice: takes a line of text for people.
    """

    def __init__(self, peers: Sequence[str], notice: Notice) -> None:
        self._peers, self._notice = peers, notice
        self._peered = asyncio.Event()
        self._unreachable: dict[str, str] = {}
        self._until = 0

    async def wait(self, connected: Collection[str], seconds: float = 0.0) -> None:
        """Wait for a peer, if any were given.

        Args:
            connected: the peers with which there is a connection now.
            seconds: how long, and for :data:`CONNECT_SECONDS` at least.

        Raises:
            PeerUnreachable: none of them answered.
        """
        if not self._peers or connected:
            return
        seconds = max(CONNECT_SECONDS, seconds)
        self._peered.clear()
        self._until = clock.now() + int(1000 * seconds)
        if self._unreachable:
            self._notice(f"waits for a peer to answer, for at most {duration(seconds)}")
        try:
            async with asyncio.timeout(seconds):
                await self._peered.wait()
        except TimeoutError:
            reasons = "; ".join(self._unreachable.values()) or f"nothing came from {', '.join(self._peers)}"
            raise PeerUnreachable(
                f"no peer answered within {duration(seconds)} ({reasons}); is a node running there?"
            ) from None
        finally:
            self._until = 0

    @property
    def left(self) -> float | None:
        """Seconds that the wait may still take; None when there is none."""
        return max(0, self._until - clock.now()) / 1000 if self._until else None

    def on_peer(self, _: str) -> None:
        """A peer is connected."""
        self._peered.set()

    def on_unreachable(self, peer: str, why: str) -> None:
        """A peer that was given does not answer."""
        self._unreachable[peer] = why
        bound = "" if self.left is None else f" for at most {duration(self.left)}"
        self._notice(f"peer {peer} does not answer: {why}; trying on{bound}")
