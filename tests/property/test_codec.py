"""Whatever arrives is accepted or refused, in one reading; whatever is written reads alike everywhere."""

from __future__ import annotations

import io
import re
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from support.strategies import CHARACTERS, DIGESTS, PEER_IDS, TEXT, body_of

from mlnet.errors import RemoteProtocolError
from mlnet.identity.envelope import Envelope
from mlnet.protocol.wire import codec, fast_codec
from mlnet.protocol.wire.message_types import MAX_BYTES, MESSAGE_TYPES
from mlnet.protocol.wire.messages import Body, ModelInfo, NewMlTask, TrainingCompleted
from mlnet.util import yaml12, yaml_writer

KINDS = st.sampled_from(sorted(MESSAGE_TYPES))
FRAGMENTS = st.sampled_from(
    [
        *("{", "}", "[", "]", ",", ":", "?", '"', "'", "\n", "  ", "\t", "#", "|\n", "- "),
        *(
            "&a ",
            "*a",
            "!!int ",
            "<<: ",
            "--- ",
            "...\n",
            "%YAML 1.1\n",
            '"v":1,',
            '"body":{},',
            "[" * 200,
            "{" * 9,
        ),
        *("null", "~", "1e-6", "1e999", "-0.0", "0.0000001", "9" * 40, ".nan"),
        *("\\ud800", "\\u2028", "\u2028", "\x85", "\ufeff", "\x7f", "\x00", "\ud800"),
    ]
)
ANYTHING = st.one_of(
    st.text(st.characters(exclude_categories=[])),
    st.lists(st.one_of(FRAGMENTS, TEXT), max_size=30).map("".join),
)


