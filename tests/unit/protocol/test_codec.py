from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mlnet.errors import LocalProtocolError, RemoteProtocolError
from mlnet.identity.envelope import Envelope
from mlnet.protocol.wire import codec
from mlnet.protocol.wire.message_types import MAX_BYTES, MESSAGE_TYPES
from mlnet.protocol.wire.messages import (
    Body,
    CancelTask,
    ClusterMembers,
    ClusterReady,
    CommitteeVoting,
    HashVotes,
    InitCluster,
    ModelInfo,
    NewMlTask,
    Peers,
    Redis,
    Resources,
    Signed,
    TrainingCompleted,
)

SENDER = "12D3KooW" + "a" * 44
TASK = "0f" * 32
HEADER: dict[str, Any] = {
    "v": 1,
    "type": "CANCEL_TASK",
    "task": TASK,
    "attempt": 1,
    "from": SENDER,
    "sent": 1700,
}
CANCEL = HEADER | {"body": {"reason": "enough"}}


def written(**changes: Any) -> str:
    """A CANCEL_TASK with other values, by a writer without our checks."""
    return msgspec.json.encode(CANCEL | changes).decode()


def encode(body: Body | dict[str, Any], kind: str = "CANCEL_TASK", **changes: Any) -> str:
    arguments: dict[str, Any] = {"sender": SENDER, "sent": 1700, "task": TASK, "attempt": 1}
    return codec.encode(kind, body=body, **(arguments | changes))


def test_the_string_is_one_line_of_json_with_the_keys_of_the_protocol() -> None:
    text = encode(CancelTask("caf\u00e9\x7f\u2028\n"))

    assert text == (
        f'{{"v":1,"type":"CANCEL_TASK","task":"{TASK}","attempt":1,"from":"{SENDER}","sent":1700,'
        '"body":{"reason":"caf\u00e9\\u007f\\u2028\\n"}}'
    )


@pytest.mark.parametrize("kind", sorted(row.name for row in MESSAGE_TYPES.values() if not row.has_task))
def test_two_types_have_no_task(kind: str) -> None:
    body = {"NEW_ML_TASK": NewMlTask("version: 1", (), 5), "PEERS": Peers(())}[kind]

    text = encode(body, kind)

    assert list(msgspec.json.decode(text)) == ["v", "type", "from", "sent", "body"]
    message = codec.message(Envelope(text, b""))
    assert (message.task, message.attempt) == (Envelope(text, b"").digest if kind == "NEW_ML_TASK" else "", 0)
    with pytest.raises(RemoteProtocolError, match="unknown field"):
        codec.decode(text.replace('"from"', f'"task":"{TASK}","from"'))


def test_a_message_carries_its_header_body_and_envelope() -> None:
    envelope = Envelope(encode(CommitteeVoting(1, 0), "COMMITTEE_VOTING"), b"s" * 64)

    message = codec.message(envelope)

    assert (message.type, message.task, message.attempt) == ("COMMITTEE_VOTING", TASK, 1)
    assert (message.sender, message.sent) == (SENDER, 1700)
    assert message.body == CommitteeVoting(1, 0)
    assert message.envelope is envelope


def test_a_plain_body_is_written_like_its_struct() -> None:
    assert encode({"reason": "enough"}) == encode(CancelTask("enough"))


def test_the_same_values_give_the_same_string() -> None:
    model = ModelInfo("0" * 64, 1, ())
    one = TrainingCompleted("1" * 64, {"MSE": 1.0, "Accuracy": 0.5}, model, {})
    two = TrainingCompleted("1" * 64, {"Accuracy": 0.5, "MSE": 1.0}, model, {})

    assert encode(one, "TRAINING_COMPLETED") == encode(two, "TRAINING_COMPLETED")


def test_hand_written_yaml_is_read() -> None:
    text = f"""
        # cancelled by hand
        type: CANCEL_TASK
        v: 1
        from: {SENDER}
        task: {TASK}
        attempt: 0x1
        sent: 1700
        body: {{reason: 'no'}}
    """

    header, body = codec.decode(text)

    assert (header.sender, header.sent, body) == (SENDER, 1700, CancelTask("no"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"v": 2}, "v"),
        ({"v": True}, "v"),
        ({"v": "1"}, "v"),
        ({"v": 1.0}, "v"),
        ({"type": "NOTHING"}, "unknown type 'NOTHING'"),
        ({"type": 5}, "unknown type 5"),
        ({"type": ["CANCEL_TASK"]}, "unknown type"),
        ({"task": TASK.upper()}, "task"),
        ({"task": TASK[:-1]}, "task"),
        ({"attempt": -1}, "attempt"),
        ({"attempt": 6}, "attempt"),
        ({"attempt": True}, "attempt"),
        ({"from": "0" * 46}, "from"),
        ({"from": "1" * 30}, "from"),
        ({"sent": -1}, "sent"),
        ({"sent": 2**63}, "6[34] bits"),
        ({"sent": 1.5}, "sent"),
        ({"body": []}, "body"),
        ({"body": {}}, "reason"),
        ({"body": {"reason": None}}, "null"),
        ({"body": {"reason": 1}}, "reason"),
        ({"body": {"reason": "x" * 2001}}, "reason"),
        ({"body": {"reason": "x", "more": 1}}, "unknown field `more`"),
        ({"extra": 1}, "unknown field `extra`"),
        ({"body": {"reason": "x", "k" * 129: 1}}, "key is longer"),
        ({"body": {"reason": [[[[[[[]]]]]]]}}, "nested deeper"),
        ({"body": {"reason": list(range(8200))}}, "more than 8192"),
        ({"body": {"reason": 0.1234567}}, "decimal"),
        ({"body": {"reason": 1e-7}}, "decimal"),
        ({"body": {"reason": 1e13}}, "decimal"),
    ],
)
def test_a_wrong_value_is_the_senders_fault(changes: dict[str, Any], reason: str) -> None:
    text = written(**changes)
    # The space is all that it takes for the strict loader to read it.
    for variant in (text, text + " "):
        with pytest.raises(RemoteProtocolError, match=reason):
            codec.decode(variant)


