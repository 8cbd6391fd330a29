"""Values out of a parsed task definition, with errors that name the path, what stands there and a fix."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable
from decimal import Decimal
from typing import Final, Literal, TypeVar

from mlnet import yaml12
from mlnet.errors import TaskError

MICRO: Final = 1_000_000
"""Micro-units in a unit of payment."""

_Choice = TypeVar("_Choice", bound=str)
_REQUIRED: Final = "required"
_DURATION = re.compile(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?(?:(\d{1,9})ms)?")
_DURATION_MS = (3_600_000, 60_000, 1000, 1)
_BYTES = re.compile(r"(\d{1,15}) ?(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)")
_UNITS = {"B": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate("KMGT", start=1)
    for suffix, base in (("B", 1000), ("iB", 1024))
}
_AMOUNT = re.compile(r"\d{1,13}(?:\.\d{1,6})?")
_MAX_EXACT_FLOAT = 10**9


def describe(value: object) -> str:
    """What a value is, in the words of its author."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {yaml12.quote(value[:40])}{'...' if len(value) > 40 else ''}"
    return "a list" if isinstance(value, list) else "a mapping"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that the unknown one was most likely meant to be."""
    folded = {re.sub(r"[-_ ]", "", candidate).lower(): candidate for candidate in known}
    found = difflib.get_close_matches(re.sub(r"[-_ ]", "", name).lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def wrong_type(path: str, value: object, expected: str) -> TaskError:
    """The error for a value of another type than the schema has."""
    fix = f"expected {expected}"
    if isinstance(value, str) and "number" in expected:
        fix += "; a number stands without quotes"
    if isinstance(value, str) and expected.startswith("true"):
        fix += f"; in YAML 1.2 {value[:8]} is a text"
    return TaskError(path, f"found {describe(value)}", fix)


def duration_ms(text: str) -> int | None:
    """Milliseconds of ``1h30m``, ``15m``, ``90s``, ``500ms``; None if it is no duration."""
    found = _DURATION.fullmatch(text)
    if not text or not found:
        return None
    return sum(int(part) * unit for part, unit in zip(found.groups(), _DURATION_MS, strict=True) if part)


def size_bytes(text: str) -> int | None:
    """Bytes of ``512MiB`` or ``2 GB``; None if it is no size."""
    found = _BYTES.fullmatch(text)
    return int(found[1]) * _UNITS[found[2]] if found else None


def amount_micro(text: str) -> int:
    """Micro-units of a decimal text that :meth:`Section.amount` has returned."""
    return int(Decimal(text) * MICRO)


class Section:
    """One mapping of the definition.

    Args:
        value: what stands at the path.
        path: where, such as ``ml.model``; empty for the whole document.
        known: every key that it may have; another one is a :class:`TaskError` with the nearest of these.

    Each method raises :class:`TaskError` when the key is missing and has no default, or its value does not
    fit.
    """

    def __init__(self, value: object, path: str, known: Collection[str]) -> None:
        if not isinstance(value, dict):
            raise wrong_type(path, value, f"a mapping with the keys {', '.join(known)}")
        self._values: dict[str, object] = value
        self.path = path
        for key in value:
            if key not in known:
                hint = nearest(key, known)
                fix = f"did you mean {hint}?" if hint else f"known here: {', '.join(known) or 'nothing'}"
                raise TaskError(self.at(key), "unknown key", fix)

    def at(self, key: str) -> str:
        """The path of a key, fit to be shown."""
        shown = key if key.isprintable() else yaml12.quote(key)
        return f"{self.path}.{shown}" if self.path else shown

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def value(self, key: str, default: object = _REQUIRED) -> object:
        """Whatever stands there."""
        if key in self._values:
            return self._values[key]
        if default is _REQUIRED:
            raise TaskError(self.at(key), "missing", "this key has no default: add it")
        return default

    def section(self, key: str, known: Collection[str], *, optional: bool = False) -> Section:
        """A mapping; an empty one if it is optional and missing."""
        return Section(self.value(key, {} if optional else _REQUIRED), self.at(key), known)

    def items(self, key: str, most: int) -> list[tuple[str, object]]:
        """Path and value of each item of a list that is not empty."""
        value = self.value(key)
        if not isinstance(value, list):
            raise wrong_type(self.at(key), value, "a list")
        if not 1 <= len(value) <= most:
            raise TaskError(self.at(key), f"has {len(value)} items", f"1 to {most} are accepted")
        return [(f"{self.at(key)}[{index}]", item) for index, item in enumerate(value)]

    def integer(self, key: str, low: int, high: int, default: object = _REQUIRED) -> int:
        """A whole number in [low, high]."""
        value = self.value(key, default)
        if isinstance(value, float) and (abs(value) > high or not math.isfinite(value)):
            raise TaskError(self.at(key), f"found {describe(value)}", f"a whole number from {low} to {high}")
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(self.at(key), value, f"a whole number from {low} to {high}")
        if not low <= value <= high:
            size = "large" if value > high else "small"
            raise TaskError(self.at(key), f"{value} is too {size}", f"{low} to {high} are accepted")
        return value

    def number(
        self,
        key: str,
        low: float,
        high: float,
        default: object = _REQUIRED,
        *,
        bounds: Literal["[]", "(]", "[)", "()"] = "[]",
    ) -> float:
        """A finite number in the interval; a round bracket excludes that end."""
        value = self.value(key, default)
        interval = f"{bounds[0]}{low:g}, {high:g}{bounds[1]}"
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong_type(self.at(key), value, f"a number in {interval}")
        if not math.isfinite(value):
            raise TaskError(self.at(key), f"found {describe(value)}", f"a finite number in {interval}")
        below = value < low or (value == low and bounds[0] == "(")
        above = value > high or (value == high and bounds[1] == ")")
        if below or above:
            raise TaskError(self.at(key), f"{value} is out of range", f"a number in {interval} is accepted")
        return float(value)

    def flag(self, key: str, default: object = _REQUIRED) -> bool:
        """True or false."""
        value = self.value(key, default)
        if not isinstance(value, bool):
            raise wrong_type(self.at(key), value, "true or false")
        return value

    def text(self, key: str, most: int, default: object = _REQUIRED) -> str:
        """A text of 1 to ``most`` characters without control characters."""
        value = self.value(key, default)
        if not isinstance(value, str):
            raise wrong_type(self.at(key), value, "a text")
        if not 1 <= len(value) <= most:
            raise TaskError(self.at(key), f"has {len(value)} characters", f"1 to {most} are accepted")
        if not value.isprintable():
            raise TaskError(self.at(key), "holds a control character", "write it without")
        return value

    def choice(self, key: str, names: Collection[_Choice], default: object = _REQUIRED) -> _Choice:
        """One of the names, in their exact spelling."""
        return choose(self.at(key), self.value(key, default), names)

    def amount(self, key: str, most: int) -> str:
        """A decimal from 0 to ``most`` with at most six places, as the shortest exact text."""
        value = self.value(key)
        path, fix = self.at(key), f"a decimal from 0 to {most} with at most six places, such as 100 or 12.5"
        if isinstance(value, float) and abs(value) >= _MAX_EXACT_FLOAT:
            # Beyond 15 digits the binary number is not what its author wrote.
            raise TaskError(
                path, f"found {describe(value)}", f'in quotes, such as "{value:.2f}", it is exact'
            )
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise wrong_type(path, value, fix)
        text = value if isinstance(value, str) else f"{Decimal(repr(value)):f}"
        if not _AMOUNT.fullmatch(text) or Decimal(text) > most:
            raise TaskError(path, f"found {describe(value)}", f"expected {fix}")
        return f"{Decimal(text).normalize():f}"

    def duration(self, key: str, low: str, high: str, default: object = _REQUIRED) -> str:
        """A duration such as ``15m``, between two others."""
        value = self.value(key, default)
        fix = f"expected a duration from {low} to {high} such as 90s, 15m or 1h30m"
        found = duration_ms(value) if isinstance(value, str) else None
        if not isinstance(value, str) or found is None:
            raise TaskError(self.at(key), f"found {describe(value)}", fix)
        if not (duration_ms(low) or 0) <= found <= (duration_ms(high) or 0):
            raise TaskError(self.at(key), f"{value} is out of range", fix)
        return value

    def size(self, key: str, default: object = _REQUIRED) -> str:
        """A size such as ``512MiB``."""
        value = self.value(key, default)
        if not isinstance(value, str) or size_bytes(value) is None:
            raise TaskError(self.at(key), f"found {describe(value)}", "expected a size such as 512MiB or 2GB")
        return value


def choose(path: str, value: object, names: Collection[_Choice]) -> _Choice:
    """The one of the names that the value is; :class:`TaskError` with the nearest one otherwise."""
    for name in names:
        if value == name:
            return name
    expected = f"expected {' or '.join(names)}"
    hint = nearest(value, names) if isinstance(value, str) else None
    raise TaskError(
        path, f"found {describe(value)}", f"{expected}; did you mean {hint}?" if hint else expected
    )
