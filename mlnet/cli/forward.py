"""``mlnet-node forward``: a peer's service at an address of this machine, until a signal ends it."""

from __future__ import annotations

import asyncio

from mlnet.cli import console
from mlnet.cli.remote import Address, print_line, show
from mlnet.errors import PeerUnreachable
from mlnet.net.addresses import split_full
from mlnet.service import forwarding
from mlnet.service.peer_names import choose

SERVICE = "mlnet.v1.PeerService"


async def forward(named: str, local: str, node: Address, *, json: bool) -> int:
    """Forward until a signal comes; the exit code.

    Args:
        named: multiaddr or id of the peer.
        local: ``HOST:PORT`` to listen on.
        node: the one that knows the peer's addresses, for an id.
        json: whether a line of JSON says where it listens.

    Raises:
        NotFound: the node knows no such peer.
        PeerUnreachable: the node or the peer does not answer.
        ConfigError: an address is malformed.
    """
    ended = asyncio.Event()
    with console.signals(lambda _: ended.set()):
        address = await find(named, node)
        _, peer = split_full(address)
        async with forwarding.forwarding(address, local, console.say) as place:
            if json:
                print_line({"address": place, "peer": peer, "service": SERVICE})
            else:
                show(f"{place} leads to {SERVICE} of {peer}; Ctrl-C ends it")
            await ended.wait()
    return 0


async def find(named: str, node: Address) -> str:
    """The full multiaddr of a peer; what is none is looked up at a node.

    Args:
        named: a multiaddr, or a peer id, or a beginning or end of one.
        node: the one to ask.

    Raises:
        NotFound: the node knows no such peer.
        PeerUnreachable: the node does not answer.
        ConfigError: it knows several.
    """
    if named.startswith("/"):
        return named
    try:
        async with node.client() as client:
            peers = await client.peers()
    except PeerUnreachable as error:
        raise PeerUnreachable(
            f"{error}; it is to say where peer {named} is: else name its multiaddr"
        ) from error
    known = {peer.id: peer.addresses for peer in peers if peer.addresses}
    return known[choose(named, known)][0]
