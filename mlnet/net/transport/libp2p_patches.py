"""Repairs of libp2p 0.8.1, all of them in one place, since they touch its private parts.

Each repair names the defect. When libp2p is updated, delete every repair whose test passes without it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
from libp2p.abc import IListener, IMuxedConn, IRawConnection, ISecureConn
from libp2p.custom_types import THandler, TProtocol
from libp2p.io.trio import TrioTCPStream
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from mlnet.net.muxer.base import Session
from mlnet.net.muxer.select import Muxing
from mlnet.net.muxer.yamux import YamuxSession
from mlnet.net.transport.admission import Admission
from mlnet.net.transport.listening import Listeners
from mlnet.net.types import Limits

Address = tuple[str, int]
"""An IP address without a zone, and a TCP port."""


def quiet_logging() -> None:
    """Silence libp2p, which logs each failed dial and each odd peer as an error with a traceback.

    Does nothing when LIBP2P_DEBUG is set, libp2p's own switch.
    """
    if not os.environ.get("LIBP2P_DEBUG"):
        logging.getLogger("libp2p").setLevel(logging.CRITICAL)


async def _do_nothing() -> None:
    await trio.lowlevel.checkpoint()


def _forget(peer_id: ID) -> None:
    """Record nothing about a peer that has disconnected."""


def repair_auto_connector(swarm: Swarm) -> None:
    """Turn libp2p's auto-connector off. It dials every peer that it has heard of until half of all
    connections are in use, while :mod:`mlnet.net.peers.dialer` decides whom we want; and it remembers the end
    of every connection for ever, an entry for each identity."""
    swarm.auto_connector.maybe_connect = _do_nothing  # type: ignore[method-assign]
    swarm.auto_connector.record_disconnect = _forget  # type: ignore[method-assign]


def connection_config(limits: Limits) -> ConnectionConfig:
    """No automatic dialling, no pruning by libp2p, and no 250 ms wait after each dial.

    libp2p's ``dial_peer`` waits out a head start of 250 ms for a second address unless one connection a
    peer is enough, tries only one TCP address of a peer, and refuses a peer for 60 s after a failure.
    :func:`dial` goes past it; this setting is the second guard. We bound the connections of a peer
    ourselves (``Limits.connections_per_peer``).
    """
    # More than we admit: connections that are turned away after their handshake count for a moment, too.
    most = limits.connections + 4 * limits.handshakes
    return ConnectionConfig(
        max_connections=most,
        min_connections=0,
        low_watermark=0,
        high_watermark=most,
        # 1 makes dial_peer skip its head start of 250 ms for a second address.
        max_connections_per_peer=1,
        # Never prune: libp2p would close connections that we still count.
        grace_period=float("inf"),
        inbound_upgrade_timeout=limits.handshake_seconds,
        outbound_upgrade_timeout=limits.handshake_seconds,
        dial_timeout=limits.dial_seconds,
        inbound_stream_protocol_negotiation_timeout=limits.handshake_seconds,
        outbound_stream_protocol_negotiation_timeout=limits.handshake_seconds,
    )


NO_RETRY = RetryConfig(max_retries=0)
"""Our dialer has its own backoff; libp2p's three silent retries would add seconds to each dead address."""


async def dial(swarm: Swarm, peer: ID, address: Multiaddr) -> Session:
    """Dial one address of a peer at once, also right after a failure.

    Raises:
        SwarmException: nothing answered, or a peer with another identity.
    """
    # After a failed dial libp2p refuses the peer for 60 s, while the peer may be back in one.
    swarm.unblock_peer(peer)
    connection = await swarm.dial_addr(address, peer)
    session = connection.muxed_conn
    if not isinstance(session, Session):
        raise SwarmException("the connection is not ours")
    return session


class _Muxer(MuxerMultistream):
    """Makes our sessions: libp2p ignores ``muxer_opt`` for /yamux/1.0.0 and always makes its own Yamux."""

    def __init__(self, protocol: TProtocol, muxing: Muxing, negotiate_timeout: int) -> None:
        super().__init__({protocol: YamuxSession}, negotiate_timeout)
        self._muxing = muxing

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        protocol, _ = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        session = self._muxing.session(conn, peer_id, remote_address(conn))
        return self._annotate_connection(session, conn, protocol)


def repair_muxer(
    upgrader: TransportUpgrader, protocol: TProtocol, muxing: Muxing, negotiate_timeout: int
) -> None:
    """Make ``upgrader`` speak yamux with our own sessions."""
    upgrader.muxer_multistream = _Muxer(protocol, muxing, negotiate_timeout)


