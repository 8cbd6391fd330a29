"""The API of a running node: its services, and the servers that answer for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from mlnet.node.server import NodeServer
from mlnet.service.node_service import NodeService
from mlnet.service.options import ApiOptions
from mlnet.service.peer_service import ToolPeerService
from mlnet.service.server import ApiServers, Servicer


@asynccontextmanager
async def serving(node: NodeServer, options: ApiOptions) -> AsyncIterator[ApiServers]:
    """Serve the API of a node for as long as the context lasts.

    Args:
        node: which runs.
        options: of its operator.

    Raises:
        PortInUse: the TCP port is taken.
        ConfigError: an option is wrong, or the socket cannot be made.
        StorageError: the token cannot be written.
    """
    servicers: Sequence[Servicer] = (
        NodeService(node, tuple, lambda: servers.bounds),
        ToolPeerService(node.wire.network),
    )
    servers = ApiServers(node.state.directory, node.state.runtime, options, servicers)
    await servers.start()
    try:
        yield servers
    finally:
        await servers.stop()
