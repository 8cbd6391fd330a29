from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from mlnet.util import yaml12
from mlnet.util.yaml12 import YamlError, load
from mlnet.util.yaml_writer import dump_block


@pytest.fixture(params=["compiled", "pure"], autouse=True)
def _parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = yaml.SafeLoader if request.param == "pure" else yaml.CSafeLoader
    monkeypatch.setattr(yaml12, "_Loader", loader)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.5E+2", 150.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-0.0", -0.0),
        ("12", 12),
        ("+12", 12),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775807", 2**63 - 1),
        ("-0x1", "-0x1"),
        ("0b1", "0b1"),
        ("1_000", "1_000"),
        ("15:00", "15:00"),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("y", "y"),
        ("2001-12-14", "2001-12-14"),
        ("=", "="),
        ("True", True),
        ("FALSE", False),
        ("tRue", "tRue"),
        ("~", None),
        ("null", None),
        ("---\n", None),
        ("'1'", "1"),
        ('"true"', "true"),
        ('"\\u2028\\/\\x41"', "\u2028/A"),
        ("|\n 1\n", "1\n"),
        ("%YAML 1.2\n---\n1\n...\n", 1),
        ("# why\nno: {on: [off, 1e3]}", {"no": {"on": ["off", 1000.0]}}),
        ("'1': x\n\"<<\": y", {"1": "x", "<<": "y"}),
        ("a:\r\n- 1\r\n-\r\n", {"a": [1, None]}),
    ],
)
def test_values_follow_the_core_schema(text: str, value: object) -> None:
    loaded = load(text)

    assert repr(loaded) == repr(value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the text is empty"),
        ("# only\n", "the text is empty"),
        ("a: &x 1", "line 1, column 4: anchors"),
        ("a: *x", "line 1, column 4: aliases"),
        ("a: !!int 1", "line 1, column 4: tags"),
        ("a: ! 1", "tags"),
        ("!!python/object/apply:os.system [ls]", "tags"),
        ("<<: {a: 1}", "merge keys"),
        ("a: 1\na: 2", 'line 2, column 1: the key "a" appears twice'),
        ("x: {a: 1, 'a': 2}", "appears twice"),
        ("a\n---\nb", "line 2, column 1: a second document"),
        ("%YAML 1.1\n---\na", "directives"),
        ("%TAG ! tag:x,2000:\n---\na", "directives"),
        ("1: a", "the key 1 is not text"),
        ("true: a", "the key true is not text"),
        ("? \n: a", "the key here is not text"),
        ("? [a]\n: b", "a key must be text"),
        ("{{a: b}: c}", "a key must be text"),
        ("k" * 129 + ": 1", "a key is longer than 128 bytes"),
        ("\u00e9" * 65 + ": 1", "a key is longer than 128 bytes"),
        ("9223372036854775808", "does not fit 64 bits"),
        ("9" * 65, "longer than 64 characters"),
        ("1e999", "out of range"),
        (".nan", "not a number that is accepted"),
        ("a: [-.INF]", "not a number that is accepted"),
        (
            "a: \u2028b",
            'line 1, column 4: the character U+2028 may not stand in YAML as it is: write "\\u2028"',
        ),
        ("a: b\nc: \x85", "line 2, column 4: the character U+0085"),
        ("\ufeffa", "U+FEFF"),
        ("\x00", "U+0000"),
        ("\ud800", "U+D800"),
        ('"\\ud83d\\ude00"', "line 1"),
        ('"\\UFFFFFFFF"', ""),
        ("a: [1", "line"),
        ("a: b: c", "line 1, column 5"),
        ("\tb: 1\n a", "line"),
        ("x" * 65_537, "longer than 65536 bytes"),
        ("\u00e9" * 40_000, "longer than 65536 bytes"),
    ],
)
def test_what_is_refused(text: str, problem: str) -> None:
    with pytest.raises(YamlError) as caught:
        load(text)
    assert problem in str(caught.value)


def test_nesting_is_bounded_before_it_is_followed() -> None:
    assert load("[" * 16 + "]" * 16) is not None
    for text in ("[" * 17 + "]" * 17, "[" * 60_000, "{a: " * 15_000, "- " * 30_000, "? " * 30_000):
        with pytest.raises(YamlError):
            load(text)
    with pytest.raises(YamlError, match="nested deeper than 2 levels"):
        load("[[[]]]", max_depth=2)


def test_keys_and_values_are_counted() -> None:
    assert load("{a: [1, 2]}", max_items=5) == {"a": [1, 2]}
    with pytest.raises(YamlError, match="more than 4 keys and values"):
        load("{a: [1, 2]}", max_items=4)


def test_an_alias_bomb_costs_nothing() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(YamlError, match="anchors"):
        load(bomb)


def test_numbers_that_are_not_finite_are_read_on_request() -> None:
    loaded: Any = load("[.nan, .inf, -.Inf]", nonfinite=True)

    assert math.isnan(loaded[0])
    assert loaded[1:] == [math.inf, -math.inf]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a: {b: [1, {c: .nan}]}", "a.b[1].c"),
        ("a:\n- 1\n- [2, .inf]", "a[1][1]"),
        ("a: 1\nb: *c", "b"),
        ("a: {b: 1, b: 2}", "a"),
        (".nan", ""),
    ],
)
def test_an_error_knows_its_path(text: str, path: str) -> None:
    with pytest.raises(YamlError) as caught:
        load(text)
    assert caught.value.path == path
    assert caught.value.line > 0


def test_block_style_is_for_people() -> None:
    value = {
        "type": "INIT_CLUSTER",
        "addresses": ["/ip4/10.0.0.1/tcp/4001", "yes", "12D3"],
        "open": True,
        "accuracy": 1e-7,
        "nested": [[1, []], {"x": None, "y": {}}],
        "definition": "version: 1\n\nml: no\n",
    }

    assert dump_block(value) == (
        "type: INIT_CLUSTER\n"
        "addresses:\n"
        "  - /ip4/10.0.0.1/tcp/4001\n"
        '  - "yes"\n'
        '  - "12D3"\n'
        "open: true\n"
        "accuracy: 1.0e-07\n"
        "nested:\n"
        "  - - 1\n"
        "    - []\n"
        "  - x: null\n"
        '    "y": {}\n'
        "definition: |\n"
        "  version: 1\n"
        "\n"
        "  ml: no\n"
    )
    assert load(dump_block(value)) == value


@pytest.mark.parametrize(
    "value", [{"a": object()}, {1: "a"}, {"k" * 129: 1}, "\ud800", b"x", {"a": {"\udfff": 1}}]
)
def test_what_yaml_has_no_form_for_is_not_dumped(value: object) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        dump_block(value)


def test_dumping_is_bounded_in_depth() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="nested deeper"):
        dump_block(loop)
