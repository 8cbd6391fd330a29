"""Every message that a user may see has a case, or a reason why it has none: see `message_inventory`."""

from __future__ import annotations

import pytest
from support.message_inventory import UNREACHED, Message, listed, messages, places, statements


@pytest.fixture(scope="module")
def everything() -> list[Message]:
    return messages()


@pytest.fixture(scope="module")
def covered(everything: list[Message]) -> set[str]:
    return {message.text for message in places(everything, statements())}


def test_every_message_has_a_case_or_a_reason(everything: list[Message], covered: set[str]) -> None:
    known = covered | set(listed(UNREACHED))
    assert not [f"{message.file}: {message.text}" for message in everything if message.text not in known]


def test_only_messages_without_a_case_have_a_reason(everything: list[Message], covered: set[str]) -> None:
    """Otherwise: python tests/support/message_inventory.py --write."""
    present = {message.text for message in everything}
    assert not [text for text in listed(UNREACHED) if text not in present or text in covered]


def test_each_exception_has_a_reason() -> None:
    assert all(len(reason) > 20 for reason in listed(UNREACHED).values())


def test_no_message_uses_a_metaphor_of_ours(everything: list[Message]) -> None:
    """Words that mean something only to those who have read the code."""
    metaphors = ("shut out", "by way of", "garbage", "what is none", "broke the rules", "in vain")
    assert not [message for message in everything if any(word in message.text for word in metaphors)]
