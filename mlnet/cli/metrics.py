"""``mlnet-node start --metrics``: what a node counts, for Prometheus, over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

import mlnet
from mlnet.errors import TransportError
from mlnet.kernels import IMPLEMENTATION
from mlnet.net.metric import Metrics
from mlnet.util import hosts

MAX_REQUEST = 8192
"""Bytes of a request's head."""
MAX_CONNECTIONS = 16
"""Further ones are closed unread. A scraper opens one."""
REQUEST_SECONDS = 5.0
"""Time for one request and its answer."""


class MetricsServer:
    """Answers ``GET /metrics``.

    Args:
        address: ``HOST:PORT`` to listen on; port 0 takes a free one.
        collect: the metrics of this moment. Raises TransportError when the node does not run.
    """

    def __init__(self, address: str, collect: Callable[[], Awaitable[Metrics]]) -> None:
        self._address, self._collect = address, collect
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._servers: list[asyncio.Server] = []
        self._connections = 0
        self.url = ""

    async def start(self) -> None:
        """Listen.

        Raises:
            PortInUse: the port is taken.
            ConfigError: the address is malformed, or not one of this machine.
        """
        sockets = hosts.listening(self._address, "--metrics")
        port = sockets[0].getsockname()[1]
        self._servers = [
            await asyncio.start_server(self._serve, sock=one, limit=MAX_REQUEST) for one in sockets
        ]
        self.url = f"http://{hosts.join(hosts.split(self._address, '--metrics')[0], port)}/metrics"

    async def stop(self) -> None:
        """Close the port."""
        for server in self._servers:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= MAX_CONNECTIONS:
                # A request that is too slow, too long or cut off gets no answer.
                with contextlib.suppress(
                    TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
                ):
                    async with asyncio.timeout(REQUEST_SECONDS):
                        writer.write(await self._answer(await reader.readuntil(b"\r\n\r\n")))
                        await writer.drain()
        finally:
            self._connections -= 1
            writer.close()

    async def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b"\r\n")[0].partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return response(
                "405 Method Not Allowed", "text/plain", b"only GET and HEAD are answered\n", head=False
            )
        if path != b"/metrics":
            return response(
                "404 Not Found", "text/plain", b"the metrics are at /metrics\n", head=method == b"HEAD"
            )
        try:
            body = generate_latest(self._registry) + exposition(await self._collect())
        except TransportError:
            return response("503 Service Unavailable", "text/plain", b"the node is not running\n", head=False)
        return response("200 OK", CONTENT_TYPE_LATEST, body, head=method == b"HEAD")


def response(status: str, kind: str, body: bytes, *, head: bool) -> bytes:
    """An HTTP response."""
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + (b"" if head else body)


def exposition(metrics: Metrics) -> bytes:
    """Metrics in the text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(metrics))
    return generate_latest(registry)


class _Snapshot:
    """Metrics as a collector of prometheus-client."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Any]:
        """Each metric as a family."""
        about = GaugeMetricFamily("mlnet_build_info", "Version and kernels.", labels=("version", "kernels"))
        about.add_metric((mlnet.__version__, IMPLEMENTATION), 1)
        yield about
        for metric in self._metrics.all:
            family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            labels = (metric.label,) if metric.label else ()
            written = family(metric.name, metric.help, labels=labels)
            for key, value in metric.samples.items():
                written.add_metric((key,) if metric.label else (), value)
            yield written
