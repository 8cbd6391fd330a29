"""Measures the distance of a Redis server with real PINGs over TCP."""

from __future__ import annotations

import asyncio
import socket
import time

from mlnet.errors import StoreError
from mlnet.store import resp

PING = resp.command("PING")
MAX_LINE = 512
"""Bytes of the longest answer to a PING; a NOAUTH has about 40."""


async def ping(host: str, port: int, samples: int = 9, timeout: float = 5.0) -> list[int]:
    """Round trips of PINGs on one TCP connection.

    A server that wants a password answers just as fast, so its NOAUTH counts as a pong. A thread measures,
    because on the event loop other work would be measured as well. Nine samples by default: the protocol
    takes their lower median (:mod:`mlnet.kernels.pingmatrix`), which four outliers cannot move.

    Args:
        host: address.
        port: TCP port.
        samples: how many.
        timeout: seconds for all of them.

    Returns:
        Microseconds of each sample, at least 1.

    Raises:
        StoreError: nothing listens there, it is not a Redis server, or it is too slow.
    """
    return await asyncio.to_thread(_ping, host, port, samples, timeout)


def _ping(host: str, port: int, samples: int, timeout: float) -> list[int]:
    deadline = time.monotonic() + timeout
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return [_sample(connection, deadline) for _ in range(samples)]
    except TimeoutError as error:
        raise StoreError(f"{host} port {port} did not answer {samples} pings in {timeout:g} s") from error
    except OSError as error:
        raise StoreError(f"{host} port {port} cannot be pinged: {error.strerror or error}") from error


def _sample(connection: socket.socket, deadline: float) -> int:
    line = b""
    start = time.perf_counter_ns()
    connection.settimeout(_left(deadline))
    connection.sendall(PING)
    # TCP may deliver the line in pieces.
    while not line.endswith(b"\n"):
        connection.settimeout(_left(deadline))
        chunk = connection.recv(MAX_LINE)
        line += chunk
        if not chunk or len(line) > MAX_LINE:
            raise StoreError("what listens there is not a Redis server: it did not answer PING with a line")
    elapsed = time.perf_counter_ns() - start
    if line != b"+PONG\r\n" and not line.startswith(b"-NOAUTH "):
        raise StoreError(
            f"what listens there does not answer PING as a Redis server: {resp.printable(line.strip())}"
        )
    return max(1, elapsed // 1000)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
