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
from mlnet.util import sockets
from mlnet.v1 import peer_pb2_grpc


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a record of grpc's logger is worth showing. A caller that hangs up in the middle of an answer
    is not; grpc logs it with a traceback."""
    return "ExecuteBatchError" not in record.getMessage()


logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)

T = TypeVar("T")
MAX_MESSAGE_BYTES = MAX_ENVELOPE_BYTES + (1 << 16)
"""The largest gRPC message: an envelope or chunk of 1 MiB, and 64 KiB for what surrounds it (a frame of 256
envelopes has 256 signatures and sequence numbers)."""
ENDING_SECONDS = 2.0
"""Time for a cancelled call to end the operation under way; afterwards a leak is the lesser evil."""
# HTTP/2 pings are the second guard: the libp2p session below notices a silent peer after 5 s, and its end
# closes the socket. These find a gRPC server that hangs behind a live session, after 13 s.
KEEPALIVE_MS = 5_000
# Longer than the session's own ping timeout, so that the session, which knows the peer, ends first.
KEEPALIVE_TIMEOUT_MS = 8_000

_COMMON = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    # Without this one an unanswered HTTP/2 ping closes the connection only after a minute, whatever
    # keepalive_timeout_ms says.
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    # Channels are idle between tasks: ping without calls, and any number of times without data in between
    # (https://github.com/grpc/grpc/blob/master/doc/keepalive.md).
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
CHANNEL_OPTIONS = (
    *_COMMON,
    # One HTTP/2 connection for each channel. By default channels with equal targets share connections of
    # a process-wide pool, which outlive their channel.
    ("grpc.use_local_subchannel_pool", 1),
    # The socket is local; the tunnel behind it dials the peer, with a backoff of its own.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # The outbox resends, and knows what was acknowledged. A retry by grpc would repeat calls unseen.
    ("grpc.enable_retries", 0),
    # http_proxy in the environment is not meant for a unix socket.
    ("grpc.enable_http_proxy", 0),
    ("grpc.default_authority", "mlnet"),
)
SERVER_OPTIONS = (
    *_COMMON,
    ("grpc.max_concurrent_streams", 64),
    # Below KEEPALIVE_MS: a server answers pings that come sooner with GOAWAY (too_many_pings), and by default
    # allows one in five minutes.
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.max_metadata_size", 8_192),
    # A second server on the same port must fail; with SO_REUSEPORT it would get half of the calls.
    ("grpc.so_reuseport", 0),
)


async def uncut(call: Any, operation: Awaitable[T]) -> T:
    """Wait for a read or a write of a call. When the wait is cancelled, cancel the call first, and then wait
    until that has ended the operation.

    grpc.aio (seen with 1.81, open in 1.83) never frees the message of an operation whose waiter is cancelled:
    a megabyte for each transfer that is abandoned. See https://github.com/grpc/grpc/issues/43360.
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
    """Retrieve the exception of a cancelled call's operation; asyncio would report it otherwise."""
    if not operation.cancelled():
        operation.exception()


def unix_target(path: str | Path) -> str:
    """The grpc target of a unix socket: a URI with percent-encoding."""
    return f"unix:{quote(os.fsencode(path))}"


class Channel:
    """An HTTP/2 connection to a peer through the unix socket of a tunnel."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        # grpc reconnects by the name that it was given, and the socket's name may be removed meanwhile.
        self._way = sockets.Way(socket)
        self._channel = grpc.aio.insecure_channel(unix_target(self._way.address), options=CHANNEL_OPTIONS)
        self.stub = peer_pb2_grpc.PeerServiceStub(self._channel)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Close the connection and end the calls on it."""
        await self._channel.close(None)
        self._way.close()
