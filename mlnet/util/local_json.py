"""JSON with paths of this machine, which are bytes and need not be UTF-8.

Python's text for such bytes has lone surrogates. They are written as escapes, which Python's own reader gives
back. A document without them is like any other.
"""

from __future__ import annotations

import json
from typing import TypeVar

import msgspec

T = TypeVar("T")


def encode(value: object, indent: int | None = None) -> bytes:
    """Encode a value of msgspec's types as JSON, indented by ``indent`` spaces a level, or on one line."""
    try:
        content = msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value), indent=indent).encode()
    return content if indent is None else msgspec.json.format(content, indent=indent)


def decode(data: bytes, kind: type[T]) -> T:
    """The value in a document.

    Raises:
        msgspec.DecodeError: it is not JSON, or not of that type.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as error:
        if b"\\ud" not in data:
            raise
        try:
            return msgspec.convert(json.loads(data), kind)
        except (ValueError, RecursionError):
            raise error from None
