"""``mlnet-node validate --fix``: the definition's file with every certain correction made."""

from __future__ import annotations

import difflib
import os
import shutil
import tempfile
from pathlib import Path

import typer

from mlnet.errors import ConfigError, TaskError
from mlnet.task import definition as task_definition
from mlnet.task import diagnosis
from mlnet.util.wording import clean, count, printable

STDOUT = Path("-")
_MAX_BACKUPS = 100
"""Copies of a file that were left; no file is written over."""


def correct(file: Path, output: Path | None) -> Path | None:
    """Correct a definition, show what was changed, and list what is left to its author.

    Args:
        file: the definition. It is replaced at once or not at all; FILE.orig keeps what it was.
        output: write there instead, and leave the file alone; ``-`` is standard output.

    Returns:
        The file that holds the corrected definition; None if that went to standard output.

    Raises:
        TaskError: something is left to be corrected by hand.
        ConfigError: the corrected file cannot be written.
    """
    data = task_definition.read_bytes(file)
    before = task_definition.decode(data, file, any_utf=True).removeprefix("\ufeff")
    mended = diagnosis.mend(before)
    changed = mended.text.encode() != data.removeprefix(b"\xef\xbb\xbf")
    target: Path | None = file
    to_stdout = output == STDOUT
    if to_stdout:
        target = None
        typer.echo(mended.text, nl=False)
    elif output is not None:
        target = output
        _write_new(output, mended.text.encode())
    if changed:
        name = "standard output" if target is None else str(target)
        _show(before, mended, str(file), name, err=to_stdout)
        if output is None:
            backup = _replace(file, data, mended.text.encode())
            typer.echo(f"{file} is corrected; what it was is in {backup}")
    else:
        typer.echo(
            "nothing to correct" if not mended.left else "none of the errors can be corrected automatically",
            err=to_stdout,
        )
    if mended.left:
        raise TaskError.of(mended.left, str(file if target is None else target))
    return target


def _show(before: str, mended: diagnosis.Mended, old: str, new: str, *, err: bool) -> None:
    lines = difflib.unified_diff(before.splitlines(), mended.text.splitlines(), old, new, lineterm="", n=1)
    for line in lines:
        typer.echo(printable(line.rstrip()), err=err)
    typer.echo(f"corrected: {count(len(mended.mended), 'error')}", err=err)
    for error in mended.mended:
        typer.echo(f"  {clean(str(error))}", err=err)


def _write_new(path: Path, data: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        raise ConfigError(f"{path} exists already; name a new file with --output") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def _replace(file: Path, before: bytes, after: bytes) -> Path:
    """Put the new content in the place of the old one, of which a copy stays; the path of the copy."""
    real = file.resolve()
    try:
        backup = _back_up(real, before)
        descriptor, name = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.")
        try:
            with os.fdopen(descriptor, "wb") as new:
                new.write(after)
                new.flush()
                os.fsync(new.fileno())
            shutil.copymode(real, name)
            if real.read_bytes() != before:
                raise ConfigError(f"{file} was changed while it was being corrected; run the command again")
            Path(name).replace(real)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        reason = f"{file} cannot be replaced: {error.strerror}"
        raise ConfigError(f"{reason}; write the corrected one elsewhere with --output NEW") from None
    return backup


def _back_up(file: Path, data: bytes) -> Path:
    for number in range(_MAX_BACKUPS):
        backup = file.with_name(f"{file.name}.orig" + (f".{number}" if number else ""))
        try:
            with backup.open("xb") as copy:
                copy.write(data)
                copy.flush()
                os.fsync(copy.fileno())
        except FileExistsError:
            continue
        shutil.copymode(file, backup)
        return backup
    raise ConfigError(f"{file.name}.orig to {file.name}.orig.{_MAX_BACKUPS - 1} exist: remove some of them")
