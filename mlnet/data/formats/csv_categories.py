"""Columns of texts of which only few differ, such as female and male: one-hot encoded.

Each category of a column is an input of the model: 1 in the rows that have it, 0 in the others. Training
finds the categories; the model's schema keeps them, so that new rows are encoded alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlnet.data.formats.csv_layout import Layout
from mlnet.data.formats.csv_sample import KEYS
from mlnet.data.formats.csv_values import is_number, spelling
from mlnet.data.schema import MAX_CATEGORIES, Schema
from mlnet.data.table import FloatArray
from mlnet.errors import DataError

_FEW = 64
"""A column with at most this many different texts, each in several rows, is one of categories, not of free
text."""
_ROWS_EACH = 4
"""Rows for each category, on average, before a column certainly has categories."""
_SHOWN = 8


@dataclass(frozen=True)
class Coded:
    """A column of categories.

    Attributes:
        values: the categories, in the order of the inputs that they become.
        codes: int32 (rows,), places in ``values``.
        places: file and line at which each category stands first.
    """

    values: tuple[str, ...]
    codes: NDArray[np.int32]
    places: tuple[str, ...] = ()


@dataclass
class _Column:
    number: dict[str, int] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)
    codes: list[NDArray[np.int32]] = field(default_factory=list)


class Collector:
    """Takes the values of columns of categories, chunk by chunk, of one file or several.

    Args:
        layout: for error messages.
        known: by place of a column, its categories; None where they are yet to be found.
    """

    def __init__(self, layout: Layout, known: Mapping[int, tuple[str, ...] | None]) -> None:
        self._layout, self._known = layout, known
        self._columns = {
            place: _Column({value: code for code, value in enumerate(values or ())})
            for place, values in known.items()
        }

    def add(self, path: Path, rows: Sequence[tuple[int, list[str]]]) -> None:
        """Take the columns of some rows, of which none lacks a value.

        Args:
            path: the file.
            rows: the line at which each begins, and its values.

        Raises:
            DataError: a value is none of the known categories, or there are too many.
        """
        for place, column in self._columns.items():
            find = self._code if self._known[place] is None else self._known_code
            codes = [find(place, column, (path, line), row[place].strip()) for line, row in rows]
            column.codes.append(np.array(codes, dtype=np.int32))

    def _code(self, place: int, column: _Column, at: tuple[Path, int], value: str) -> int:
        code = column.number.get(value)
        if code is None:
            code = column.number[value] = len(column.number)
            column.places.append(f"{at[0]}, line {at[1]}")
            if code >= MAX_CATEGORIES:
                raise self._too_many(place, column.places[-1], value)
        return code

    def _too_many(self, place: int, where: str, value: str) -> DataError:
        layout = self._layout
        what = (
            f"{value[:40]!r} is one of more than {MAX_CATEGORIES} different texts: names or free text? If so,"
        )
        if kind := spelling(value):
            what = f"{value[:40]!r} {kind.problem}; {kind.fix}, or"
        fix = f"leave the column out with {KEYS}ignore-columns: [{layout.key(place)}]"
        return DataError(f"{where}, {layout.shown(place)}: {what} {fix}")

    def _known_code(self, place: int, column: _Column, at: tuple[Path, int], value: str) -> int:
        code = column.number.get(value)
        if code is None:
            code = column.number.get(plain(value))
        if code is None:
            known = self._known[place] or ()
            raise UnknownCategory(
                f"{at[0]}, line {at[1]}, {self._layout.shown(place)}: {value[:40]!r} is none of the"
                f" categories that the model was trained on ({listed(known)}); correct the value, or leave"
                " the row out"
            )
        return code

    def coded(self) -> dict[int, Coded]:
        """The columns, by their place. Categories that were found are sorted, as numbers if all are."""
        return {place: self._finished(place, column) for place, column in self._columns.items()}

    def _finished(self, place: int, column: _Column) -> Coded:
        codes = np.concatenate(column.codes) if column.codes else np.zeros(0, np.int32)
        known = self._known[place]
        if known is not None:
            return Coded(known, codes)
        found = list(column.number)
        numbers = all(is_number(value, self._layout.decimal) for value in found)
        # 2 and 2.0 are the same number, and whatever writes a table may change one to the other.
        names = [plain(value) if numbers else value for value in found]
        first: dict[str, str] = {}
        for name, where in zip(names, column.places, strict=True):
            first.setdefault(name, where)
        values = sorted(first, key=_as_number if numbers else str)
        code_of = {name: code for code, name in enumerate(values)}
        mapped = np.array([code_of[name] for name in names], dtype=np.int32)
        return Coded(tuple(values), mapped[codes], tuple(first[name] for name in values))


class UnknownCategory(DataError):
    """New rows hold a category that the model was not trained on."""


def plain(value: str) -> str:
    """A number as a category or class is written: 2.0 as 2; any other text as it is."""
    try:
        number = float(value)
    except ValueError:
        return value
    return str(int(number)) if number.is_integer() else value


def _as_number(value: str) -> float:
    return float(value.replace(",", "."))


def listed(values: Sequence[str]) -> str:
    """Categories, for people."""
    return ", ".join(value[:40] for value in values[:_SHOWN]) + (", ..." if len(values) > _SHOWN else "")


def require_certain(
    layout: Layout, coded: Mapping[int, Coded], said: Iterable[int], ignored: Sequence[int]
) -> None:
    """Refuse columns of texts that may be something else than categories.

    Args:
        layout: of the table.
        coded: the columns that were read as categories.
        said: places of those which are categories by the definition.
        ignored: places of columns that are left out already.

    Raises:
        DataError: names the first such column, what it looks like, and what to write for all of them.
    """
    doubts = {
        place: doubt
        for place, column in coded.items()
        if place not in said and (doubt := _doubt(layout, place, column))
    }
    if not doubts:
        return
    first = min(doubts)
    others = [layout.shown(place) for place in sorted(doubts) if place != first]
    without = ", ".join(layout.key(place) for place in sorted((*ignored, *doubts)))
    more = f" ({', '.join(others[:_SHOWN])} likewise)" if others else ""
    where, what, before, after = doubts[first]
    raise DataError(
        f"{where}, {layout.shown(first)}: {what}{before}leave the column out with"
        f" {KEYS}ignore-columns: [{without}]{more}{after}"
    )


def _doubt(layout: Layout, place: int, column: Coded) -> tuple[str, str, str, str] | None:
    """Place, finding, and what else to do before and after leaving the column out, where its texts are not
    certainly categories."""
    first = int(column.codes[0])
    where, example = column.places[first], repr(column.values[first][:40])
    spelt = [spelling(value) for value in column.values]
    if (kind := spelt[first]) is not None and all(one is not None and one.certain for one in spelt):
        return where, f"{example} {kind.problem}", f"; {kind.fix}, or ", ""
    numbers = [at for at, value in enumerate(column.values) if is_number(value, layout.decimal)]
    texts = [at for at in range(len(column.values)) if at not in numbers]
    declare = f", or write {KEYS}category-columns: [{layout.key(place)}] if each text is a category"
    if numbers and texts:
        at = numbers[0]
        what = f"{column.values[at][:40]!r} is a number among texts such as {column.values[texts[0]][:40]!r}"
        return column.places[at], what, "; correct it if all should be alike, or ", declare
    rows, count = len(column.codes), len(column.values)
    if count <= min(_FEW, max(2, rows // _ROWS_EACH)):
        return None
    what = f"{example} is one of {count} different texts in {rows} rows: names or free text?"
    return where, what, " If so, ", declare


def notes(layout: Layout, coded: Mapping[int, Coded]) -> list[str]:
    """What people should know of the categories that were found."""
    found = []
    for place, column in sorted(coded.items()):
        count = len(column.values)
        many = f"{count} categories" if count != 1 else "1 category"
        inputs = f"{count} inputs" if count != 1 else "1 input"
        found.append(f"{layout.shown(place)}: {many}: {listed(column.values)}, as {inputs}")
        folded: dict[str, str] = {}
        for value in column.values:
            other = folded.setdefault(" ".join(value.casefold().split()), value)
            if other != value:
                found[-1] += f"; {other!r} and {value!r} differ in case or blanks only: are they the same?"
                break
    return found


def width(schema: Schema) -> int:
    """Inputs of a model for the columns of a CSV."""
    categories = schema.categories
    return sum(len(categories[place]) if place in categories else 1 for place in schema.features)


def encode(numbers: FloatArray, order: Sequence[int], coded: Mapping[int, Coded]) -> FloatArray:
    """Inputs of a model: numbers as they are, and categories one-hot, in the order of the columns.

    Args:
        numbers: float32 (rows, columns of numbers), scaled.
        order: places of all features.
        coded: those which are categories.

    Returns:
        float32 (rows, inputs).
    """
    if not coded:
        return numbers
    widths = [len(coded[place].values) if place in coded else 1 for place in order]
    inputs = np.zeros((len(numbers), sum(widths)), dtype=np.float32)
    rows = np.arange(len(numbers))
    column = taken = 0
    for place, wide in zip(order, widths, strict=True):
        if place in coded:
            inputs[rows, column + coded[place].codes] = 1
        else:
            inputs[:, column] = numbers[:, taken]
            taken += 1
        column += wide
    return inputs
