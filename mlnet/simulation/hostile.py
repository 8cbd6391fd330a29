"""Hostile parties: real machines whose words and effects are bent by a kind of mischief.

Whatever they do passes through the same codec, and is signed by their own key where it is signed at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from random import Random
from typing import Literal

import msgspec

from mlnet.identity.envelope import Envelope
from mlnet.protocol.commands import Command, Send
from mlnet.protocol.events import Event, PingsMeasured, TrainingFinished
from mlnet.protocol.wire import messages
from mlnet.protocol.wire.messages import MAX_ATTEMPTS, MAX_CYCLES, Body, Message
from mlnet.simulation.party import SimulatedParty
from mlnet.simulation.profiles import Profile
from mlnet.simulation.timeline import SECOND
from mlnet.simulation.world import World
from mlnet.task.segments import Segment

_STAGES: tuple[tuple[Literal["ballot", "order"], Literal[1, 2]], ...] = (
    ("ballot", 1),
    ("ballot", 2),
    ("order", 1),
    ("order", 2),
)
REPLAYS = 300
"""Messages that a replaying party repeats at most."""
KEPT = 64
"""Messages of others that a replaying party keeps."""


class Honest:
    """Does what the protocol says; the base of all mischief."""

    def __init__(self, world: World, random: Random) -> None:
        self.world, self.random = world, random

    def commands(self, party: SimulatedParty, task: str, command: Command) -> Iterator[Command]:
        """See :class:`mlnet.simulation.world.Mischief`."""
        if isinstance(command, Send) and command.message.sender == party.peer:
            yield from self.send(party, command)
        else:
            yield command

    def send(self, party: SimulatedParty, command: Send) -> Iterator[Command]:
        """What it sends in place of its own words."""
        yield command

    def effect(self, party: SimulatedParty, command: Command, event: Event) -> Event | None:
        """See :class:`mlnet.simulation.world.Mischief`."""
        return event

    def heard(self, party: SimulatedParty, message: Message) -> None:
        """See :class:`mlnet.simulation.world.Mischief`."""

    def other(self, party: SimulatedParty, message: Message, body: Body, later: int = 0) -> Message:
        """Another message in the place of one, signed by the same party."""
        return party.signer.sign(body, task=message.task, attempt=message.attempt, sent=message.sent + later)


class Equivocate(Honest):
    """Says one thing to some and another to the others, both under its signature."""

    def send(self, party: SimulatedParty, command: Send) -> Iterator[Command]:
        """Half of the receivers, at least one, get another version."""
        if self.random.randrange(2) or not isinstance(command.message.body, Body):
            yield command
            return
        half = len(command.to) // 2
        yield msgspec.structs.replace(command, to=command.to[:half])
        second = self.other(party, command.message, command.message.body, later=1)
        yield msgspec.structs.replace(command, to=command.to[half:], message=second)
        yield command


class Replay(Honest):
    """Sends what others have said, of this task, of former attempts and of other tasks, to everybody."""

    def __init__(self, world: World, random: Random) -> None:
        super().__init__(world, random)
        self.kept: list[Message] = []
        self.left = REPLAYS

    def heard(self, party: SimulatedParty, message: Message) -> None:
        """Keep it; send some old one to somebody."""
        if len(self.kept) < KEPT:
            self.kept.append(message)
        else:
            self.kept[self.random.randrange(KEPT)] = message
        self.left -= 1
        if self.left < 0:
            return  # two that replay each other's words would go on for ever
        old = self.random.choice(self.kept)
        peers = list(self.world.parties)
        to = tuple(self.random.choice(peers) for _ in range(2))
        self.world.network.send(party, Send(to, old, party.clock.read(self.world.now) + 5000))


class Forge(Honest):
    """Signs in the name of others."""

    def send(self, party: SimulatedParty, command: Send) -> Iterator[Command]:
        """The same words, from somebody else."""
        yield command
        message = command.message
        victim = self.random.choice(list(self.world.parties))
        text = message.envelope.yaml.replace(party.peer, victim)
        forged = msgspec.structs.replace(
            message, sender=victim, envelope=Envelope(text, message.envelope.signature)
        )
        yield msgspec.structs.replace(command, message=forged)


class Garbage(Honest):
    """Sends strings that are no messages, or hardly any."""

    def send(self, party: SimulatedParty, command: Send) -> Iterator[Command]:
        """Its words, and after them the same with a hole in them."""
        yield command
        text = command.message.envelope.yaml
        for _ in range(3):
            place = self.random.randrange(len(text))
            rubbish = self.random.choice(("", "{", "\x00", "é", "null", "&a", "[" * 40, "1e999", ": "))
            broken = text[:place] + rubbish + text[place + self.random.randrange(9) :]
            envelope = Envelope(broken, command.message.envelope.signature)
            yield msgspec.structs.replace(
                command, message=msgspec.structs.replace(command.message, envelope=envelope)
            )


class Flood(Honest):
    """Sends more than anybody needs: well-formed, signed, and of every attempt and place."""

    def send(self, party: SimulatedParty, command: Send) -> Iterator[Command]:
        """Its words, and now and then very many others."""
        yield command
        if self.random.randrange(4):
            return
        digest, ranking = "00" * 32, tuple(f"{number:064x}" for number in range(10))
        bodies: list[Body] = [messages.CommitteeVoting(cycle, 1) for cycle in range(1, MAX_CYCLES)]
        bodies += [messages.HashVotes(digest, stage, ranking, round=number) for stage, number in _STAGES]
        bodies += [messages.ClusterDatabaseSelection({}, digest), messages.Rewards(digest, 0, {})]
        bodies += [messages.ClusterReady((), (), party.peer, party.peer, digest)]
        bodies += [messages.TaskFailedBody("a flood", "StoreError")]
        for attempt in range(1, MAX_ATTEMPTS + 1):
            for body in bodies:
                sent = command.message.sent
                other = party.signer.sign(body, task=command.message.task, attempt=attempt, sent=sent)
                yield msgspec.structs.replace(command, message=other, until=sent + 5000)


class Usurp(Honest):
    """Says what only the client may say."""

    def send(self, party: SimulatedParty, command: Send) -> Iterator[Command]:
        """Its words, and orders to everybody."""
        yield command
        bodies: tuple[Body, ...] = (
            messages.CancelTask("mine now"),
            messages.ClusterMembers(()),
            messages.TaskFailedBody("mine now"),
        )
        other = self.other(party, command.message, self.random.choice(bodies))
        yield msgspec.structs.replace(command, message=other, to=tuple(self.world.parties))


class Silent(Honest):
    """Takes part until it is needed, then says nothing more."""

    def __init__(self, world: World, random: Random) -> None:
        super().__init__(world, random)
        self.left = random.randrange(1, 8)

    def send(self, party: SimulatedParty, command: Send) -> Iterator[Command]:
        """Some first words."""
        self.left -= 1
        if self.left >= 0:
            yield command


class Selective(Honest):
    """Says what it says to some only: to the client, or to everybody but one."""

    def __init__(self, world: World, random: Random) -> None:
        super().__init__(world, random)
        self.only_client = random.randrange(2) == 0
        self.left_out = random.choice(sorted(world.parties))

    def send(self, party: SimulatedParty, command: Send) -> Iterator[Command]:
        """The same words to fewer."""
        to = tuple(
            peer
            for peer in command.to
            if (not self.world.parties[peer].is_node if self.only_client else peer != self.left_out)
        )
        if to:
            yield msgspec.structs.replace(command, to=to, via=())


class Pings(Honest):
    """Measures what it likes: itself near, the others far, or nobody at all."""

    def effect(self, party: SimulatedParty, command: Command, event: Event) -> Event | None:
        """False ping times."""
        if not isinstance(event, PingsMeasured):
            return event
        kind = self.random.randrange(3)
        times = dict.fromkeys(event.pings, () if kind == 0 else (0,) * 9 if kind == 1 else (10**9,) * 9)
        return msgspec.structs.replace(event, pings=times)


class Port(Honest):
    """Has a port that is open to some only."""

    def __init__(self, world: World, random: Random) -> None:
        super().__init__(world, random)
        self.friends = frozenset(peer for peer in world.parties if random.randrange(2))

    def effect(self, party: SimulatedParty, command: Command, event: Event) -> Event | None:
        """Nothing but the port itself."""
        party.open_to = self.friends
        return event


class FalseResult(Honest):
    """States a model, figures and contributions that it made up."""

    def effect(self, party: SimulatedParty, command: Command, event: Event) -> Event | None:
        """A false result; the same one for all that collude."""
        if not isinstance(event, TrainingFinished):
            return event
        sha256 = hashlib.sha256(b"made up").hexdigest()
        party.models = dict.fromkeys(party.models, sha256)
        friend = min(peer for peer in event.contributions if self.world.parties[peer].hostile)
        most = dict.fromkeys(event.contributions, 0) | {friend: 1000}
        return msgspec.structs.replace(event, sha256=sha256, accuracy=1.0, contributions=most)


class FalseBallot(Honest):
    """Casts a ballot that does not open what it had committed to."""

    def send(self, party: SimulatedParty, command: Send) -> Iterator[Command]:
        """Another secret, or another ranking."""
        body = command.message.body
        if isinstance(body, messages.HashVotes) and body.stage == "ballot":
            changed = msgspec.structs.replace(body, ranking=tuple(sorted(body.ranking)))
            if self.random.randrange(2):
                changed = msgspec.structs.replace(body, secret="00" * 32)
            command = msgspec.structs.replace(command, message=self.other(party, command.message, changed))
        yield command


class FalseDecision(Honest):
    """Announces a decision of its own, with itself as the master."""

    def send(self, party: SimulatedParty, command: Send) -> Iterator[Command]:
        """Another digest, another pair."""
        body = command.message.body
        if isinstance(body, messages.ClusterReady):
            pair = (party.peer, body.master if body.master != party.peer else body.slave)
            digest = hashlib.sha256(body.decision.encode()).hexdigest()
            changed = msgspec.structs.replace(body, master=pair[0], slave=pair[1], decision=digest)
            command = msgspec.structs.replace(command, message=self.other(party, command.message, changed))
        yield command


class FixedVote(Honest):
    """Votes as it likes: always the same, to keep its friends together."""

    def send(self, party: SimulatedParty, command: Send) -> Iterator[Command]:
        """Vote 1."""
        body = command.message.body
        if isinstance(body, messages.InitCluster | messages.CommitteeVoting) and body.vote == 0:
            changed: Body = msgspec.structs.replace(body, vote=1)
            command = msgspec.structs.replace(command, message=self.other(party, command.message, changed))
        yield command


class TwoLists(Honest):
    """A client that names other members to some than to the others."""

    def send(self, party: SimulatedParty, command: Send) -> Iterator[Command]:
        """The second half learns of a list without the first member."""
        body = command.message.body
        if not isinstance(body, messages.ClusterMembers) or len(body.members) < 3:
            yield command
            return
        half = len(command.to) // 2
        yield msgspec.structs.replace(command, to=command.to[:half])
        other = self.other(party, command.message, messages.ClusterMembers(body.members[1:]))
        yield msgspec.structs.replace(command, to=command.to[half:], message=other)


class TwoDatasets(Honest):
    """A client that offers other segments to some."""

    def send(self, party: SimulatedParty, command: Send) -> Iterator[Command]:
        """The second half gets another dataset."""
        body = command.message.body
        if not isinstance(body, messages.DatasetSelection):
            yield command
            return
        half = len(command.to) // 2
        yield msgspec.structs.replace(command, to=command.to[:half])
        segments = tuple(_replaced(segment) for segment in body.segments)
        other = self.other(party, command.message, msgspec.structs.replace(body, segments=segments))
        yield msgspec.structs.replace(command, to=command.to[half:], message=other)


class WrongLinks(Honest):
    """A client that has its own choice of segments trained."""

    def send(self, party: SimulatedParty, command: Send) -> Iterator[Command]:
        """A segment of its own in place of the first."""
        body = command.message.body
        if isinstance(body, messages.DatasetSegment) and body.position == 0:
            changed = msgspec.structs.replace(body, segment=_replaced(body.segment))
            command = msgspec.structs.replace(command, message=self.other(party, command.message, changed))
        yield command


class TwoOrders(Honest):
    """A client that names no ballots but one in a second round, which it may not need."""

    def send(self, party: SimulatedParty, command: Send) -> Iterator[Command]:
        """After its selection, a second round with nobody's ballot."""
        yield command
        body = command.message.body
        if isinstance(body, messages.DatasetSelection) and body.round == 1:
            second = self.other(party, command.message, msgspec.structs.replace(body, round=2))
            self.world.after(self.random.randrange(2 * SECOND), self._later, party, command, second)

    def _later(self, party: SimulatedParty, command: Send, second: Message) -> None:
        self.world.network.send(party, msgspec.structs.replace(command, message=second))


