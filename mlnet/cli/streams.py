"""Standard streams that may be closed, full, or unable to show a letter: what happens to them ends no command
that has done its work."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_MODES = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)


class OutputLost(OSError):
    """Standard output cannot be written, for another reason than that its reader has gone."""


class _Output(io.FileIO):
    """Standard output, whose errors are told from those of other files."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of it.

        Raises:
            BrokenPipeError: nobody reads it any more.
            OutputLost: it cannot be written.
        """
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputLost(error.errno, error.strerror) from error


class _Remarks(io.FileIO):
    """Standard error, on which nothing depends: what it does not take is dropped."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of it, or drop it all."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def prepare() -> None:
    """Make the three streams safe to use.

    Call it first: a descriptor that was closed at the start would be given to the next file or socket, and
    what is meant for the terminal would be written there.
    """
    for descriptor, mode in enumerate(_MODES):
        try:
            os.fstat(descriptor)
        except OSError:
            # Those before it are open, so that it is the lowest one free.
            os.set_inheritable(os.open(os.devnull, mode), True)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.FileIO(0, "r", closefd=False), encoding="utf-8")
    if sys.stdout is sys.__stdout__:
        sys.stdout = _rewritten(sys.stdout, lambda: _Output(1, "w", closefd=False))
    if sys.stderr is sys.__stderr__:
        sys.stderr = _rewritten(sys.stderr, lambda: _Remarks(2, "w", closefd=False))


def _rewritten(old: TextIO | None, make: Callable[[], io.FileIO]) -> TextIO:
    """A stream in place of the interpreter's own that writes what its encoding lacks as an escape."""
    if old is not None:
        old.flush()
    raw = make()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding="utf-8" if old is None else old.encoding,
        errors="backslashreplace",
        line_buffering=raw.isatty() or raw.fileno() == 2,
    )
