"""``--config FILE``: the options of a command in TOML, by their long names."""

from __future__ import annotations

import difflib
import re
import tomllib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import typer
from typer.models import OptionInfo

from mlnet.errors import ConfigError
from mlnet.util import files

MAX_BYTES = 1 << 20
_LEFT_OUT = ("config", "parent")
"""Options that make no sense there."""
_SHOWN = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


class Option(NamedTuple):
    """An option of a command.

    Attributes:
        name: of the function's argument.
        kind: of its value in TOML.
        repeatable: whether it takes a list of them.
        about: what typer knows of it.
    """

    name: str
    kind: type
    repeatable: bool
    about: OptionInfo


def options(command: Callable[..., None]) -> dict[str, Option]:
    """The options of a command by their long names, without the hyphens."""
    found = {}
    for name, hint in get_type_hints(command, include_extras=True).items():
        plain, *extras = get_args(hint) if get_origin(hint) is not None else (hint,)
        about = next((extra for extra in extras if isinstance(extra, OptionInfo)), None)
        if about is None or name in _LEFT_OUT:
            continue
        given = [one for one in get_args(plain) if one is not types.NoneType] or [plain]
        kind, repeatable = given[0], get_origin(given[0]) is list
        kind = get_args(kind)[0] if repeatable else kind
        # A parser reads a text; a path is one as well.
        kind = kind if kind in _SHOWN and about.parser is None else str
        found[name.replace("_", "-")] = Option(name, kind, repeatable, about)
    return found


def values(path: Path, command: Callable[..., None]) -> dict[str, Any]:
    """What a file says, by the names of a command's arguments.

    Raises:
        ConfigError: the file cannot be read, or a key or a value of it is wrong; the message names the line.
    """
    text, known = _text(path), options(command)
    found = {}
    for key, value in _parsed(path, text).items():
        place = f"{path}, line {_line(text, key)}: {key}"
        if key not in known:
            raise ConfigError(f"{place} is no option of `mlnet-node start`{_meant(key, list(known))}")
        found[known[key].name] = _checked(known[key], value, place)
    return found


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"--config {path} cannot be read: {files.why(error)}") from error
    try:
        if len(data) > MAX_BYTES:
            raise ValueError
        return data.decode()
    except ValueError as error:
        raise ConfigError(f"--config {path} is no text of at most 1 MiB; is it the right one?") from error


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"--config {path} is no TOML: {error}; write lines such as port = 4001") from error


def _line(text: str, key: str) -> int:
    """Where a key stands, from 1; 1 where it is written in an unusual way."""
    pattern = re.compile(rf"""\s*\[?["']?{re.escape(key)}["']?\s*[=.\]]""")
    lines = enumerate(text.splitlines(), 1)
    return next((number for number, line in lines if pattern.match(line)), 1)


def _meant(key: str, known: list[str]) -> str:
    """What to write instead."""
    close = difflib.get_close_matches(key.replace("_", "-"), known, 1)
    return f"; is {close[0]} meant?" if close else "; `mlnet-node start --help` lists them, without the --"


def _checked(option: Option, value: object, place: str) -> object:
    """A value as the option takes it.

    Raises:
        ConfigError: it is of another type, or out of bounds.
    """
    if option.repeatable and not isinstance(value, list):
        raise ConfigError(f'{place} takes a list, such as ["..."]')
    each = " each" if option.repeatable else ""
    for one in value if option.repeatable and isinstance(value, list) else [value]:
        fits = isinstance(one, option.kind) or (option.kind is float and isinstance(one, int))
        if not fits or (isinstance(one, bool) and option.kind is not bool):
            raise ConfigError(f"{place} takes {_SHOWN[option.kind]}{each}, not {one!r}")
        if isinstance(one, int | float) and not isinstance(one, bool):
            _check_bounds(option.about, one, place)
        if option.about.parser is not None and isinstance(one, str):
            try:
                option.about.parser(one)
            except typer.BadParameter as error:
                raise ConfigError(f"{place}: {error.message}") from error
    return value


def _check_bounds(about: OptionInfo, value: float, place: str) -> None:
    if (about.min is not None and value < about.min) or (about.max is not None and value > about.max):
        bounds = f"{about.min:g} to {about.max:g}" if about.max is not None else f"at least {about.min:g}"
        raise ConfigError(f"{place} is {value}; it takes {bounds}")