@st.composite
def written(draw: st.DrawFn) -> tuple[str, Body, str]:
    """A type, a body, and the string that the codec writes for it."""
    kind = draw(KINDS)
    body = draw(body_of(kind))
    task, attempt = (draw(DIGESTS), draw(st.integers(0, 5))) if MESSAGE_TYPES[kind].has_task else ("", 0)
    sender, sent = draw(PEER_IDS), draw(st.integers(0, 2**53))
    return kind, body, codec.encode(kind, sender=sender, sent=sent, body=body, task=task, attempt=attempt)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A written string, damaged in a few places."""
    _, _, text = draw(written())
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.integers(0, 12)))
        change = draw(st.one_of(FRAGMENTS, CHARACTERS, st.just(""), st.just(text[start:stop] * 2)))
        text = text[:start] + change + text[stop:]
    return text


def exact(value: Any) -> Any:
    """The value in a form whose equality tells 1 from 1.0 and True, and keeps the order of keys."""
    if isinstance(value, dict):
        return [(key, exact(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [exact(item) for item in value]
    return type(value).__name__, repr(value)


def accepted_or_refused(text: str) -> None:
    try:
        header, body = codec.decode(text)
    except RemoteProtocolError as error:
        reason = str(error)
    else:
        assert type(body) is MESSAGE_TYPES[header.type].body
        assert codec.message(Envelope(text, b"")).body == body
        return
    assert reason.isprintable()
    assert 0 < len(reason) <= 300


def long_way(text: str) -> tuple[codec.Header, Body]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_codec, "read", lambda text: None)
        patch.setattr(fast_codec, "write", lambda kind, **values: None)
        return codec.decode(text)


def one_reading(text: str) -> None:
    """What the fast reader is believed, the strict loader reads in the same way, and the long way in full."""
    if fast_codec.read(text) is not None:
        assert codec.decode(text) == long_way(text)
    try:
        fast = codec._read_fast(text)
        if fast is None:
            return
        codec._check_values(fast)
    except (UnicodeEncodeError, codec._Malformed):  # decode() refuses surrogates before it asks a reader
        return
    assert exact(fast) == exact(codec._read_strict(text))


@given(ANYTHING)
def test_any_text_is_accepted_or_refused(text: str) -> None:
    accepted_or_refused(text)
    one_reading(text)


@given(mutated())
@settings(max_examples=300)
def test_a_damaged_message_is_accepted_or_refused(text: str) -> None:
    accepted_or_refused(text)
    one_reading(text)


@given(st.binary(max_size=400))
def test_any_bytes_are_accepted_or_refused(data: bytes) -> None:
    accepted_or_refused(data.decode(errors="surrogateescape"))
    accepted_or_refused(data.decode("latin-1"))


@given(written())
@settings(max_examples=300)
def test_what_is_written_is_read_again_by_both_readers(case: tuple[str, Body, str]) -> None:
    kind, body, text = case

    header, decoded = codec.decode(text)

    assert (header.type, decoded) == (kind, body)
    assert codec._read_fast(text) is not None or "0.00000" in text
    assert exact(codec._read_strict(text)) == exact(msgspec.json.decode(text))


@given(written())
@settings(max_examples=200)
def test_both_ways_write_and_read_alike(case: tuple[str, Body, str]) -> None:
    kind, body, text = case
    header, decoded = codec.decode(text)
    assert (header, decoded) == long_way(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_codec, "write", lambda kind, **values: None)
        values = {name: getattr(header, name) for name in ("sender", "sent", "task", "attempt")}
        assert codec.encode(kind, body=body, **values) == text


def test_all_types_but_those_with_decimals_go_the_short_way() -> None:
    assert set(MESSAGE_TYPES) - set(fast_codec._FORMS) == {"TRAINING_COMPLETED"}


@given(written())
def test_the_same_message_in_block_style_is_the_same_message(case: tuple[str, Body, str]) -> None:
    _, body, text = case

    by_hand = yaml_writer.dump_block(msgspec.json.decode(text))

    if len(by_hand.encode()) <= MESSAGE_TYPES[case[0]].max_bytes:
        assert codec.decode(by_hand)[1] == body


@given(written())
@settings(max_examples=150)
def test_other_parsers_read_what_is_written_alike(case: tuple[str, Body, str]) -> None:
    _, _, text = case
    expected = exact(yaml12.load(text, max_bytes=MAX_BYTES))

    assert exact(yaml.safe_load(text)) == expected
    assert exact(yaml.load(text, Loader=yaml.CSafeLoader)) == expected
    assert exact(YAML(typ="safe", pure=True).load(io.StringIO(text))) == expected


@given(st.one_of(st.floats(-1e12, 1e12), st.floats(-1e-3, 1e-3)))
@settings(max_examples=300)
def test_decimals_are_rounded_to_six_places_and_have_no_exponent(value: float) -> None:
    body = TrainingCompleted("0" * 64, {"Loss": value}, ModelInfo("1" * 64, 1, ()), {})

    text = codec.encode("TRAINING_COMPLETED", sender="1" * 46, sent=1, body=body, task="2" * 64)

    decimal = re.search(r'"Loss":(-?\d+\.\d{1,6})}', text)
    assert decimal is not None
    assert float(decimal[1]) == round(value, 6)
    assert codec.decode(text)[1] == msgspec.structs.replace(body, metrics={"Loss": round(value, 6)})


@pytest.mark.parametrize("block", [range(0xD800), range(0xE000, 0x10000), range(0x1FF00, 0x20100)])
def test_every_character_crosses_unchanged(block: range) -> None:
    for start in range(block.start, block.stop, 0x4000):
        definition = "".join(map(chr, range(start, min(start + 0x4000, block.stop))))
        body = NewMlTask(definition, (), 0)

        text = codec.encode("NEW_ML_TASK", sender="1" * 46, sent=1, body=body)

        assert codec.decode(text)[1] == body
        assert codec._read_strict(text)["body"]["definition"] == definition
        for value in (
            yaml.safe_load(text),
            yaml.load(text, Loader=yaml.CSafeLoader),
            YAML(typ="safe", pure=True).load(io.StringIO(text)),
        ):
            assert value["body"]["definition"] == definition


@given(written(), st.integers(0, 2**31))
def test_a_key_that_stands_twice_is_refused(case: tuple[str, Body, str], place: int) -> None:
    _, _, text = case
    keys = list(msgspec.json.decode(text))
    repeated = text[:-1] + f',"{keys[place % len(keys)]}":1' + "}"

    with pytest.raises(RemoteProtocolError, match="appears twice"):
        codec.decode(repeated)