KINDS: dict[str, Callable[[World, Random], Honest]] = {
    "equivocate": Equivocate,
    "replay": Replay,
    "forge": Forge,
    "garbage": Garbage,
    "flood": Flood,
    "usurp": Usurp,
    "silent": Silent,
    "selective": Selective,
    "pings": Pings,
    "port": Port,
    "result": FalseResult,
    "ballot": FalseBallot,
    "ready": FalseDecision,
    "vote": FixedVote,
    "two-lists": TwoLists,
    "two-datasets": TwoDatasets,
    "silent-client": Silent,
    "wrong-links": WrongLinks,
    "two-orders": TwoOrders,
}


def infect(world: World, profile: Profile, random: Random) -> None:
    """Make some parties hostile, as a profile says."""
    nodes = world.nodes()
    count = len(nodes) * profile.share // 100
    if not profile.hostile:
        count = 0
    # One kind for all in half of the runs: they act together.
    kinds = profile.hostile if random.randrange(2) else (random.choice(profile.hostile or ("silent",)),)
    for party in random.sample(nodes, count):
        turn(world, party, random.choice(kinds), random)
    for party in world.clients() if profile.client else ():
        turn(world, party, random.choice(profile.client), random)


def turn(world: World, party: SimulatedParty, kind: str, random: Random) -> None:
    """Make a party hostile in one way."""
    party.hostile = True
    world.mischief[party.peer] = KINDS[kind](world, random)
    world.note(party, f"is hostile: {kind}")


def _replaced(segment: Segment) -> Segment:
    digest = hashlib.sha256(b"another " + segment.root.encode()).hexdigest()
    return msgspec.structs.replace(segment, root=digest)
