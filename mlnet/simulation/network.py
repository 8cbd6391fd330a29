"""The network as a model: latency by region, jitter, loss, duplication, reordering, bandwidth, blocked paths.

It handles an envelope as :mod:`mlnet.net` does: acknowledged, resent over the next connection until its
deadline, through a ``via`` peer when the direct path does not work, by gossip as the last resort.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from mlnet.protocol.commands import Send
from mlnet.protocol.wire.message_types import is_gossiped
from mlnet.protocol.wire.messages import Message
from mlnet.simulation.party import SimulatedParty, chance
from mlnet.simulation.regions import one_way_us
from mlnet.simulation.timeline import SECOND, Timeline

Welcome = Literal["", "known", "new"]
"""What a party makes of a message: nothing, something, or a task that it had not heard of."""

OVERHEAD = 96
"""Bytes of an envelope beside its text: 64 of signature, and some for frame and tunnel."""
# As in mlnet.net: a short pause that doubles up to five seconds (peer_channel.LAST_RETRY_SECONDS), other
# routes after about two seconds (routing.DIRECT_SECONDS), 16 hops, bans of 60 s at 10 points (types.Limits).
FIRST_RETRY = SECOND // 4
PATIENT_RETRY = 5 * SECOND
LASTING = 300 * SECOND
"""After it, retries are twice as far apart each time."""
TRIES_BEFORE_OTHER_WAYS = 3
GOSSIP_SECONDS = 30
HOPS = 16
GARBAGE_SCORE = 10
BAN = 60 * SECOND
LOCAL_DELAY = 50
"""Microseconds that both hosts add to a delay."""


@dataclass(frozen=True)
class Quality:
    """The quality of all paths; chances in a thousand.

    Attributes:
        loss: that an envelope is lost, with the connection that carries it.
        duplicate: that an envelope arrives a second time.
        reorder: that an envelope overtakes another one, or is overtaken.
        jitter: the most that is added to a delay, in thousandths of it.
    """

    loss: int = 0
    duplicate: int = 0
    reorder: int = 0
    jitter: int = 100


class Delivery:
    """One envelope on its way to one party."""

    __slots__ = (
        "done",
        "first",
        "gossip",
        "hops",
        "incarnation",
        "message",
        "receiver",
        "sender",
        "ticket",
        "tries",
        "until",
        "via",
    )

    def __init__(
        self,
        sender: SimulatedParty,
        receiver: SimulatedParty,
        message: Message,
        until: int,
        first: int,
        via: tuple[str, ...] = (),
        *,
        gossip: bool = False,
        hops: int = 0,
    ) -> None:
        self.sender, self.receiver, self.message, self.until, self.first = (
            sender,
            receiver,
            message,
            until,
            first,
        )
        self.via, self.gossip, self.hops = via, gossip, hops
        self.incarnation = sender.incarnation
        self.tries = self.ticket = 0
        self.done = False


class SimulatedNetwork:
    """Moves envelopes between the parties of a world.

    Args:
        timeline: when envelopes arrive.
        parties: by peer id.
        receive: hands a message to a party, with the one that carried it.
        quality: of the paths.
        random: decides what is lost, late or duplicated.

    Attributes:
        blocked: pairs (from, to) between which nothing passes.
        island: number of a party's island; parties on different islands do not reach each other.
    """

    def __init__(
        self,
        timeline: Timeline,
        parties: Mapping[str, SimulatedParty],
        receive: Callable[[SimulatedParty, SimulatedParty, Message], Welcome],
        quality: Quality,
        random: Random,
    ) -> None:
        self._timeline, self._parties, self._receive = timeline, parties, receive
        self.quality, self._random = quality, random
        self.blocked: set[tuple[str, str]] = set()
        self.island: dict[str, int] = {}
        self._broken: dict[tuple[str, str], int] = {}
        self._last: dict[tuple[str, str], int] = {}
        self._garbage: dict[tuple[str, str], int] = {}
        self._banned: dict[tuple[str, str], int] = {}
        self._pending: dict[Delivery, None] = {}
        self.messages = self.bytes = 0

    # ---------------------------------------------------------------------------------------- for the world

    def send(self, sender: SimulatedParty, command: Send) -> None:
        """Carry a Send out."""
        until = sender.clock.when(command.until)
        for peer in command.to:
            receiver = self._parties.get(peer)
            if receiver is None or (command.neighbours_only and receiver not in sender.neighbours):
                continue
            delivery = Delivery(
                sender,
                receiver,
                command.message,
                until,
                self._timeline.now,
                command.via,
                gossip=command.gossip,
            )
            sender.outstanding += 1
            self._pending[delivery] = None
            self._attempt(delivery)

    def publish(
        self,
        sender: SimulatedParty,
        message: Message,
        *,
        hops: int = HOPS,
        source: SimulatedParty | None = None,
    ) -> None:
        """Give a message to each neighbour, once."""
        sender.first_sight(message)
        until = self._timeline.now + GOSSIP_SECONDS * SECOND
        for neighbour in sender.neighbours:
            if neighbour is not source:
                delivery = Delivery(sender, neighbour, message, until, self._timeline.now, hops=hops)
                self._attempt(delivery)

    def greet(self, one: SimulatedParty, other: SimulatedParty) -> None:
        """Two parties have connected: each is told of the open tasks that the other knows."""
        for giver, taker in ((one, other), (other, one)):
            for message in giver.open_tasks(self._timeline.now) if giver.up else ():
                until = self._timeline.now + GOSSIP_SECONDS * SECOND
                self._attempt(Delivery(giver, taker, message, until, self._timeline.now))

    def break_connection(self, one: str, other: str) -> None:
        """What is on its way between two parties is lost, and sent again."""
        for pair in ((one, other), (other, one)):
            self._broken[pair] = self._timeline.now

    def passes(self, sender: SimulatedParty, receiver: SimulatedParty) -> bool:
        """Whether the path from one party to another is open at this moment."""
        pair = (sender.peer, receiver.peer)
        if pair in self.blocked or self.island.get(pair[0], 0) != self.island.get(pair[1], 0):
            return False
        return not self._banned or self._banned.get((pair[1], pair[0]), 0) <= self._timeline.now

    def linked(self, one: SimulatedParty, other: SimulatedParty) -> bool:
        """Whether two running parties reach each other both ways."""
        return one.up and other.up and self.passes(one, other) and self.passes(other, one)

    def kick(self) -> None:
        """Paths have opened or a party has come back: what waits is tried at once."""
        for delivery in list(self._pending):
            delivery.tries = min(delivery.tries, TRIES_BEFORE_OTHER_WAYS)
            self._schedule(delivery, FIRST_RETRY)

    def delay(self, sender: SimulatedParty, receiver: SimulatedParty, size: int) -> int:
        """Microseconds until ``size`` bytes have arrived."""
        base = one_way_us(sender.region, receiver.region) + LOCAL_DELAY
        jitter = self.quality.jitter
        late = self._random.randrange(base * jitter // 1000 + 1) if jitter else 0
        return (base + late) * max(sender.slow, receiver.slow) + size * SECOND // sender.rate

    # ----------------------------------------------------------------------------------------------- inside

    def _attempt(self, delivery: Delivery) -> None:
        sender, receiver = delivery.sender, delivery.receiver
        if (
            delivery.done
            or delivery.incarnation != sender.incarnation
            or self._timeline.now >= delivery.until
        ):
            self._settle(delivery)
            return
        carrier = self._carrier(delivery)
        size = len(delivery.message.envelope.yaml) + OVERHEAD
        if sender.paused or carrier is None or chance(self._random, self.quality.loss):
            self._fall_back(delivery)
            self._again(delivery)
            return
        self._count(sender, receiver, size)
        if carrier is receiver:
            arrival = self._timeline.now + self.delay(sender, receiver, size)
        else:
            arrival = (
                self._timeline.now + self.delay(sender, carrier, size) + self.delay(carrier, receiver, size)
            )
            self._count(carrier, receiver, size)
        pair = (sender.peer, receiver.peer)
        if chance(self._random, self.quality.reorder):
            arrival += self._random.randrange(SECOND)
        else:
            arrival = max(arrival, self._last.get(pair, 0) + 1)
            self._last[pair] = arrival
        self._timeline.at(arrival, self._arrive, delivery, self._timeline.now)
        if chance(self._random, self.quality.duplicate):
            self._timeline.at(
                arrival + self._random.randrange(2 * SECOND), self._arrive, delivery, self._timeline.now
            )

    def _carrier(self, delivery: Delivery) -> SimulatedParty | None:
        """The party that takes the envelope: the receiver, or a relay that reaches it; None if no route is
        open."""
        sender, receiver = delivery.sender, delivery.receiver
        if receiver.up and self.passes(sender, receiver):
            return receiver
        if delivery.tries < TRIES_BEFORE_OTHER_WAYS:
            return None
        for peer in delivery.via:
            via = self._parties.get(peer)
            if (
                via is not None
                and via is not receiver
                and self.linked(sender, via)
                and self.passes(via, receiver)
            ):
                return via if receiver.up else None
        return None

    def _fall_back(self, delivery: Delivery) -> None:
        if delivery.gossip and delivery.tries >= TRIES_BEFORE_OTHER_WAYS and delivery.sender.up:
            delivery.gossip = False
            self.publish(delivery.sender, delivery.message)

    def _again(self, delivery: Delivery) -> None:
        tries = delivery.tries
        delivery.tries += 1
        pause = min(FIRST_RETRY << min(tries, 10), PATIENT_RETRY)
        waited = self._timeline.now - delivery.first
        if waited > LASTING:
            pause = waited
        if self._timeline.now + pause < delivery.until:
            self._schedule(delivery, pause)
        else:
            self._settle(delivery)

    def _schedule(self, delivery: Delivery, pause: int) -> None:
        delivery.ticket += 1
        self._timeline.after(pause, self._retry, delivery, delivery.ticket)

    def _retry(self, delivery: Delivery, ticket: int) -> None:
        if not delivery.done and delivery.ticket == ticket:
            self._attempt(delivery)

    def _arrive(self, delivery: Delivery, sent: int) -> None:
        sender, receiver = delivery.sender, delivery.receiver
        pair = (sender.peer, receiver.peer)
        if self._broken.get(pair, -1) >= sent or not receiver.up:
            if not delivery.done:
                self._again(delivery)
            return
        size = len(delivery.message.envelope.yaml) + OVERHEAD
        receiver.got_messages += 1
        receiver.got_bytes += size
        self._hand_over(delivery)
        if not self.passes(receiver, sender) and not delivery.done and not delivery.via:
            self._again(delivery)  # its acknowledgement is lost
        else:
            self._settle(delivery)

    def _hand_over(self, delivery: Delivery) -> None:
        receiver, message = delivery.receiver, delivery.message
        gossiped = delivery.hops > 0
        if gossiped and not receiver.first_sight(message):
            return
        accepted = self._receive(receiver, delivery.sender, message)
        if not accepted:
            return
        if gossiped and is_gossiped(message):
            self.publish(receiver, message, hops=delivery.hops - 1, source=delivery.sender)
        elif not gossiped and accepted == "new":
            self.publish(receiver, message, source=delivery.sender)

    def _settle(self, delivery: Delivery) -> None:
        delivery.done = True
        if self._pending.pop(delivery, self) is None:
            delivery.sender.outstanding -= 1

    def _count(self, sender: SimulatedParty, receiver: SimulatedParty, size: int) -> None:
        self.messages += 1
        self.bytes += size
        sender.sent_messages += 1
        sender.sent_bytes += size

    def blame(self, receiver: SimulatedParty, source: SimulatedParty) -> None:
        """A peer has sent garbage. At GARBAGE_SCORE points it is banned."""
        pair = (receiver.peer, source.peer)
        self._garbage[pair] = self._garbage.get(pair, 0) + 1
        if self._garbage[pair] >= GARBAGE_SCORE:
            self._garbage[pair] = 0
            self._banned[pair] = self._timeline.now + BAN