@pytest.mark.parametrize("key", sorted(CANCEL))
def test_every_key_of_the_header_is_needed(key: str) -> None:
    mapping = {name: value for name, value in CANCEL.items() if name != key}
    with pytest.raises(RemoteProtocolError, match="unknown type None" if key == "type" else f"`{key}`"):
        codec.decode(msgspec.json.encode(mapping).decode())


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "1", "[]", "{}", "\ud800", "\x00", "a: *b"),
        *("{" * 100_000, "[" * 1_000_000, '"' * 1000, "9" * 1_000_000),
        *(written()[:-1], written() * 2, written() + "\n---\n", f"&a {written()}", f"!x {written()}"),
        written().replace('"v":1', '"v":1,"v":1'),
        written().replace("1700", "9" * 5000),
        written().replace("1700", ".nan"),
    ],
)
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        codec.decode(text)


def test_a_reason_is_short_and_moves_no_cursor() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        codec.decode(written(body={"reason": "", "\x1b[2J\n" * 16: 1}))
    assert str(caught.value).isprintable()
    with pytest.raises(RemoteProtocolError) as caught:
        codec.decode(written(type="x" * 100_000))
    assert len(str(caught.value)) <= 300


def test_sizes_are_bounded_by_type() -> None:
    most = MESSAGE_TYPES["CANCEL_TASK"].max_bytes
    padded = written() + " " * most
    with pytest.raises(RemoteProtocolError, match="longer than 131072"):
        codec.decode(padded)
    assert codec.decode(padded[:most])[1] == CancelTask("enough")
    with pytest.raises(RemoteProtocolError, match="longer than 1048576"):
        codec.decode(written() + " " * MAX_BYTES)


def test_the_largest_definition_can_be_sent() -> None:
    body = NewMlTask('"' * 65_536, ("a" * 256,) * 16, 0)

    assert codec.decode(encode(body, "NEW_ML_TASK"))[1] == body


def test_64_of_the_largest_answers_fit_into_a_member_list() -> None:
    answer = '"' * MESSAGE_TYPES["INIT_CLUSTER"].max_bytes
    body = ClusterMembers((Signed(answer, "0" * 128),) * 64)

    assert codec.decode(encode(body, "CLUSTER_MEMBERS"))[1] == body
    full = InitCluster(Redis(False, "1" * 64, 0, "r" * 2000), 1, ("/" * 256,) * 16, Resources(2**40, 65536))
    assert encode(full, "INIT_CLUSTER")


@pytest.mark.parametrize(
    ("kind", "body", "changes", "reason"),
    [
        ("NOTHING", {}, {}, "NOTHING cannot be sent: unknown type"),
        ("CANCEL_TASK", CommitteeVoting(1, 0), {}, "CancelTask"),
        ("CANCEL_TASK", {"reasons": "x"}, {}, "unknown field"),
        ("CANCEL_TASK", CancelTask("x" * 2001), {}, "length"),
        ("CANCEL_TASK", CancelTask("\ud800"), {}, "surrogates"),
        ("CANCEL_TASK", CancelTask("x"), {"task": ""}, "task"),
        ("CANCEL_TASK", CancelTask("x"), {"sender": "me"}, "from"),
        ("CANCEL_TASK", CancelTask("x"), {"attempt": 6}, "attempt"),
        ("CANCEL_TASK", CancelTask("x"), {"sent": 2**64}, "63 bits"),
        ("COMMITTEE_VOTING", CommitteeVoting(8, 0), {}, "cycle"),
        ("CLUSTER_READY", ClusterReady((), (), "x", SENDER, TASK), {}, "master"),
        ("HASH_VOTES", HashVotes(TASK, "ballot", (TASK,) * 9), {}, "ranking"),
        (
            "CLUSTER_MEMBERS",
            ClusterMembers((Signed("x" * 65_536, "0" * 128),) * 16),
            {},
            "longer than 1048576",
        ),
    ],
)
def test_what_others_would_refuse_is_not_sent(
    kind: str, body: Body | dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(LocalProtocolError, match=reason):
        encode(body, kind, **changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 2e12])
def test_a_decimal_that_has_no_form_is_not_sent(value: float) -> None:
    body = TrainingCompleted(TASK, {"MSE": value}, ModelInfo(TASK, 1, ()), {})
    with pytest.raises(LocalProtocolError):
        encode(body, "TRAINING_COMPLETED")


def test_a_digest_with_a_line_break_behind_it_is_none() -> None:
    with pytest.raises(LocalProtocolError):
        encode({"digest": "0" * 64 + "\n", "payment": 1, "split": {}}, "REWARDS")
