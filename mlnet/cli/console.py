"""How a command ends: the one line of an error, the exit code, and signals on the way there."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlnet.errors import ConfigError, MlnetError, TaskError
from mlnet.task.problems import MAX_PROBLEMS
from mlnet.util.wording import clean

NAME = "mlnet-node"
INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of the signal, as shells have it."""
MAX_ERROR = 4000
"""Characters of a line of an error. It may quote what others have sent."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def fail(error: MlnetError) -> int:
    """Say on standard error what is wrong; the exit code. Several errors of a definition are a list."""
    if isinstance(error, TaskError):
        _list(error)
    else:
        say(f"error: {error}")
    return error.exit_code


def _list(error: TaskError) -> None:
    if len(error.errors) == 1:
        say(f"error: {error.file + ': ' if error.file else ''}{error}")
    else:
        more = " or more" if len(error.errors) >= MAX_PROBLEMS else ""
        say(f"error: {error.file or 'the task definition'} has {len(error.errors)}{more} errors")
        for one in error.errors:
            line = f"line {one.line}: " if one.line else ""
            path = f"{one.path}: " if one.path else ""
            _write(f"  {line}{path}{one.problem}")
            if one.fix:
                _write(f"      {'-->' if one.certain else '->'} {one.fix}")
    certain = sum(one.certain for one in error.errors)
    if certain and error.file:
        what = "this" if len(error.errors) == 1 else f"{certain} of them, those marked -->"
        _write(f"{NAME} validate --fix {shlex.quote(error.file)} corrects {what}")


def _write(line: str) -> None:
    """One line that keeps its indentation."""
    indent = line[: len(line) - len(line.lstrip(" "))]
    sys.stderr.write(f"{indent}{clean(line, MAX_ERROR)}\n")
    sys.stderr.flush()


def crashed(error: Exception) -> int:
    """The same for an error that nobody foresaw.

    Raises:
        Exception: the error itself, for its traceback, when ``MLNET_DEBUG`` is set.
    """
    if os.environ.get("MLNET_DEBUG"):
        raise error
    if isinstance(error, FileNotFoundError) and not _is_somewhere():
        say("error: the current directory was removed; change to one that exists")
        return ConfigError.exit_code
    say(f"error: unexpected {type(error).__name__}: {error} (set MLNET_DEBUG=1 for the traceback)")
    return 1


def _is_somewhere() -> bool:
    """Whether there is a current directory."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def say(text: str) -> None:
    """Write one line to standard error, in the name of the program."""
    sys.stderr.write(f"{NAME}: {clean(text, MAX_ERROR)}\n")
    sys.stderr.flush()


def lost_output(error: OSError) -> None:
    """Say on standard error that standard output is lost, and abandon it."""
    say(f"standard output cannot be written: {error.strerror}")
    abandon_output()


def abandon_output() -> None:
    """Standard output is of no use any more: have the interpreter's last flush succeed."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


@contextmanager
def signals(handler: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Give SIGINT, SIGTERM and SIGHUP to a handler on the running loop for as long as the context lasts.

    One that the process ignores (``nohup``) stays ignored.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    taken = [number for number in _SIGNALS if before[number] is not signal.SIG_IGN]
    for number in taken:
        loop.add_signal_handler(number, handler, number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])
