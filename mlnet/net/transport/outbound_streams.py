"""Outbound streams, and the unix sockets whose connections become such streams.

Everything here runs in the trio thread.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path

import trio
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.protocol_muxer.multiselect_client import MultiselectClient

from mlnet.errors import TransportError
from mlnet.net.muxer.base import Stream
from mlnet.net.transport import unix_tunnel
from mlnet.net.transport.connections import Connections
from mlnet.net.transport.multistream import Communicator
from mlnet.net.types import Limits

logger = logging.getLogger(__name__)


class Outbound:
    """Opens streams over whichever connection with a peer is up.

    Args:
        connections: of the host.
        limits: how long a connection and a negotiation may take.
        runtime: where unix sockets live.
        on_missing: called with a peer when a stream waits for a connection to it.
    """

    def __init__(
        self,
        connections: Connections,
        limits: Limits,
        runtime: unix_tunnel.RuntimeDir,
        on_missing: Callable[[str], None],
    ) -> None:
        self._connections, self._limits, self._runtime, self._on_missing = (
            connections,
            limits,
            runtime,
            on_missing,
        )
        self._tunnels: dict[Path, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None

    def start(self, nursery: trio.Nursery) -> None:
        """Serve tunnels in that nursery, and end them with it."""
        self._nursery = nursery

    async def open_stream(self, peer: str, protocol: str, preamble: bytes | None) -> Stream | None:
        """A stream of that protocol, negotiated and with its preamble sent. Waits up to ``dial_seconds`` for
        a connection if there is none; None when there was no connection or the peer refused."""
        session = self._connections.session(peer)
        if session is None:
            self._on_missing(peer)
            session = await self._connections.wait_for_session(peer, self._limits.dial_seconds)
        if session is None:
            return None
        try:
            stream = await session.open_stream()
        except BaseLibp2pError:
            return None
        try:
            with trio.fail_after(self._limits.handshake_seconds):
                await MultiselectClient().select_one_of(
                    [TProtocol(protocol)],
                    Communicator(stream),
                    # Later than our own scope, which says what happened; libp2p takes whole seconds.
                    int(self._limits.handshake_seconds) + 1,
                )
                if preamble is not None:
                    await unix_tunnel.write_preamble(stream, preamble)
        except (BaseLibp2pError, ValueError, trio.TooSlowError) as error:
            logger.debug("no %s stream to %s: %r", protocol, peer, error)
            await stream.reset()
            return None
        except trio.Cancelled:
            # Shielded: without the reset the peer would keep half a stream for as long as the connection
            # lives.
            with trio.CancelScope(shield=True):
                await stream.reset()
            raise
        return stream

    async def open_tunnel(
        self, peer: str, protocol: str, preamble: str | None, given: socket.socket | None
    ) -> Path:
        """Open a unix socket whose connections become streams of that protocol, and return its path. With
        ``given``, a socket that listens already, its connections do, and the path is only a name for
        :meth:`close_tunnel`.

        Raises:
            TransportError: the host does not run.
        """
        nursery = self._nursery
        if nursery is None:
            raise TransportError("the host does not run")
        path = self._runtime.name("p")
        encoded = None if preamble is None else preamble.encode()
        listener = unix_tunnel.listen(path) if given is None else unix_tunnel.adopt(given)
        scope = self._tunnels[path] = trio.CancelScope()

        async def run() -> None:
            with scope:
                await unix_tunnel.serve(listener, path, lambda: self.open_stream(peer, protocol, encoded))

        nursery.start_soon(run)
        return path

    async def close_tunnel(self, path: Path) -> None:
        """Close a socket of :meth:`open_tunnel` and the streams that were opened through it."""
        scope = self._tunnels.pop(path, None)
        if scope is not None:
            # The name goes first, so that no new connection is accepted after this returns; the listener ends
            # with its scope, a little later.
            unix_tunnel.unlink(path)
            scope.cancel()
