"""What the two state machines have in common: one class a phase, words said once, deadlines.

A machine does no I/O and knows no clock: ``step(event, now)`` returns commands. A phase's work looks at the
evidence, says what is due, and either names what the machine waits for and from whom, or the phase that
follows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from mlnet.errors import LocalProtocolError, RemoteProtocolError
from mlnet.identity.envelope import Envelope
from mlnet.protocol.commands import Command, Report, Send, SetTimer
from mlnet.protocol.deadlines import Deadlines
from mlnet.protocol.events import Event, Received, TimerFired
from mlnet.protocol.evidence import Evidence
from mlnet.protocol.wire.message_types import MESSAGE_TYPES, GossipRule, Role, place
from mlnet.protocol.wire.messages import MAX_REASON, Body, CancelTask, Message, Place, TaskFailedBody
from mlnet.task.schema import TaskDefinition

DEADLINE = "deadline"
"""Name of the one timer that a machine has: the deadline of its phase."""
Party = TypeVar("Party")


class Signer(Protocol):
    """Who signs and opens messages; keeps keys out of the machines."""

    peer_id: str

    def sign(self, body: Body, *, task: str = "", attempt: int = 0, sent: int) -> Message:
        """Write and sign a message."""
        ...

    def verify(self, envelope: Envelope) -> Message:
        """Read a message and check its signature; raises RemoteProtocolError."""
        ...

    def secret(self, context: str) -> bytes:
        """32 bytes that only this party can know, the same each time for the same context."""
        ...


class Wait(NamedTuple):
    """What a machine waits for, and from whom."""

    what: str
    whom: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.what} from {', '.join(self.whom)}" if self.whom else self.what


class Phase(ABC, Generic[Party]):
    """One phase of a party to a task. It has no state of its own: what is known is the party's.

    The annotations of :meth:`work` and :meth:`late` name the phases that may follow. mypy holds the code to
    them, and a test holds the table in the party's documentation to them.
    """

    @abstractmethod
    def work(self, party: Party, /) -> Wait | Enum:
        """Say what is due.

        Called after each event, so that whatever is done once asks :meth:`Machine.once` or is a word, which
        :meth:`Machine.say` says once.

        Returns:
            What is missing, and of whom; or the phase that follows.
        """

    @abstractmethod
    def limit(self, party: Party, /) -> int:
        """How long the phase may take, ms, from when it is entered.

        Its docstring names the deadlines that it adds up; the table of transitions quotes it.
        """

    @abstractmethod
    def late(self, party: Party, /) -> Enum | None:
        """Do what is to be done when it takes longer.

        Returns:
            The phase that follows; None when the party has given itself more time.
        """


class Machine(ABC):
    """One party to one task.

    Args:
        signer: signs as this party.
        task: the NEW_ML_TASK.
        definition: what the task's text says.
        deadlines: of this party.
    """

    roles: ClassVar[Role]
    phases: ClassVar[Mapping[Any, Phase[Any]]]
    handlers: ClassVar[Mapping[type[Event], Callable[[Any, Any], None]]]

    def __init__(
        self, signer: Signer, task: Message, definition: TaskDefinition, deadlines: Deadlines, phase: Enum
    ) -> None:
        self.signer = signer
        self.task = task.task
        self.client = task.sender
        self.announcement = task
        self.definition = definition
        self.deadlines = deadlines
        self.me = signer.peer_id
        self.evidence = Evidence(frozenset({task.sender, signer.peer_id}))
        self.attempt = 0
        self.phase = phase
        self.waiting = Wait("the first event")
        self.deadline = 0
        self.now = 0
        self.heard = False
        self._said: dict[Place, Message] = {}
        self._done: set[tuple[str, int]] = set()
        self._out: list[Command] = []

    @property
    def ended(self) -> bool:
        """Whether the machine has nothing left to wait for."""
        return self.phase not in self.phases

    def step(self, event: Event, now: int) -> list[Command]:
        """Take in an event at a time (ms) and return what is to be done, in order.

        Raises:
            RemoteProtocolError: the event is a message that its sender may not send; the state is unchanged.
        """
        self.now = now
        self.heard = True
        if isinstance(event, Received):
            self._receive(event.message)
        elif isinstance(event, TimerFired):
            self._fire(event.name)
        else:
            handler = self.handlers.get(type(event))
            if handler is None:
                raise LocalProtocolError(f"{type(self).__name__} takes no {type(event).__name__}")
            if not self.ended and getattr(event, "attempt", self.attempt) == self.attempt:
                handler(self, event)
        self._advance()
        out, self._out = self._out, []
        return out

    # ------------------------------------------------------------------------------------------ for phases

    def say(
        self,
        body: Body,
        to: Iterable[str],
        *,
        until: int,
        via: Iterable[str] = (),
        attempt: int | None = None,
        sent: int | None = None,
    ) -> Message:
        """Sign and send a message, unless one was signed in its place before: nothing is said twice
        differently. It is dated now unless ``sent`` says otherwise."""
        number = self.attempt if attempt is None else attempt
        said = self._said.get(place(number, body))
        if said is not None:
            return said
        if isinstance(body, TaskFailedBody | CancelTask):
            body = msgspec.structs.replace(body, reason=body.reason[:MAX_REASON])
        message = self.signer.sign(
            body, task=self.task, attempt=number, sent=self.now if sent is None else sent
        )
        self._said[message.place] = message
        self.evidence.add(message)
        self.forward(message, to, until=until, via=via)
        return message

    def has_said(self, type_: str, detail: str = "") -> bool:
        """Whether a message of this type was signed in the current attempt."""
        return (type_, self.attempt, detail) in self._said

    def said(self) -> list[Message]:
        """All that was signed in the current attempt."""
        return [message for message in self._said.values() if message.attempt == self.attempt]

    def forward(self, message: Message, to: Iterable[str], *, until: int, via: Iterable[str] = ()) -> None:
        """Send a message as it was signed, by us or by another."""
        receivers = tuple(peer for peer in to if peer != self.me)
        if receivers:
            carriers = tuple(peer for peer in via if peer != self.me)
            gossip = MESSAGE_TYPES[message.type].gossip is GossipRule.FALLBACK
            self._out.append(Send(receivers, message, until, carriers, gossip))

    def emit(self, *commands: Command) -> None:
        """Have something done."""
        self._out.extend(commands)

    def once(self, name: str) -> bool:
        """Whether this is called with a name for the first time in an attempt.

        A phase's work runs after every event, so that it guards with this what must be done once.
        """
        key = (name, self.attempt)
        if key in self._done:
            return False
        self._done.add(key)
        return True

    def again(self, name: str) -> None:
        """Forget that :meth:`once` was true."""
        self._done.discard((name, self.attempt))

    def report(self, what: str, **data: object) -> None:
        """Tell people."""
        self._out.append(Report(what, data))

    def enter(self, phase: Enum) -> None:
        """Move to a phase and set its deadline."""
        self.phase = phase
        if not self.ended:
            self.extend(self.phases[phase].limit(self))

    def extend(self, milliseconds: int) -> None:
        """Set the deadline to a time (ms) from now."""
        self.deadline = self.now + milliseconds
        self._out.append(SetTimer(DEADLINE, self.deadline))

    # ---------------------------------------------------------------------------------------------- inside

    def _concerns(self, message: Message) -> bool:
        """Whether a message is for a party of this role, by the table of messages.

        Raises:
            RemoteProtocolError: only the task's client may send it, and its sender is somebody else.
        """
        row = MESSAGE_TYPES[message.type]
        if row.senders is Role.CLIENT and message.sender != self.client:
            raise RemoteProtocolError(
                f"{message.type} must come from the task's client, not from {message.sender}"
            )
        return bool(self.roles & row.receivers)

    @abstractmethod
    def _receive(self, message: Message) -> None:
        """Check and keep a message."""

    def _advance(self) -> None:
        while not self.ended:
            outcome = self.phases[self.phase].work(self)
            if isinstance(outcome, Wait):
                self.waiting = outcome
                return
            self.enter(outcome)

    def _fire(self, name: str) -> None:
        if name != DEADLINE or self.ended or self.now < self.deadline:
            return
        after = self.phases[self.phase].late(self)
        if after is not None:
            self.enter(after)
