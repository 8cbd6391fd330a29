"""Delimiters and quotation marks of a table: the values between them, and what is told of wrong ones."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mlnet.data.formats.csv_sample import Sample
from mlnet.data.formats.csv_values import is_number, spelling
from mlnet.errors import DataError

_COMMENT = re.compile(r"\s*(%+|//+|--+|!+|;+)\s*\S")
_QUOTED_WHOLE = re.compile(r'\s*"[^"]*[,;\t][^"]*"\s*')
_MIN_LINES = 3
"""Lines before anything is concluded from all of them: a header and two rows."""


def records(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """The values of lines, of which a quoted value may hold several.

    Raises:
        csv.Error: on the way, where a value is too long.
    """
    if delimiter == " ":
        lines = (" ".join(line.split()) for line in lines)
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter != "\t")


def open_quote(path: Path, number: int) -> DataError:
    """The error for a quotation mark that is not closed, in the record that begins at a line."""
    return DataError(
        f"{path}, line {number}: a quotation mark is not closed, so that the lines below belong to its text;"
        " close it, or double it if it is part of the text"
    )


def unclosed(texts: Sequence[str], delimiter: str) -> bool:
    """Whether the last record of a table ends within quotation marks."""
    try:
        list(csv.reader(texts, delimiter=delimiter, skipinitialspace=delimiter != "\t", strict=True))
    except csv.Error as error:
        return "unexpected" in str(error)
    return False


def require_closed(sample: Sample, delimiter: str) -> None:
    """Refuse a short table that ends within quotation marks, which take its lines into one value.

    Raises:
        DataError: names the line at which the mark stands.
    """
    texts = [line for _, line in sample.lines]
    if not sample.whole or not sum(line.count('"') for line in texts) % 2:
        return
    start = taken = 0

    def counted() -> Iterator[str]:
        nonlocal taken
        for line in texts:
            taken += 1
            yield line

    try:
        for _ in records(counted(), delimiter):
            if taken < len(texts):
                start = taken
    except csv.Error:
        return
    if unclosed(texts[start:], delimiter):
        raise open_quote(sample.path, sample.lines[start][0])


def require_known_delimiter(sample: Sample) -> None:
    """Refuse a table of one column if each line holds a sign that may separate its values.

    Raises:
        DataError: names the sign, and the key for it.
    """
    lines = [line.strip("\r\n") for _, line in sample.lines]
    if len(lines) < _MIN_LINES or any(spelling(line.strip()) for line in lines[1:_MIN_LINES]):
        return
    if all(map(_QUOTED_WHOLE.fullmatch, lines)):
        raise DataError(
            f"{sample.path}, line {sample.lines[0][0]}: the whole line stands in quotation marks, which"
            " makes it"
            " one value; remove the first and the last mark of each line"
        )
    for sign in sorted(set(lines[0])):
        if sign.isalnum() or sign in " .,;|\t+-_\"'":
            continue
        many = {line.count(sign) for line in lines}
        values = [value for line in lines[1:] for value in line.split(sign)]
        numbers = sum(map(is_number, values))
        if len(many) == 1 and numbers * 2 > len(values):
            shown = f'"\\x{ord(sign):02x}"' if not sign.isprintable() else repr(sign)
            raise DataError(
                f"{sample.path}: no delimiter was found; if {shown} separates the values, write"
                f" {sample.keys}delimiter: {shown}"
            )


def commented(line: str, keys: str) -> str:
    """A second fix for a line that is not a row but looks like a comment; appended to the message."""
    found = _COMMENT.match(line)
    return (
        f"; if it is a comment, write {keys}comment: {found[1]!r}" if found and keys.startswith("ml") else ""
    )
