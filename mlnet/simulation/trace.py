"""What happened in a run: a hash that is the same on every machine, and a dialogue for people."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from mlnet.protocol.commands import (
    CancelTimer,
    Command,
    End,
    FetchModel,
    Introduce,
    MeasurePings,
    Publish,
    PublishSegments,
    RecordReceipt,
    Replicate,
    Report,
    Send,
    SetTimer,
    StartTraining,
)
from mlnet.protocol.events import Event, PingsMeasured, Received, RedisPrepared, Restarted, TrainingStopped
from mlnet.protocol.wire import messages
from mlnet.protocol.wire.messages import Message


class Line(NamedTuple):
    """One turn of the dialogue: a party at a step, and what came in (``>>``) or went out (``<<``)."""

    step: int
    now: int
    party: str
    what: Event | Command | str


class Trace:
    """Hashes every turn and keeps the last ones.

    Args:
        keep: lines of the dialogue that are kept; None for all.
    """

    def __init__(self, keep: int | None = 4000) -> None:
        self.lines: deque[Line] = deque(maxlen=keep)
        self._hash = hashlib.blake2b(digest_size=16)

    @property
    def digest(self) -> str:
        """Of all turns so far, hex."""
        return self._hash.hexdigest()

    def signed(self, message: Message) -> None:
        """A message was made."""
        self._hash.update(message.envelope.yaml.encode())

    def took(self, step: int, now: int, party: str, event: Event) -> None:
        """An event comes in."""
        detail = event.message.envelope.signature if isinstance(event, Received) else repr(event).encode()
        self._hash.update(b"%d %d %s " % (step, now, party.encode()))
        self._hash.update(detail)
        self.lines.append(Line(step, now, party, event))

    def did(self, step: int, now: int, party: str, command: Command) -> None:
        """A command goes out."""
        self._hash.update(command.tag().encode())
        self.lines.append(Line(step, now, party, command))

    def note(self, step: int, now: int, party: str, text: str) -> None:
        """Something happens to a party from outside."""
        self._hash.update(text.encode())
        self.lines.append(Line(step, now, party, text))

    def dialogue(self, names: Mapping[str, str], last: int | None = None) -> str:
        """The lines as text, peer ids as names.

        Args:
            names: of parties by peer id.
            last: the number of last lines to show; None for all.
        """
        lines = list(self.lines)[-last if last else 0 :]
        return "\n".join(text for line in lines if (text := _line(line, names)))


def _line(line: Line, names: Mapping[str, str]) -> str:
    if isinstance(line.what, str):
        text = f"** {line.what}"
    elif isinstance(line.what, Event):
        text = f">> {_event(line.what, names)}"
    else:
        described = _command(line.what, names)
        if not described:
            return ""
        text = f"<< {described}"
    return f"{line.now / 1e6:10.3f} {line.step:6} {line.party:8} {text}"


def _event(event: Event, names: Mapping[str, str]) -> str:
    match event:
        case Received():
            return f"{describe(event.message, names)} from {_name(event.message.sender, names)}"
        case RedisPrepared():
            return f"redis prepared, port {'open' if event.open else 'closed'}"
        case PingsMeasured():
            reached = [_name(peer, names) for peer, times in event.pings.items() if times]
            return f"pings measured to {_list(reached)}"
        case TrainingStopped() | Restarted():
            return f"{type(event).__name__}: {event.reason}"
    return type(event).__name__


def _command(command: Command, names: Mapping[str, str]) -> str:
    match command:
        case Send():
            return f"{describe(command.message, names)} to {_list(_name(peer, names) for peer in command.to)}"
        case Publish():
            return f"publish {describe(command.message, names)}"
        case SetTimer() | CancelTimer() | Introduce():
            return ""
        case MeasurePings():
            return f"measure pings to {_list(_name(peer, names) for peer in command.targets)}"
        case Replicate():
            return f"replicate {_name(command.master, names)}"
        case StartTraining():
            return f"train as rank of {_list(_name(peer, names) for peer in command.assignment.nodes)}"
        case RecordReceipt():
            return f"receipt {command.state} {command.amount}"
        case PublishSegments():
            return f"serve {len(command.hashes)} segments"
        case FetchModel():
            return f"fetch the model from {_list(_name(peer, names) for peer in command.holders)}"
        case End():
            return f"end {command.state}" + (f": {_named(command.reason, names)}" if command.reason else "")
        case Report():
            return f"report {command.what}" if command.what not in ("note", "answer") else ""
    return type(command).__name__


def describe(message: Message, names: Mapping[str, str]) -> str:
    """A message in one line."""
    body, text = message.body, message.type
    match body:
        case messages.InitCluster():
            vote = "sealed votes" if body.commitments else f"vote {body.vote}"
            text += f" {vote}, port {'open' if body.redis.open else 'closed'}"
        case messages.ClusterMembers():
            text += f" of {len(body.members)}"
        case messages.CommitteeVoting():
            text += f" cycle {body.cycle} vote {body.vote}"
        case messages.ClusterDatabaseSelection():
            text += f" times to {len(body.pings)}"
        case messages.ClusterReady():
            text += (
                f" {body.decision[:8]} master {_name(body.master, names)} slave {_name(body.slave, names)}"
            )
        case messages.DatasetSelection():
            text += f" {body.decision[:8]} round {body.round}"
        case messages.HashVotes():
            text += f" {body.stage} {' '.join(segment[:4] for segment in body.ranking)}"
        case messages.DatasetSegment():
            text += f" {body.position} {body.segment.root[:4]}"
        case messages.TrainingCompleted():
            text += f" model {body.model.sha256[:8]}"
        case messages.Rewards():
            text += f" {body.decision[:8]} in {len(body.split)} parts"
        case messages.TaskFailedBody():
            text += f" {body.code}: {_named(body.reason, names)}"
    return f"{text} (attempt {message.attempt})" if message.attempt else text


def _named(text: str, names: Mapping[str, str]) -> str:
    for peer, name in names.items():
        if peer in text:
            text = text.replace(peer, name)
    return text


def _name(peer: str, names: Mapping[str, str]) -> str:
    return names.get(peer, peer[:12])


def _list(names: object) -> str:
    listed = sorted(names)  # type: ignore[call-overload]
    return " ".join(listed) if len(listed) <= 8 else f"{' '.join(listed[:6])} and {len(listed) - 6} more"
