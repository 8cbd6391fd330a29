"""Moves bytes between peers and knows no message: libp2p host, gRPC tunnel, discovery, gossip, blobs.

It imports identity, rpc and util. Begin with :class:`mlnet.net.network.Network`, which is imported from its
module: this package itself loads neither libp2p nor grpc.
"""

from __future__ import annotations

import os

# grpc aborts the process when GRPC_POLL_STRATEGY names a strategy that it was not built with; the other two
# are switches for grpc's own developers. It reads them on import, and only this package imports it.
for _name in ("GRPC_POLL_STRATEGY", "GRPC_EXPERIMENTS", "GRPC_ENABLE_FORK_SUPPORT"):
    os.environ.pop(_name, None)
# grpc writes a line to standard error for each lost connection. Standard error is for the user.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
