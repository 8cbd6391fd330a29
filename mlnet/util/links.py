"""Links as users, callers and peers write them."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from mlnet.errors import DataError


def split(link: str) -> SplitResult:
    """The parts of a link.

    Raises:
        DataError: it is none.
    """
    try:
        return urlsplit(link)
    except ValueError as error:
        raise DataError(f"{link[:200]!r} is no link: {error}; write https://HOST/FILE, or a path") from None


def scheme_of(named: str) -> str:
    """The scheme of a link; empty for a path.

    Raises:
        DataError: it looks like a link, and is none.
    """
    return split(named).scheme if "://" in named else ""
