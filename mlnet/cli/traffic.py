"""``--show-messages``: each message as block style YAML."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mlnet.protocol.wire.message_types import MESSAGE_TYPES
from mlnet.protocol.wire.messages import VERSION, Message
from mlnet.util import yaml_writer
from mlnet.util.wording import short


def observer(write: Callable[[str], None]) -> Callable[[bool, str, Message], None]:
    """An observer of traffic that writes every message.

    Args:
        write: takes one message, several lines.
    """
    return lambda incoming, peer, message: write(written(incoming, peer, message))


def ignore(incoming: bool, peer: str, message: Message) -> None:
    """An observer that does not look."""


def written(incoming: bool, peer: str, message: Message) -> str:
    """A message for people.

    Args:
        incoming: whether it came or went.
        peer: who carried it, or whom it is for; ``all`` when it is gossip.
        message: it.
    """
    other = peer if peer == "all" else short(peer)
    direction = f"from {other}" if incoming else f"to {other}"
    header: dict[str, object] = {"v": VERSION, "type": message.type}
    if MESSAGE_TYPES[message.type].has_task:
        header |= {"task": message.task, "attempt": message.attempt}
    header |= {"from": message.sender, "sent": message.sent}
    plain = {**header, "body": msgspec.to_builtins(message.body)}
    return f"--- # {direction}\n{yaml_writer.dump_block(plain)}"
