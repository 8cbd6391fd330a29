"""What the first rows of a table say against reading it as it looks: refused where it is certainly none, and
told as a warning where its author alone can know."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from mlnet.data.formats.csv_columns import Choice
from mlnet.data.formats.csv_layout import Layout
from mlnet.data.formats.csv_values import is_number

_MANY = 8
"""Columns that are named one by one; a table of thousands would bury everything else that is said of it."""
_COUNTED = 10
"""Rows before a column is said to number them: fewer count themselves by chance."""
_DATE = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_CODE = re.compile(r"0\d+")
_NUMBERING = re.compile(r"(.*[ _.-])?(id|idx|index|nr|no|number|row)|.*[a-z]I[Dd]", re.IGNORECASE)


def warnings(
    layout: Layout, rows: Sequence[Sequence[str]], choice: Choice, *, said: bool, texts: bool
) -> Iterator[str]:
    """What is accepted and may not be as the author of a table wants it, each with the path of its key.

    Args:
        layout: of the table.
        rows: the first ones.
        choice: of the columns.
        said: the definition names the columns that are left out, so that the others are meant.
        texts: whether labels may be texts.
    """
    told = 0
    for place in (*choice.features, *(() if choice.label is None else (choice.label,))):
        if place in choice.categories or layout.kinds[place] != "number":
            continue
        values = [row[place].strip() for row in rows if len(row) == layout.fields]
        label = place == choice.label
        if found := _code(layout, place, values, label=label and texts) or (
            None if label else _feature(layout, place, values, said=said)
        ):
            told += 1
            if told <= _MANY:
                yield found
    if told > _MANY:
        yield f"ml.dataset.ignore-columns: {told - _MANY} more columns are like these"


def _code(layout: Layout, place: int, values: Sequence[str], *, label: bool) -> str | None:
    """Digits that begin with a zero, such as a ZIP code."""
    value = next(filter(_CODE.fullmatch, values), None)
    if value is None:
        return None
    if label:
        return (
            f"ml.dataset.label-column: {layout.shown(place)}: the label {value} is read as the number"
            f" {int(value)}"
        )
    return (
        f"ml.dataset.category-columns: {layout.shown(place)}: {value} is read as the number"
        f" {int(value)}; if it"
        f" is a code, write ml.dataset.category-columns: [{layout.key(place)}]"
    )


def _feature(layout: Layout, place: int, values: Sequence[str], *, said: bool) -> str | None:
    if not values:
        return None
    what = f"ml.dataset.ignore-columns: {layout.shown(place)}"
    fix = f"ml.dataset.ignore-columns: [{layout.key(place)}]"
    if all(map(_DATE.fullmatch, values)):
        return (
            f"{what}: {values[0]} looks like a date and is read as a number; write the days since a"
            " first day,"
            f" or {fix}"
        )
    if not said and (how := _numbers_rows(layout, place, values)):
        return f"{what} {how}, and is a feature; if it only tells the rows apart, write {fix}"
    numbers = [float(value.replace(",", ".")) for value in values if is_number(value, layout.decimal)]
    with np.errstate(over="ignore"):
        rounded = np.array(numbers, dtype=np.float64).astype(np.float32)
    often = Counter(rounded.tolist())
    distinct = len(set(numbers))
    if len(often) * 2 < distinct:
        return (
            f"{what}: {distinct} different values such as {values[0]} are only {len(often)} as numbers of 32"
            f" bits, which have 7 digits; subtract what they have in common, or write {fix}"
        )
    return None


def _numbers_rows(layout: Layout, place: int, values: Sequence[str]) -> str:
    """How a column looks as if it told the rows apart; empty if it does not."""
    if len(values) < _COUNTED or not all(value.isdecimal() for value in values):
        return ""
    first = int(values[0])
    name = layout.names[place] if layout.names else ""
    if name and first in (0, 1) and all(int(value) == first + at for at, value in enumerate(values)):
        return "counts the rows"
    if _NUMBERING.fullmatch(name) and len(set(values)) == len(values):
        return "has another number in each row"
    return ""
