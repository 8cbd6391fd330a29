"""The API of a running node: its services, and the servers that answer for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from mlnet.node.server import NodeServer
from mlnet.service.blob_store import BlobStore
from mlnet.service.blobs_service import BlobsService
from mlnet.service.node_service import NodeService
from mlnet.service.options import ApiOptions
from mlnet.service.peer_service import ToolPeerService
from mlnet.service.server import ApiServers, Servicer
from mlnet.service.tasks.asking import Rules
from mlnet.service.tasks.hosting import hosting

BLOBS = "blobs"
"""In the node's data directory."""


@asynccontextmanager
async def serving(
    node: NodeServer, options: ApiOptions, rules: Rules | None = None
) -> AsyncIterator[ApiServers]:
    """Serve the API of a node for as long as the context lasts.

    Args:
        node: which runs.
        options: of its operator.
        rules: what callers may name on this machine.

    Raises:
        PortInUse: the TCP port is taken.
        ConfigError: an option is wrong, or the socket cannot be made.
        StorageError: the token cannot be written, or what is kept of former tasks cannot be read.
    """
    # As much as one task may take: such a file becomes the dataset of one.
    store = BlobStore(node.state.directory / BLOBS, node.options.disk)
    blobs = BlobsService(store)
    asked = replace(rules or Rules(), find_blob=store.find)
    async with hosting(node, asked) as tasks:
        servicers: Sequence[Servicer] = (
            NodeService(node, tasks.running, lambda: servers.bounds, store),
            tasks,
            blobs,
            ToolPeerService(node.wire.network),
        )
        servers = ApiServers(node.state.directory, node.state.runtime, options, servicers)
        await servers.start()
        sweeping = asyncio.ensure_future(blobs.sweep())
        try:
            yield servers
        finally:
            sweeping.cancel()
            await servers.stop()
