"""Our side of the exchange with one peer: its outbox, the Exchange stream that empties it, and the gRPC
channel that other calls share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Protocol

import grpc

from mlnet.errors import TransportError
from mlnet.identity.envelope import Envelope
from mlnet.net.metric import Metric, single
from mlnet.net.sending.grpc_channel import Channel
from mlnet.net.sending.outbox import Outbox, OutboxBudget, Outcome, Route, Sending
from mlnet.net.transport.host import Host
from mlnet.net.types import RPC_PROTOCOL, Limits
from mlnet.v1 import peer_pb2 as pb

logger = logging.getLogger(__name__)
FIRST_RETRY_SECONDS = 0.1
"""Pause before a broken Exchange stream is opened again; it doubles while the peer answers nothing. A
connection that comes up ends the pause."""
LAST_RETRY_SECONDS = 5.0
"""The longest such pause: what an envelope for a peer that answers again waits at most. Dialling has its own
backoff."""
IDLE_CHANNELS = 16
"""Channels before those to disconnected peers are closed; afterwards each time that their number has doubled.
A channel costs an HTTP/2 connection, a task and a socket file."""


class Surroundings(Protocol):
    """What a channel needs from the network."""

    def degree(self) -> int:
        """Connected peers."""

    def is_connected(self, peer: str) -> bool:
        """Whether a libp2p connection with that peer is up."""

    async def connect_peer(self, peer: str) -> None:
        """Bring up a connection; raises PeerUnreachable."""


class PeerChannel:
    """Sends the envelopes of its outbox over one Exchange stream at a time, and again over the next stream
    when one breaks."""

    def __init__(
        self, peer: str, host: Host, surroundings: Surroundings, limits: Limits, budget: OutboxBudget
    ) -> None:
        self.peer = peer
        self._host, self._surroundings = host, surroundings
        self.outbox = Outbox(limits, budget)
        self.wanted = False
        """Keep the stream open while the peer is connected, though there is nothing to send."""
        self.broken = asyncio.Event()
        """Set while the peer cannot be reached directly."""
        self._linked = asyncio.Event()
        self._channel: Channel | None = None
        self._channel_lock = asyncio.Lock()
        self._stopped = False
        self._task = asyncio.create_task(self._run(), name=f"channel to {peer}")

    @property
    def is_idle(self) -> bool:
        """Whether the channel can be closed without losing anything."""
        return not self.outbox and not self._surroundings.is_connected(self.peer)

    def want(self) -> None:
        """Keep a stream open while the peer is connected."""
        self.wanted = True
        self.outbox.changed.set()

    def on_connection(self, up: bool) -> None:
        """A libp2p connection with the peer came up, or the last one ended."""
        if up:
            self._linked.set()
            self.outbox.changed.set()
        else:
            self._linked.clear()

    async def stub(self) -> Any:
        """The peer's service, connected on demand; calls on it end when the connection does.

        Raises:
            TransportError: the peer cannot be reached.
        """
        await self._surroundings.connect_peer(self.peer)
        # Opening a tunnel waits for the trio thread; two callers at once must not open two.
        async with self._channel_lock:
            if self._stopped:
                raise TransportError("the channel to the peer has ended")
            if self._channel is None:
                self._channel = Channel(await self._host.open_tunnel(self.peer, RPC_PROTOCOL))
            return self._channel.stub

    async def _drop_channel(self) -> None:
        async with self._channel_lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()
            with contextlib.suppress(TransportError):
                await self._host.close_tunnel(channel.socket)

    async def stop(self) -> None:
        """End the stream and settle the waiting envelopes as stopped."""
        self._stopped = True
        self._task.cancel()
        await asyncio.wait((self._task,))
        await self._drop_channel()
        self.outbox.clear()

    async def _run(self) -> None:
        retry = FIRST_RETRY_SECONDS
        while True:
            await self._until_needed()
            # Cleared before the attempt: a connection that comes up during it ends the pause after it.
            self._linked.clear()
            try:
                worked = await self._exchange(await self.stub())
            except TransportError as error:
                logger.debug("no way to %s: %s", self.peer, error)
                worked = False
            self.broken.set()
            self.outbox.rewind()
            await self._drop_channel()
            # The channel was dropped above: a new one for each stream, since the old tunnel may lead to a
            # dead connection, and grpc would reconnect through it with its own backoff.
            retry = FIRST_RETRY_SECONDS if worked else min(2 * retry, LAST_RETRY_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(retry):
                    await self._linked.wait()

    async def _until_needed(self) -> None:
        while not (self.outbox or (self.wanted and self._surroundings.is_connected(self.peer))):
            self.outbox.changed.clear()
            await self.outbox.changed.wait()

    async def _exchange(self, stub: Any) -> bool:
        """One Exchange stream from its start to its end; whether the peer answered anything."""
        call = stub.Exchange()
        worked = False
        writer = asyncio.create_task(self._write(call))
        try:
            while True:
                frame = await call.read()
                if not isinstance(frame, pb.ExchangeResponse):  # grpc.aio.EOF
                    break
                worked = True
                self.broken.clear()
                self.outbox.acknowledge(frame.acknowledgements)
        except grpc.aio.AioRpcError as error:
            logger.debug("the stream to %s ended: %s %s", self.peer, error.code(), error.details())
        finally:
            writer.cancel()
            call.cancel()
            # Not `await writer`: that would take a cancellation of this task for that of the writer.
            await asyncio.wait((writer,))
        return worked

    async def _write(self, call: Any) -> None:
        # The call ended during the write. The reader sees that too, and ends the stream.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(pb.ExchangeRequest(degree=self._surroundings.degree(), ranges=True))
            while True:
                self.outbox.changed.clear()
                frame = self.outbox.next_frame()
                if frame is None:
                    await self.outbox.changed.wait()
                else:
                    await call.write(frame)


class PeerChannels:
    """The channels of a node to its peers, made on demand.

    Args:
        host: carries them.
        surroundings: see :class:`Surroundings`.
        limits: bounds of each outbox and of all together.
    """

    def __init__(self, host: Host, surroundings: Surroundings, limits: Limits) -> None:
        self._host, self._surroundings, self._limits = host, surroundings, limits
        self._budget = OutboxBudget(limits.outbox_bytes)
        self._by_peer: dict[str, PeerChannel] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._tidy_at = IDLE_CHANNELS
        self._resent = 0

    def __getitem__(self, peer: str) -> PeerChannel:
        channel = self._by_peer.get(peer)
        if channel is None:
            if self._stopped:
                raise TransportError("the network has stopped")
            if len(self._by_peer) >= self._tidy_at:
                self._end_idle()
                self._tidy_at = max(IDLE_CHANNELS, 2 * len(self._by_peer))
            channel = self._by_peer[peer] = PeerChannel(
                peer, self._host, self._surroundings, self._limits, self._budget
            )
        return channel

    async def stub(self, peer: str) -> Any:
        """A peer's service; see :meth:`PeerChannel.stub`."""
        return await self[peer].stub()

    def get(self, peer: str) -> PeerChannel | None:
        """The channel to a peer if there is one."""
        return self._by_peer.get(peer)

    def put(self, envelope: Envelope, peer: str, timeout: float, route: Route) -> asyncio.Future[Outcome]:
        """Queue an envelope for a peer."""
        sending = Sending[Outcome](asyncio.get_running_loop(), lambda outcome: outcome)
        self.add(envelope, peer, timeout, route, sending)
        return sending

    def add(
        self, envelope: Envelope, peer: str, timeout: float, route: Route, sending: Sending[Any] | None
    ) -> None:
        """Queue an envelope for a peer; ``sending`` gets the outcome."""
        if not self._stopped:
            self[peer].outbox.add(envelope, timeout, route, sending)
        elif sending is not None:
            sending.settle(Outcome.STOPPED)

    def metrics(self) -> list[Metric]:
        """Metrics of envelopes that wait for an acknowledgement or were sent again."""
        outboxes = [channel.outbox for channel in self._by_peer.values()]
        resent = self._resent + sum(outbox.resent for outbox in outboxes)
        waiting = sum(len(outbox) for outbox in outboxes)
        return [
            single("mlnet_conversations", "Peers that this node has envelopes for.", len(outboxes)),
            single("mlnet_envelopes_resent_total", "Envelopes sent again after a lost connection.", resent),
            single("mlnet_envelopes_waiting", "Envelopes that are not acknowledged yet.", waiting),
            single(
                "mlnet_envelopes_waiting_bytes",
                "Bytes of envelopes that are not acknowledged yet.",
                self._budget.used,
            ),
        ]

    def _end_idle(self) -> None:
        for peer, channel in list(self._by_peer.items()):
            if channel.is_idle:
                del self._by_peer[peer]
                self._resent += channel.outbox.resent
                task = asyncio.create_task(channel.stop())
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)

    async def stop(self) -> None:
        """Stop all channels; waiting envelopes are settled as stopped."""
        self._stopped = True
        channels, self._by_peer = list(self._by_peer.values()), {}
        await asyncio.gather(*self._ending, *(channel.stop() for channel in channels))