def repair_inbound(
    swarm: Swarm, admission: Admission, serve: Callable[[Session, Address | None], Awaitable[None]]
) -> None:
    """Release an inbound connection's slot when the connection ends.

    libp2p keeps the slot, and a task, of every inbound connection until the host stops: after 250 of them it
    accepts no more. ``serve(session, address that was dialled)`` runs as long as the connection is
    wanted; the SwarmException afterwards makes libp2p give up the slot.
    """
    upgrade = swarm.upgrade_inbound_raw_conn

    async def upgrade_and_release(raw_conn: IRawConnection, address: Multiaddr) -> IMuxedConn:
        remote, local = remote_address(raw_conn), local_address(raw_conn)
        session: IMuxedConn | None = None
        with admission.handshake(remote[0] if remote else "", lambda: heard(raw_conn)):
            session = await upgrade(raw_conn, address)
        if not isinstance(session, Session):
            raise SwarmException("the handshake took too long, or had to make room")
        try:
            await serve(session, local)
        finally:
            with trio.CancelScope(shield=True):
                await session.close()
        raise SwarmException("the inbound connection has ended")

    swarm.upgrade_inbound_raw_conn = upgrade_and_release  # type: ignore[method-assign, assignment]


def remote_address(connection: object) -> Address | None:
    """The TCP address at the other end of a raw connection or a session; None when it is gone.

    libp2p's own ``get_remote_address`` does not support IPv6.
    """
    stream = _tcp_stream(connection)
    return None if stream is None else _address(stream.stream.socket.getpeername)


def local_address(connection: object) -> Address | None:
    """The TCP address at our end; None when it is gone."""
    stream = _tcp_stream(connection)
    return None if stream is None else _address(stream.stream.socket.getsockname)


def heard(connection: object) -> int:
    """How many times the other end of an inbound connection has sent something."""
    stream = _tcp_stream(connection)
    return stream.heard if isinstance(stream, _Stream) else 0


def _tcp_stream(connection: object) -> TrioTCPStream | None:
    # The layers of a connection, outermost first. Each is an attribute of the one around it.
    for attribute in ("secured_conn", "conn", "read_writer", "read_write_closer"):
        connection = getattr(connection, attribute, connection)
    if isinstance(connection, RawConnection):
        connection = connection.stream
    return connection if isinstance(connection, TrioTCPStream) else None


def _address(of: Callable[[], tuple[Any, ...]]) -> Address | None:
    try:
        host, port = of()[:2]
    except OSError:
        return None
    # An IPv4 peer at a dual-stack socket appears as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2); it has to count as
    # the same address as at an IPv4 socket.
    return str(host).removeprefix("::ffff:").partition("%")[0], int(port)


class _Stream(TrioTCPStream):
    """An inbound connection that counts how many times the other side has sent something."""

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self.heard = 0

    async def read(self, n: int | None = None) -> bytes:
        data = await super().read(n)
        self.heard += 1
        return data


class _Listener(IListener):
    """A listener that owns its port alone. libp2p listens with SO_REUSEPORT, so a second node on the same
    port starts without an error and gets half of the inbound connections."""

    def __init__(self, handler: THandler, opened: Listeners, admission: Admission) -> None:
        self._handler = handler
        self._opened = opened
        self._admission = admission
        self._listeners: Sequence[trio.SocketListener] = ()
        self._scope = trio.CancelScope()

    async def listen(self, maddr: Multiaddr) -> None:
        """Serve the port that was opened for a multiaddr."""
        self._listeners = self._opened.pop(str(maddr))
        started = trio.Event()
        # A system task: libp2p gives listeners no nursery, and this one outlives the call.
        trio.lowlevel.spawn_system_task(self._serve, started)
        await started.wait()

    async def _serve(self, started: trio.Event) -> None:
        with self._scope:
            started.set()
            await trio.serve_listeners(self._accept, list(self._listeners))

    async def _accept(self, stream: trio.SocketStream) -> None:
        remote = _address(stream.socket.getpeername)
        if self._admission.refuses(remote[0] if remote else "") is not None:
            await stream.aclose()
            return
        with contextlib.suppress(OSError):  # the peer may be gone before the option is set
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            await self._handler(_Stream(stream))

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        """The addresses that we listen on, with the ports that the kernel chose."""
        result = []
        for listener in self._listeners:
            host, port = listener.socket.getsockname()[:2]
            result.append(Multiaddr(f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}"))
        return tuple(result)

    async def close(self) -> None:
        """Stop listening and end what was accepted."""
        self._scope.cancel()
        for listener in self._listeners:
            listener.socket.close()
        await trio.lowlevel.checkpoint()


class Tcp(TCP):
    """TCP with :class:`_Listener`.

    Args:
        admission: decides who may begin a handshake.
        opened: the ports to listen on.
    """

    def __init__(self, admission: Admission, opened: Listeners) -> None:
        super().__init__()
        self._admission, self._opened = admission, opened

    def create_listener(self, handler_function: THandler) -> IListener:  # type: ignore[override]
        """A listener that owns its port alone."""
        return _Listener(handler_function, self._opened, self._admission)
