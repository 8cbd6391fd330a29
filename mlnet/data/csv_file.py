"""CSV files of numbers, with one column of labels."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from mlnet.data.table import FloatArray, Limits, check_shape
from mlnet.errors import DataError

_BLOCK_LINES = 4096
_BLOCK_CHARACTERS = 8 << 20
_LARGEST = float(np.finfo(np.float32).max)
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


@dataclass(frozen=True)
class CsvTable:
    """The numbers of a CSV file.

    Attributes:
        path: the file.
        values: float32 (rows, columns), all finite.
        names: of the columns, if the first line names them.
    """

    path: Path
    values: FloatArray
    names: list[str] | None

    def split(self, label_column: str | int) -> tuple[FloatArray, FloatArray]:
        """Features (rows, columns - 1) and labels (rows,).

        Args:
            label_column: name, or position counted from 0 or, if negative, from the end.

        Raises:
            DataError: there is no such column, or nothing beside it.
        """
        column = self._position(label_column)
        return np.delete(self.values, column, axis=1), self.values[:, column].copy()

    def _position(self, column: str | int) -> int:
        width = int(self.values.shape[1])
        if isinstance(column, str):
            if self.names is None:
                raise DataError(
                    f"{self.path}: the label column {column!r} is a name; set 'header: true' to use names"
                )
            if self.names.count(column) != 1:
                known = ", ".join(self.names[:8])
                raise DataError(
                    f"{self.path}: {self.names.count(column)} columns are named {column!r}, of {known}"
                )
            column = self.names.index(column)
        if not -width <= column < width or width < 2:
            raise DataError(
                f"{self.path}: no label column {column} beside features in rows of {width} values"
            )
        return column % width


def read_csv(path: Path, *, delimiter: str, header: bool, limits: Limits) -> CsvTable:
    """Read a CSV file that holds numbers only, but for a first line of names.

    Args:
        path: the file, UTF-8.
        delimiter: one character between two values.
        header: whether the first line names the columns.
        limits: refused beyond these.

    Raises:
        DataError: names the line and column of the first value that is not a finite number.
    """
    names = None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if header:
                names = [
                    name.strip() for name in _fields(file.readline(limits.line_bytes), delimiter, path, 1)
                ]
            values = _read_rows(file, path, delimiter, 2 if header else 1, limits)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read as CSV: {error}; check the path and that it is UTF-8 text"
        ) from error
    if names is not None and len(names) != values.shape[1]:
        raise DataError(f"{path}: line 1 names {len(names)} columns and the rows have {values.shape[1]}")
    return CsvTable(path, values, names)


def _fields(line: str, delimiter: str, path: Path, number: int) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise DataError(f"{path}, line {number}: {error}") from error


def _read_rows(file: TextIO, path: Path, delimiter: str, line_number: int, limits: Limits) -> FloatArray:
    blocks: list[FloatArray] = []
    rows = width = 0
    for lines in _blocks(file, path, limits, line_number):
        try:
            with np.errstate(over="ignore"):
                block = np.loadtxt(
                    lines, dtype=np.float32, delimiter=delimiter, comments=None, quotechar='"', ndmin=2
                )
        except ValueError as error:
            raise _explain(lines, path, line_number, delimiter, width, str(error)) from None
        width = width or block.shape[1]
        if block.shape[1] != width or not np.isfinite(block).all():
            raise _explain(lines, path, line_number, delimiter, width, "values are not finite")
        rows += len(block)
        check_shape(str(path), (rows, width), 4, limits)
        blocks.append(block)
        line_number += len(lines)
    if not blocks:
        raise DataError(f"{path} holds no rows; check the path and the key 'header'")
    return np.concatenate(blocks)


def _blocks(file: TextIO, path: Path, limits: Limits, first: int) -> Iterator[list[str]]:
    """Lines in blocks of at least one row each, blank lines included so that their numbers stay right."""
    number = first
    block: list[str] = []
    pending = characters = 0
    while line := file.readline(limits.line_bytes + 1):
        if len(line) > limits.line_bytes:
            raise DataError(
                f"{path}, line {number}: longer than {limits.line_bytes} characters; is it a CSV file?"
            )
        block.append(line)
        pending += bool(line.strip())
        number += 1
        characters += len(line)
        if pending == _BLOCK_LINES or (pending and characters >= _BLOCK_CHARACTERS):
            yield block
            block, pending, characters = [], 0, 0
    if pending:
        yield block


def _explain(lines: list[str], path: Path, first: int, delimiter: str, width: int, reason: str) -> DataError:
    """The error for the first line of a block that the fast reader refused, found by reading it slowly."""
    for number, line in zip(itertools.count(first), lines, strict=False):
        if not line.strip():
            continue
        fields = _fields(line, delimiter, path, number)
        width = width or len(fields)
        if len(fields) != width:
            return DataError(
                f"{path}, line {number}: {len(fields)} values where the lines before have {width};"
                " correct the line or the key 'delimiter'"
            )
        for column, field in enumerate(fields, 1):
            if not _NUMBER.fullmatch(field) or abs(float(field)) > _LARGEST:
                hint = (
                    "set 'header: true' if this line names the columns" if number == 1 else "use numbers only"
                )
                return DataError(
                    f"{path}, line {number}, column {column}: {field[:40]!r} is not a finite number; {hint}"
                )
    return DataError(f"{path}, lines {first} to {first + len(lines) - 1}: {reason}")
