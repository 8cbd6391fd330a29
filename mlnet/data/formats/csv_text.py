"""The lines of a text file that may hold a table: plain or gzip, UTF-8 or UTF-16, bounded.

A file of another kind is refused by what it is, with what to do about it.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import shlex
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from mlnet.data.table import DatasetLimits
from mlnet.errors import DataError

_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_TOLD_BY = 8
"""Characters with a zero byte each before a text without a mark (BOM) is certainly UTF-16."""
_WINDOWS = "cp1252"
_CELL_ERROR = re.compile(r"#(N/A|REF!|DIV/0!|VALUE!|NAME\?|NUM!|NULL!)", re.IGNORECASE)
"""Of a spreadsheet; it begins like a comment."""
_END_OF_FILE = "\x1a"
_UNPACK = "unpack it (gzip is the only compression that is read)"
_AS_CSV = "save it as CSV"
_FOREIGN = (
    (b"PAR1", "a Parquet file", f"{_AS_CSV}, such as with pandas.read_parquet(...).to_csv(..., index=False)"),
    (
        b"PK\3\4",
        "a Zip archive",
        "unpack it; save an Excel sheet as CSV; for an NPZ file, write ml.dataset.format: NPZ",
    ),
    (b"\xd0\xcf\x11\xe0", "an Excel file", "save the sheet as CSV"),
    (b"BZh", "compressed with bzip2", _UNPACK),
    (b"\xfd7zXZ", "compressed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"\x89HDF", "an HDF5 file", _AS_CSV),
    (b"SQLite format 3", "an SQLite database", _AS_CSV),
    (b"ARROW1", "an Arrow file", _AS_CSV),
    (b"\x93NUMPY", "a NumPy array", "write ml.dataset.format: NPZ"),
    (b"\0\0\x08", "an IDX file", "write ml.dataset.format: MNIST"),
    (b"\x80", "a Python pickle", f"pickles can run code and are never read: {_AS_CSV}"),
    (b"%PDF", "a PDF", _AS_CSV),
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself with: git lfs pull"),
    (b"<!DOCTYPE", "a web page", "download the file itself"),
    (b"<html", "a web page", "download the file itself"),
    (b"<table", "a table of a web page", _AS_CSV),
    (b"<?xml", "an XML file", _AS_CSV),
    (b"\xff\xfe\0\0", "UTF-32 text", "save it as UTF-8"),
    (b"\0\0\xfe\xff", "UTF-32 text", "save it as UTF-8"),
    (b"{", "a JSON file", _AS_CSV),
    (b"[", "a JSON file", _AS_CSV),
)


@contextmanager
def text(path: Path, limits: DatasetLimits) -> Iterator[TextIO]:
    """The characters of a file, from its start.

    Raises:
        DataError: it cannot be read, is of another kind, or becomes unreadable within the context.
    """
    try:
        with path.open("rb") as file:
            start = file.read(32)
            file.seek(0)
            stream: BinaryIO = file
            if start.startswith(_GZIP):
                # peek() decompresses one buffer, however much the file claims to hold.
                unpacked = io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=file)))
                start = unpacked.peek(32)[:32]
                stream = unpacked
            refuse_foreign(path, start)
            with io.TextIOWrapper(stream, encoding=_encoding(start), newline="") as characters:
                yield characters
    except UnicodeDecodeError as error:
        raise _undecodable(path, limits, error) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}; check the path and get it again") from error


def _encoding(start: bytes) -> str:
    """That of a text, by its first bytes."""
    if start.startswith(_UTF16):
        return "utf-16"
    if len(start) >= 2 * _TOLD_BY:
        for name, zeros, others in (
            ("utf-16-le", start[1::2], start[::2]),
            ("utf-16-be", start[::2], start[1::2]),
        ):
            if not any(zeros) and all(others):
                return name
    return "utf-8-sig"


def _undecodable(path: Path, limits: DatasetLimits, error: UnicodeDecodeError) -> DataError:
    """The error for the first byte of a file that is not of its encoding, found by reading it again."""
    if error.encoding != "utf-8":
        return DataError(f"{path} is not whole UTF-16 text ({error.reason}); save it again, as UTF-8")
    with path.open("rb") as file:
        packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        stream = cast("BinaryIO", gzip.GzipFile(fileobj=file)) if packed else file
        decoder = codecs.getincrementaldecoder("utf-8")()
        number = 1
        while line := stream.readline(limits.line_bytes):
            try:
                decoder.decode(line)
            except UnicodeDecodeError as found:
                return _foreign_byte(path, number, found.object[found.start], packed=packed)
            number += line.endswith(b"\n")
    return DataError(f"{path} ends within a character of UTF-8; get it again")


def _foreign_byte(path: Path, number: int, byte: int, *, packed: bool) -> DataError:
    where = f"{path}, line {number} holds the byte 0x{byte:02X}, which is not UTF-8"
    try:
        meant = bytes((byte,)).decode(_WINDOWS)
    except UnicodeDecodeError:
        return DataError(f"{where}, and no text of Windows either; is it a table? If so, save it as UTF-8")
    name = shlex.quote(path.name)
    source = (
        f"zcat {name} | iconv -f {_WINDOWS} -t utf-8" if packed else f"iconv -f {_WINDOWS} -t utf-8 {name}"
    )
    return DataError(
        f"{where}; in the Western European text of Windows it is {meant!r}. If that is meant, convert the"
        f" file: {source} > utf8.csv; if not, put the file's own encoding for {_WINDOWS}"
    )


def is_comment(line: str, mark: str) -> bool:
    """Whether a line is a comment that begins with the mark, and not with the error of a spreadsheet."""
    start = line.lstrip()
    return start.startswith(mark) and not _CELL_ERROR.match(start)


def refuse_foreign(path: Path, start: bytes) -> None:
    """Refuse a file whose first bytes are those of another kind.

    Raises:
        DataError: names the kind, and what to do.
    """
    for magic, what, fix in _FOREIGN:
        if start.lstrip(b"\xef\xbb\xbf \r\n").startswith(magic) or start.startswith(magic):
            raise DataError(f"{path} is {what}, not CSV; {fix}")


_BLANK = " \r\n\f"
"""Of a blank line. One of tabs alone may be a row whose values are all missing."""


class Lines:
    """The lines of a table that hold values: without comments and blank lines, each of bounded length.

    Args:
        characters: the text, from its start.
        path: for error messages.
        limits: of a line, and of the whole once it is unpacked.
        comment: with which a line of comment begins; empty for none.
        skip: lines before the first one.

    Attributes:
        path: for error messages.
        number: of the line that was returned last, from 1.
        quoted: the lines so far hold an odd number of quotation marks.
    """

    def __init__(
        self, characters: TextIO, path: Path, limits: DatasetLimits, comment: str = "", skip: int = 0
    ) -> None:
        self._characters = characters
        self.path = path
        self._limits = limits
        self._comment = comment
        self.quoted = False
        self._left = limits.source_bytes
        self.number = 0
        for _ in range(skip):
            self._next()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while line := self._next():
            # A quoted value may hold line ends: what looks like a comment there is none.
            if not self.quoted and (
                not line.strip(_BLANK) or (self._comment and is_comment(line, self._comment))
            ):
                continue
            if line.count('"') % 2:
                self.quoted = not self.quoted
            return line
        raise StopIteration

    def _next(self) -> str:
        most = self._limits.line_bytes
        line = self._characters.readline(most + 1)
        self.number += bool(line)
        self._left -= len(line)
        if "\0" in line or _END_OF_FILE in line:
            self._refuse_control(line)
        if len(line) > most:
            raise DataError(
                f"{self.path}, line {self.number}: longer than {most} characters; is it a CSV file?"
            )
        if self._left < 0:
            raise DataError(
                f"{self.path} unpacks to more than {self._limits.source_bytes} bytes; use a smaller dataset"
            )
        return line

    def _refuse_control(self, line: str) -> None:
        where, name = f"{self.path}, line {self.number}", shlex.quote(self.path.name)
        if "\0" in line:
            raise DataError(
                f"{where} holds a NUL byte: the file was damaged, as by a crash while it was written; get it"
                " again, or remove the line"
            )
        if line.startswith(_END_OF_FILE):
            raise DataError(
                f"{where} begins with a Ctrl-Z (byte 0x1A), with which DOS ended texts; remove it: tr -d"
                f" '\\032' < {name} > clean.csv"
            )
        raise DataError(f"{where} holds a Ctrl-Z (byte 0x1A), which is no text; correct the line")
