"""A peer that proves an identity and then says what it likes: noise and multistream are right, the yamux
frames are the test's."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import AsyncIterator, Callable

import trio
import trio.testing
from libp2p.abc import ISecureConn
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.transport.upgrader import TransportUpgrader
from support.network import SECONDS

from mlnet.identity.keys import Identity
from mlnet.net.addresses import split_full
from mlnet.net.muxer.yamux import YamuxSession
from mlnet.net.transport.trio_thread import TrioThread

DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
STRANGER = "127.0.0.2"
"""Not the address that the nodes of a machine have: who dials from here is a stranger."""
_GONE = (BaseLibp2pError, OSError, trio.BrokenResourceError)


def frame(kind: int, flags: int, stream: int, length: int, payload: bytes = b"") -> bytes:
    """A yamux frame; its length is whatever the caller says."""
    return struct.pack("!BBHII", 0, kind, flags, stream, length) + payload


class Stranger:
    """Peers that a test speaks for, each with an identity of its own."""

    def __init__(self) -> None:
        self._thread = TrioThread(self._main)
        self._dialled: list[ISecureConn] = []

    async def _main(self, nursery: trio.Nursery, started: Callable[[], None]) -> None:
        started()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                for secured in self._dialled:
                    await secured.close()

    async def start(self) -> None:
        await self._thread.start()

    async def stop(self) -> None:
        await self._thread.stop()

    def forget(self) -> None:
        """Keep nothing of the connections so far; they are closed."""
        self._dialled.clear()

    async def settled(self, seconds: float) -> None:
        """Wait until it has had nothing to do for so many seconds."""
        await self._thread.call(trio.testing.wait_all_tasks_blocked, seconds)

    async def dial(
        self, address: str, source: str = STRANGER, identity: Identity | None = None
    ) -> Connection:
        """Connect to a full multiaddr."""
        seed = (identity or Identity.generate()).seed
        secured = await self._thread.call(_dial, address, source, seed)
        self._dialled.append(secured)
        return Connection(self._thread, secured)


class Connection:
    """One secured connection that speaks yamux, if the test does."""

    def __init__(self, thread: TrioThread, secured: ISecureConn) -> None:
        self._thread, self._secured = thread, secured
        self._unread = b""

    async def send(self, data: bytes) -> None:
        """Write what the test likes; nothing happens when the other side has gone."""
        await self._thread.call(self._send, data)

    async def _send(self, data: bytes) -> None:
        with (
            trio.fail_after(SECONDS),
            contextlib.suppress(*_GONE),
        ):
            await self._secured.write(data)

    async def frames(self, limit: int = 1 << 30) -> list[tuple[int, int, int, int]]:
        """(kind, flags, stream, length) of the frames that come until the other side ends the connection,
        at most so many."""
        return await self._thread.call(self._frames, limit)

    async def _frames(self, limit: int) -> list[tuple[int, int, int, int]]:
        found: list[tuple[int, int, int, int]] = []
        data = self._unread
        with (
            trio.fail_after(SECONDS),
            contextlib.suppress(*_GONE),
        ):
            while len(found) < limit:
                size = 12
                if len(data) >= size:
                    _, kind, flags, stream, length = struct.unpack_from("!BBHII", data)
                    size += length if kind == DATA else 0
                    if len(data) >= size:
                        data = data[size:]
                        found.append((kind, flags, stream, length))
                        continue
                more = await self._secured.read(None)
                if not more:
                    break
                data += more
        self._unread = data
        return found

    async def close(self) -> None:
        """Hang up."""
        await self._thread.call(self._secured.close)


@contextlib.asynccontextmanager
async def stranger() -> AsyncIterator[Stranger]:
    """Somebody who dials."""
    one = Stranger()
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


async def _dial(address: str, source: str, seed: bytes) -> ISecureConn:
    where, peer = split_full(address)
    _, _, host, _, port = where.split("/")
    with trio.fail_after(SECONDS):
        stream = await trio.open_tcp_stream(host, int(port), local_address=source)
        keys = create_new_key_pair(seed)
        noise = NoiseTransport(keys, noise_privkey=create_x25519_key_pair().private_key)
        upgrader = TransportUpgrader({NOISE: noise}, {TProtocol(YAMUX): YamuxSession}, int(SECONDS))
        raw = RawConnection(TrioTCPStream(stream), True)
        secured = await upgrader.upgrade_security(raw, True, ID.from_base58(peer))
        await upgrader.muxer_multistream._selector.select(secured, True)
        return secured
