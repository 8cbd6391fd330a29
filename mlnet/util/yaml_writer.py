"""YAML for people, in block style, which every YAML 1.1 or 1.2 parser reads alike."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from mlnet.util.yaml12 import MAX_KEY_BYTES, UNREADABLE, quote

MAX_DEPTH = 64
"""Nesting that is written; the writer recurses."""
_MAX_PLAIN = 200
"""Characters beyond which a text is quoted even if it could be plain."""

# A plain scalar of these characters, that starts like a word or a path, means the same to every parser ...
_PLAIN = re.compile(r"[A-Za-z/_](?:[A-Za-z0-9/_.@+ -]|:(?=[A-Za-z0-9/]))*(?<! )")
# ... unless it is one of the words of YAML 1.1 or 1.2.
_RESERVED = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def dump_block(value: object) -> str:
    """Write a value as block style YAML for people: keys in the given order, long text line by line.

    Every YAML 1.1 or 1.2 parser reads the same value from it; keys may have up to 128 bytes.

    Example:
        >>> print(dump_block({"answer": "no", "nodes": [4, {"rate": 1e-7}]}), end="")
        answer: "no"
        nodes:
          - 4
          - rate: 1.0e-07

    Args:
        value: None, bool, int, float, str, and lists, tuples and mappings of these.

    Raises:
        ValueError: a type that YAML has no form for, a surrogate, a key that is not text or too long, nesting
            beyond 64 levels.
    """
    if isinstance(value, dict | list | tuple) and value:
        return "".join(f"{line}\n" for line in _block(value, 0))
    return _inline(value, 0) + "\n"


def _block(value: object, depth: int) -> Iterator[str]:
    """Lines of a list or mapping that is not empty, indented by two spaces a level."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    indent = "  " * depth
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or len(key.encode()) > MAX_KEY_BYTES:
                raise ValueError(f"a key must be text of at most {MAX_KEY_BYTES} bytes, not {key!r:.200}")
            head = f"{indent}{_scalar_text(key)}:"
            if isinstance(item, dict | list | tuple) and item:
                yield head
                yield from _block(item, depth + 1)
            else:
                yield f"{head} {_inline(item, depth + 1)}"
    elif isinstance(value, list | tuple):
        for item in value:
            if isinstance(item, dict | list | tuple) and item:
                # The first line of what is nested follows the dash, in place of its indentation.
                lines = _block(item, depth + 1)
                yield f"{indent}- {next(lines)[len(indent) + 2 :]}"
                yield from lines
            else:
                yield f"{indent}- {_inline(item, depth + 1)}"


def _inline(value: object, depth: int) -> str:
    """What follows a key or a dash: a scalar, or an empty list or mapping."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, str):
        return _literal(value, "  " * max(depth, 1)) if _is_literal(value) else _scalar_text(value)
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, list | tuple):
        return "[]"
    raise ValueError(f"YAML has no form for {type(value).__name__}")


def _scalar_text(text: str) -> str:
    plain = len(text) <= _MAX_PLAIN and _PLAIN.fullmatch(text) and text.lower() not in _RESERVED
    return text if plain else quote(text)


def _float_text(value: float) -> str:
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    text = repr(value)
    # YAML 1.1 takes a number for a float only if it has a point.
    return text if "." in text else text.replace("e", ".0e")


def _is_literal(text: str) -> bool:
    """Whether a text of several lines can stand as a literal block (``|``) that every parser reads alike."""
    if "\n" not in text or "\r" in text or UNREADABLE.search(text):
        return False
    lines = text.removesuffix("\n").split("\n")
    if any(line.isspace() for line in lines) or not lines[0] or not lines[-1]:
        return False
    return lines[0][0] not in " \t"


def _literal(text: str, indent: str) -> str:
    lines = text.removesuffix("\n").split("\n")
    head = "|" if text.endswith("\n") else "|-"
    return "\n".join([head, *(indent + line if line else "" for line in lines)])
