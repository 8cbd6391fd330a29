"""Values of the command line: read, or refused with what to write instead."""

from __future__ import annotations

import re
from pathlib import Path

import typer

import mlnet
from mlnet.util.hosts import MAX_PORT

DEFAULT_FILE = "client-task-definition.yaml"
_AMOUNT = re.compile(r"\d{1,12}(?:\.\d{1,6})?")
_PORTS = re.compile(r"(\d{1,5})-(\d{1,5})")


def parse_size(text: str) -> int:
    """Bytes of ``4GiB``, at least one MiB."""
    from mlnet.task.fields import size_bytes

    size = size_bytes(text) or 0
    if size < 1 << 20:
        raise typer.BadParameter(f"{text!r} is not a size of at least 1MiB; write it like 4GiB")
    return size


def parse_duration(text: str) -> float:
    """Seconds of ``90s``."""
    from mlnet.task.fields import duration_ms

    milliseconds = duration_ms(text)
    if milliseconds is None:
        raise typer.BadParameter(f"{text!r} is not a duration; write it like 90s, 15m or 2h")
    return milliseconds / 1000


def parse_amount(text: str) -> int:
    """Micro-units of ``12.5``."""
    from mlnet.task.fields import amount_micro

    if not _AMOUNT.fullmatch(text):
        raise typer.BadParameter(
            f"{text!r} is not an amount; write a number with at most six decimals, such as 12.5"
        )
    return amount_micro(text)


def parse_peer_id(text: str) -> str:
    """A peer id, unchanged."""
    from mlnet.identity import keys

    try:
        keys.parse_peer_id(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}; `mlnet-node start` prints the peer id of a node") from None
    return text


def parse_ports(text: str) -> tuple[int, int]:
    """The ends of ``7000-7099``, both of them in it."""
    found = _PORTS.fullmatch(text)
    low, high = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= low <= high <= MAX_PORT:
        raise typer.BadParameter(f"{text!r} is not a range of ports; write LOW-HIGH, such as 7000-7099")
    return low, high


def definition_file(named: Path | None) -> Path:
    """The definition that a command works on: the one named, else the one here, else the packaged one."""
    if named is not None:
        return named
    here = Path(DEFAULT_FILE)
    return here if here.exists() else Path(mlnet.__file__).with_name("examples") / DEFAULT_FILE
