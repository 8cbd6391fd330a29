"""A peer's gRPC service at an address of this machine, through libp2p, for tools that know no libp2p."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc

from mlnet.errors import ConfigError
from mlnet.identity.keys import Identity
from mlnet.net.network import Network
from mlnet.net.sending.grpc_channel import CHANNEL_OPTIONS, unix_target
from mlnet.net.types import Handlers, Limits
from mlnet.service.peer_names import choose
from mlnet.service.place import NAME
from mlnet.status.details import error_of
from mlnet.util import hosts, sockets
from mlnet.v1 import node_pb2, node_pb2_grpc

OPTION = "--local"
ASK_SECONDS = 5.0
"""For the node of this user to say where a peer is."""
LISTEN = ("/ip4/127.0.0.1/tcp/0",)
"""Nobody is to dial this peer, which offers nothing."""


@asynccontextmanager
async def forwarding(
    address: str, local: str, notice: Callable[[str], None], identity: Identity | None = None
) -> AsyncIterator[str]:
    """Have connections to an address of this machine lead to a peer's service.

    Args:
        address: full multiaddr of the peer.
        local: ``HOST:PORT`` to listen on, on loopback; port 0 takes a free one.
        notice: is told when the peer does not answer any more.
        identity: to be known by to the peer; a new one by default.

    Returns:
        ``HOST:PORT`` where it listens.

    Raises:
        PeerUnreachable: the peer does not answer.
        PortInUse: the port is taken.
        ConfigError: an address is malformed, or not on loopback.
    """
    listeners = hosts.listening(local, OPTION)
    try:
        if not all(hosts.is_loopback(listener.getsockname()[0]) for listener in listeners):
            raise ConfigError(
                f"{OPTION} {local} can be reached by others, who would speak in this program's name; listen "
                f"on loopback: {OPTION} 127.0.0.1:0"
            )
        runtime = sockets.Directory()
        try:
            handlers = Handlers(
                _take_nothing,
                lambda peer, connected: None,
                lambda peer, digest: None,
                lambda peer, protocol, preamble: None,
                lambda envelopes: envelopes,
                lambda peer, why: notice(f"peer {peer} does not answer: {why}; trying on"),
            )
            network = Network(
                identity or Identity.generate(),
                handlers,
                listen=LISTEN,
                peers=(address,),
                runtime_dir=runtime.path / "n",
                limits=Limits(min_neighbours=0),
            )
            await network.start()
            try:
                peer = await network.connect(address)
                for listener in listeners:
                    await network.forward_rpc(peer, listener)
                port = listeners[0].getsockname()[1]
                yield hosts.join(hosts.split(local, OPTION)[0], port)
            finally:
                await network.stop()
        finally:
            runtime.close()
    finally:
        for listener in listeners:
            with suppress(OSError):
                listener.close()


def _take_nothing(opened: object, source: str, gossip: bool) -> bool:
    """What the network tells everybody is not for this program."""
    return False


async def find(named: str, data_dir: Path) -> str:
    """The full multiaddr of a peer; what is none is looked up at the node that runs in a data directory.

    Args:
        named: a multiaddr, or a peer id, or a beginning or end of one.
        data_dir: of the node.

    Raises:
        NotFound: the node knows no such peer.
        ConfigError: no node runs there, or it knows several.
    """
    if named.startswith("/"):
        return named
    if not (data_dir / NAME).exists():
        raise ConfigError(
            f"{named} is no multiaddr, and no node runs in {data_dir} that could say where that peer is; "
            "name its multiaddr, which ends in /p2p/ID"
        )
    target = unix_target(data_dir / NAME)
    async with grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS) as channel:
        stub = node_pb2_grpc.NodeServiceStub(channel)  # type: ignore[no-untyped-call]
        try:
            peers = (await stub.Peers(node_pb2.PeersRequest(), timeout=ASK_SECONDS)).peers
        except grpc.RpcError as failure:
            why = error_of(failure)
            raise ConfigError(
                f"the node in {data_dir} cannot say where {named} is: {why}; name the peer's multiaddr"
            ) from failure
    known = {peer.id: peer.addresses for peer in peers if peer.addresses}
    return str(known[choose(named, known)][0])
