"""Reads YAML for a person who corrects it: all errors at once, and the position of every entry."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import yaml

from mlnet.util.yaml12 import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_KEY_BYTES,
    Builder,
    Value,
    YamlError,
    check_text,
    feed,
    quote,
)


@dataclass(slots=True)
class Span:
    """The position of an entry of a list or mapping in the text; offsets count characters from 0.

    Attributes:
        line: of its key, or of the value if it has none, from 1.
        column: the same, from 1.
        key: start and end of its key; None for an item of a list.
        start: of its value.
        end: of its value, without what follows a block on later lines.
        flow: whether the list or mapping that holds it is written in brackets.
        style: of a scalar value: ``""`` if it is plain, else its quote or block indicator; else None.
    """

    line: int
    column: int
    key: tuple[int, int] | None
    start: int
    end: int
    flow: bool
    style: str | None = None


@dataclass(slots=True)
class Survey:
    """A document's value, and everything in it that :func:`load` would refuse.

    Attributes:
        value: as :func:`load` would return it. Refused entries are left out or None; of duplicate keys the
            first one counts.
        spans: positions by the path of the entry.
        errors: all refusals, in the order of the text.
        repeated: paths of duplicate keys that have the same value each time.
    """

    value: Value
    spans: dict[str, Span]
    errors: list[YamlError]
    repeated: dict[str, Span]


def survey(
    text: str, *, max_bytes: int = MAX_BYTES, max_items: int = MAX_ITEMS, max_errors: int = 100
) -> Survey:
    """Read one document like :func:`load` with ``nonfinite``, but go on after what it would refuse, and note
    positions.

    Raises:
        YamlError: the text is not YAML, so that the rest cannot be read; or a bound is exceeded.
    """
    check_text(text, max_bytes)
    surveyor = _Surveyor(MAX_DEPTH, max_items, MAX_KEY_BYTES, nonfinite=True)
    surveyor.max_errors = max_errors
    feed(text, surveyor)
    return surveyor.survey()


def _index(mark: Any) -> int:
    return int(mark.index) if mark else 0


class _Surveyor(Builder):
    """A builder that notes positions, and goes on after an error."""

    max_errors = 100

    def __init__(self, max_depth: int, max_items: int, max_key_bytes: int, nonfinite: bool) -> None:
        super().__init__(max_depth, max_items, max_key_bytes, nonfinite)
        self._errors: list[YamlError] = []
        self._spans: dict[str, Span] = {}
        self._open_spans: list[Span] = []
        self._flows: list[bool] = []
        self._key: yaml.ScalarEvent | None = None
        self._duplicates: list[tuple[dict[str, Value], str, str, str, YamlError]] = []

    def survey(self) -> Survey:
        value = self.result()
        repeated: dict[str, Span] = {}
        for container, name, other, path, error in self._duplicates:
            again = container.pop(other, None)
            where = self._spans.get(path)
            same = json.dumps(again) == json.dumps(container[name])
            first = self._spans.get(path[: -len(other)] + name)
            error.problem = f"the key {quote(name)} appears twice, first on line {first.line if first else 0}"
            if same and where is not None:
                error.problem += ", with the same value"
                error.path = path
                repeated[path] = where
        return Survey(value, self._spans, self._errors, repeated)

    def feed(self, event: yaml.Event) -> None:
        top = self._stack[-1] if self._stack else None
        keyed = top is not None and top.expects_key
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent | yaml.AliasEvent):
            if keyed and isinstance(event, yaml.ScalarEvent):
                super().feed(event)
                self._key = event
                return
            self._begin(event)
        super().feed(event)
        if isinstance(event, yaml.CollectionStartEvent):
            self._flows.append(bool(event.flow_style))
        elif isinstance(event, yaml.CollectionEndEvent):
            flow, span = self._flows.pop(), self._open_spans.pop()
            if flow:
                span.end = _index(event.end_mark)
            if self._open_spans:
                self._open_spans[-1].end = max(self._open_spans[-1].end, span.end)

    def _begin(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent | yaml.AliasEvent) -> None:
        key, self._key = self._key, None
        mark = key.start_mark if key else event.start_mark
        scalar = isinstance(event, yaml.ScalarEvent)
        span = Span(
            mark.line + 1 if mark else 0,
            mark.column + 1 if mark else 0,
            (_index(key.start_mark), _index(key.end_mark)) if key else None,
            _index(event.start_mark),
            _index(event.end_mark)
            if scalar or isinstance(event, yaml.AliasEvent)
            else _index(event.start_mark),
            self._flows[-1] if self._flows else False,
            (event.style or "") if isinstance(event, yaml.ScalarEvent) else None,
        )
        self._spans.setdefault(self._path(), span)
        if isinstance(event, yaml.CollectionStartEvent):
            self._open_spans.append(span)
        elif self._open_spans:
            self._open_spans[-1].end = max(self._open_spans[-1].end, span.end)

    def _alias(self) -> None:
        top = self._stack[-1] if self._stack else None
        if top is not None and top.expects_key:
            top.key, top.waits = "*", True
        else:
            self._put(None)

    def _duplicate(self, event: yaml.Event, text: str) -> str:
        # The second entry is kept under another name for a while, so that its value can be compared with the
        # first.
        container = self._stack[-1].container
        other, count = f"{text} (again)", 1
        while other in container:
            count += 1
            other = f"{text} (again {count})"
        error = self._error(event, "")
        base = error.path
        error.path = f"{base}.{text}" if base else text
        path = f"{base}.{other}" if base else other
        if isinstance(container, dict):
            self._duplicates.append((container, text, other, path, error))
        self._note(error)
        return other

    def _resolve(self, text: str, event: yaml.Event) -> Value:
        try:
            return super()._resolve(text, event)
        except YamlError as error:
            self._note(error)
            return None

    def _refuse(self, event: yaml.Event, problem: str) -> None:
        self._note(self._error(event, problem))

    def _note(self, error: YamlError) -> None:
        if len(self._errors) >= self.max_errors:
            raise error
        self._errors.append(error)
