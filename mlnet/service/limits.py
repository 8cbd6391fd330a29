"""The bounds that a node keeps, with what they hold now."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from mlnet.net.metric import Metrics
from mlnet.net.types import Limits
from mlnet.node.server import NodeServer
from mlnet.service.blob_store import MAX_BLOBS, BlobStore
from mlnet.service.bounds import Bounds
from mlnet.v1 import node_pb2 as pb


class Bound(NamedTuple):
    """One of :class:`mlnet.net.types.Limits`.

    Attributes:
        name: there, and in the answer.
        unit: empty for a count.
        gauge: metric that shows what is used of it; empty where none does.
        labels: whose samples are added.
    """

    name: str
    unit: str = ""
    gauge: str = ""
    labels: tuple[str, ...] = ("",)


BOUNDS = (
    Bound("connections", "", "mlnet_connections", ("inbound", "outbound")),
    Bound("connections_per_peer"),
    Bound("connections_per_address"),
    Bound("handshakes", "", "mlnet_handshakes"),
    Bound("handshakes_per_second", "1/s"),
    Bound("handshake_seconds", "s"),
    Bound("rpc_streams_per_peer"),
    Bound("spliced_streams_per_peer"),
    Bound("streams_per_address"),
    Bound("envelopes_per_second", "1/s"),
    Bound("envelope_bytes_per_second", "bytes/s"),
    Bound("gossip_per_second", "1/s"),
    Bound("relays_per_second", "1/s"),
    Bound("outbox_envelopes"),
    Bound("outbox_bytes", "bytes", "mlnet_outbox_bytes"),
    Bound("known_peers", "", "mlnet_peers", ("known",)),
    Bound("max_neighbours", "", "mlnet_peers", ("neighbours",)),
    Bound("fetches_per_peer"),
    Bound("dial_backs_per_minute", "1/min"),
    Bound("tunnel_bytes", "bytes", "mlnet_transport_memory"),
    Bound("tunnel_bytes_per_connection", "bytes"),
    Bound("dial_seconds", "s"),
)


async def limits(node: NodeServer, bounds: Bounds, store: BlobStore) -> list[pb.Limit]:
    """All bounds, by name.

    Raises:
        TransportError: the node does not run.
    """
    metrics = await node.wire.network.metrics()
    kept = node.options.wire.limits or Limits()
    made = [
        pb.Limit(name=bound.name, most=getattr(kept, bound.name), used=_used(metrics, bound), unit=bound.unit)
        for bound in BOUNDS
    ]
    busy = sum(not member.idle for member in node.node.members.values())
    made.append(pb.Limit(name="memberships", most=node.options.terms.tasks, used=busy))
    for name, slots in (("api_calls", bounds.calls), ("api_streams", bounds.streams)):
        made.append(pb.Limit(name=name, most=slots.most, used=slots.used))
        made.append(pb.Limit(name=f"{name}_per_caller", most=slots.most_by_caller))
    used = await asyncio.to_thread(lambda: store.used)
    made.append(pb.Limit(name="blob_bytes", most=store.most, used=used, unit="bytes"))
    made.append(pb.Limit(name="blobs", most=MAX_BLOBS))
    return sorted(made, key=lambda limit: limit.name)


def _used(metrics: Metrics, bound: Bound) -> float | None:
    try:
        return sum(metrics.value(bound.gauge, label) for label in bound.labels) if bound.gauge else None
    except KeyError:
        return None  # the session in Python counts no memory
