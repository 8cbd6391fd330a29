"""Who calls: the address behind a call, as far as it is one."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

OWNER = "owner"
"""Who calls by the unix socket, which only the node's user may open."""


def address_of(context: Any) -> str:
    """The IP address of a caller; :data:`OWNER` at the unix socket."""
    family, _, rest = context.peer().partition(":")
    if family not in ("ipv4", "ipv6"):
        return OWNER
    return unquote(rest).rpartition(":")[0].strip("[]")
