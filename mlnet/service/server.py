"""The gRPC servers of the API: one at a unix socket, for the node's user, and one at a TCP address."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mlnet.errors import ConfigError
from mlnet.net.sending.grpc_channel import MAX_MESSAGE_BYTES, unix_target
from mlnet.service import reflecting
from mlnet.service.bounds import Bounds
from mlnet.service.interceptor import Surround
from mlnet.service.options import OPTION, ApiOptions
from mlnet.service.place import Place
from mlnet.service.token import FILE, TokenGuard, token_in
from mlnet.util import hosts

logger = logging.getLogger(__name__)
NEWS_SECONDS = 0.1
"""How long streams may take to bring the last news: those of health say that nothing is served any more."""
STOP_SECONDS = 1.0
"""How long calls that are under way may take to end when the servers stop."""
MAX_CONNECTION_STREAMS = 1024
"""Calls at a time on one connection; further ones wait in the client."""
MAX_PENDING = 1 << 16
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", MAX_CONNECTION_STREAMS),
    # What waits for the event loop is bounded by the calls on a connection. By default grpc refuses calls by
    # itself when a thousand wait, and ends them with CANCELLED, which tells nobody to come again (1.85).
    ("grpc.server.max_pending_requests", MAX_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING),
    ("grpc.max_metadata_size", 8_192),
    # A caller that vanished without a word: its calls end after so long.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Clients of the mlnet package ping an idle node after 5 s.
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.so_reuseport", 0),
)


class Servicer(Protocol):
    """What answers a service of the API."""

    service: str
    """Its full name."""

    def add_to(self, server: grpc.aio.Server) -> None:
        """Have a server that is not started yet answer its calls."""
        ...


class ApiServers:
    """Both servers. Each call has a place (:mod:`mlnet.service.bounds`), those by TCP the token, and all
    errors are statuses, whatever a servicer does.

    Args:
        directory: the node's data directory, for socket and token.
        runtime: a private directory, for the socket where the former cannot hold one.
        options: of the operator.
        servicers: what is answered, beside health and reflection.

    Attributes:
        bounds: on the calls.
    """

    def __init__(
        self, directory: Path, runtime: Path, options: ApiOptions, servicers: Sequence[Servicer]
    ) -> None:
        self._directory, self._options, self._servicers = directory, options, servicers
        self._place = Place(directory, runtime)
        self._servers: list[grpc.aio.Server] = []
        library: Any = health  # its stubs know no aio
        self._health = library.aio.HealthServicer()
        self.bounds = Bounds()
        self._port: int | None = None

    @property
    def socket(self) -> Path:
        """The unix socket."""
        return self._place.path

    @property
    def address(self) -> str:
        """``HOST:PORT`` where callers reach it by TCP; empty where they do not."""
        if self._options.address is None or self._port is None:
            return ""
        return hosts.join(hosts.split(self._options.address, OPTION)[0], self._port)

    @property
    def token_file(self) -> Path | None:
        """The file with the token that the TCP address asks for; None where it asks for none."""
        return self._directory / FILE if self._options.address and not self._options.open else None

    async def start(self) -> None:
        """Serve.

        Raises:
            PortInUse: the TCP port is taken.
            ConfigError: an option is wrong, or the socket cannot be made.
            StorageError: the token cannot be written.
        """
        self._options.check()
        try:
            await self._listen_to_owner()
            if self._options.address is not None:
                await self._listen_to_others(self._options.address)
            for servicer in self._servicers:
                await self._health.set(servicer.service, health_pb2.HealthCheckResponse.SERVING)
        except BaseException:
            await self.stop()
            raise

    async def _listen_to_owner(self) -> None:
        server = self._server()
        made = self._place.prepare()
        try:
            server.add_insecure_port(unix_target(made))
        except RuntimeError as error:
            raise ConfigError(f"the API cannot listen at {made}: {error}") from error
        # Before it takes connections.
        self._place.settle()
        await server.start()

    async def _listen_to_others(self, address: str) -> None:
        guards = []
        if not self._options.open:
            guards.append(TokenGuard(token_in(self._directory)))
        server = self._server(*guards)
        place = hosts.join(*hosts.split(address, OPTION))
        try:
            pair = self._options.credentials()
            if pair is not None:
                self._port = server.add_secure_port(place, grpc.ssl_server_credentials([pair]))
            else:
                self._port = server.add_insecure_port(place)
        except RuntimeError as error:
            raise ConfigError(f"cannot listen at {OPTION} {address}: {error}") from error
        await server.start()

    def _server(self, *guards: Any) -> grpc.aio.Server:
        """One more; made on the loop that it runs on."""
        server = grpc.aio.server(options=OPTIONS, interceptors=(*guards, Surround(self.bounds.around)))
        for servicer in self._servicers:
            servicer.add_to(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [servicer.service for servicer in self._servicers]
        reflecting.add_to(server, [*names, health.SERVICE_NAME])
        self._servers.append(server)
        return server

    async def stop(self) -> None:
        """Say that nothing is served any more, end all calls, and remove the socket."""
        await self._health.enter_graceful_shutdown()
        stopping = [asyncio.ensure_future(server.stop(STOP_SECONDS)) for server in self._servers]
        if self.bounds.streams.used:
            await asyncio.sleep(NEWS_SECONDS)
        self.bounds.stop()
        await asyncio.gather(*stopping)
        self._servers.clear()
        self._place.close()
