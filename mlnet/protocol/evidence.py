"""The signed messages that a party holds for a task, and who contradicted himself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum

from mlnet.protocol.wire.messages import Message, Place

PER_SENDER = 64
"""Messages of one sender that are kept for one attempt. An honest party says fewer than twenty; it bounds the
memory that a hostile one takes."""
SENDERS = 1024
"""Senders whose messages are kept for one task before its members are known: as many as can be members. A
vote can overtake the CLUSTER_MEMBERS that makes its sender a member, so strangers are heard until then."""


class Verdict(Enum):
    """What a message adds to what is known."""

    NEW = "new"
    KNOWN = "known"
    EQUIVOCATION = "equivocation"
    REFUSED = "refused"


class Evidence:
    """Messages by what they say and by sender. Two different strings in one place void both, and drop their
    sender.

    Args:
        principals: senders who always find room, however many others there are.
    """

    def __init__(self, principals: frozenset[str] = frozenset()) -> None:
        self._principals = principals
        self._messages: dict[Place, dict[str, Message]] = {}
        self._count: dict[str, int] = {}
        self.proofs: dict[str, tuple[Message, Message]] = {}

    def add(self, message: Message, most: int = PER_SENDER) -> Verdict:
        """Keep a message; EQUIVOCATION when it contradicts one that is kept, REFUSED at a bound.

        Args:
            message: to keep.
            most: messages of its sender that are kept.
        """
        sender = message.sender
        if sender in self.proofs:
            return Verdict.KNOWN
        kept = self.get(*message.place, sender)
        if kept is not None:
            # The strings, not the signatures: whoever has the key can sign one string in many ways.
            if kept.envelope.yaml == message.envelope.yaml:
                return Verdict.KNOWN
            self.proofs[sender] = (kept, message)
            for senders in self._messages.values():
                senders.pop(sender, None)
            return Verdict.EQUIVOCATION
        count = self._count.get(sender, 0)
        room = sender in self._principals or count > 0 or len(self._count) < SENDERS
        if count >= most or not room:
            return Verdict.REFUSED
        self._count[sender] = count + 1
        self._messages.setdefault(message.place, {})[sender] = message
        return Verdict.NEW

    def of(self, type_: str, attempt: int, detail: str = "") -> dict[str, Message]:
        """Messages of a type in an attempt (of one cycle, round, stage or position), by sender."""
        return dict(self._messages.get((type_, attempt, detail), {}))

    def of_type(self, type_: str, attempt: int) -> list[Message]:
        """Messages of a type in an attempt, whatever their cycle, round, stage or position."""
        return [
            message
            for place, messages in self._messages.items()
            if place[:2] == (type_, attempt)
            for message in messages.values()
        ]

    def get(self, type_: str, attempt: int, detail: str, sender: str) -> Message | None:
        """One message, or None."""
        return self._messages.get((type_, attempt, detail), {}).get(sender)

    def counts(self) -> Mapping[str, int]:
        """How many messages of each sender have been taken in."""
        return self._count

    def prune(self, attempt: int, senders: Collection[str]) -> None:
        """Forget what belongs to an earlier attempt, or to nobody who takes part."""
        kept: dict[Place, dict[str, Message]] = {}
        count: dict[str, int] = {}
        for place, messages in self._messages.items():
            if 0 < place[1] < attempt:
                continue
            kept[place] = {sender: message for sender, message in messages.items() if sender in senders}
            for sender in kept[place]:
                count[sender] = count.get(sender, 0) + 1
        self._messages, self._count = kept, count
