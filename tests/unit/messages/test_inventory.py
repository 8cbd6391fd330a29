"""Every message that a user may see has a case, or a reason why it has none: see `message_inventory`."""

from __future__ import annotations

import pytest
from support.message_inventory import UNCOVERED, UNREACHED, Message, listed, messages, places, statements

MOST_UNCOVERED = 151
"""How many messages may lack a case; to be lowered with each that gets one, never raised."""
REFRESH = """give it a case in tests/unit/messages, or run:
PYTHONPATH=tests python -m support.message_inventory --write"""


@pytest.fixture(scope="module")
def everything() -> list[Message]:
    return messages()


@pytest.fixture(scope="module")
def covered(everything: list[Message]) -> set[str]:
    return {message.text for message in places(everything, statements())}


def test_every_message_is_accounted_for(everything: list[Message], covered: set[str]) -> None:
    known = covered | set(listed(UNREACHED)) | set(listed(UNCOVERED))
    new = [f"{message.file}: {message.text}" for message in everything if message.text not in known]
    assert not new, REFRESH


def test_the_lists_hold_nothing_else(everything: list[Message], covered: set[str]) -> None:
    present = {message.text for message in everything}
    for path in (UNREACHED, UNCOVERED):
        gone = [text for text in listed(path) if text not in present or text in covered]
        assert not gone, f"{path.name}: {REFRESH}"


def test_the_list_of_what_lacks_a_case_becomes_shorter() -> None:
    assert len(listed(UNCOVERED)) <= MOST_UNCOVERED


def test_each_exception_has_a_reason() -> None:
    assert all(len(reason) > 20 for reason in listed(UNREACHED).values())


def test_no_message_uses_a_metaphor_of_ours(everything: list[Message]) -> None:
    """Words that mean something only to those who have read the code."""
    metaphors = ("shut out", "by way of", "garbage", "what is none", "broke the rules", "in vain")
    assert not [message for message in everything if any(word in message.text for word in metaphors)]
