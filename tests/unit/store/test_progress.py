"""The entries of a progress log, whose server may be hostile."""

from __future__ import annotations

import msgspec
import pytest

from mlnet.errors import StoreError
from mlnet.store import Progress, progress, resp

STREAM = b"mlnet:t:1:progress"
GOOD = Progress(1, 3, 10, 30, 0.5, 0.9, 2)


def reply(number: bytes = b"5-0", data: bytes = msgspec.json.encode(GOOD), field: bytes = b"p") -> resp.Reply:
    return [[STREAM, [[number, [field, data]]]]]


def parse(answer: resp.Reply, last: bytes = b"0-0") -> list[tuple[bytes, Progress]]:
    return progress._parse(answer, STREAM, last)


def test_an_entry_comes_back_as_it_was_written() -> None:
    assert parse(reply()) == [(b"5-0", GOOD)]
    assert GOOD.as_dict() == {
        "epoch": 1,
        "epochs": 3,
        "step": 10,
        "steps": 30,
        "loss": 0.5,
        "accuracy": 0.9,
        "rank": 2,
    }


def test_nothing_new_is_no_entry() -> None:
    assert parse(None) == []


def test_a_loss_that_is_no_number_is_written_as_none() -> None:
    lost = Progress(1, 1, 1, 1, float("nan"), None, 0)
    assert parse(reply(data=msgspec.json.encode(lost)))[0][1].loss is None


def damaged(**changes: object) -> bytes:
    return msgspec.json.encode(GOOD.as_dict() | changes)


@pytest.mark.parametrize(
    "answer",
    [
        b"OK",
        [],
        [[b"other", [[b"5-0", [b"p", b"{}"]]]]],
        [[STREAM, []]],
        [[STREAM, [[b"5-0", [b"p", msgspec.json.encode(GOOD)]]] * 65]],
        reply(field=b"q"),
        reply(number=b"5"),
        reply(number=b"x-1"),
        reply(number=b"9" * 50 + b"-1"),
        reply(data=b"\xff"),
        reply(data=b"[" * 100_000),
        reply(data=damaged(epoch=-1)),
        reply(data=damaged(step="1")),
        reply(data=damaged(step=1.5)),
        reply(data=damaged(rank=1 << 60)),
        reply(data=damaged(accuracy=1.1)),
        reply(data=damaged(loss="low")),
    ],
    ids=lambda answer: repr(answer)[:40],
)
def test_anything_else_is_a_store_error(answer: resp.Reply) -> None:
    with pytest.raises(StoreError, match="malformed"):
        parse(answer)


def test_entries_that_do_not_move_forward_are_refused() -> None:
    with pytest.raises(StoreError, match="malformed"):
        parse(reply(number=b"5-0"), last=b"5-0")
