"""How a table stands in its file: delimiter, names, comments, decimal point, index column.

What the first rows make certain is taken; where they leave a doubt, the file is refused with the key of the
definition that settles it.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mlnet.data.formats.csv_marks import commented, records, require_closed, require_known_delimiter
from mlnet.data.formats.csv_sample import KEYS, Sample, read_sample
from mlnet.data.formats.csv_values import COMMA_NUMBER, NUMBER, is_missing, is_number
from mlnet.data.schema import Dialect
from mlnet.data.table import DatasetLimits
from mlnet.errors import DataError
from mlnet.util.wording import count

_DELIMITERS = (",", ";", "\t", "|", " ")
_SHOWN = {"\t": '"\\t"', " ": '" "'}
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
_PLAIN_NAME = re.compile(r"[^\W\d][\w .()/+-]*[\w)]|[^\W\d]")
_YAML_WORDS = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n"))
_UNNAMED = re.compile(r"(unnamed: 0(\.\d+)?)?", re.IGNORECASE)
_IDENTIFIER = re.compile(r"id|idx|index|row|rowid|row[ _]?(id|number|names?)|#", re.IGNORECASE)
_FEW = 5
"""Names 0, 1, 2, ... of so many columns are no row of values by chance."""
_COUNTED = 10
"""Rows that count themselves in their first column are so many before anybody may think of an index."""

ColumnKind = Literal["number", "text", "mixed", "empty"]
"""Mixed: some values are numbers and some are not."""


@dataclass(frozen=True)
class Layout:
    """How to read a table.

    Attributes:
        delimiter: between two values; a blank stands for any run of blanks.
        decimal: the decimal point, "." or ",".
        comment: with which a line of comment begins; empty for none.
        skip: lines before the first row.
        names: of the columns; None where no line names them.
        fields: values in a line.
        width: columns; one less than ``fields`` where each line ends with a delimiter.
        kinds: of the columns, by the first rows.
        index: place of a column that certainly only numbers or names the rows.
        counting: the first column counts the rows and has no name to tell what it is.
        notes: what was found, for people.
        keys: what the names of settings begin with, for error messages.
    """

    delimiter: str
    decimal: str
    comment: str
    skip: int
    names: tuple[str, ...] | None
    fields: int
    width: int
    kinds: tuple[ColumnKind, ...]
    index: int | None = None
    counting: bool = False
    notes: tuple[str, ...] = ()
    keys: str = KEYS

    def shown(self, place: int) -> str:
        """A column, as people may call it."""
        name = self.names[place] if self.names else ""
        return f"column {place} {name!r}" if name else f"column {place}"

    def key(self, place: int) -> str:
        """A column as a list in a definition names it."""
        name = self.names[place] if self.names else ""
        if not name or (self.names or ()).count(name) > 1:
            return str(place)
        return name if _PLAIN_NAME.fullmatch(name) and name.lower() not in _YAML_WORDS else json.dumps(name)


def detect(
    path: Path,
    dialect: Dialect,
    limits: DatasetLimits,
    *,
    known: tuple[str, ...] = (),
    counted: bool = True,
    keys: str = KEYS,
) -> Layout:
    """How a table stands in its file.

    Args:
        path: the file.
        dialect: what is known already.
        limits: refused beyond these.
        known: names that columns should have, by which a header is told.
        counted: whether a first line 0, 1, 2, ... may be names.
        keys: what the names of settings begin with, for error messages.

    Raises:
        DataError: it is no table, or leaves a doubt; the message names the key that settles it.
    """
    sample = read_sample(path, dialect, limits, known, keys)
    texts = [line for _, line in sample.lines]
    delimiter = _delimiter(sample, texts, dialect)
    # Values may be quoted over line ends, so that a cut sample may end within one.
    rows = _rows(texts, delimiter)
    require_closed(sample, delimiter)
    if not rows and texts:
        raise DataError(
            f"{path}, line {sample.lines[0][0]}: a value is longer than {csv.field_size_limit()}"
            " characters; is it a CSV file, and is each quote closed?"
        )
    if not rows:
        raise DataError(f"{path} holds no rows; check the path")
    widths = Counter(map(len, rows[1:] or rows))
    fields = max(widths, key=lambda width: (widths[width], width == len(rows[0])))
    if fields == 1 and dialect.delimiter is None:
        require_known_delimiter(sample)
    decimal = _decimal(sample, rows[1:] or rows, delimiter, dialect)
    sample.counted = counted
    if dialect.header is not False:
        _require_one_line_of_names(sample, rows, fields, decimal)
    has_names, names, why = _header(sample, rows, fields, decimal, delimiter, dialect)
    notes = [why] if why else []
    body = [row for row in (rows[1:] if has_names else rows) if len(row) == fields]
    width, row_names = fields, False
    if spare := _spare(names, body, fields):
        width = fields - spare
        names = names and names[:width]
        empty = "the empty last column is" if spare == 1 else f"the {spare} empty last columns are"
        notes.append(f"each line ends with a delimiter: {empty} ignored")
    elif names and len(names) == fields - 1:
        names, row_names = ("", *names), True
    if names is not None and len(names) != width:
        raise DataError(
            f"{path}: line {sample.lines[0][0]} names {count(len(names), 'column')} and the rows have"
            f" {width};"
            f" correct the line, remove it if it is a title, or correct the setting {keys}delimiter"
            f"{commented(texts[0], keys)}"
        )
    kinds = tuple(_kind([row[place] for row in body], decimal) for place in range(width))
    layout = Layout(
        delimiter, decimal, sample.comment, _skip(sample, has_names, delimiter), names, fields, width, kinds
    )
    index, counting = _index(layout, body, row_names)
    notes = [*_dialect_notes(layout, sample, dialect), *notes]
    return replace(layout, index=index, counting=counting, notes=tuple(notes), keys=keys)


def _rows(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    try:
        return [row for row in records(lines, delimiter) if row]
    except csv.Error:
        return []


def _fit(lines: Sequence[str], delimiter: str) -> tuple[bool, float, int]:
    """How well a delimiter fits: all rows equally long, share of values that are numbers, and how long."""
    rows = _rows(lines, delimiter)
    widths = Counter(map(len, rows[1:] or rows))
    if not widths:
        return False, 0.0, 0
    width, often = widths.most_common(1)[0]
    decimal = "." if delimiter == "," else ","
    values = [value for row in rows[1:] or rows for value in row]
    numbers = sum(is_number(value, decimal) or is_missing(value) for value in values)
    return often == len(rows[1:] or rows) and width > 1, numbers / max(1, len(values)), width


def _delimiter(sample: Sample, lines: Sequence[str], dialect: Dialect) -> str:
    fits = {delimiter: _fit(lines, delimiter) for delimiter in _DELIMITERS}
    best = max(_DELIMITERS, key=lambda one: (fits[one][0], fits[one][1] if fits[one][2] > 1 else -1.0))
    if fits[best][2] < 2:
        best = ","
    given = dialect.delimiter or sample.sep
    if given is None:
        return best
    mine = fits.get(given) or _fit(lines, given)
    if fits[best][0] and (mine[2] < 2 or mine[1] + 0.25 < fits[best][1]):
        raise DataError(
            f"{sample.path}: its values are not separated by {given!r} but by {best!r}; write"
            f" {sample.keys}delimiter: {_SHOWN.get(best, repr(best))}, or leave the key out"
        )
    return given


def _decimal(sample: Sample, rows: list[list[str]], delimiter: str, dialect: Dialect) -> str:
    if dialect.decimal is not None:
        return dialect.decimal
    commas = {v for row in rows for value in row if COMMA_NUMBER.fullmatch(v := value.strip())}
    if not commas:
        return "."
    points = any("." in value and NUMBER.fullmatch(value.strip()) for row in rows for value in row)
    if points or all(_THOUSANDS.fullmatch(value) for value in commas):
        place, example = next(
            (at, v) for row in rows for at, value in enumerate(row) if (v := value.strip()) in commas
        )
        number = next((number for number, line in sample.lines if example in line), 1)
        raise DataError(
            f"{sample.path}, line {number}, column {place}: is the comma of {example!r} a decimal point?"
            f" Write {sample.keys}decimal: ',' if so; commas between thousands are not read: remove them"
        )
    return ","


def _kind(values: list[str], decimal: str) -> ColumnKind:
    there = [value for value in values if not is_missing(value)]
    if not there:
        return "empty"
    numbers = sum(is_number(value, decimal) or _infinite(value) for value in there)
    if numbers == len(there):
        return "number"
    return "mixed" if numbers else "text"


def _infinite(value: str) -> bool:
    return value.strip().lstrip("+-").lower() in ("inf", "infinity")


def clean(row: Sequence[str]) -> tuple[str, ...]:
    """Names without line ends and outer blanks."""
    return tuple(" ".join(name.split()) for name in row)


def _spare(names: tuple[str, ...] | None, body: list[list[str]], fields: int) -> int:
    """Fields at the end that only delimiters make: they have no name, and in no row a value."""
    named = 1 if names is None else max((at + 1 for at, name in enumerate(names) if name), default=1)
    used = max((at + 1 for row in body for at, value in enumerate(row) if value.strip()), default=fields)
    return max(0, fields - max(named, used))


def _header(
    sample: Sample,
    rows: list[list[str]],
    fields: int,
    decimal: str,
    delimiter: str,
    dialect: Dialect,
) -> tuple[bool, tuple[str, ...] | None, str]:
    """Whether the first row names the columns, the names, and what to tell people."""
    number = sample.lines[0][0]
    if dialect.header is not None:
        return dialect.header, clean(rows[0]) if dialect.header else None, ""
    verdict = _looks_like_names(rows, fields, decimal, sample.known)
    if verdict is not False and not sample.counted and all(is_number(name, decimal) for name in rows[0]):
        verdict = False
    if verdict is None:
        shown = delimiter.join(rows[0])[:60]
        raise DataError(
            f"{sample.path}, line {number}: does {shown!r} name the columns, or is it a row of values? Write"
            f" {sample.keys}header: true or false"
        )
    if verdict:
        counted = f": {', '.join(rows[0][:3])}, ..." if all(map(is_number, rows[0])) else ""
        return True, clean(rows[0]), f"line {number} looks like names{counted}"
    commented = (
        clean(_rows([sample.comments[-1]], delimiter)[0]) if _rows(sample.comments[-1:], delimiter) else ()
    )
    if len(commented) == fields > 1 and not any(is_number(n) or is_missing(n) for n in commented):
        return False, commented, "the comment above the first row looks like names"
    return False, None, "no line looks like names"


def _looks_like_names(
    rows: list[list[str]], fields: int, decimal: str, known: tuple[str, ...]
) -> bool | None:
    first, rest = rows[0], [row for row in rows[1:] if len(row) == fields]
    if not any(is_number(value, decimal) for value in first):
        # Files that were joined repeat the names, which makes no column of numbers one of texts.
        rest = [row for row in rest if row != first] or rest
    if known and set(known) <= set(clean(first)):
        return True
    if not rest:
        return not any(is_number(value, decimal) for value in first)
    shift = fields - len(first) if fields - len(first) == 1 else 0
    kinds = [_kind([row[place] for row in rest], decimal) for place in range(fields)]
    numeric = [
        value
        for place, value in enumerate(first)
        if kinds[min(place + shift, fields - 1)] == "number" and not is_missing(value)
    ]
    texts = sum(not is_number(value, decimal) for value in numeric)
    if texts == len(numeric):
        if numeric:
            return True
        # All columns are texts: a category stands in later rows again, and a name does not.
        rest = [row for row in rows[1:] if len(row) == fields]
        columns = [{row[place].strip() for row in rest} for place in range(fields)]
        again = [value.strip() in columns[min(at + shift, fields - 1)] for at, value in enumerate(first)]
        return None if any(again) and not all(again) else not any(again)
    counted = [value.strip() for value in first if is_number(value, decimal)]
    start = int(counted[0]) if counted[0].isdecimal() else -1
    if len(counted) < 2 or counted != [str(start + place) for place in range(len(counted))]:
        return None if texts else False
    fractions = any(
        kind == "number" and any(not _WHOLE.fullmatch(row[place].strip()) for row in rest)
        for place, kind in enumerate(kinds)
    )
    if start == 0 and (texts or fractions or len(counted) >= _FEW):
        return True
    # Such as years, above values that are not whole; or a first row of whole numbers.
    return None if texts or start == 0 or (fractions and len(counted) > 2) else False


def _require_one_line_of_names(sample: Sample, rows: list[list[str]], fields: int, decimal: str) -> None:
    """Refuse a table whose columns of numbers begin with several texts: a title, levels of names, units.

    Raises:
        DataError: says how many lines there are.
    """
    if len(rows[0]) != fields:
        return
    heads = 0
    for row in rows:
        if len(row) != fields or any(is_number(value, decimal) for value in row):
            break
        heads += 1
    rest = [row for row in rows[heads:] if len(row) == fields]
    numeric = [at for at in range(fields) if rest and _kind([row[at] for row in rest], decimal) == "number"]
    named = all(any(not is_missing(row[at]) for at in numeric) for row in rows[1:heads])
    if heads > 1 and numeric and named and len(rest) >= heads:
        raise DataError(
            f"{sample.path}: the first {heads} rows, from line {sample.lines[0][0]} on, hold no"
            " numbers, and one"
            " line can name the columns; keep that and remove the others, such as titles, units or a second"
            " level of names"
        )


def _skip(sample: Sample, has_names: bool, delimiter: str) -> int:
    """Lines before the first row."""
    number = sample.lines[0][0]
    if not has_names:
        return number - 1
    consumed = 0

    def counted() -> Iterator[str]:
        nonlocal consumed
        for _, line in sample.lines:
            consumed += 1
            yield line

    next(records(counted(), delimiter))
    return sample.lines[consumed - 1][0]


def _index(layout: Layout, body: list[list[str]], row_names: bool) -> tuple[int | None, bool]:
    """Place of the index column, and whether the first column counts the rows without saying what it is."""
    if layout.width < 2 or not body:
        return None, False
    values = [row[0].strip() for row in body]
    whole = all(_WHOLE.fullmatch(value) for value in values)
    unique = len(set(values)) == len(values)
    if layout.names is not None:
        name = layout.names[0]
        if row_names or (unique and _UNNAMED.fullmatch(name) and (whole or layout.kinds[0] != "number")):
            return 0, False
        return (0 if unique and whole and _IDENTIFIER.fullmatch(name) else None), False
    counts = whole and len(values) >= _COUNTED and values[0] in ("0", "1")
    counts = counts and values == [str(place + int(values[0])) for place in range(len(values))]
    return None, counts


def _dialect_notes(layout: Layout, sample: Sample, dialect: Dialect) -> list[str]:
    notes = []
    if sample.sep is not None and dialect.delimiter is None:
        notes.append(f"a line sep={_SHOWN.get(sample.sep, sample.sep)} above the table names the delimiter")
    elif layout.delimiter != "," and dialect.delimiter is None:
        notes.append(f"values are separated by {_SHOWN.get(layout.delimiter, repr(layout.delimiter))}")
    if layout.decimal == "," and dialect.decimal is None:
        notes.append("decimal comma")
    if layout.comment and dialect.comment is None:
        notes.append(f"lines that begin with {layout.comment} are comments")
    return notes
