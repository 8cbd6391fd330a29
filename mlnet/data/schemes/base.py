"""What a scheme of links is told of a transfer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class FetchBlob(Protocol):
    """Gets a blob from a member of the network; raises TransportError or DataError when it cannot."""

    def __call__(
        self, digest: str, *, max_bytes: int, timeout: float, sink: Callable[[bytes], None]
    ) -> Awaitable[int]:
        """Give the blob to ``sink`` in pieces, within ``timeout`` seconds; the number of bytes."""
        ...


@dataclass(frozen=True)
class LinkPolicy:
    """What the operator of a node allows links to do.

    Attributes:
        file_roots: directories below which file:// links may read.
        allow_private: whether http links may lead to addresses that are not of the public Internet.
    """

    file_roots: tuple[Path, ...] = ()
    allow_private: bool = False


@dataclass(frozen=True)
class Transfer:
    """What is to be fetched.

    Attributes:
        link: where it is.
        digest: its hash, hex.
        size: its bytes; no more are taken.
        seconds: for all of it; whoever transfers is cancelled then.
        policy: what the operator allows.
        fetch_blob: asks a member of the network; None where none is known.
        sink: takes the bytes, in order; what it raises ends the transfer.
    """

    link: str
    digest: str
    size: int
    seconds: float
    policy: LinkPolicy
    fetch_blob: FetchBlob | None
    sink: Callable[[bytes], None]
