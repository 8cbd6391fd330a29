"""The schemes of links at which segments and models can be had, a file each.

A new one is a file here with a function ``fetch``, and an entry of :data:`SCHEMES`. It gives the bytes to the
transfer's sink, which counts and hashes them; it need not trust whoever sends them, and raises DataError
when they cannot be had. What it begins has ended when it returns or is cancelled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mlnet.data.schemes import file, member, web
from mlnet.data.schemes.base import Transfer

SCHEMES: dict[str, Callable[[Transfer], Awaitable[None]]] = {
    "mlnet": member.fetch,
    "http": web.fetch,
    "https": web.fetch,
    "file": file.fetch,
}
"""What stands before the colon of a link, and who fetches it."""
