"""One end of a gRPC connection, as tunnel.py's processes see it; TCP with nothing between.

Tunnels are in tunnel_hosts.py, since libp2p takes long to load.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import grpc

from mlnet.net.sending.grpc_channel import CHANNEL_OPTIONS, SERVER_OPTIONS


def channel(target: str) -> Any:
    """mlnet's own options, so that all ways have them."""
    return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)


def server() -> grpc.aio.Server:
    """Likewise, but for the bound on calls under way: one more may begin before the last is quite over."""
    options = [option for option in SERVER_OPTIONS if option[0] != "grpc.max_concurrent_streams"]
    return grpc.aio.server(options=options)


class Way(ABC):
    """One end of a connection.

    Args:
        folder: a private directory for unix sockets.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    async def start(self, grpc_socket: Path, grpc_port: int) -> str:
        """Serve what listens there, or be ready to dial; the address for the other end."""

    @abstractmethod
    async def dial(self, address: str) -> str:
        """Make a connection; the gRPC target that leads through it."""

    @abstractmethod
    async def hang_up(self) -> None:
        """End the connection of :meth:`dial`."""

    @abstractmethod
    async def stop(self) -> None:
        """End everything."""

    def kind(self) -> str:
        """What moves the bytes, once connected."""
        return ""


class Direct(Way):
    """TCP, with nothing between."""

    async def start(self, grpc_socket: Path, grpc_port: int) -> str:
        return f"127.0.0.1:{grpc_port}"

    async def dial(self, address: str) -> str:
        return address

    async def hang_up(self) -> None:
        pass

    async def stop(self) -> None:
        pass
