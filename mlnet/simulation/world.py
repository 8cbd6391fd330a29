"""The world: the parties, and the execution of their machines' commands in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from random import Random
from typing import Protocol

from mlnet.driver.loop import DriverLoop, Executor, Handler
from mlnet.driver.parties import ClientParty, NodeParty
from mlnet.errors import ProtocolError, RemoteProtocolError
from mlnet.protocol.client.machine import Client
from mlnet.protocol.commands import (
    CancelTimer,
    Command,
    End,
    Introduce,
    Publish,
    Report,
    Send,
    SetTimer,
)
from mlnet.protocol.events import Event, OthersWait, Received, Restarted, TimerFired
from mlnet.protocol.node import Node, Step
from mlnet.protocol.phases import ClientPhase
from mlnet.protocol.wire.messages import Message
from mlnet.simulation.effects import Effects
from mlnet.simulation.mint import Mint
from mlnet.simulation.network import Quality, SimulatedNetwork, Welcome
from mlnet.simulation.party import MAX_HELD, SimulatedParty
from mlnet.simulation.timeline import Timeline
from mlnet.simulation.trace import Trace


class Watch(Protocol):
    """Observes a run, and raises when an invariant is violated."""

    def does(self, party: SimulatedParty, task: str, command: Command) -> None:
        """A party is about to carry a command out."""
        ...

    def stepped(self, party: SimulatedParty, event: Event, steps: list[Step]) -> None:
        """A party has taken an event in, and lives."""
        ...

    def refused(self, party: SimulatedParty, event: Event, error: ProtocolError) -> None:
        """A party would not take an event in."""
        ...


class Mischief(Protocol):
    """The deviations of a hostile party from the protocol."""

    def commands(self, party: SimulatedParty, task: str, command: Command) -> Iterator[Command]:
        """What it does in place of a command of its machine."""
        ...

    def effect(self, party: SimulatedParty, command: Command, event: Event) -> Event | None:
        """What it makes of an effect; None keeps it from its machine."""
        ...

    def heard(self, party: SimulatedParty, message: Message) -> None:
        """A message has come in."""
        ...


class ProcessEnded(Exception):
    """The process of a party has ended in the middle of a step."""


class World(Timeline):
    """Parties on one timeline.

    Args:
        seed: of everything random. A text: Random hashes it with SHA-512, whatever PYTHONHASHSEED is.
        mint: of the signers.
        quality: of the network's paths.
        keep: lines of the dialogue that are kept.

    Attributes:
        steps: events that parties have taken in.
        doomed: commands that a party carries out before its process ends.
        doomed_at_end: parties whose process ends before they put the next task away.
    """

    def __init__(self, seed: str, mint: Mint, quality: Quality, *, keep: int | None = 4000) -> None:
        super().__init__()
        self.seed, self.mint = seed, mint
        self.steps = 0
        self.parties: dict[str, SimulatedParty] = {}
        self.names: dict[str, str] = {}
        self.trace = Trace(keep)
        self.network = SimulatedNetwork(self, self.parties, self.receive, quality, Random(f"{seed} network"))
        self.effects = Effects(
            self, self.parties, self.network, self.give, self.tell, Random(f"{seed} effects")
        )
        self.watches: list[Watch] = []
        self.hooks: list[Callable[[SimulatedParty, Event], None]] = []
        self.mischief: dict[str, Mischief] = {}
        self.doomed: dict[str, int] = {}
        self.doomed_at_end: set[str] = set()
        self.ends: dict[tuple[str, str], End] = {}
        self.reports: list[tuple[str, int, Report]] = []
        mint.signed = self._signed
        self.signing: list[Callable[[Message], None]] = []

    def run(self, *, until_step: int | None = None, until: int | None = None) -> None:
        """Let time pass until nothing happens any more, a step has been made, or a time (us) has come."""
        if until_step is None:
            self.advance(until)
        else:
            self.advance(until, lambda: self.steps >= until_step)

    # --------------------------------------------------------------------------------------------- parties

    def add(self, party: SimulatedParty) -> SimulatedParty:
        """A party joins."""
        self._boot(party)
        self.parties[party.peer] = party
        self.names[party.peer] = party.name
        return party

    def clients(self) -> list[SimulatedParty]:
        """The parties with a task of their own."""
        return [party for party in self.parties.values() if not party.is_node]

    def nodes(self) -> list[SimulatedParty]:
        """The parties that work for others."""
        return [party for party in self.parties.values() if party.is_node]

    def transcribe(self) -> None:
        """Have the parties keep what they see and say from here on."""
        for party in self.parties.values():
            party.book.transcripts = {}

    def transcripts(self) -> dict[tuple[str, str], list[Message]]:
        """What each party has seen and said of each task, by (peer, task)."""
        return {
            (party.peer, task): messages
            for party in self.parties.values()
            for task, messages in (party.book.transcripts or {}).items()
        }

    def connect(self, one: SimulatedParty, other: SimulatedParty) -> None:
        """Make two parties neighbours."""
        if one is not other and other not in one.neighbours:
            one.neighbours.append(other)
            other.neighbours.append(one)

    def announce(self, party: SimulatedParty) -> None:
        """A client gives its task to the network."""
        assert isinstance(party.machine, Client)
        self.give(party, party.machine.task, Received(party.machine.announcement))

    def crash(self, party: SimulatedParty, *, power: bool = False) -> None:
        """End a party's process."""
        if party.alive:
            self.note(party, "loses power" if power else "crashes")
            party.crash(power=power)
            self.effects.lost(party)

    def restart(self, party: SimulatedParty) -> None:
        """Start the process of a party again; its disk tells it where it stood."""
        if party.alive or party.scrapped:
            return
        self.note(party, "starts again")
        party.alive = True
        if isinstance(party.machine, Client) and party.machine.task in party.buried:
            return  # a client's process ends with its task
        party.machine = party.reborn()
        self._boot(party)
        if isinstance(party.machine, Client):
            self._resume(party, party.machine)
        else:
            self._restore(party, party.machine)
        for neighbour in party.neighbours:
            if self.network.linked(party, neighbour):
                self.network.greet(party, neighbour)
        self.network.kick()

    def pause(self, party: SimulatedParty) -> None:
        """Stop a process without ending it."""
        if party.up:
            self.note(party, "is paused")
            party.paused = True

    def resume(self, party: SimulatedParty) -> None:
        """Let a paused process go on; what has come meanwhile comes now."""
        if not party.paused:
            return
        self.note(party, "goes on")
        party.paused = False
        held, party.held = party.held, []
        for action in held:
            action()
        self.network.kick()

    def note(self, party: SimulatedParty, text: str) -> None:
        """Note in the dialogue what happens to a party."""
        self.trace.note(self.steps, self.now, party.name, text)

    # -------------------------------------------------------------------------------------------- machines

    def give(self, party: SimulatedParty, task: str, event: Event) -> Welcome:
        """Step a party's machine and execute its commands."""
        if not party.alive:
            return ""
        if party.paused:
            if len(party.held) < MAX_HELD:
                party.held.append(lambda: self._give_later(party, task, event, party.incarnation))
            return ""
        self.steps += 1
        self.trace.took(self.steps, self.now, party.name, event)
        known = _knows(party, task)
        try:
            steps = party.loop.dispatch(task, event)
        except RemoteProtocolError as error:
            for watch in self.watches:
                watch.refused(party, event, error)
            return ""
        except ProcessEnded:
            steps = []
        self._stepped(party, event, steps)
        for hook in self.hooks:
            hook(party, event)
        return "new" if not known and _knows(party, task) else "known"

    def receive(self, party: SimulatedParty, source: SimulatedParty, message: Message) -> Welcome:
        """A message has reached a party: open it, then step the machine."""
        try:
            opened = party.signer.verify(message.envelope)
        except RemoteProtocolError:
            self.network.blame(party, source)
            return ""
        if opened.sender == party.peer or not opened.task:
            return ""
        if isinstance(party.machine, Client) and opened.task != party.machine.task:
            self._heard_of_another(party, opened)
            return "known"  # a client passes on what is not for it
        mischief = self.mischief.get(party.peer)
        if mischief is not None:
            mischief.heard(party, opened)
        welcome = self.give(party, opened.task, Received(opened))
        if not welcome:
            self.network.blame(party, source)
        return welcome

    def _heard_of_another(self, party: SimulatedParty, message: Message) -> None:
        if party.up and party.rivals.heard(message, party.clock.read(self.now)):
            self._share(party)

    def _share(self, party: SimulatedParty) -> None:
        """As the driver of a client does: its machine learns how many others gather nodes."""
        client = party.machine
        if not party.up or not isinstance(client, Client) or client.phase is not ClientPhase.GATHERING:
            return
        others = party.rivals.count(party.clock.read(self.now))
        if client.deadline and others != client.others:
            self.give(party, client.task, OthersWait(others))
        if until := party.rivals.next_end():
            self.at(max(self.now + 1, party.clock.when(until)), self._share, party)

    def tell(self, party: SimulatedParty, task: str, command: Command, event: Event) -> None:
        """An effect that a party's command had gives its event."""
        mischief = self.mischief.get(party.peer)
        changed = mischief.effect(party, command, event) if mischief is not None else event
        if changed is not None and task in party.machines():
            self.give(party, task, changed)

    def _give_later(self, party: SimulatedParty, task: str, event: Event, incarnation: int) -> None:
        if party.incarnation == incarnation:
            self.give(party, task, event)

    def _carry_out(self, party: SimulatedParty, step: Step) -> None:
        with suppress(ProcessEnded):
            party.loop.carry_out(step)

    # ------------------------------------------------------------------------------------------- commands

    def _boot(self, party: SimulatedParty) -> None:
        """Give the process that a party starts its loop; the party's machine and disk are there."""
        machine = party.machine
        party.loop = DriverLoop(
            ClientParty(machine) if isinstance(machine, Client) else NodeParty(machine),
            party.book,
            partial(self._execute, party, Executor("the simulation", self._handlers(party))),
            lambda: party.clock.read(self.now),
            lambda event: party.clocks_for(event, self.now),
        )

    def _execute(self, party: SimulatedParty, execute: Handler, task: str, command: Command) -> None:
        """Carry a command out, or what a hostile party does in its place.

        Raises:
            ProcessEnded: the party's process ends before that.
        """
        commands: Iterable[Command] = [command]
        mischief = self.mischief.get(party.peer)
        if mischief is not None:
            commands = mischief.commands(party, task, command)
        for one in commands:
            self._end_if_doomed(party, one)
            self.trace.did(self.steps, self.now, party.name, one)
            for watch in self.watches:
                watch.does(party, task, one)
            execute(task, one)

    def _end_if_doomed(self, party: SimulatedParty, command: Command) -> None:
        if isinstance(command, End) and party.peer in self.doomed_at_end:
            self.doomed_at_end.discard(party.peer)
            self.crash(party)
            raise ProcessEnded
        if party.peer in self.doomed:
            if self.doomed[party.peer] == 0:
                del self.doomed[party.peer]
                self.crash(party, power=False)
                raise ProcessEnded
            self.doomed[party.peer] -= 1

    def _handlers(self, party: SimulatedParty) -> dict[type[Command], Handler]:
        return {
            Send: lambda _, command: self.network.send(party, command),
            Publish: lambda _, command: self.network.publish(party, command.message),
            Introduce: lambda _, command: None,
            SetTimer: partial(self._set_timer, party),
            CancelTimer: lambda task, command: party.timers.pop((task, command.name), None),
            Report: lambda _, command: self.reports.append((party.name, self.now, command)),
            End: partial(self._end, party),
            **self.effects.handlers(party),
        }

    def _set_timer(self, party: SimulatedParty, task: str, command: SetTimer) -> None:
        party.timers[task, command.name] = command.at
        due = party.clock.when(command.at)
        self.at(due, self._fire, party, task, command, party.incarnation)

    def _end(self, party: SimulatedParty, task: str, command: End) -> None:
        self.ends[party.peer, task] = command
        self.effects.ended(party, task)
        party.forget(task)

    def _fire(self, party: SimulatedParty, task: str, command: SetTimer, incarnation: int) -> None:
        if party.incarnation != incarnation or party.timers.get((task, command.name)) != command.at:
            return
        if party.paused:
            # The timer of a stopped process fires when the process continues, after the events before it.
            party.held.append(lambda: self._fire(party, task, command, incarnation))
            return
        del party.timers[task, command.name]
        self.give(party, task, TimerFired(command.name))

    def _resume(self, party: SimulatedParty, machine: Client) -> None:
        record = party.disk.get(machine.task)
        if record is None:
            self.announce(party)
            return
        for step in party.loop.restore(machine.task, list(record.events)):
            self._carry_out(party, step)
        if not machine.ended:
            self.give(party, machine.task, Restarted())

    def _restore(self, party: SimulatedParty, machine: Node) -> None:
        for task in sorted(party.disk):
            steps = party.loop.restore(task, list(party.disk[task].events))
            if task not in machine.members and not steps:
                party.forget(task)
            for step in steps:
                self.steps += 1
                if step.event is not None:
                    self.trace.took(self.steps, self.now, party.name, step.event)
                self._carry_out(party, step)
                self._stepped(party, step.event or Restarted(), [step])

    def _stepped(self, party: SimulatedParty, event: Event, steps: list[Step]) -> None:
        if party.alive:
            for watch in self.watches:
                watch.stepped(party, event, steps)

    def _signed(self, message: Message) -> None:
        self.trace.signed(message)
        for look in self.signing:
            look(message)


def _knows(party: SimulatedParty, task: str) -> bool:
    machine = party.machine
    return isinstance(machine, Node) and (task in machine.members or task in machine.pending)
