"""Starts the page: a server on a loopback address, with a token of its own."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import uvicorn

from mlnet.dashboard.app import application
from mlnet.dashboard.streams import MAX_STREAMS, Streams
from mlnet.errors import ConfigError
from mlnet.sdk.connection import NodeConnection
from mlnet.sdk.target import Target
from mlnet.util import hosts

DEFAULT_LISTEN = "127.0.0.1:8080"
MAX_REQUESTS = MAX_STREAMS + 64
"""Connections at the same time; more are answered 503 at once."""
LEAVE_SECONDS = 3
"""For calls in progress, when the server ends."""


class _Server(uvicorn.Server):
    """A server among others in a process, which leaves signals to whoever runs that."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(target: Target, listen: str, option: str) -> AsyncIterator[str]:
    """Serve the page of a node.

    Args:
        target: the node.
        listen: ``HOST:PORT``, a loopback address; port 0 takes a free one.
        option: that it was given to, such as ``--listen``, for messages.

    Yields:
        The page's address, with its token.

    Raises:
        ConfigError: it is not an address of this machine's own, or cannot be used.
        PortInUse: the port is taken.
    """
    host, _ = hosts.split(listen, option)
    if not (host == "localhost" or hosts.is_loopback(host)):
        raise ConfigError(
            f"{option} {listen}: the page is plain HTTP and can be served to this machine only;"
            " use 127.0.0.1, and reach it from another machine through `ssh -L 8080:127.0.0.1:8080`"
        )
    sockets = hosts.listening(listen, option)
    port = sockets[0].getsockname()[1]
    token = secrets.token_urlsafe(24)
    streams, connection = Streams(), NodeConnection(target)
    config = uvicorn.Config(
        application(connection, token, streams),
        access_log=False,
        http="h11",
        lifespan="off",
        limit_concurrency=MAX_REQUESTS,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=LEAVE_SECONDS,
        ws="none",
    )
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets))
    try:
        yield f"http://{hosts.join(host, port)}/#token={token}"
    finally:
        streams.close()
        server.should_exit = True
        await asyncio.wait([running])
        for one in sockets:
            one.close()
        await connection.close()
    running.result()
