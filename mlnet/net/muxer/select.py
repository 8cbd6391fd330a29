"""Selects the implementation of a host's sessions: the native thread where it was built, else Python.

The environment variable ``MLNET_EXTENSIONS`` overrules the choice: ``skip`` takes Python, ``require`` raises
ImportError where the native thread is missing. Both behave the same on the wire.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Literal

from mlnet.net.muxer.base import Session
from mlnet.net.muxer.yamux import YamuxSession

if TYPE_CHECKING:
    from libp2p.abc import ISecureConn
    from libp2p.peer.id import ID

    from mlnet.net.muxer.native import NativeReactor
    from mlnet.net.types import Limits

Implementation = Literal["native", "python"]


def implementation() -> Implementation:
    """The implementation that a new host uses.

    Raises:
        ImportError: ``MLNET_EXTENSIONS`` is ``require``, and the extension is missing.
    """
    mode = os.environ.get("MLNET_EXTENSIONS", "auto")
    if mode == "skip":
        return "python"
    try:
        # Imported for whether it is there: not built, or not for this platform (it needs epoll).
        from mlnet.net.muxer import native  # noqa: F401
    except ImportError:
        if mode == "require":
            raise
        return "python"
    return "native"


def describe() -> str:
    """The implementation that a new host uses, and why, for people."""
    if implementation() == "native":
        from mlnet.net.muxer import aead

        return f"native thread, encrypting with {aead.NAME}"
    if os.environ.get("MLNET_EXTENSIONS") == "skip":
        return "Python, because MLNET_EXTENSIONS is skip"
    return "Python, as the extension was not built"


class Muxing:
    """The factory of a host's sessions.

    Args:
        limits: bounds on them.
        reactor: the native thread; None for sessions in Python.
    """

    def __init__(self, limits: Limits, reactor: NativeReactor | None) -> None:
        self._limits, self._reactor = limits, reactor
        self._counters: Counter[str] = Counter()

    @property
    def implementation(self) -> Implementation:
        """The implementation in use."""
        return "python" if self._reactor is None else "native"

    def session(self, conn: ISecureConn, peer_id: ID, remote: tuple[str, int] | None) -> Session:
        """A session over a secured connection with that TCP address."""
        if self._reactor is not None:
            from mlnet.net.muxer.native import NativeSession, can_carry

            # A connection of a form that the native thread does not know (another cipher, not TCP) still
            # works.
            if can_carry(conn):
                return NativeSession(self._reactor, conn, peer_id, remote=remote)
        return YamuxSession(
            conn,
            peer_id,
            remote=remote,
            ping_seconds=self._limits.ping_seconds,
            ping_timeout=self._limits.ping_timeout_seconds,
            max_waiting=self._limits.tunnel_bytes_per_connection,
            counters=self._counters,
        )

    def counters(self) -> Mapping[str, int]:
        """Counters of the sessions."""
        return dict(self._counters) if self._reactor is None else self._reactor.counters()


@contextlib.asynccontextmanager
async def open_muxing(limits: Limits) -> AsyncIterator[Muxing]:
    """A factory of sessions; those that are left end when the context does."""
    if implementation() == "python":
        yield Muxing(limits, None)
        return
    from mlnet.net.muxer.native import NativeReactor

    reactor = NativeReactor(limits)
    reactor.start()
    try:
        yield Muxing(limits, reactor)
    finally:
        reactor.stop()
