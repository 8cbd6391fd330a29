"""The table of messages and what is said of it: the protocol's documentation, the network's limit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.protocol_world import World, said_by
from support.transcripts import messages

from mlnet.net.types import MAX_ENVELOPE_BYTES
from mlnet.protocol.wire.message_types import MAX_BYTES, MESSAGE_TYPES, MessageType, Role, is_gossiped
from mlnet.protocol.wire.messages import Body

README = Path(__file__).parents[3] / "proto" / "README.md"
COLUMNS = ("type", "from", "to", "gossip", "at most")
ROLES = {
    Role.CLIENT: "client",
    Role.NODE: "any node",
    Role.MEMBER: "member",
    Role.COMMITTEE: "committee member",
    Role.PEER: "peer",
}


def cells(row: MessageType) -> tuple[str, ...]:
    """What the documentation must say of a type, column by column."""
    senders, receivers = (
        ", ".join(name for role, name in ROLES.items() if role in roles)
        for roles in (row.senders, row.receivers)
    )
    return row.name, senders, receivers, row.gossip.value, f"{row.max_bytes >> 10} KiB"


def documented() -> dict[str, list[str]]:
    lines = README.read_text().split("## Messages", 1)[1].split("\n## ", 1)[0].splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    assert [cell.strip() for cell in rows[0]] == [*COLUMNS, "body"]
    return {row[0].strip(): [cell.strip() for cell in row] for row in rows[2:]}


def test_the_documentation_has_every_type_and_no_other_in_the_order_of_the_table() -> None:
    assert list(documented()) == list(MESSAGE_TYPES)


@pytest.mark.parametrize("row", MESSAGE_TYPES.values(), ids=lambda row: row.name)
def test_the_documentation_says_of_a_type_what_the_table_says(row: MessageType) -> None:
    assert documented()[row.name][: len(COLUMNS)] == list(cells(row))


@pytest.mark.parametrize("row", MESSAGE_TYPES.values(), ids=lambda row: row.name)
def test_the_documentation_names_every_key_of_a_body(row: MessageType) -> None:
    named = re.findall(r"`(\w+)`", documented()[row.name][-1])
    assert [key for key in row.body.__struct_encode_fields__ if key not in named] == []


def test_the_network_carries_the_largest_message_and_nothing_larger() -> None:
    assert max(row.max_bytes for row in MESSAGE_TYPES.values()) == MAX_BYTES == MAX_ENVELOPE_BYTES


def test_every_body_has_one_type() -> None:
    nested = {"Signed", "Redis", "Resources", "ModelInfo", "PeerAddresses"}
    bodies = {body for body in Body.__subclasses__() if body.__name__ not in nested}
    assert sorted(body.__name__ for body in bodies) == sorted(
        row.body.__name__ for row in MESSAGE_TYPES.values()
    )


def test_gossip_passes_on_what_its_row_allows_and_of_the_lists_of_members_the_one_without_names() -> None:
    world = World(2)
    world.submit()
    world.run()
    said = messages(world)
    assert {one.type for one in said if is_gossiped(one)} == {
        "NEW_ML_TASK",
        "INIT_CLUSTER",
        "CLUSTER_MEMBERS",
    }
    lists = [one for one in said if one.type == "CLUSTER_MEMBERS"]
    assert [(one.attempt, is_gossiped(one)) for one in lists] == [(0, True), (1, False)]
    assert not is_gossiped(said_by(world, world.clients[0], lists[1].body, attempt=0))
    assert not is_gossiped(said_by(world, world.clients[0], lists[0].body, attempt=1))
