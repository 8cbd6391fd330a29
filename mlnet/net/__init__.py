"""Moves bytes between peers and knows no message: libp2p host, gRPC tunnel, discovery, gossip, blobs.

Import :class:`mlnet.net.network.Network` from its module; this package itself loads neither libp2p nor grpc.
"""
