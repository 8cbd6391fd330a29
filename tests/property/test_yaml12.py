"""Any text is read or refused with one error, in bounded depth; what is dumped reads alike everywhere."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from support.strategies import AWKWARD, CHARACTERS

from mlnet.util import yaml12, yaml_writer

LOADERS = [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)]
FRAGMENTS = st.sampled_from(
    [
        *(
            "a: ",
            "b:\n",
            "- ",
            "? ",
            ": ",
            "\n",
            "\n  ",
            "\n\t",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "'",
            '"',
            "|\n",
            ">-\n",
            "#",
        ),
        *("&x ", "*x", "!!str ", "!<", "%YAML 1.2\n", "%TAG ! x\n", "---\n", "...\n", "<<: ", "@", "`"),
        *("1e3", "0x1F", "0o7", ".nan", "-.inf", "null", "~", "yes", "15:00", "9" * 100),
        *("\\", "\\ud800", "\\UFFFFFFFF", "\\x4", "\x85", "\u2028", "\ufeff", "\x00", "\ud800"),
        *("[" * 50, "- " * 50, "{a: " * 50, "k" * 200),
    ]
)
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=[])),
    st.lists(st.one_of(FRAGMENTS, st.text(CHARACTERS, max_size=5)), max_size=40).map("".join),
)
WORDS = st.sampled_from(
    [
        *("yes", "No", "ON", "off", "y", "N", "true", "NULL", "null", "~", "", "<<", "="),
        *("1e3", "1_000", "0b1", "012", "0o7", "0x1f", "+1", "-", ".5", "5.", ".inf", "-.INF", ".NaN"),
        *("15:00", "1:2.5", "2001-12-14", "2001-12-14t21:59:43.10-05:00"),
        *(
            "- a",
            "a: b",
            "a:",
            "a #b",
            "#a",
            " a",
            "a ",
            "---",
            "...",
            "| x",
            "!x",
            "&a",
            "*a",
            "%x",
            "?",
            "x" * 300,
        ),
        *("a\nb", "a\n\n b\n", "\na", "a\n ", "a\n\tb\n", "a:\nb: c\n"),
        *("http://x/y", "mlnet:0a", "/ip4/1.2.3.4/tcp/1", "12D3KooW"),
    ]
)
STRINGS = st.one_of(WORDS, st.text(st.one_of(CHARACTERS, st.sampled_from(AWKWARD)), max_size=20))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), STRINGS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(STRINGS.filter(lambda key: len(key) <= 32), inner, max_size=4),
    ),
    max_leaves=15,
)


@pytest.mark.parametrize("loader", LOADERS)
@given(text=TEXTS)
@settings(max_examples=200)
def test_any_text_is_read_or_refused(loader: Any, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml12, "_Loader", loader)
        with contextlib.suppress(yaml12.YamlError):
            yaml12.load(text)


@given(VALUES)
@settings(max_examples=300)
def test_what_is_dumped_for_people_is_read_alike_everywhere(value: Any) -> None:
    text = yaml_writer.dump_block(value)

    readings = [
        yaml12.load(text, nonfinite=True),
        yaml.safe_load(text),
        yaml.load(text, Loader=yaml.CSafeLoader),
        YAML(typ="safe", pure=True).load(io.StringIO(text)),
    ]

    for reading in readings:
        assert repr(reading) == repr(value), text


@given(VALUES)
def test_dumping_is_the_inverse_of_loading(value: Any) -> None:
    text = yaml_writer.dump_block(value)

    assert yaml_writer.dump_block(yaml12.load(text, nonfinite=True)) == text


@given(STRINGS)
def test_quoted_text_is_read_alike_everywhere(text: str) -> None:
    quoted = yaml12.quote(text)

    assert yaml12.load(quoted) == yaml.safe_load(quoted) == text
    assert YAML(typ="safe", pure=True).load(io.StringIO(quoted)) == text
