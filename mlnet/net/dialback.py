"""Dial-back: a peer connects to a port of ours and sends a Redis PING, to see whether others can reach it.

Only the address from which the asking peer is connected is dialled, and only ports from 1024 on: nobody can
have a third party scanned through us, or learn about privileged services.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from mlnet.errors import TransportError
from mlnet.net.types import DialBack
from mlnet.util.hosts import MAX_PORT, is_ipv6_link_local
from mlnet.v1 import peer_pb2 as pb

LOWEST_PORT = 1024
"""The first port that is dialled for others. Task servers never listen below it."""
MAX_SECONDS = 10.0
"""The longest dial-back, whatever the request says."""
_PING = b"*1\r\n$4\r\nPING\r\n"
_PONGS = (b"+PONG", b"-NOAUTH")
"""A task's server has no user for strangers and answers NOAUTH: proof enough that it is reached."""


async def probe(host: str, port: int, timeout: float) -> str:
    """Dial a TCP port and send a Redis PING; the empty string for a pong, else why there was none."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout):
            # limit: readline raises ValueError beyond it, instead of buffering what a stranger sends.
            reader, writer = await asyncio.open_connection(host, port, limit=256)
            writer.write(_PING)
            await writer.drain()
            answer = await reader.readline()
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except ValueError:
        return "something else than a Redis server answered"
    except ConnectionRefusedError:
        return "the connection was refused"
    except OSError as error:
        return error.strerror or str(error)
    finally:
        if writer is not None:
            # Not close(): that would wait for a peer that reads nothing.
            writer.transport.abort()
    if answer.startswith(_PONGS):
        return ""
    return (
        "something else than a Redis server answered"
        if answer
        else "the connection was closed without an answer"
    )


async def serve(request: pb.DialBackRequest, ip: str) -> pb.DialBackResponse:
    """Dial the caller back at ``ip``, the address from which its connection came."""
    if not LOWEST_PORT <= request.port <= MAX_PORT:
        return pb.DialBackResponse(host=ip, reason=f"the port must be {LOWEST_PORT} to {MAX_PORT}")
    if is_ipv6_link_local(ip):
        # A link-local address means nothing to the other members, who would be told this one.
        return pb.DialBackResponse(host=ip, reason=f"{ip} holds on one link only; connect by another address")
    timeout = min(max(request.timeout_ms / 1000, 0.1), MAX_SECONDS)
    reason = await probe(ip, request.port, timeout)
    return pb.DialBackResponse(open=not reason, host=ip, reason=reason)


async def ask(connect: Callable[[], Awaitable[Any]], port: int, timeout: float) -> DialBack:
    """Ask a peer; never raises for what happens on the way.

    Args:
        connect: gives the peer's stub.
        port: of ours.
        timeout: seconds, for the connection, too.
    """
    try:
        async with asyncio.timeout(timeout):
            return await _ask(await connect(), port, timeout)
    except TransportError as error:
        return DialBack(False, "", str(error))
    except TimeoutError:
        return DialBack(False, "", f"the peer did not answer within {timeout:g} s")


async def _ask(stub: Any, port: int, timeout: float) -> DialBack:
    # The peer gets less time than we have, so that its reason arrives.
    request = pb.DialBackRequest(port=port, timeout_ms=int(1000 * min(0.8 * timeout, MAX_SECONDS)))
    try:
        reply = await stub.DialBack(request, timeout=timeout)
    except grpc.aio.AioRpcError as error:
        return DialBack(False, "", f"the peer did not dial back: {error.details() or error.code().name}")
    # The peer may send anything; cut to what a host name and a sentence need.
    return DialBack(bool(reply.open), str(reply.host)[:64], str(reply.reason)[:256])
