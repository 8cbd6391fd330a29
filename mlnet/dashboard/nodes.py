"""What the page shows of the node itself: who it is, its peers, what it earned, the bounds that it keeps."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import mlnet
from mlnet.dashboard.answers import answer, read
from mlnet.sdk.connection import NodeConnection
from mlnet.sdk.plain import to_plain
from mlnet.v1 import node_pb2

MAX_PINGS = 10
PING_SECONDS = 60.0
EXAMPLE = Path(mlnet.__file__).with_name("examples") / "client-task-definition.yaml"


class PingBody(msgspec.Struct, forbid_unknown_fields=True):
    """Whom to ping, and how often."""

    peer: str
    count: int = 1


class NodeRoutes:
    """The routes below ``/api`` that ask NodeService.

    Args:
        connection: to the node.
    """

    def __init__(self, connection: NodeConnection) -> None:
        self._connection = connection
        self.routes = [
            Route("/api/status", self.status),
            Route("/api/peers", self.peers),
            Route("/api/ping", self.ping, methods=["POST"]),
            Route("/api/ledger", self.ledger),
            Route("/api/limits", self.limits),
            Route("/api/example", self.example),
        ]

    async def status(self, _: Request) -> Response:
        """Who the node is, where it listens, what it does."""
        node = self._connection.node
        return answer(to_plain(await self._connection.call(node.Status, node_pb2.StatusRequest())))

    async def peers(self, _: Request) -> Response:
        """The peers that it knows."""
        node = self._connection.node
        return answer(to_plain(await self._connection.call(node.Peers, node_pb2.PeersRequest())))

    async def ping(self, request: Request) -> Response:
        """The time to a peer and back."""
        asked = await read(request, PingBody)
        ping = node_pb2.PingRequest(peer=asked.peer, count=min(max(asked.count, 1), MAX_PINGS))
        node = self._connection.node
        return answer(to_plain(await self._connection.call(node.Ping, ping, PING_SECONDS)))

    async def ledger(self, _: Request) -> Response:
        """What it has earned."""
        node = self._connection.node
        return answer(to_plain(await self._connection.call(node.Ledger, node_pb2.LedgerRequest())))

    async def limits(self, _: Request) -> Response:
        """The bounds that it keeps."""
        node = self._connection.node
        return answer(to_plain(await self._connection.call(node.Limits, node_pb2.LimitsRequest())))

    async def example(self, _: Request) -> Response:
        """The packaged definition, to begin with."""
        return answer({"definition": await asyncio.to_thread(EXAMPLE.read_text)})
