"""Strict reading of YAML by the 1.2 core schema. :mod:`mlnet.util.yaml_writer` writes it for people.

PyYAML reads YAML 1.1: to it ``1e-3`` is text, ``no`` is false and ``15:00`` is 900. Only its parser is used
here, which turns text into a flat stream of events; values are made from those by the core schema of YAML 1.2
(chapter 10.3). Whatever would let two parsers read one text differently, or a small text grow large, is
refused: anchors, aliases, tags, merge keys, duplicate keys, several documents, keys that are not strings, raw
characters that only YAML 1.1 takes for line breaks. Nesting is bounded while the events arrive, so no text
can exhaust the stack.
"""

from __future__ import annotations

import json
import math
import re
from typing import TypeAlias

import yaml

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"
"""The value of a document."""

MAX_BYTES = 65_536
"""Default bound of a document's UTF-8 form. Callers with other needs give their own."""
MAX_DEPTH = 16
"""Default bound of nesting. Python code that walks a value may recurse without a check of its own."""
MAX_ITEMS = 16_384
"""Default bound of keys and values: they take far more memory than their text ("[0,0,0,...")."""
MAX_KEY_BYTES = 128
"""A parser must find the colon of a key within 1,024 characters: 128 bytes fit even if each is an escape."""
MAX_NUMBER = 64
"""Characters of a number. A 64-bit integer takes 20, a float's shortest exact form 24."""

