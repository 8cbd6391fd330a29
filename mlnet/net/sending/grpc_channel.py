"""gRPC options, and one channel to one peer through a tunnel."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import grpc

from mlnet.net.types import MAX_ENVELOPE_BYTES
from mlnet.rpc import mlnet_pb2_grpc
from mlnet.util import sockets


def _is_news(record: logging.LogRecord) -> bool:
    """A caller that hangs up in the middle of an answer is none; grpc reports it with a traceback."""
    return "ExecuteBatchError" not in record.getMessage()


logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)

T = TypeVar("T")
MAX_MESSAGE_BYTES = MAX_ENVELOPE_BYTES + (1 << 16)
"""The largest gRPC message: an envelope or a chunk of 1 MiB, and what surrounds it."""
ENDING_SECONDS = 2.0
"""Time for a cancelled call to end what is under way."""
KEEPALIVE_MS = 5_000
KEEPALIVE_TIMEOUT_MS = 8_000

_COMMON = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    # Without this one an HTTP/2 ping that goes unanswered closes the connection only after a minute.
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
CHANNEL_OPTIONS = (
    *_COMMON,
    # One HTTP/2 connection a peer, shared with nothing else in the process.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.default_authority", "mlnet"),
)
SERVER_OPTIONS = (
    *_COMMON,
    ("grpc.max_concurrent_streams", 64),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.max_metadata_size", 8_192),
    # A second server on the same port is an error, not a partner.
    ("grpc.so_reuseport", 0),
)


async def uncut(call: Any, operation: Awaitable[T]) -> T:
    """Wait for a read or a write of a call. When the waiting is cancelled, end the call first, and then wait
    until that has ended the operation.

    grpc.aio 1.81 never frees the message of an operation whose waiter is cancelled: a megabyte each time that
    somebody lets go of a transfer.
    """
    waiting = asyncio.ensure_future(operation)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        call.cancel()
        waiting.add_done_callback(_look_at)
        await asyncio.wait((waiting,), timeout=ENDING_SECONDS)
        waiting.cancel()
        raise


def _look_at(operation: asyncio.Future[Any]) -> None:
    """What the operation of a cancelled call raised is no news."""
    if not operation.cancelled():
        operation.exception()


def unix_target(path: str | Path) -> str:
    """What grpc calls a unix socket: a URI, in which odd characters are percent-encoded."""
    return f"unix:{quote(os.fsencode(path))}"


class Channel:
    """An HTTP/2 connection to a peer by way of the unix socket of a tunnel."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        # grpc connects again by the name that it was given, which may have been removed meanwhile.
        self._way = sockets.Way(socket)
        self._channel = grpc.aio.insecure_channel(unix_target(self._way.address), options=CHANNEL_OPTIONS)
        self.stub = mlnet_pb2_grpc.MlnetStub(self._channel)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """End the connection and the calls on it."""
        await self._channel.close(None)
        self._way.close()
