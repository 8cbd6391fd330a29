"""The gRPC servers: one that peers reach through the tunnel, and one for tools, to which others add."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import grpc

from mlnet.net.sending.grpc_channel import SERVER_OPTIONS, unix_target
from mlnet.net.types import AddToServer
from mlnet.util import hosts
from mlnet.v1 import peer_pb2_grpc


class RpcServers:
    """A server on a unix socket for peers, and one on a TCP address for tools if one is given.

    They are two, so that no peer can call what is meant for this machine's user, whatever a servicer forgets
    to check.

    Args:
        service: answers peers and tools.
        socket: of the server for peers.
        tools_address: ``host:port``; None for no server for tools.
        servicers: what else the server for tools answers.
    """

    def __init__(
        self,
        service: peer_pb2_grpc.PeerServiceServicer,
        socket: Path,
        tools_address: str | None,
        servicers: Sequence[AddToServer],
    ) -> None:
        self._socket, self._tools_address = socket, tools_address
        self._service, self._servicers = service, servicers
        self._servers: list[grpc.aio.Server] = []
        self.tools_port: int | None = None

    async def start(self) -> None:
        """Serve.

        Raises:
            PortInUse: ``tools_address`` is taken.
            ConfigError: it cannot be listened on.
        """
        self._server().add_insecure_port(unix_target(self._socket))
        if self._tools_address is not None:
            # The server itself only says that it failed, not why.
            for probe in hosts.listening(self._tools_address, "--tools"):
                probe.close()
            place = hosts.join(*hosts.split(self._tools_address, "--tools"))
            for_tools = self._server()
            for add_to_server in self._servicers:
                add_to_server(for_tools)
            self.tools_port = for_tools.add_insecure_port(place)
        for server in self._servers:
            await server.start()

    async def stop(self) -> None:
        """End all calls and close the sockets."""
        for server in self._servers:
            await server.stop(0.2)
        self._socket.unlink(missing_ok=True)

    def _server(self) -> grpc.aio.Server:
        """One more; made on the loop that it runs on."""
        server = grpc.aio.server(options=SERVER_OPTIONS)
        peer_pb2_grpc.add_PeerServiceServicer_to_server(self._service, server)  # type: ignore[no-untyped-call]
        self._servers.append(server)
        return server