# The C parser where PyYAML has it: six times as fast as the pure one.
_Loader: type[yaml.SafeLoader | yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

UNREADABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
"""Any but YAML's printable characters without the breaks NEL, LS and PS of YAML 1.1 and a byte order mark."""
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
# YAML 1.2.2, 10.3.2: the tags of the core schema, as regular expressions.
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NONFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


class YamlError(ValueError):
    """The text is not YAML, or YAML beyond what is accepted.

    Attributes:
        problem: what is wrong, with a remedy where there is one.
        line: where, from 1; 0 when it concerns the whole text.
        column: where in the line, from 1.
        path: keys and list indices that lead there, such as ``ml.model.hidden-units[2].nodes``; may be empty.
        opened: the line where what is broken here began, such as a quote that is never closed; 0 if unknown.
    """

    def __init__(
        self, problem: str, line: int = 0, column: int = 0, path: str = "", *, opened: int = 0
    ) -> None:
        self.problem, self.line, self.column, self.path = problem, line, column, path
        self.opened = opened
        where = f"line {line}, column {column}: " if line else ""
        super().__init__(where + problem)


def load(
    text: str,
    *,
    max_bytes: int = MAX_BYTES,
    max_depth: int = MAX_DEPTH,
    max_items: int = MAX_ITEMS,
    max_key_bytes: int = MAX_KEY_BYTES,
    nonfinite: bool = False,
) -> Value:
    """Read one YAML document.

    Example:
        >>> load("rate: 1e-3\\nshuffle: no\\nat: 15:00")
        {'rate': 0.001, 'shuffle': 'no', 'at': '15:00'}

    Args:
        text: the document.
        max_bytes: bound of its UTF-8 form.
        max_depth: bound of nested lists and mappings; the outermost is 1.
        max_items: bound of scalars (keys included), lists and mappings together.
        max_key_bytes: bound of the UTF-8 form of a key.
        nonfinite: return ``.inf`` and ``.nan`` as floats, instead of refusing them.

    Raises:
        YamlError: for every text that is not accepted.
    """
    check_text(text, max_bytes)
    builder = Builder(max_depth, max_items, max_key_bytes, nonfinite)
    feed(text, builder)
    return builder.result()


def feed(text: str, builder: Builder) -> None:
    """Pass the events of a text to a builder. Raises :class:`YamlError` for every error of the parser."""
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.feed(event)
    except YamlError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        opened = error.context_mark.line + 1 if error.context_mark else 0
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise YamlError(problem, line, column, opened=opened) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML's pure parser passes on what chr() and int() say of an escape that is out of range.
        raise YamlError(f"not readable as YAML: {error}") from None


def check_text(text: str, max_bytes: int) -> None:
    """Raise :class:`YamlError` for a text that is too long or holds characters that YAML does not allow."""
    if len(text) > max_bytes:
        raise YamlError(f"the text is longer than {max_bytes} bytes")
    # Before the parser sees it: parsers fold or refuse these characters differently.
    if found := UNREADABLE.search(text):
        before = text[: found.start()]
        line = before.count("\n") + 1
        column = found.start() - before.rfind("\n")
        code = ord(found[0])
        remedy = "it cannot be used" if 0xD800 <= code < 0xE000 else f'write "\\u{code:04x}" in double quotes'
        raise YamlError(f"the character U+{code:04X} may not stand in YAML as it is: {remedy}", line, column)
    # After the search above, since a surrogate cannot be encoded.
    if len(text.encode()) > max_bytes:
        raise YamlError(f"the text is longer than {max_bytes} bytes")


class _Frame:
    """A list or mapping that is still open; of a mapping, its last key and whether that waits for a value."""

    __slots__ = ("container", "key", "waits")

    def __init__(self, container: list[Value] | dict[str, Value]) -> None:
        self.container = container
        self.key = ""
        self.waits = False

    @property
    def expects_key(self) -> bool:
        return isinstance(self.container, dict) and not self.waits


class Builder:
    """Makes the value of one document from its events, with a stack of its own.

    An error ends the reading, unless a subclass continues (:mod:`mlnet.util.yaml_survey`).
    """

    def __init__(self, max_depth: int, max_items: int, max_key_bytes: int, nonfinite: bool) -> None:
        self._max_depth, self._max_items, self._max_key_bytes = max_depth, max_items, max_key_bytes
        self._nonfinite = nonfinite
        self._stack: list[_Frame] = []
        self._items = 0
        self._documents = 0
        self._root: Value = None

    def result(self) -> Value:
        """The value, after the last event."""
        if not self._documents:
            raise YamlError("the text is empty")
        return self._root

    def feed(self, event: yaml.Event) -> None:
        """Take the next event."""
        if isinstance(event, yaml.ScalarEvent):
            self._node(event)
            self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent):
            self._node(event)
            self._open({}, event)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._node(event)
            self._open([], event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._stack.pop()
        elif isinstance(event, yaml.DocumentStartEvent):
            self._document(event)
        elif isinstance(event, yaml.AliasEvent):
            self._refuse(event, "aliases (*name) are not accepted: write the value out, or put it in quotes")
            self._alias()

    def _document(self, event: yaml.DocumentStartEvent) -> None:
        self._documents += 1
        if self._documents > 1:
            raise self._error(event, "a second document begins here: one is accepted")
        if event.tags or (event.version and tuple(event.version) != (1, 2)):
            self._refuse(event, "directives are not accepted, except %YAML 1.2")

    def _node(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.anchor is not None:
            self._refuse(event, "anchors (&name) are not accepted: write the value out")
        if event.tag is not None:
            self._refuse(event, "tags (!name) are not accepted")
        self._items += 1
        if self._items > self._max_items:
            raise self._error(event, f"more than {self._max_items} keys and values")

    def _open(self, container: list[Value] | dict[str, Value], event: yaml.Event) -> None:
        if len(self._stack) >= self._max_depth:
            raise self._error(event, f"nested deeper than {self._max_depth} levels")
        top = self._stack[-1] if self._stack else None
        if top is not None and top.expects_key:
            raise self._error(event, "a key must be text, not a list or a mapping")
        self._put(container)
        self._stack.append(_Frame(container))

    def _put(self, value: Value) -> None:
        if not self._stack:
            self._root = value
            return
        top = self._stack[-1]
        if isinstance(top.container, list):
            top.container.append(value)
        else:  # its key waits: the parser gives keys and values in turn
            top.container[top.key] = value
            top.waits = False

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        top = self._stack[-1] if self._stack else None
        plain = event.implicit[0]
        text: str = event.value
        if not text.isascii() and any("\ud800" <= character < "\ue000" for character in text):
            self._refuse(event, "half of a surrogate pair (\\ud800 to \\udfff) is not a character")
        if top is not None and top.expects_key:
            self._check_key(text, plain, event)
            if text in top.container:
                text = self._duplicate(event, text)
            top.key, top.waits = text, True
        else:
            self._put(self._resolve(text, event) if plain else text)

    def _check_key(self, text: str, plain: bool, event: yaml.Event) -> None:
        if len(text.encode()) > self._max_key_bytes:
            self._refuse(event, f"a key is longer than {self._max_key_bytes} bytes")
        if plain and text == "<<":
            self._refuse(event, "merge keys (<<) are not accepted: write the keys out")
        if plain and not isinstance(self._resolve(text, event), str):
            self._refuse(event, f"the key {text or 'here'} is not text: put it in quotes")

    def _resolve(self, text: str, event: yaml.Event) -> Value:
        """The value of a plain scalar by the core schema: null, bool, int, float, else str."""
        if text in _WORDS:
            return _WORDS[text]
        # Most plain scalars are words: this saves three regular expressions for each.
        if text[0] not in "+-.0123456789":
            return text
        if _INTEGER.fullmatch(text):
            return self._integer(text, event)
        if _FLOAT.fullmatch(text):
            return self._float(text, event)
        if _NONFINITE.fullmatch(text):
            if not self._nonfinite:
                raise self._error(event, f"{text} is not a number that is accepted here")
            return float(text.replace(".", ""))
        return text

    def _integer(self, text: str, event: yaml.Event) -> int:
        self._check_length(text, event)
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        value = int(text[2:] if base != 10 else text, base)
        # Other implementations keep integers in 64 bits.
        if not -(2**63) <= value < 2**63:
            raise self._error(event, f"the number {text} does not fit 64 bits")
        return value

    def _float(self, text: str, event: yaml.Event) -> float:
        self._check_length(text, event)
        value = float(text)
        if math.isinf(value):
            raise self._error(event, f"the number {text} is out of range")
        return value

    def _check_length(self, text: str, event: yaml.Event) -> None:
        if len(text) > MAX_NUMBER:
            raise self._error(
                event, f"a number longer than {MAX_NUMBER} characters: put it in quotes if it is text"
            )

    def _alias(self) -> None:
        """An alias in the place of a value. Only a surveyor gets here; for others the refusal has ended the
        reading."""

    def _duplicate(self, event: yaml.Event, text: str) -> str:
        raise self._error(event, f"the key {quote(text)} appears twice")

    def _refuse(self, event: yaml.Event, problem: str) -> None:
        """Refuse an event. A surveyor only notes it; here it ends the reading."""
        raise self._error(event, problem)

    def _error(self, event: yaml.Event, problem: str) -> YamlError:
        mark = event.start_mark
        return YamlError(problem, mark.line + 1 if mark else 0, mark.column + 1 if mark else 0, self._path())

    def _path(self) -> str:
        path = ""
        for frame in self._stack:
            inner = frame is not self._stack[-1]
            if isinstance(frame.container, list):
                path += f"[{len(frame.container) - inner}]"
            elif inner or frame.waits:
                key = frame.key if frame.key.isprintable() else quote(frame.key)
                path += f".{key}" if path else key
        return path


# Raw NEL, LS and PS are line breaks to YAML 1.1; parsers refuse DEL, C1 controls and non-characters.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufdd0-\ufdef\ufeff\ufffe\uffff]")


def escape(quoted: str) -> str:
    """Escape in JSON text what YAML parsers refuse or fold, or people cannot see.

    These are DEL, the C1 controls with NEL, LS, PS, the byte order mark and the non-characters up to U+FFFF,
    all of which stand only inside of strings. Non-characters beyond that stay: a YAML parser refuses the
    surrogate pairs that JSON needs for them, and reads them as they are.
    """
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)


def quote(text: str) -> str:
    """The text in double quotes, readable as JSON and as YAML 1.1 and 1.2. ValueError for a surrogate."""
    text.encode()
    return escape(json.dumps(text, ensure_ascii=False))
