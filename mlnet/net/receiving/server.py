"""The gRPC server that peers reach through the tunnel."""

from __future__ import annotations

from pathlib import Path

import grpc

from mlnet.net.sending.grpc_channel import SERVER_OPTIONS, unix_target
from mlnet.v1 import peer_pb2_grpc


class PeerServer:
    """A server on a unix socket, for peers. It answers PeerService and nothing else: what is meant for this
    machine's user is on servers of its own (:mod:`mlnet.service`), so that no peer can call it, whatever a
    servicer forgets to check.

    Args:
        service: answers peers.
        socket: of the server.
    """

    def __init__(self, service: peer_pb2_grpc.PeerServiceServicer, socket: Path) -> None:
        self._service, self._socket = service, socket
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Serve."""
        # Made here, on the loop that it runs on.
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        peer_pb2_grpc.add_PeerServiceServicer_to_server(self._service, self._server)  # type: ignore[no-untyped-call]
        self._server.add_insecure_port(unix_target(self._socket))
        await self._server.start()

    async def stop(self) -> None:
        """End all calls and close the socket."""
        if self._server is not None:
            await self._server.stop(0.2)
        self._socket.unlink(missing_ok=True)
