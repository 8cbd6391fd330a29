"""The rows of a CSV file, once it is known how it stands in its file (:mod:`mlnet.data.formats.csv_layout`).

numpy's loadtxt reads the numbers. Measured against pyarrow 26 with one thread and blocks of 8 MiB on 20 MB
of 100 columns: 0.27 s here, 0.26 to 0.38 s there; its wheel has 55 MB (170 MB unpacked). A table that has
columns of text, too, is first taken apart by the standard library's csv module.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlnet.data.formats.csv_categories import Coded, Collector
from mlnet.data.formats.csv_layout import Layout, clean
from mlnet.data.formats.csv_marks import commented, open_quote, records, unclosed
from mlnet.data.formats.csv_sample import KEYS, SAMPLE_ROWS
from mlnet.data.formats.csv_text import Lines, text
from mlnet.data.formats.csv_values import NUMBER, is_missing, is_number, spelling
from mlnet.data.table import AnyArray, DatasetLimits, FloatArray, check_shape
from mlnet.errors import DataError
from mlnet.util.wording import count

_BLOCK_ROWS = 4096
"""Rows that are converted at a time: the texts of a row take many times the memory of its numbers."""
_BLOCK_CHARACTERS = 8 << 20
"""The same for rows that are long."""
_MAX_CLASSES = 1 << 20
"""Different labels before a column cannot be one of classes; each is kept as a text."""
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Wanted:
    """Columns of a CSV file.

    Attributes:
        features: places of the features.
        label: place of the labels, if they are wanted.
        texts: whether labels may be texts.
        categories: by place of those features that are categories, the known ones, or None to find them.
    """

    features: Sequence[int]
    label: int | None = None
    texts: bool = False
    categories: Mapping[int, tuple[str, ...] | None] = field(default_factory=dict)

    @property
    def places(self) -> list[int]:
        """Of all columns that are read, in the order of the file."""
        return sorted((*self.features, *(() if self.label is None else (self.label,))))

    @property
    def numbers(self) -> list[int]:
        """Places of the features that are no categories."""
        return [place for place in self.features if place not in self.categories]


@dataclass(frozen=True)
class CsvRows:
    """Rows of a CSV file, in its order.

    Attributes:
        numbers: float32 (rows, columns), all finite: the features that are no categories.
        labels: float64 (rows,), or texts of type object; None if none were asked for.
        categories: the other features, by place.
    """

    numbers: FloatArray
    labels: AnyArray | None
    categories: Mapping[int, Coded] = field(default_factory=dict)


class _NotPlain(Exception):
    """The fast way cannot read what the other one can: a label that is a text, which the first rows did not
    show, or blanks before a quotation mark."""


def read_rows(
    path: Path, layout: Layout, wanted: Wanted, limits: DatasetLimits, collector: Collector | None = None
) -> CsvRows:
    """Read some columns of a CSV file.

    Args:
        path: the file.
        layout: how to read it.
        wanted: which columns.
        limits: refused beyond these.
        collector: takes the categories, if they are those of other files, too.

    Raises:
        DataError: names the line and column of the first value that is missing, no finite number, or none of
            the known categories.
    """
    whole = wanted.places == list(range(layout.fields)) and not wanted.categories
    label = wanted.label
    numeric = label is None or not wanted.texts or layout.kinds[label] == "number"
    try:
        if whole and numeric and not layout.delimiter == layout.decimal == ",":
            return _read_whole(path, layout, wanted, limits)
    except _NotPlain:
        pass
    own = collector or Collector(layout, wanted.categories)
    rows = _read_parts(path, layout, wanted, limits, own)
    return rows if collector else replace(rows, categories=own.coded())


def line_of(path: Path, layout: Layout, row: int, limits: DatasetLimits) -> int:
    """The line, from 1, at which a row begins, from 0."""
    with text(path, limits) as characters:
        lines = Lines(characters, path, limits, layout.comment, layout.skip)
        return next(islice((number for number, _ in _numbered(lines, layout)), row, None), 0)


def first_values(path: Path, layout: Layout, place: int, limits: DatasetLimits) -> list[tuple[int, str]]:
    """Lines and values of a column in the first rows."""
    return [(number, row[place].strip()) for number, row in _first(path, layout, limits)]


def first_rows(path: Path, layout: Layout, limits: DatasetLimits) -> list[list[str]]:
    """The first rows."""
    return [row for _, row in _first(path, layout, limits)]


def _first(path: Path, layout: Layout, limits: DatasetLimits) -> list[tuple[int, list[str]]]:
    with text(path, limits) as characters:
        lines = Lines(characters, path, limits, layout.comment, layout.skip)
        rows = islice(_numbered(lines, layout), SAMPLE_ROWS)
        return [(number, row) for number, row in rows if len(row) == layout.fields]


def _read_whole(path: Path, layout: Layout, wanted: Wanted, limits: DatasetLimits) -> CsvRows:
    """The fast way: all columns are numbers."""
    blocks: list[FloatArray] = []
    labels: list[NDArray[np.float64]] = []
    order, label = list(wanted.features), wanted.label
    rows = 0
    with text(path, limits) as characters:
        source = Lines(characters, path, limits, layout.comment, layout.skip)
        for lines in _blocks(source):
            try:
                values = _numbers(_plain(lines, layout), layout.delimiter)
            except ValueError as error:
                raise _explain(path, layout, wanted, limits, str(error)) from None
            with np.errstate(over="ignore"):
                block = values.astype(np.float32)
            if block.shape[1] != layout.fields or not np.isfinite(block).all():
                reason = "rows of different length, or values that are not finite"
                raise _explain(path, layout, wanted, limits, reason)
            rows += len(block)
            check_shape(str(path), (rows, layout.fields), 4, limits)
            if label is not None:
                labels.append(values[:, label].copy())
            blocks.append(block if order == list(range(layout.fields)) else block[:, order])
        if source.quoted:
            raise open_quote(path, source.number)
    return CsvRows(_joined(path, blocks), np.concatenate(labels) if label is not None else None)


def _read_parts(
    path: Path, layout: Layout, wanted: Wanted, limits: DatasetLimits, collector: Collector
) -> CsvRows:
    """The way for tables in which some columns are texts or not wanted."""
    blocks: list[FloatArray] = []
    labels: list[str] = []
    seen: dict[str, str] = {}
    label, numbers = wanted.label, wanted.numbers
    rows = 0
    with text(path, limits) as characters:
        lines = _numbered(Lines(characters, path, limits, layout.comment, layout.skip), layout)
        while chunk := list(islice(lines, _BLOCK_ROWS)):
            try:
                block = _chunk_numbers(chunk, layout, numbers)
            except (ValueError, IndexError) as error:
                raise _explain(path, layout, wanted, limits, str(error), parts=True) from None
            values = [] if label is None else [row[label].strip() for _, row in chunk]
            texts = [row[place] for _, row in chunk for place in wanted.categories]
            if not np.isfinite(block).all() or any(map(is_missing, values)) or any(map(is_missing, texts)):
                raise _explain(path, layout, wanted, limits, "a value is missing", parts=True)
            collector.add(path, chunk)
            labels.extend(seen.setdefault(value, value) for value in values)
            if len(seen) > _MAX_CLASSES and wanted.texts:
                raise DataError(
                    f"{path}: {layout.shown(label or 0)} holds more than {_MAX_CLASSES} different labels; is"
                    f" it the column of labels ({layout.keys}label-column)? Numbers to be predicted need the"
                    " loss MSE"
                )
            rows += len(block)
            check_shape(str(path), (rows, max(1, len(wanted.features))), 4, limits)
            blocks.append(block)
    found = CsvRows(_joined(path, blocks), None)
    if label is None:
        return found
    if wanted.texts:
        return replace(found, labels=np.array(labels, dtype=object))
    try:
        return replace(found, labels=np.array(_plain(labels, layout), dtype=np.float64))
    except ValueError as error:
        raise _explain(path, layout, wanted, limits, str(error), parts=True) from None


def _chunk_numbers(
    chunk: Sequence[tuple[int, list[str]]], layout: Layout, places: Sequence[int]
) -> FloatArray:
    """Some columns of some rows as numbers.

    Raises:
        ValueError: a value is none, or a row is too long or too short.
        IndexError: a row is too short.
    """
    if any(len(row) != layout.fields or _repeats_names(row, layout) for _, row in chunk):
        raise ValueError("rows of different length")
    if not places:
        return np.zeros((len(chunk), 0), dtype=np.float32)
    lines = ["\t".join([row[place] for place in places]) for _, row in chunk]
    # loadtxt would pass over an empty line, which is a row whose only value is missing.
    if not all(lines):
        raise ValueError("a value is missing")
    with np.errstate(over="ignore"):
        return _numbers(_plain(lines, layout), "\t").astype(np.float32)


def _repeats_names(row: Sequence[str], layout: Layout) -> bool:
    """Whether a row is the line of names once more, as where files were joined."""
    names = layout.names
    return names is not None and row[-1] in (names[-1], "") and clean(row)[: layout.width] == names


def _numbers(lines: Sequence[str], delimiter: str) -> NDArray[np.float64]:
    return np.loadtxt(lines, dtype=np.float64, delimiter=delimiter, comments=None, quotechar='"', ndmin=2)


def _plain(lines: list[str], layout: Layout) -> list[str]:
    """Lines with decimal points and single blanks."""
    if layout.decimal == ",":
        lines = [line.replace(",", ".") for line in lines]
    if layout.delimiter == " ":
        lines = [line.strip(" \r\n") if "\t" in line else " ".join(line.split()) for line in lines]
    return lines


def _joined(path: Path, blocks: list[FloatArray]) -> FloatArray:
    if not blocks:
        raise DataError(
            f"{path} holds no rows beneath its header; check the path and the key ml.dataset.header"
        )
    return np.concatenate(blocks)


def _blocks(lines: Lines) -> Iterator[list[str]]:
    """Lines in blocks of bounded size."""
    block: list[str] = []
    characters = 0
    for line in lines:
        block.append(line)
        characters += len(line)
        if len(block) == _BLOCK_ROWS or characters >= _BLOCK_CHARACTERS:
            yield block
            block, characters = [], 0
    if block:
        yield block


class _Starts:
    """Lines that remember where a record began."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self.first = 0
        self.texts: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.first = self.first or self._lines.number
            self.texts.append(line)
            yield line

    def next_record(self) -> tuple[int, list[str]]:
        """Number of the first line of the record, and its lines; the next one begins."""
        found = self.first, self.texts
        self.first, self.texts = 0, []
        return found


