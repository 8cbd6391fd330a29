"""NodeService: what a node is, whom it knows, what it has earned, and which bounds it keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc
from google.protobuf import duration_pb2, timestamp_pb2

import mlnet
from mlnet.errors import ConfigError
from mlnet.identity import keys
from mlnet.net.rates import REMEMBERED_PEERS
from mlnet.net.transport.reach import REACHED
from mlnet.node.server import NodeServer
from mlnet.service.blob_store import BlobStore
from mlnet.service.bounds import Bounds
from mlnet.service.limits import limits
from mlnet.service.peer_names import choose
from mlnet.util import clock
from mlnet.v1 import node_pb2 as pb
from mlnet.v1 import node_pb2_grpc, tasks_pb2

MAX_PINGS = 100
"""In one call."""
FRESH_SECONDS = 1.0
"""For so long the node's addresses are those that were looked up. The system is asked for its interfaces each
time, which takes longer than all else that Status does."""


class NodeService(node_pb2_grpc.NodeServiceServicer):
    """Answers the calls of NodeService.

    Args:
        node: which it tells of.
        tasks: of which the node is the client and that have not ended.
        bounds: of the API.
        store: of the files that callers hand in.
    """

    service: str = pb.DESCRIPTOR.services_by_name["NodeService"].full_name

    def __init__(
        self,
        node: NodeServer,
        tasks: Callable[[], Iterable[tasks_pb2.Task]],
        bounds: Callable[[], Bounds],
        store: BlobStore,
    ) -> None:
        self._node, self._tasks, self._bounds, self._store = node, tasks, bounds, store
        self._network = node.wire.network
        self._started = clock.wall()
        self._round_trips: dict[str, int] = {}
        self._found: tuple[float, Sequence[str], bool] = (-FRESH_SECONDS, (), False)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Have a server answer its calls."""
        node_pb2_grpc.add_NodeServiceServicer_to_server(self, server)  # type: ignore[no-untyped-call]

    async def Status(self, request: pb.StatusRequest, context: Any) -> pb.StatusResponse:  # noqa: N802
        """Who the node is and what it does."""
        addresses, reached = self._reached_at()
        offered = self._node.options.terms.resources
        return pb.StatusResponse(
            peer=self._node.peer_id,
            version=mlnet.__version__,
            started_at=moment(self._started),
            addresses=addresses,
            reached=reached,
            connected_peers=len(self._network.connected_peers()),
            memberships=self._memberships(),
            tasks=self._tasks(),
            most_memberships=self._node.options.terms.tasks,
            memory=offered.memory << 20,
            threads=offered.cpus,
            disk=self._node.options.disk,
        )

    def _reached_at(self) -> tuple[Sequence[str], bool]:
        """The node's addresses, and whether a peer has dialled the first of them."""
        now = asyncio.get_running_loop().time()
        looked_up, addresses, reached = self._found
        if now >= looked_up + FRESH_SECONDS:
            addresses = self._node.wire.addresses()
            reached = bool(addresses) and self._network.standing(addresses[0]) == REACHED
            self._found = now, addresses, reached
        return addresses, reached

    def _memberships(self) -> list[pb.Membership]:
        return [
            pb.Membership(
                task=task,
                client=member.announcement.sender,
                phase=member.phase.value,
                waiting="" if member.ended else str(member.waiting),
            )
            for task, member in self._node.node.members.items()
        ]

    async def Peers(self, request: pb.PeersRequest, context: Any) -> pb.PeersResponse:  # noqa: N802
        """The peers that it knows."""
        connected = set(self._network.connected_peers())
        known = self._network.known_peers()
        peers = connected if request.connected_only else connected | known.keys()
        return pb.PeersResponse(
            peers=[self._peer(peer, known.get(peer, ()), peer in connected) for peer in sorted(peers)]
        )

    def _peer(self, peer: str, addresses: Sequence[str], connected: bool) -> pb.Peer:
        shown = self._node.wire.clocks.of(peer, clock.elapsed())
        trip = self._round_trips.get(peer)
        return pb.Peer(
            id=peer,
            addresses=addresses,
            connected=connected,
            round_trip=None if trip is None else span(trip * 1000),
            clock_offset=None if shown is None else span((shown - clock.wall()) * 1_000_000),
        )

    async def Ping(self, request: pb.PingRequest, context: Any) -> pb.PingResponse:  # noqa: N802
        """Measure round trips."""
        count = request.count or 1
        if count > MAX_PINGS:
            raise ConfigError(f"count is {count}; at most {MAX_PINGS} pings are made in one call")
        peer = await self._reach(request.peer)
        trips = [await self._network.ping(peer) for _ in range(count)]
        self._remember(peer, trips[-1])
        return pb.PingResponse(peer=peer, round_trips=[span(trip * 1000) for trip in trips])

    async def _reach(self, named: str) -> str:
        """The peer id that is meant; dials it where an address is given."""
        if named.startswith("/"):
            return await self._network.connect(named)
        try:
            keys.parse_peer_id(named)
        except ValueError:
            return choose(named, {*self._network.connected_peers(), *self._network.known_peers()})
        if named == self._node.peer_id:
            raise ConfigError("that is this node itself")
        return named

    def _remember(self, peer: str, trip: int) -> None:
        self._round_trips.pop(peer, None)
        self._round_trips[peer] = trip
        if len(self._round_trips) > REMEMBERED_PEERS:
            del self._round_trips[next(iter(self._round_trips))]

    async def Ledger(self, request: pb.LedgerRequest, context: Any) -> pb.LedgerResponse:  # noqa: N802
        """What it has earned."""
        receipts = await asyncio.to_thread(self._node.ledger.receipts)
        sums = {"settled": 0, "claimed": 0}
        for receipt in receipts:
            sums[receipt.state] += receipt.amount
        return pb.LedgerResponse(
            receipts=[
                pb.Receipt(
                    task=receipt.task,
                    client=receipt.client,
                    settled=receipt.state == "settled",
                    amount_micro=receipt.amount,
                    payment_micro=receipt.payment,
                    recorded_at=moment(receipt.recorded),
                )
                for receipt in reversed(receipts)
            ],
            settled_micro=sums["settled"],
            claimed_micro=sums["claimed"],
        )

    async def Limits(self, request: pb.LimitsRequest, context: Any) -> pb.LimitsResponse:  # noqa: N802
        """The bounds that it keeps."""
        return pb.LimitsResponse(limits=await limits(self._node, self._bounds(), self._store))


def moment(ms: int) -> timestamp_pb2.Timestamp:
    """A time in ms since 1970 as protobuf has it."""
    made = timestamp_pb2.Timestamp()
    made.FromMilliseconds(ms)
    return made


def span(nanoseconds: int) -> duration_pb2.Duration:
    """A time in nanoseconds as protobuf has it."""
    made = duration_pb2.Duration()
    made.FromNanoseconds(nanoseconds)
    return made
