"""Connections that are only held: those of many identities, dialled from one process, and sessions without a
host around them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import trio
from libp2p.abc import IMuxedConn
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from mlnet.net.addresses import split_full
from mlnet.net.muxer.select import Muxing, open_muxing
from mlnet.net.muxer.yamux import YamuxSession
from mlnet.net.transport import libp2p_patches, listening
from mlnet.net.transport.admission import Admission
from mlnet.net.transport.trio_thread import TrioThread
from mlnet.net.types import Limits

AT_ONCE = 8
DIAL_SECONDS = 10.0


def upgrader(keys: KeyPair, muxing: Muxing) -> TransportUpgrader:
    """Noise and yamux as mlnet's host has them."""
    noise = NoiseTransport(keys, noise_privkey=create_x25519_key_pair().private_key)
    made = TransportUpgrader({NOISE: noise}, {TProtocol(YAMUX): YamuxSession}, 10)
    libp2p_patches.repair_muxer(made, TProtocol(YAMUX), muxing, 10)
    return made


class Idle:
    """Holds connections with one address, each of an identity of its own."""

    def __init__(self) -> None:
        self._thread = TrioThread(self._main)
        self._nursery: trio.Nursery | None = None

    async def _main(self, nursery: trio.Nursery, started: Callable[[], None]) -> None:
        self._nursery = nursery
        started()
        await trio.sleep_forever()

    async def hold(self, address: str, count: int) -> None:
        """Make ``count`` more connections and answer their pings until :meth:`stop`."""
        if self._nursery is None:
            await self._thread.start()
        await self._thread.call(self._dial_all, address, count)

    async def stop(self) -> None:
        """End them."""
        await self._thread.stop()

    async def _dial_all(self, address: str, count: int) -> None:
        where, peer = split_full(address)
        at_once = trio.CapacityLimiter(AT_ONCE)
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(self._dial, Multiaddr(where), ID.from_base58(peer), at_once)

    async def _dial(self, address: Multiaddr, peer: ID, at_once: trio.CapacityLimiter) -> None:
        async with at_once:
            with trio.fail_after(DIAL_SECONDS):
                made = upgrader(create_new_key_pair(), Muxing(Limits(), None))
                raw = await libp2p_patches.Tcp(Admission(Limits(), time.monotonic), {}).dial(address)
                secured = await made.upgrade_security(raw, True, peer)
                session = await made.upgrade_connection(secured, peer)
            assert self._nursery is not None
            self._nursery.start_soon(session.start)


class Bare:
    """Accepts sessions: TCP, noise and yamux, with no swarm and nothing of mlnet above."""

    def __init__(self) -> None:
        self._thread = TrioThread(self._main)
        self._keys = create_new_key_pair()
        self.address = ""

    async def _main(self, nursery: trio.Nursery, started: Callable[[], None]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=listening.BACKLOG)
        port = listener.socket.getsockname()[1]
        self.address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{ID.from_pubkey(self._keys.public_key)}"
        async with open_muxing(Limits()) as muxing:
            started()
            made = upgrader(self._keys, muxing)
            await trio.serve_listeners(functools.partial(self._accept, made), [listener])

    async def _accept(self, made: TransportUpgrader, stream: trio.SocketStream) -> None:
        session = await self._upgrade(made, stream)
        await session.start()

    async def _upgrade(self, made: TransportUpgrader, stream: trio.SocketStream) -> IMuxedConn:
        raw = RawConnection(TrioTCPStream(stream), False)
        secured = await made.upgrade_security(raw, False)
        return await made.upgrade_connection(secured, secured.get_remote_peer())

    async def start(self) -> str:
        """Listen; the full multiaddr."""
        await self._thread.start()
        return self.address

    async def stop(self) -> None:
        """End all sessions."""
        await self._thread.stop()