def _numbered(lines: Lines, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """The records and the lines at which they begin."""
    starts = _Starts(lines)
    number, texts = 0, [""]
    try:
        for row in records(starts, layout.delimiter):
            number, texts = starts.next_record()
            if row:
                yield number, row
        if texts[0].count('"') and unclosed(texts, layout.delimiter):
            raise open_quote(lines.path, number)
    except csv.Error as error:
        raise DataError(f"{lines.path}, line {starts.first or lines.number}: {error}") from error


def _wrong_length(path: Path, number: int, row: Sequence[str], layout: Layout) -> DataError:
    if any("\n" in value or "\r" in value for value in row):
        return open_quote(path, number)
    return DataError(
        f"{path}, line {number}: {count(len(row), 'value')} where the lines before have"
        f" {layout.fields}; correct"
        f" the line, remove it if it is no row, or correct the setting {layout.keys}delimiter"
        f"{commented(row[0], layout.keys)}"
    )


def _explain(
    path: Path, layout: Layout, wanted: Wanted, limits: DatasetLimits, reason: str, *, parts: bool = False
) -> DataError:
    """The error for the first record that the fast readers refused, found by reading slowly.

    Raises:
        _NotPlain: there is none, or it is a label that is a text, and may be one.
    """
    with text(path, limits) as characters:
        lines = Lines(characters, path, limits, layout.comment, layout.skip)
        for index, (number, row) in enumerate(_numbered(lines, layout)):
            where = f"{path}, line {number}"
            if _repeats_names(row, layout):
                return DataError(f"{where} repeats the names of the columns; remove the line")
            if len(row) != layout.fields:
                return _wrong_length(path, number, row, layout)
            if len(row) > 1 and all(map(is_missing, row)):
                return DataError(f"{where} holds no values; remove the line")
            for place in wanted.places:
                if place in wanted.categories and not is_missing(row[place]):
                    continue
                if problem := _problem(row[place], layout.decimal):
                    if "\n" in row[place].strip():
                        return open_quote(path, number)
                    fix = _fix(row, place, layout, wanted, first=index == 0)
                    if place == wanted.label and wanted.texts and not is_missing(row[place]):
                        if parts:
                            continue
                        raise _NotPlain
                    return DataError(
                        f"{where}, {layout.shown(place)}: {row[place].strip()[:40]!r} {problem}; {fix}"
                    )
    if not parts:
        raise _NotPlain
    return DataError(f"{path}: {reason}")


def _problem(value: str, decimal: str) -> str:
    if is_missing(value):
        return "is a missing value"
    if not is_number(value, decimal):
        kind = spelling(value.strip())
        return kind.problem if kind else "is not a finite number"
    if abs(float(value.replace(",", "."))) > _LARGEST:
        return "is not a finite number of 32 bits"
    return ""


def _fix(row: list[str], place: int, layout: Layout, wanted: Wanted, *, first: bool) -> str:
    value = row[place].strip()
    if is_missing(value):
        return _fix_missing(place, layout, wanted)
    if layout.decimal == "." and "," in value and NUMBER.fullmatch(value.replace(",", ".")):
        return f"write {layout.keys}decimal: ',' if the comma is a decimal point"
    numbers = sum(is_number(one, layout.decimal) for one in row)
    if first and layout.names is None and numbers * 2 < len(row):
        return f"set '{layout.keys}header: true' if this line names the columns"
    if is_number(value, layout.decimal):
        return f"write numbers up to {_LARGEST:.1e}, or scale the column down"
    kind = spelling(value)
    write = kind.fix if kind else "write numbers only"
    if place == wanted.label and layout.keys == KEYS and not kind:
        return f"{write}; texts are classes, which need the loss CrossEntropy"
    if layout.keys != KEYS or place == wanted.label:
        return write
    if first and layout.names and numbers * 2 < len(row):
        return f"{write}; remove the line if it belongs to the names, such as one of units"
    name = layout.key(place)
    ways = f"{write}, or leave the column out with {KEYS}ignore-columns: [{name}]"
    if kind and kind.certain:
        return ways
    return (
        f"{ways}; if its values are categories, {KEYS}category-columns: [{name}]; if it is the label,"
        f" {KEYS}label-column: {name}"
    )


def _fix_missing(place: int, layout: Layout, wanted: Wanted) -> str:
    own = " (such as with 'unknown', which is then a category)" if place in wanted.categories else ""
    if layout.kinds[place] == "empty" and layout.keys == KEYS and place != wanted.label:
        return f"if the whole column is empty, {KEYS}ignore-columns: [{layout.key(place)}] leaves it out"
    if layout.keys != KEYS or place == wanted.label:
        return f"fill it in{own}, or remove the row"
    without = f"{KEYS}ignore-columns: [{layout.key(place)}]"
    return f"fill it in{own}, remove the row, or leave the column out with {without}"
