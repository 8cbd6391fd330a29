"""PeerService for tools: the signed envelopes that they hand in. Peers reach theirs through the tunnel."""

from __future__ import annotations

import grpc

from mlnet.net.network import Network
from mlnet.v1 import peer_pb2, peer_pb2_grpc


class ToolPeerService:
    """Serves what a network takes from tools.

    Args:
        network: of the node.
    """

    service: str = peer_pb2.DESCRIPTOR.services_by_name["PeerService"].full_name

    def __init__(self, network: Network) -> None:
        self._network = network

    def add_to(self, server: grpc.aio.Server) -> None:
        """Have a server answer its calls."""
        peer_pb2_grpc.add_PeerServiceServicer_to_server(self._network.for_tools, server)  # type: ignore[no-untyped-call]
