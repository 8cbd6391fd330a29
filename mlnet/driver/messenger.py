"""Messages over the network: verified on the way in, delivered on the way out, the exchange of peers between
them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlnet.driver.loop import Handler
from mlnet.driver.peer_clocks import PeerClocks, length
from mlnet.identity.keys import Identity
from mlnet.net.addresses import block
from mlnet.net.network import DEFAULT_LISTEN, Network
from mlnet.net.types import Handlers, Limits, Target
from mlnet.protocol.commands import Command, Introduce, Publish, Send
from mlnet.protocol.signer import IdentitySigner
from mlnet.protocol.wire.message_types import is_gossiped
from mlnet.protocol.wire.messages import MAX_ADDRESSES, Message, PeerAddresses, Peers
from mlnet.util import clock

EXCHANGED_PEERS = 32
"""Peers whose addresses a newcomer is given."""
OPEN_TASK_SECONDS = 30.0
"""How long an open task waits for the acknowledgement of a newcomer: as long as gossip
(routing.GOSSIP_SECONDS)."""
SILENT_SECONDS = 1.0
"""After which people are told of a peer that they named and that has not answered."""


@dataclass(frozen=True)
class WireOptions:
    """Where to listen and whom to dial.

    Attributes:
        listen: multiaddrs.
        peers: full multiaddrs of peers to stay connected with.
        limits: of the network.
    """

    listen: tuple[str, ...] = DEFAULT_LISTEN
    peers: tuple[str, ...] = ()
    limits: Limits | None = None


@dataclass(frozen=True)
class WireHandlers:
    """The party behind the wire.

    Attributes:
        on_message: a verified message and the peer that carried it; whether it was of use. Raises
            RemoteProtocolError.
        open_tasks: announcements for a newcomer.
        find_blob: see :class:`~mlnet.net.types.Handlers`.
        admit: likewise.
        on_traffic: every message that comes (True) or goes (False), for people.
        on_peer: a peer is connected.
        on_notice: something that this machine's operator should know: a clock that is off.
        on_unreachable: a peer that was named at the start does not answer: (peer, why, address by address).
    """

    on_message: Callable[[Message, str], bool]
    open_tasks: Callable[[], Sequence[Message]]
    find_blob: Callable[[str, str], Path | None]
    admit: Callable[[str, str, str], Target | None]
    on_traffic: Callable[[bool, str, Message], None]
    on_peer: Callable[[str], None] = lambda peer: None
    on_notice: Callable[[str], None] = lambda text: None
    on_unreachable: Callable[[str, str], None] = lambda peer, why: None


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
        self.signer = IdentitySigner(identity)
        self._handlers = handlers
        self.clocks = PeerClocks()
        self._steps = clock.Steps()
        self._named = tuple(dict.fromkeys(address.rpartition("/p2p/")[2] for address in options.peers))
        self._told: set[str] = set()
        self._looking: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Future[bool]] = set()
        self.network = Network(
            identity,
            Handlers(
                self._on_envelope,
                self._on_peer,
                handlers.find_blob,
                handlers.admit,
                self.signer.verify_all,
                self._on_unreachable,
            ),
            listen=options.listen,
            peers=options.peers,
            runtime_dir=runtime_dir,
            limits=options.limits,
        )

    async def start(self) -> None:
        """Listen, and dial the peers that were named.

        Raises:
            PortInUse: an address to listen on is taken.
            ConfigError: it cannot be listened on.
        """
        await self.network.start()
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(SILENT_SECONDS, self._look_for_silent)

    async def stop(self) -> None:
        """Leave the network; can be called again, and before :meth:`start`."""
        if self._looking is not None:
            self._looking.cancel()
        await self.network.stop()

    def _look_for_silent(self) -> None:
        connected = set(self.network.connected_peers())
        for peer in self._named:
            if peer not in connected and peer not in self._told and peer != self.signer.peer_id:
                self._handlers.on_unreachable(peer, f"nothing came within {SILENT_SECONDS:g} s")

    def _on_unreachable(self, peer: str, why: str) -> None:
        self._told.add(peer)
        self._handlers.on_unreachable(peer, why)

    def addresses(self) -> tuple[str, ...]:
        """Where others may dial this party."""
        return tuple(self.network.addresses()[:MAX_ADDRESSES])

    @property
    def handlers(self) -> dict[type[Command], Handler]:
        """Of the commands that are carried out here."""
        return {Send: self._send_all, Publish: self._publish, Introduce: self._introduce}

    def _send_all(self, _: str, command: Send) -> None:
        connected = set(self.network.connected_peers()) if command.neighbours_only else None
        for peer in command.to:
            if connected is None or peer in connected:
                self._send(command, peer)

    def _publish(self, _: str, command: Publish) -> None:
        self._handlers.on_traffic(False, "all", command.message)
        self._await(self.network.publish(command.message.envelope))

    def _introduce(self, _: str, command: Introduce) -> None:
        for peer, addresses in command.addresses.items():
            self.network.add_addresses(peer, addresses)

    def _send(self, command: Send, peer: str) -> None:
        self._handlers.on_traffic(False, peer, command.message)
        sending = self.network.send(
            command.message.envelope,
            peer,
            timeout=max(0.001, (command.until - clock.now()) / 1000),
            via=command.via,
            gossip_fallback=command.gossip,
        )
        self._await((sending,))

    def _await(self, sendings: Iterable[asyncio.Future[bool]]) -> None:
        for sending in sendings:
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)

    async def drain(self, timeout: float) -> None:
        """Wait until all that was sent, gossip to neighbours included, is acknowledged or given up, for at
        most so many seconds."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=timeout)

    def _on_envelope(self, message: Message, source: str, gossip: bool) -> bool:
        if message.sender == self.signer.peer_id:
            return False
        self._handlers.on_traffic(True, source, message)
        self._look_at_clock()
        if isinstance(message.body, Peers):
            self._met(message.sender, message.body)
            if source == message.sender:
                self._compare_clocks(source, message.sent)
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
            if entry.peer == self.signer.peer_id:
                self.network.known_at(entry.addresses)
            elif entry.peer == sender or entry.peer not in known:
                self.network.add_addresses(entry.peer, entry.addresses)

    def _compare_clocks(self, peer: str, sent: int) -> None:
        """A peer has stated its clock over its own connection."""
        ips = self.network.remote_ips(peer)
        address = min(map(block, ips), default=peer)
        self.clocks.greeted(peer, address, sent, clock.elapsed())
        verdict = self.clocks.verdict(peer, clock.wall(), clock.elapsed())
        if verdict:
            self._handlers.on_notice(verdict)

    def _look_at_clock(self) -> None:
        """Peers learn from another greeting that the system's clock was set."""
        step = self._steps.look()
        if not step:
            return
        way = "forward" if step > 0 else "back"
        self._handlers.on_notice(f"the clock of this machine was set {way} by {length(step)}")
        for peer in self.network.connected_peers():
            self._greet(peer)

    def _on_peer(self, peer: str, connected: bool) -> None:
        if not connected:
            return
        self._handlers.on_peer(peer)
        self._greet(peer)
        for message in self._handlers.open_tasks():
            self._tell(peer, message)

    def _greet(self, peer: str) -> None:
        """Give a peer our addresses, those of others, and the time by our clock."""
        known = self.network.known_peers()
        # The peer itself is told, too, where it is known: so it learns of another process with its identity.
        others = [
            PeerAddresses(other, tuple(addresses[:MAX_ADDRESSES]))
            for other, addresses in [(peer, known.pop(peer, ())), *list(known.items())[:EXCHANGED_PEERS]]
            if addresses
        ]
        mine = PeerAddresses(self.signer.peer_id, self.addresses())
        self._tell(peer, self.signer.sign(Peers((mine, *others)), sent=clock.wall()))

    def _tell(self, peer: str, message: Message) -> None:
        self._handlers.on_traffic(False, peer, message)
        self.network.send(message.envelope, peer, timeout=OPEN_TASK_SECONDS)
