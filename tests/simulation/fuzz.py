"""Mutated messages for codec and machines: each is taken in or refused, and what is refused leaves no trace.

Strings are cut, spliced and sprinkled; messages get values of other messages, other attempts, other senders,
and are signed anew. ``python tests/simulation/fuzz.py INPUTS SEED`` runs so many of both.
"""

from __future__ import annotations

import sys
import time
from random import Random
from typing import Any

import msgspec

from mlnet.errors import LocalProtocolError, RemoteProtocolError
from mlnet.identity.envelope import Envelope
from mlnet.protocol.events import Received
from mlnet.protocol.machine import Signer
from mlnet.protocol.wire import codec
from mlnet.protocol.wire.message_types import MESSAGE_TYPES
from mlnet.protocol.wire.messages import MAX_ATTEMPTS, Message
from mlnet.simulation.invariants import fingerprint
from mlnet.simulation.party import SimulatedParty
from mlnet.simulation.scenario import Run, Scenario

RUBBISH = (
    "",
    "{",
    "}",
    "[",
    ",",
    ": ",
    "\x00",
    "\x7f",
    "\x85",
    "\u2028",
    "é",
    "null",
    "&a ",
    "*a",
    "!!str ",
    "1e999",
)
VALUES: tuple[object, ...] = (
    0,
    1,
    -1,
    2**63,
    10**18,
    "",
    "x",
    "00" * 32,
    0.5,
    1e12,
    True,
    None,
    [],
    {},
    [[[]]],
)
PER_WORLD = 400
"""Mutants that one world gets."""


class Fuzzer:
    """Makes mutants of the messages of a run and feeds them to the codec and to the run's machines."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"fuzz {seed}")
        self.taken = self.refused = self.malformed = 0
        self._renew()

    def strings(self, count: int) -> None:
        """Feed the codec."""
        for _ in range(count):
            text = self._mutated(self.random.choice(self.messages).envelope.yaml)
            try:
                codec.message(Envelope(text, b"\0" * 64))
            except RemoteProtocolError:
                self.malformed += 1

    def messages_to_machines(self, count: int) -> None:
        """Feed the machines."""
        for number in range(count):
            if number % PER_WORLD == PER_WORLD - 1:
                self._renew()
            message = self._mutant()
            if message is None:
                self.malformed += 1
                continue
            party = self.random.choice(self.parties)
            before = fingerprint(party)
            try:
                party.loop.step(message.task, Received(message))
                self.taken += 1
            except RemoteProtocolError:
                self.refused += 1
                assert fingerprint(party) == before, f"{party.name} refused {message} and changed"

    # ----------------------------------------------------------------------------------------------- inside

    def _renew(self) -> None:
        """Another world, stopped in the middle of its course."""
        self.run = Run(
            Scenario(self.random.randrange(10**6), self.random.choice(("calm", "loss", "busy"))), keep=10
        )
        self.messages: list[Message] = []
        self.run.world.signing.append(self.messages.append)
        outcome = self.run.go(20 + self.random.randrange(180))
        assert not outcome.violation, outcome.problem
        self.run.world.signing.clear()  # from here on, mutants are signed with everybody's keys
        self.parties: list[SimulatedParty] = [
            party for party in self.run.world.parties.values() if party.alive
        ]
        self.signers: list[Signer] = [party.signer for party in self.parties] + [
            self.run.world.mint.signer("stranger")
        ]
        self.plain = [msgspec.json.decode(message.envelope.yaml)["body"] for message in self.messages]

    def _mutated(self, text: str) -> str:
        for _ in range(1 + self.random.randrange(3)):
            place = self.random.randrange(len(text) + 1)
            cut = place + self.random.choice((0, 0, 1, 2, 8, 100))
            text = text[:place] + self.random.choice(RUBBISH) + text[cut:]
        return text

    def _mutant(self) -> Message | None:
        number = self.random.randrange(len(self.messages))
        origin, body = self.messages[number], msgspec.json.decode(msgspec.json.encode(self.plain[number]))
        for _ in range(self.random.randrange(3)):
            self._change(body)
        kind = origin.type if self.random.randrange(20) else self.random.choice(list(MESSAGE_TYPES))
        attempt = origin.attempt if self.random.randrange(3) else self.random.randrange(MAX_ATTEMPTS + 1)
        signer = self.random.choice(self.signers)
        if self.random.randrange(2):
            signer = next((one for one in self.signers if one.peer_id == origin.sender), signer)
        try:
            fresh = msgspec.convert(body, MESSAGE_TYPES[kind].body)
            task = self.random.choice(self.messages).task if self.random.randrange(4) == 0 else origin.task
            return signer.sign(fresh, task=task, attempt=attempt, sent=origin.sent + self.random.randrange(3))
        except (msgspec.ValidationError, LocalProtocolError):
            return None

    def _change(self, value: Any) -> None:
        """Put another value somewhere into nested mappings and lists."""
        while isinstance(value, dict | list) and value:
            key = self.random.choice(sorted(value) if isinstance(value, dict) else range(len(value)))
            inner = value[key]
            if not (isinstance(inner, dict | list) and inner and self.random.randrange(3)):
                choice = self.random.randrange(4)
                if choice == 0:
                    value[key] = self.random.choice(VALUES)
                elif choice == 1:
                    value[key] = self._like(inner)
                elif choice == 2 and isinstance(inner, list) and inner:
                    value[key] = inner[::-1]
                elif isinstance(value, list):
                    value.append(inner)
                return
            value = inner

    def _like(self, value: Any) -> Any:
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            return max(0, value + self.random.choice((-1, 1, 1000)))
        if isinstance(value, str) and len(value) > 40:
            return (
                self.random.choice(self.signers).peer_id
                if value.startswith("12D3")
                else "ab" * (len(value) // 2)
            )
        return self.random.choice(VALUES)


def fuzz(inputs: int, seed: int) -> Fuzzer:
    """Feed so many inputs, half of them to the codec; raises what should not be raised."""
    fuzzer = Fuzzer(seed)
    fuzzer.strings(inputs // 2)
    fuzzer.messages_to_machines(inputs - inputs // 2)
    return fuzzer


if __name__ == "__main__":
    total, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    started, chunk, done = time.monotonic(), 20_000, 0
    while done < total:
        result = fuzz(min(chunk, total - done), first + done)
        done += min(chunk, total - done)
        rate = done / (time.monotonic() - started)
        told = f"{result.taken} taken, {result.refused} refused, {result.malformed} malformed"
        sys.stdout.write(f"{done} inputs, {rate:.0f} a second; of the last {chunk}: {told}\n")
