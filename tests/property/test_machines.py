"""Whatever a peer sends is taken in or refused as its fault, and what is refused changes nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.protocol_world import World
from support.strategies import body_of

from mlnet.errors import RemoteProtocolError
from mlnet.identity.envelope import Envelope
from mlnet.protocol.client.machine import Client
from mlnet.protocol.decisions.cluster import Cluster
from mlnet.protocol.events import Received
from mlnet.protocol.evidence import Evidence
from mlnet.protocol.machine import Machine
from mlnet.protocol.node import Node
from mlnet.protocol.signer import IdentitySigner
from mlnet.protocol.wire.message_types import MESSAGE_TYPES, type_of
from mlnet.protocol.wire.messages import Body

MOMENTS = [1, 9, 10.03, 10.05, 10.1, 10.15, 10.2, 10.3, 11, 13.5, 14]


def snapshot(value: Any) -> Any:
    """All that a machine knows, as plain values."""
    if isinstance(value, Machine | Node | Cluster | Evidence):
        return {
            name: snapshot(part)
            for name, part in vars(value).items()
            if name not in ("signer", "now", "heard")
        }
    if isinstance(value, dict):
        return {key: snapshot(part) for key, part in value.items()}
    if isinstance(value, list | set):
        return [snapshot(part) for part in sorted(value, key=repr)] if isinstance(value, set) else list(value)
    return value


def machine_at(moment: float, which: int) -> tuple[World, str, str]:
    """A world at a moment, a party of it, and the task."""
    world = World(4, "max-committee-size: 2, min-committee-size: 2")
    client = world.submit()
    world.run(moment)
    peer = [client, *world.nodes][which]
    return world, peer, world.client(client).task


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    moment=st.sampled_from(MOMENTS),
    which=st.integers(0, 4),
    sender=st.integers(0, 5),
    attempt=st.integers(0, 5),
    body=st.sampled_from(sorted(MESSAGE_TYPES)).flatmap(body_of),
)
def test_a_well_formed_message_of_anybody_is_taken_in_or_refused_without_a_trace(
    moment: float, which: int, sender: int, attempt: int, body: Body
) -> None:
    world, peer, task = machine_at(moment, which)
    signers = [world.parties[name].signer for name in [*world.clients, *world.nodes]] + [
        world._signer("a stranger")
    ]
    signer: IdentitySigner = signers[sender]
    if not type_of(body).has_task:
        message = signer.sign(body, sent=1)
    else:
        message = signer.sign(body, task=task, attempt=attempt, sent=1)
    party = world.parties[peer].machine
    before = snapshot(party)
    try:
        if isinstance(party, Client):
            party.step(Received(message), world.now)
        else:
            party.step(message.task, Received(message), world.now)
    except RemoteProtocolError:
        assert snapshot(party) == before


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")), st.binary(max_size=64))
def test_any_string_is_a_message_or_its_senders_fault(text: str, signature: bytes) -> None:
    signer = World._signer("anybody")
    try:
        message = signer.verify(Envelope(text, signature))
    except RemoteProtocolError:
        return
    assert signer.verify(message.envelope) == message
