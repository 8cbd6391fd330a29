"""A peer's gRPC service at an address of this machine, through libp2p, for tools that know no libp2p."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from mlnet.errors import ConfigError
from mlnet.identity.keys import Identity
from mlnet.net.network import Network
from mlnet.net.types import Handlers, Limits
from mlnet.util import hosts, sockets

OPTION = "--local"
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
