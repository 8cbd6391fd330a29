"""``mlnet:HASH``: a member of the network has it."""

from __future__ import annotations

from mlnet.data.schemes.base import Transfer
from mlnet.errors import DataError, HashMismatch


async def fetch(transfer: Transfer) -> None:
    """Ask a member for it; see :data:`mlnet.data.schemes.SCHEMES`."""
    link = transfer.link
    if link.partition(":")[2] != transfer.digest:
        raise HashMismatch(f"{link[:100]} names another file than the one promised, {transfer.digest}")
    if transfer.fetch_blob is None:
        raise DataError(f"{link}: no member of the network is known to ask; use another kind of link")
    await transfer.fetch_blob(
        transfer.digest, max_bytes=transfer.size, timeout=transfer.seconds, sink=transfer.sink
    )
