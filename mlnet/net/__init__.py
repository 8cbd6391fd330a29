"""Moves bytes between peers and knows no message: libp2p host, gRPC tunnel, discovery, gossip, blobs.

It imports identity, rpc and util. Begin with :class:`mlnet.net.network.Network`, which is imported from its
module: this package itself loads neither libp2p nor grpc.
"""

from __future__ import annotations

import os

# grpc aborts the process for a polling strategy that it was not built with, and the others are for those who
# work on grpc. It reads them when it is imported, which only this room does.
for _name in ("GRPC_POLL_STRATEGY", "GRPC_EXPERIMENTS", "GRPC_ENABLE_FORK_SUPPORT"):
    os.environ.pop(_name, None)
# grpc reports each lost connection on standard error, which belongs to the user.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
