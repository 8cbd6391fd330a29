"""Peers that hold a blob, and what is fetched from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mlnet import data
from mlnet.driver.messenger import Wire
from mlnet.errors import DataError, TransportError
from mlnet.task.segments import Segment

ASKED = 4
"""Peers that are asked for a segment."""


class Holder:
    """Fetches blobs from one peer.

    Args:
        wire: the connection to the network.
        peer: whom to ask.
        share: of the time that a transfer may take, so that others can be asked in the rest of it.
    """

    def __init__(self, wire: Wire, peer: str, share: float = 1.0) -> None:
        self._wire = wire
        self._peer = peer
        self._share = share

    async def __call__(
        self, digest: str, *, max_bytes: int, timeout: float, sink: Callable[[bytes], None]
    ) -> int:
        """See :class:`mlnet.data.FetchBlob`."""
        return await self._wire.network.fetch_blob(
            self._peer, digest, max_bytes=max_bytes, timeout=timeout * self._share, sink=sink
        )


async def fetch_segment(
    wire: Wire,
    peers: Sequence[str],
    link: str,
    segment: Segment,
    destination: Path,
    policy: data.LinkPolicy,
) -> Path:
    """Fetch a segment from its link, else from a peer that has it; verified either way.

    Args:
        wire: the connection to the network.
        peers: who may have it, the likeliest first.
        link: where the client says it is.
        segment: what it must be.
        destination: the file to write.
        policy: what links may do.

    Raises:
        DataError: it is nowhere to be had; the message says what was tried.
        StorageError: there is no room for it here.
    """
    blob = f"mlnet:{segment.root}"
    asked = [peer for peer in peers if peer != wire.network.peer_id][:ASKED]
    sources = [(blob, Holder(wire, peer, 1 / len(asked))) for peer in asked]
    if link != blob:
        sources.insert(0, (link, sources[0][1]))
    problems = []
    for source, holder in sources:
        try:
            return await data.fetch(
                source,
                digest=segment.root,
                size=segment.size,
                destination=destination,
                policy=policy,
                fetch_blob=holder,
            )
        except (DataError, TransportError) as error:
            problems.append(str(error))
    raise DataError(f"segment {segment.root[:12]} cannot be fetched: {'; '.join(dict.fromkeys(problems))}")
