"""Formats values for people: short names, amounts, durations, and text from others."""

from __future__ import annotations

import re

MICRO = 1_000_000
"""Micro-units in a unit of payment."""
NAME_LENGTH = 6
"""Last characters of a peer id that name a node; the first ones are the same for all."""
TASK_LENGTH = 12
"""Digits of a task's id that are shown: 48 bits, enough to tell the tasks of a network apart."""
MAX_TEXT = 500
"""Characters of a text from others that are shown."""
_PEER_ID = re.compile(r"(?<!/p2p/)\b12D3KooW[1-9A-HJ-NP-Za-km-z]{44}\b")
_ELLIPSIS = "…"


def short(peer: str) -> str:
    """A node's short name for people: the end of its peer id."""
    return clean(peer[-NAME_LENGTH:])


def shorts(peers: object) -> str:
    """Names of nodes, in the order given."""
    return " ".join(short(str(peer)) for peer in peers) if isinstance(peers, tuple | list) else ""


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """One line of text that is safe on a terminal, even if a stranger wrote it. Peer ids in it become short
    names, except in multiaddrs, which people copy.

    Args:
        text: any text.
        limit: characters of the longest line that is shown in full.
    """
    line = " ".join(_PEER_ID.sub(lambda found: found[0][-NAME_LENGTH:], text).split())
    line = printable(line)
    return line if len(line) <= limit else line[: limit - 1] + _ELLIPSIS


def printable(text: str) -> str:
    """The text with ``?`` for characters that would move a terminal's cursor or hide something; line breaks
    stay."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def amount(micro: int) -> str:
    """Micro-units as an exact decimal.

    Example:
        >>> amount(12_500_000), amount(-1)
        ('12.5', '-0.000001')
    """
    whole, rest = divmod(abs(micro), MICRO)
    decimals = f".{rest:06d}".rstrip("0") if rest else ""
    return f"{'-' if micro < 0 else ''}{whole}{decimals}"


def share(value: float | None) -> str:
    """A share of 1 as a percentage.

    Example:
        >>> share(0.875), share(None)
        ('87.50 %', 'none')
    """
    return "none" if value is None else f"{100 * value:.2f} %"


def duration(seconds: float) -> str:
    """Seconds for people.

    Example:
        >>> duration(0.4), duration(37), duration(845), duration(3723)
        ('0.4 s', '37 s', '14:05', '1:02:03')
    """
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def count(number: int, noun: str) -> str:
    """A number and its noun.

    Example:
        >>> count(1, "node"), count(1797, "row")
        ('1 node', '1,797 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
