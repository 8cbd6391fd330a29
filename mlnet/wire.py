"""Messages over the network: verified on the way in, delivered on the way out, the exchange of peers between
them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlnet import clock
from mlnet.identity import Identity
from mlnet.net.interface import Handlers, Limits, Target
from mlnet.net.network import DEFAULT_LISTEN, Network
from mlnet.protocol.commands import Command, Introduce, Publish, Send
from mlnet.protocol.messages import MAX_ADDRESSES, Message, PeerAddresses, Peers, is_gossiped
from mlnet.seal import Seal

EXCHANGED_PEERS = 32
"""Peers whose addresses a newcomer is given."""
OPEN_TASK_SECONDS = 30.0


@dataclass(frozen=True)
class WireOptions:
    """Where to listen and whom to dial.

    Attributes:
        listen: multiaddrs.
        peers: full multiaddrs of peers to stay connected with.
        tools_address: ``host:port`` for tools; None for nowhere.
        limits: of the network.
    """

    listen: tuple[str, ...] = DEFAULT_LISTEN
    peers: tuple[str, ...] = ()
    tools_address: str | None = None
    limits: Limits | None = None


@dataclass(frozen=True)
class WireHandlers:
    """The party behind the wire.

    Attributes:
        on_message: a verified message and the peer that carried it; whether it was of use. Raises
            RemoteProtocolError.
        open_tasks: announcements for a newcomer.
        find_blob: see :class:`~mlnet.net.interface.Handlers`.
        admit: likewise.
        on_traffic: every message that comes (True) or goes (False), for people.
        on_peer: a peer is connected.
    """

    on_message: Callable[[Message, str], bool]
    open_tasks: Callable[[], Sequence[Message]]
    find_blob: Callable[[str, str], Path | None]
    admit: Callable[[str, str, str], Target | None]
    on_traffic: Callable[[bool, str, Message], None]
    on_peer: Callable[[str], None] = lambda peer: None


class Wire:
    """One party's connection to the network.

    Args:
        identity: its key.
        handlers: the party.
        runtime_dir: for sockets.
        options: see :class:`WireOptions`.
    """

    def __init__(
        self, identity: Identity, handlers: WireHandlers, runtime_dir: Path, options: WireOptions
    ) -> None:
        self.seal = Seal(identity)
        self._handlers = handlers
        self._sending: set[asyncio.Future[bool]] = set()
        self.network = Network(
            identity,
            Handlers(
                self._on_envelope, self._on_peer, handlers.find_blob, handlers.admit, self.seal.open_all
            ),
            listen=options.listen,
            peers=options.peers,
            runtime_dir=runtime_dir,
            tools_address=options.tools_address,
            limits=options.limits,
        )

    def addresses(self) -> tuple[str, ...]:
        """Where others may dial this party."""
        return tuple(self.network.addresses()[:MAX_ADDRESSES])

    def carry(self, command: Command) -> bool:
        """Carry out a Send, Publish or Introduce; False for any other command."""
        if isinstance(command, Send):
            connected = set(self.network.connected_peers()) if command.neighbours_only else None
            for peer in command.to:
                if connected is None or peer in connected:
                    self._send(command, peer)
        elif isinstance(command, Publish):
            self._handlers.on_traffic(False, "all", command.message)
            self.network.publish(command.message.envelope)
        elif isinstance(command, Introduce):
            for peer, addresses in command.addresses.items():
                self.network.add_addresses(peer, addresses)
        else:
            return False
        return True

    def _send(self, command: Send, peer: str) -> None:
        self._handlers.on_traffic(False, peer, command.message)
        sending = self.network.send(
            command.message.envelope,
            peer,
            timeout=max(0.001, (command.until - clock.now()) / 1000),
            via=command.via,
            gossip_fallback=command.gossip,
        )
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    async def drain(self, timeout: float) -> None:
        """Wait until all that was sent is acknowledged or given up, for at most so many seconds."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=timeout)

    def _on_envelope(self, message: Message, source: str, gossip: bool) -> bool:
        if message.sender == self.seal.peer_id:
            return False
        self._handlers.on_traffic(True, source, message)
        if isinstance(message.body, Peers):
            self._met(message.sender, message.body)
            return False
        useful = self._handlers.on_message(message, source)
        if useful and message.type == "NEW_ML_TASK" and not gossip:
            # It came from one peer's list of open tasks: the others may lack it.
            self.network.publish(message.envelope)
        return useful if not gossip else is_gossiped(message)

    def _met(self, sender: str, body: Peers) -> None:
        """Learn addresses; what a peer says of others counts only where nothing is known of them."""
        known = self.network.known_peers()
        for entry in body.peers:
            if entry.peer == sender or (entry.peer != self.seal.peer_id and entry.peer not in known):
                self.network.add_addresses(entry.peer, entry.addresses)

    def _on_peer(self, peer: str, connected: bool) -> None:
        if not connected:
            return
        self._handlers.on_peer(peer)
        known = self.network.known_peers()
        others = [
            PeerAddresses(other, tuple(addresses[:MAX_ADDRESSES]))
            for other, addresses in list(known.items())[:EXCHANGED_PEERS]
            if other != peer and addresses
        ]
        mine = PeerAddresses(self.seal.peer_id, self.addresses())
        greeting = self.seal.seal(Peers((mine, *others)), sent=clock.now())
        for message in (greeting, *self._handlers.open_tasks()):
            self._handlers.on_traffic(False, peer, message)
            self.network.send(message.envelope, peer, timeout=OPEN_TASK_SECONDS)
