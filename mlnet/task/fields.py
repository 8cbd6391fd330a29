"""Values out of a parsed task definition. Whatever does not fit is noted, with its path and a fix."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection
from decimal import Decimal
from typing import Final, Literal, TypeVar

from mlnet.task import spellings
from mlnet.task.problems import Mend, Problems
from mlnet.util import yaml12
from mlnet.util.wording import MICRO

_Choice = TypeVar("_Choice", bound=str)
_REQUIRED: Final = object()
_MISSING: Final = object()
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
"""An amount has six decimals: from here on a double, of 15 digits, does not hold what its author wrote."""


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


def duration_ms(text: str) -> int | None:
    """Milliseconds of ``1h30m``, ``15m``, ``90s``, ``500ms``; None for anything else."""
    found = _DURATION.fullmatch(text)
    if not text or not found:
        return None
    return sum(int(part) * unit for part, unit in zip(found.groups(), _DURATION_MS, strict=True) if part)


def size_bytes(text: str) -> int | None:
    """Bytes of ``512MiB`` or ``2 GB``; None for anything else."""
    found = _BYTES.fullmatch(text)
    return int(found[1]) * _UNITS[found[2]] if found else None


def amount_micro(text: str) -> int:
    """Micro-units of a decimal text that :meth:`Section.amount` has returned."""
    return int(Decimal(text) * MICRO)


def expected(value: object, what: str) -> str:
    """The fix for a value of another type than the schema has."""
    fix = f"expected {what}"
    if isinstance(value, str) and "number" in what:
        fix += "; a number stands without quotes"
    if isinstance(value, str) and what.startswith("true"):
        fix += f"; in YAML 1.2 {value[:8]} is a text"
    return fix


def printable(text: str) -> bool:
    """Whether a text shows all that it holds: no control or invisible characters, none but blanks between."""
    inner = all(letter.isprintable() or unicodedata.category(letter) == "Zs" for letter in text)
    return inner and text[:1] != "\xa0" and text[-1:] != "\xa0"


class Section:
    """One mapping of the definition.

    Args:
        problems: takes what is wrong here.
        value: what stands at the path.
        path: where, such as ``ml.model``; empty for the whole document.
        known: every key that it may have. Another one is a problem that names the nearest of these, as which
            it is then read.
        also: keys of which the caller has more to say than that they are unknown.
        void: nothing stands there, which has been noted: nothing more is said of it.

    Each method that takes a key notes a problem when the key is missing and has no default, or its value does
    not fit. It then returns some value of its type, so that the rest is read too: whoever compares values
    asks :meth:`sound` first.
    """

    def __init__(
        self,
        problems: Problems,
        value: object,
        path: str,
        known: Collection[str],
        *,
        also: Collection[str] = (),
        void: bool = False,
    ) -> None:
        self.problems, self.path = problems, path
        self._void = void
        self._values: dict[str, object] = {}
        self._spelled: dict[str, str] = {}
        if not isinstance(value, dict):
            if not void:
                fix = expected(value, f"a mapping with the keys {', '.join(known)}")
                problems.add(path, f"found {describe(value)}", fix)
            self._void = True
            return
        self._values = {name: item for name, item in value.items() if name in known or name in also}
        for name, item in value.items():
            if name not in self._values:
                self._unknown(name, item, known)

    def _unknown(self, name: str, item: object, known: Collection[str]) -> None:
        path = self.at(name)
        target = spellings.key(name, known)
        mend = None
        if target is not None and target in self._values:
            fix = f"{target} stands here, too: remove one of the two"
        elif target is not None:
            fix, mend = f"write {target}", Mend(path, ((target, Mend.KEEP),))
        elif home := self.problems.home(name, self.path):
            fix, target = f"it belongs in {home}", None
        elif target := spellings.nearest(name, known):
            fix = f"did you mean {target}?"
        else:
            fix = f"known here: {', '.join(known) or 'nothing'}"
        self.problems.add(path, "unknown key", fix, mend)
        if target is not None and target not in self._values:
            self._values[target] = item
            self._spelled[target] = name

    def at(self, key: str) -> str:
        """The path of a key as its author spelled it, fit to be shown."""
        key = self._spelled.get(key, key)
        shown = key if key.isprintable() else yaml12.quote(key)
        return f"{self.path}.{shown}" if self.path else shown

    def __contains__(self, key: str) -> bool:
        return key in self._values

    @property
    def keys(self) -> list[str]:
        """Those of the known keys that stand here."""
        return list(self._values)

    def sound(self, *keys: str) -> bool:
        """Whether the values of these keys are what their author meant, given or by default."""
        return not self._void and all(self.problems.sound(self.at(key)) for key in keys)

    def wrong(self, key: str, problem: str, fix: str, mend: object = Mend.NONE) -> None:
        """Note a problem of a key; ``mend`` is the value that was certainly meant, if there is one."""
        path = self.at(key)
        self.problems.add(path, problem, fix, None if mend is Mend.NONE else Mend(path, ((Mend.SAME, mend),)))

    def missing(self, key: str, value: object, *, after: str = "") -> Mend | None:
        """The mend of a key that is missing and can have one value only."""
        sibling = after or next(iter(self._values), "")
        if key in self._values or not sibling:
            return None
        return Mend(self.at(key), ((key, value),), after=self.at(sibling))

    def take(self, key: str) -> object:
        """What stands there, as if it did not from now on."""
        return self._values.pop(key)

    def remove(self, key: str, problem: str, fix: str = "remove the key") -> None:
        """Note that a key has to go, for certain."""
        self.problems.add(self.at(key), problem, fix, Mend(self.at(key), ()))

    def value(self, key: str, default: object = _REQUIRED, *, mend: Mend | None = None) -> object:
        """Whatever stands there."""
        if key in self._values:
            return self._values[key]
        if default is not _REQUIRED:
            return default
        if not self._void:
            fix = (
                f"this key has no default: add {key}: {mend.value}"
                if mend
                else "this key has no default: add it"
            )
            self.problems.add(self.at(key), "missing", fix, mend)
        return _MISSING

    def section(
        self, key: str, known: Collection[str], *, also: Collection[str] = (), optional: bool = False
    ) -> Section:
        """A mapping; an empty one if it is optional and missing."""
        value = self.value(key, {} if optional else _REQUIRED)
        void = value is _MISSING
        return Section(self.problems, value, self.at(key), known, also=also, void=void)

    def items(self, key: str, most: int) -> list[tuple[str, object]]:
        """Path and value of each item of a list that is not empty."""
        value = self.value(key)
        if value is _MISSING:
            return []
        if not isinstance(value, list):
            self.wrong(key, f"found {describe(value)}", expected(value, "a list"))
            return []
        if not 1 <= len(value) <= most:
            self.wrong(key, f"has {len(value)} items", f"1 to {most} are accepted")
            return []
        return [(f"{self.at(key)}[{index}]", item) for index, item in enumerate(value)]

    def integer(self, key: str, low: int, high: int, default: object = _REQUIRED) -> int:
        """A whole number in [low, high]."""
        value = given = self.value(key, default)
        what = f"a whole number from {low} to {high}"
        if given is _MISSING:
            return low
        if isinstance(value, str):
            value = spellings.number(value)
        if isinstance(value, float) and value.is_integer() and abs(value) <= high:
            value = int(value)
        if isinstance(given, float) and not isinstance(value, int):
            self.wrong(key, f"found {describe(given)}", what)
        elif not isinstance(value, int) or isinstance(value, bool):
            self.wrong(key, f"found {describe(given)}", expected(given, what))
        elif not low <= value <= high:
            size = "large" if value > high else "small"
            self.wrong(key, f"{value} is too {size}", f"{low} to {high} are accepted")
        else:
            if not isinstance(given, int):
                self.wrong(key, f"found {describe(given)}", f"write {value}, without quotes or point", value)
            return value
        return low

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
        value = given = self.value(key, default)
        interval = f"{bounds[0]}{low:g}, {high:g}{bounds[1]}"
        if given is _MISSING:
            return low
        if isinstance(value, str):
            value = spellings.number(value)
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.wrong(key, f"found {describe(given)}", expected(given, f"a number in {interval}"))
        elif not math.isfinite(value):
            self.wrong(key, f"found {describe(value)}", f"a finite number in {interval}")
        elif (
            value < low
            or value > high
            or (value == low and bounds[0] == "(")
            or (value == high and bounds[1] == ")")
        ):
            self.wrong(key, f"{value} is out of range", f"a number in {interval} is accepted")
        else:
            if isinstance(given, str):
                self.wrong(
                    key, f"found {describe(given)}", f"write {value}: a number stands without quotes", value
                )
            return float(value)
        return low

    def flag(self, key: str, default: object = _REQUIRED) -> bool:
        """True or false."""
        value = self.value(key, default)
        if isinstance(value, bool) or value is _MISSING:
            return value is True
        meant = spellings.flag(value) if isinstance(value, str) else None
        fix = expected(value, "true or false")
        if meant is None:
            self.wrong(key, f"found {describe(value)}", fix)
        else:
            self.wrong(key, f"found {describe(value)}", f"write {str(meant).lower()}: {fix}", meant)
        return bool(meant)

    def text(self, key: str, most: int, default: object = _REQUIRED) -> str:
        """A text of 1 to ``most`` characters without control characters."""
        value = self.value(key, default)
        if value is _MISSING:
            return ""
        if not isinstance(value, str):
            self.wrong(key, f"found {describe(value)}", expected(value, "a text"))
            return ""
        if not 1 <= len(value) <= most:
            self.wrong(key, f"has {len(value)} characters", f"1 to {most} are accepted")
        elif re.fullmatch(r"[\u2018\u201c\u201e\u00ab].*[\u2019\u201d\u201c\u00bb]", value):
            self.wrong(
                key,
                f"found {value[:40]}: these quotation marks are part of the text",
                'write it in straight quotes ("), or without quotes',
                value[1:-1],
            )
        elif not printable(value):
            what = "a control character or an invisible one"
            fix = "in double quotes a backslash begins an escape: put a Windows path in single quotes"
            self.wrong(
                key, f"{describe(value)} holds {what}", fix if ":" in value[:2] else "write it without"
            )
        return value

    def choice(self, key: str, names: Collection[_Choice], default: object = _REQUIRED) -> _Choice:
        """One of the names, in their exact spelling."""
        value = self.value(key, default)
        first = next(iter(names))
        return first if value is _MISSING else choose(self.problems, self.at(key), value, names)

    def amount(self, key: str, most: int) -> str:
        """A decimal from 0 to ``most`` with at most six places, as the shortest exact text."""
        value = given = self.value(key)
        fix = f"a decimal from 0 to {most} with at most six places, such as 100 or 12.5"
        if given is _MISSING:
            return "0"
        if isinstance(value, float) and _MAX_EXACT_FLOAT <= abs(value) <= most:
            # Beyond 15 digits the binary number is not what its author wrote.
            self.wrong(key, f"found {describe(value)}", f'in quotes, such as "{value:.2f}", it is exact')
            return "0"
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            self.wrong(key, f"found {describe(value)}", expected(value, fix))
            return "0"
        if isinstance(value, float) and math.isclose(value, round(value, 6), rel_tol=1e-12):
            value = round(value, 6)
        text = value if isinstance(value, str) else f"{Decimal(repr(value)):f}"
        meant = spellings.number(text) if isinstance(value, str) and not _AMOUNT.fullmatch(text) else None
        if meant is not None:
            text = f"{Decimal(repr(meant)):f}"
        if not _AMOUNT.fullmatch(text) or Decimal(text) > most:
            self.wrong(key, f"found {describe(given)}", f"expected {fix}")
            return "0"
        text = f"{Decimal(text).normalize():f}"
        if meant is not None:
            self.wrong(key, f"found {describe(given)}", f"write {text}: {fix}", meant)
        return text

    def duration(self, key: str, low: str, high: str, default: object = _REQUIRED) -> str:
        """A duration such as ``15m``, between two others."""
        value = given = self.value(key, default)
        fix = f"expected a duration from {low} to {high} such as 90s, 15m or 1h30m"
        if given is _MISSING:
            return low
        if isinstance(value, str) and duration_ms(value) is None:
            value = spellings.duration(value)
        found = duration_ms(value) if isinstance(value, str) else None
        if not isinstance(value, str) or found is None:
            self.wrong(key, f"found {describe(given)}", fix)
        elif not (duration_ms(low) or 0) <= found <= (duration_ms(high) or 0):
            self.wrong(key, f"{value} is out of range", fix)
        else:
            if value != given:
                self.wrong(key, f"found {describe(given)}", f"write {value}: {fix}", value)
            return value
        return low

    def size(self, key: str, default: object = _REQUIRED) -> str:
        """A size such as ``512MiB``."""
        value = given = self.value(key, default)
        fix = "expected a size such as 512MiB or 2GB"
        if given is _MISSING:
            return "0B"
        if isinstance(value, str) and size_bytes(value) is None:
            value = spellings.size(value)
        if not isinstance(value, str):
            self.wrong(key, f"found {describe(given)}", fix)
            return "0B"
        if value != given:
            self.wrong(key, f"found {describe(given)}", f"write {value}: {fix}", value)
        return value


def choose(problems: Problems, path: str, value: object, names: Collection[_Choice]) -> _Choice:
    """The one of the names that the value is; else a problem that names the nearest one."""
    for name in names:
        if value == name:
            return name
    what = f"expected {' or '.join(names)}"
    meant = spellings.choice(value, names) if isinstance(value, str) else None
    if meant is not None:
        fix, mend = f"write {meant}", Mend(path, ((Mend.SAME, meant),))
        problems.add(path, f"found {describe(value)}", fix, mend)
        return next(name for name in names if name == meant)
    hint = spellings.nearest(value, names) if isinstance(value, str) else None
    problems.add(path, f"found {describe(value)}", f"{what}; did you mean {hint}?" if hint else what)
    return next(iter(names))
