"""The rows of a CSV file, once it is known how it stands in its file (:mod:`mlnet.data.formats.csv_layout`).

numpy's loadtxt reads the numbers. Measured against pyarrow 26 with one thread and blocks of 8 MiB on 20 MB
of 100 columns: 0.27 s here, 0.26 to 0.38 s there; its wheel has 55 MB (170 MB unpacked). A table that has
columns of text, too, is first taken apart by the standard library's csv module.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlnet.data.formats.csv_layout import KEYS, NUMBER, SAMPLE_ROWS, Layout, is_missing, is_number, records
from mlnet.data.formats.csv_text import Lines, text
from mlnet.data.table import AnyArray, FloatArray, Limits, check_shape
from mlnet.errors import DataError

_BLOCK_ROWS = 4096
_BLOCK_CHARACTERS = 8 << 20
_MAX_CLASSES = 1 << 20
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class CsvRows:
    """Rows of a CSV file, in its order.

    Attributes:
        features: float32 (rows, columns), all finite.
        labels: float64 (rows,), or texts of type object; None if none were asked for.
    """

    features: FloatArray
    labels: AnyArray | None


class _TextLabel(Exception):
    """The column of labels holds a text, which the first rows did not show."""


def read_rows(
    path: Path, layout: Layout, features: Sequence[int], label: int | None, limits: Limits, *, texts: bool
) -> CsvRows:
    """Read some columns of a CSV file.

    Args:
        path: the file.
        layout: how to read it.
        features: places of the columns of numbers.
        label: place of the column of labels, if it is wanted.
        limits: refused beyond these.
        texts: whether labels may be texts.

    Raises:
        DataError: names the line and column of the first value that is missing or no finite number.
    """
    whole = sorted((*features, *(() if label is None else (label,)))) == list(range(layout.fields))
    numeric = label is None or not texts or layout.kinds[label] == "number"
    try:
        if whole and numeric and not layout.delimiter == layout.decimal == ",":
            return _read_whole(path, layout, features, label, limits, texts=texts)
    except _TextLabel:
        pass
    return _read_parts(path, layout, features, label, limits, texts=texts)


def line_of(path: Path, layout: Layout, row: int, limits: Limits) -> int:
    """The line, from 1, at which a row begins, from 0."""
    with text(path, limits) as characters:
        lines = Lines(characters, path, limits, layout.comment, layout.skip)
        return next(islice((number for number, _ in _numbered(lines, layout)), row, None), 0)


def first_values(path: Path, layout: Layout, place: int, limits: Limits) -> list[tuple[int, str]]:
    """Lines and values of a column in the first rows."""
    with text(path, limits) as characters:
        lines = Lines(characters, path, limits, layout.comment, layout.skip)
        rows = islice(_numbered(lines, layout), SAMPLE_ROWS)
        return [(number, row[place].strip()) for number, row in rows if len(row) == layout.fields]


def _read_whole(
    path: Path, layout: Layout, features: Sequence[int], label: int | None, limits: Limits, *, texts: bool
) -> CsvRows:
    """The fast way: all columns are numbers."""
    blocks: list[FloatArray] = []
    labels: list[NDArray[np.float64]] = []
    order = list(features)
    rows = 0
    with text(path, limits) as characters:
        for lines in _blocks(Lines(characters, path, limits, layout.comment, layout.skip)):
            try:
                values = _numbers(_plain(lines, layout), layout.delimiter)
            except ValueError as error:
                raise _explain(path, layout, features, label, limits, str(error), texts=texts) from None
            with np.errstate(over="ignore"):
                block = values.astype(np.float32)
            if block.shape[1] != layout.fields or not np.isfinite(block).all():
                reason = "rows of different length, or values that are not finite"
                raise _explain(path, layout, features, label, limits, reason, texts=texts)
            rows += len(block)
            check_shape(str(path), (rows, layout.fields), 4, limits)
            if label is not None:
                labels.append(values[:, label].copy())
            blocks.append(block if order == list(range(layout.fields)) else block[:, order])
    return CsvRows(_joined(path, blocks), np.concatenate(labels) if label is not None else None)


def _read_parts(
    path: Path, layout: Layout, features: Sequence[int], label: int | None, limits: Limits, *, texts: bool
) -> CsvRows:
    """The way for tables in which some columns are texts or not wanted."""
    blocks: list[FloatArray] = []
    labels: list[str] = []
    seen: dict[str, str] = {}
    rows = 0
    with text(path, limits) as characters:
        found = _numbered(Lines(characters, path, limits, layout.comment, layout.skip), layout)
        while chunk := list(islice(found, _BLOCK_ROWS)):
            try:
                lines = ["\t".join([row[place] for place in features]) for _, row in chunk]
                # loadtxt would pass over an empty line, which is a row whose only value is missing.
                if not all(lines) or any(len(row) != layout.fields for _, row in chunk):
                    raise ValueError("rows of different length")
                with np.errstate(over="ignore"):
                    block = _numbers(_plain(lines, layout), "\t").astype(np.float32)
            except (ValueError, IndexError) as error:
                raise _explain(
                    path, layout, features, label, limits, str(error), texts=texts, parts=True
                ) from None
            values = [] if label is None else [row[label].strip() for _, row in chunk]
            if not np.isfinite(block).all() or any(map(is_missing, values)):
                raise _explain(
                    path, layout, features, label, limits, "a value is missing", texts=texts, parts=True
                )
            labels.extend(seen.setdefault(value, value) for value in values)
            if len(seen) > _MAX_CLASSES and texts:
                raise DataError(
                    f"{path}: {layout.shown(label or 0)} holds more than {_MAX_CLASSES} different labels; is"
                    f" it the column of labels ({layout.keys}label-column)? Numbers to be predicted need the"
                    " loss MSE"
                )
            rows += len(block)
            check_shape(str(path), (rows, max(1, len(features))), 4, limits)
            blocks.append(block)
    if label is None:
        return CsvRows(_joined(path, blocks), None)
    if texts:
        return CsvRows(_joined(path, blocks), np.array(labels, dtype=object))
    try:
        return CsvRows(_joined(path, blocks), np.array(_plain(labels, layout), dtype=np.float64))
    except ValueError as error:
        raise _explain(path, layout, features, label, limits, str(error), texts=False) from None


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

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.first = self.first or self._lines.number
            yield line


def _numbered(lines: Lines, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """The records and the lines at which they begin."""
    starts = _Starts(lines)
    try:
        for row in records(starts, layout.delimiter):
            number, starts.first = starts.first, 0
            if row:
                yield number, row
    except csv.Error as error:
        raise DataError(f"{lines.path}, line {starts.first or lines.number}: {error}") from error


def _explain(
    path: Path,
    layout: Layout,
    features: Sequence[int],
    label: int | None,
    limits: Limits,
    reason: str,
    *,
    texts: bool,
    parts: bool = False,
) -> DataError:
    """The error for the first record that the fast readers refused, found by reading slowly.

    Raises:
        _TextLabel: it is a label that is a text, and may be one.
    """
    with text(path, limits) as characters:
        lines = Lines(characters, path, limits, layout.comment, layout.skip)
        for index, (number, row) in enumerate(_numbered(lines, layout)):
            where = f"{path}, line {number}"
            if len(row) != layout.fields:
                return DataError(
                    f"{where}: {len(row)} values where the lines before have {layout.fields}; correct the"
                    f" line, or the setting {layout.keys}delimiter"
                )
            for place in sorted((*features, *(() if label is None else (label,)))):
                if problem := _problem(row[place], layout.decimal):
                    fix = _fix(row, place, layout, first=index == 0)
                    if place == label and texts and not is_missing(row[place]):
                        if parts:
                            continue
                        raise _TextLabel
                    return DataError(
                        f"{where}, {layout.shown(place)}: {row[place].strip()[:40]!r} {problem}; {fix}"
                    )
    return DataError(f"{path}: {reason}")


def _problem(value: str, decimal: str) -> str:
    if is_missing(value):
        return "is a missing value"
    if not is_number(value, decimal):
        return "is not a finite number"
    if abs(float(value.replace(",", "."))) > _LARGEST:
        return "is not a finite number of 32 bits"
    return ""


def _fix(row: list[str], place: int, layout: Layout, *, first: bool) -> str:
    value = row[place].strip()
    if is_missing(value):
        return "fill it in, or remove the row"
    if layout.decimal == "." and "," in value and NUMBER.fullmatch(value.replace(",", ".")):
        return f"write {layout.keys}decimal: ',' if the comma is a decimal point"
    numbers = sum(is_number(one, layout.decimal) for one in row)
    if first and layout.names is None and numbers * 2 < len(row):
        return f"set '{layout.keys}header: true' if this line names the columns"
    name = (layout.names and layout.names[place]) or place
    if is_number(value, layout.decimal):
        return f"write numbers up to {_LARGEST:.1e}, or scale the column down"
    if layout.keys != KEYS:
        return "write numbers only"
    return (
        "write numbers only, or leave the column out with"
        f" ml.dataset.ignore-columns: [{name}]; if it is the label, ml.dataset.label-column: {name}"
    )
