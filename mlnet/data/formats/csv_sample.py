"""The first lines of a table without comments: delimiter, header and types of columns are told by them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from mlnet.data.formats.csv_text import Lines, is_comment, text
from mlnet.data.formats.csv_values import NUMBER
from mlnet.data.schema import Dialect
from mlnet.data.table import DatasetLimits
from mlnet.errors import DataError

SAMPLE_ROWS = 500
"""Lines by which delimiter, header and types of the columns are told."""
_CHARACTERS = 1 << 20
"""Of these lines, if they are long."""
KEYS = "ml.dataset."
_SEP = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_ARFF = re.compile(r"\s*@(relation|attribute|data)\b", re.IGNORECASE)
_RULED = re.compile(r"(?=.*[|+])(?=.*--)[\s|+:=-]+")
_SQL = re.compile(
    r"\s*(INSERT\s+INTO|(CREATE|DROP)\s+TABLE|COPY\s+\S+.*\bFROM\s+stdin|-- (MySQL|PostgreSQL|MariaDB)\b)",
    re.IGNORECASE,
)
_LIBSVM = re.compile(r"\S+(\s+\d+:\S+)+\s*")


@dataclass
class Sample:
    """The first lines of a table.

    Attributes:
        path: of the file.
        lines: number and text of each, comments apart.
        comments: the texts of those above the first row.
        sep: the delimiter, where a line ``sep=;`` names it, as Excel reads it.
        comment: with which a line of comment begins; empty for none.
        known: names that columns should have.
        counted: whether a first line 0, 1, 2, ... may be names.
        keys: what the names of settings begin with, for error messages.
        whole: these are all lines of the file.
    """

    path: Path
    lines: list[tuple[int, str]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    sep: str | None = None
    comment: str = ""
    known: tuple[str, ...] = ()
    counted: bool = True
    keys: str = KEYS
    whole: bool = True


def read_sample(
    path: Path, dialect: Dialect, limits: DatasetLimits, known: tuple[str, ...], keys: str
) -> Sample:
    """The first lines of a file.

    Args:
        path: the file.
        dialect: what is known of it.
        limits: refused beyond these.
        known: names that columns should have.
        keys: what the names of settings begin with, for error messages.

    Raises:
        DataError: it is no table, or it is not clear what is a comment.
    """
    sample = Sample(path, comment=dialect.comment or "", known=known, keys=keys)
    with text(path, limits) as characters:
        lines = Lines(characters, path, limits)
        size = 0
        for line in islice(lines, SAMPLE_ROWS):
            size += len(line)
            sample.lines.append((lines.number, line))
            if size > _CHARACTERS and len(sample.lines) > 2:
                break
        sample.whole = next(lines, None) is None
    _refuse_other_texts(path, sample.lines)
    if sample.lines and (found := _SEP.fullmatch(sample.lines[0][1])):
        sample.sep = found[1]
        del sample.lines[0]
    _part_comments(sample, dialect)
    return sample


def _refuse_other_texts(path: Path, lines: list[tuple[int, str]]) -> None:
    for number, line in lines:
        if _ARFF.match(line):
            raise DataError(
                f"{path}, line {number}: {line.strip()[:40]!r} is ARFF, not CSV; remove the lines that begin"
                " with @ and %, or save it as CSV"
            )
    for number, line in lines[:4]:
        if _SQL.match(line):
            raise DataError(
                f"{path}, line {number}: {line.strip()[:40]!r} is SQL, not CSV; have the database write"
                " the table"
                " as CSV"
            )
        if _RULED.fullmatch(line):
            raise DataError(
                f"{path}, line {number} is a rule of a table that was drawn for people, such as Markdown, not"
                " CSV; save it as CSV"
            )
    if lines and all(_LIBSVM.fullmatch(line) for _, line in lines[:20]):
        raise DataError(
            f"{path} is in the format of libsvm (label index:value ...), not CSV; save it as NPZ, such as"
            " with sklearn.datasets.load_svmlight_file and numpy.savez(..., features=x.toarray(), labels=y)"
        )


def _part_comments(sample: Sample, dialect: Dialect) -> None:
    """Take comments out. Without a setting they are told by lines that begin with # before the first row, or
    by a first column of numbers, in which none can be a value."""
    mark = dialect.comment
    if mark is None:
        rest = [line for _, line in sample.lines if not is_comment(line, "#")]
        leading = bool(sample.lines) and is_comment(sample.lines[0][1], "#")
        numeric = [NUMBER.match(line.strip()) is not None for line in rest[1:]]
        if (leading or len(rest) < len(sample.lines)) and (all(numeric) or not numeric):
            mark = "#"
        elif leading:
            raise DataError(
                f"{sample.path}, line {sample.lines[0][0]} begins with #: a comment, or values? Write"
                f" {sample.keys}comment: '#' if it is one, or remove the line"
            )
    if not mark:
        return
    sample.comment = mark
    kept = []
    for number, line in sample.lines:
        if not is_comment(line, mark):
            kept.append((number, line))
        elif not kept:
            sample.comments.append(line.lstrip().removeprefix(mark).strip())
    sample.lines = kept
