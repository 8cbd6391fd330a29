"""Tunnels of gRPC over libp2p that tunnel.py compares: mlnet's and that of py-libp2p."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio
from benchmarks.tunnel_ways import Way
from libp2p import new_host
from libp2p.abc import IHost, INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamEOF, StreamError
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from mlnet.errors import TransportError
from mlnet.identity.keys import Identity
from mlnet.net.addresses import split_full
from mlnet.net.transport import unix_tunnel
from mlnet.net.transport.host import Host
from mlnet.net.transport.trio_thread import TrioThread
from mlnet.net.types import RPC_PROTOCOL, Limits

LISTEN = "/ip4/127.0.0.1/tcp/0"
LIMITS = Limits(
    connections=4096, connections_per_address=4096, handshakes_per_second=1e6, rpc_streams_per_peer=64
)
_PIECE = 65507
"""Bytes that fill one frame and one noise message."""


class Ours(Way):
    """mlnet's host, with the session that it chooses."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._identity = Identity.generate()
        self._host: Host
        self._peer, self._socket = "", folder

    async def start(self, grpc_socket: Path, grpc_port: int) -> str:
        runtime = unix_tunnel.RuntimeDir(Path(tempfile.mkdtemp(dir=self.folder)))
        runtime.prepare()
        self._host = Host(
            self._identity.seed,
            listen=[LISTEN],
            runtime=runtime,
            rpc_socket=grpc_socket,
            limits=LIMITS,
            events=self,
        )
        await self._host.start()
        return f"{self._host.listen_addresses[0]}/p2p/{self._identity.peer_id}"

    def on_connection(self, peer: str, ip: str, up: bool) -> None:
        """See HostEvents."""

    def on_reached(self, remote: str, host: str, port: int) -> None:
        pass

    def on_missing_connection(self, peer: str) -> None:
        """See HostEvents."""

    def on_twin(self, ip: str) -> None:
        """See HostEvents."""

    def on_garbage(self, peer: str, points: float) -> None:
        """See HostEvents."""

    def admit(self, peer: str, protocol: str, preamble: str) -> Path | None:
        """See HostEvents."""
        return None

    async def dial(self, address: str) -> str:
        where, self._peer = split_full(address)
        await self._host.dial(self._peer, [where])
        self._socket = await self._host.open_tunnel(self._peer, RPC_PROTOCOL)
        return f"unix:{self._socket}"

    async def hang_up(self) -> None:
        await self._host.close_tunnel(self._socket)
        await self._host.disconnect(self._peer)

    async def stop(self) -> None:
        await self._host.stop()

    def kind(self) -> str:
        session = self._host._connections.session(self._peer)
        return "" if session is None else type(session).__module__.rpartition(".")[2]


class Stock(Way):
    """py-libp2p as it comes, its streams pumped to unix sockets."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._thread = TrioThread(self._main)
        self._grpc_socket = folder
        self._host: IHost
        self._nursery: trio.Nursery
        self._address = ""
        self._scope = trio.CancelScope()
        self._peer: Any = None

    async def _main(self, nursery: trio.Nursery, started: Callable[[], None]) -> None:
        self._nursery = nursery
        self._host = new_host(key_pair=create_new_key_pair())
        self._host.set_stream_handler(TProtocol(RPC_PROTOCOL), self._on_stream)
        async with self._host.run(listen_addrs=[Multiaddr(LISTEN)]):
            self._address = str(self._host.get_addrs()[0])
            started()
            await trio.sleep_forever()

    async def _on_stream(self, stream: INetStream) -> None:
        with contextlib.suppress(OSError):
            await pump(await trio.open_unix_socket(str(self._grpc_socket)), stream)

    async def start(self, grpc_socket: Path, grpc_port: int) -> str:
        self._grpc_socket = grpc_socket
        await self._thread.start()
        return self._address

    async def dial(self, address: str) -> str:
        return await self._thread.call(self._dial, address)

    async def _dial(self, address: str) -> str:
        info = info_from_p2p_addr(Multiaddr(address))
        await self._host.connect(info)
        self._peer = info.peer_id
        path = Path(tempfile.mkdtemp(dir=self.folder)) / "s"
        listener = unix_tunnel.listen(path)
        self._scope = scope = trio.CancelScope()

        async def handle(sock: trio.SocketStream) -> None:
            await pump(sock, await self._host.new_stream(info.peer_id, [TProtocol(RPC_PROTOCOL)]))

        async def serve() -> None:
            with scope:
                await trio.serve_listeners(handle, [listener])

        self._nursery.start_soon(serve)
        return f"unix:{path}"

    async def hang_up(self) -> None:
        await self._thread.call(self._hang_up)

    async def _hang_up(self) -> None:
        self._scope.cancel()
        await self._host.disconnect(self._peer)

    async def stop(self) -> None:
        await self._thread.stop()


async def pump(sock: trio.SocketStream, stream: INetStream) -> None:
    """Copy both ways until both are done."""

    async def out() -> None:
        async for data in _pieces(functools.partial(sock.receive_some, _PIECE)):
            await stream.write(data)
        await stream.close()

    async def back() -> None:
        async for data in _pieces(functools.partial(stream.read, 1 << 20)):
            await sock.send_all(data)
        await sock.send_eof()

    with contextlib.suppress(BaseExceptionGroup, TransportError):
        async with sock, trio.open_nursery() as nursery:
            nursery.start_soon(out)
            nursery.start_soon(back)


async def _pieces(read: Callable[[], Awaitable[Any]]) -> Any:
    with contextlib.suppress(StreamEOF, StreamError, trio.BrokenResourceError, trio.ClosedResourceError):
        while data := await read():
            yield bytes(data)
