"""In which order the segments are used: a Borda count over ballots that were committed to beforehand.

The order decides which segments train and which are held back to score the model. A client that could choose
it might keep easy rows for scoring; a member, who trains on what comes first, might choose as well. So a
ballot ranks the segments by a hash of a secret that its sender committed to before it knew the segments. The
joint order cannot be foreseen as long as one of the secrets cannot.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence

from mlnet.kernels import borda


def commitment(secret: bytes) -> str:
    """What is published of a secret: its SHA-256, hex."""
    return hashlib.sha256(secret).hexdigest()


def ballot(secret: bytes, segments: Sequence[str]) -> tuple[str, ...]:
    """The ranking that a secret gives: segment hashes (hex) by SHA-256(secret, segment hash)."""
    return tuple(sorted(segments, key=lambda segment: _score(secret, segment)))


def opens(secret: str, ranking: Sequence[str], commitment_: str, segments: Sequence[str]) -> bool:
    """Whether a ballot is the one that its sender committed to."""
    try:
        raw = bytes.fromhex(secret)
    except ValueError:
        return False
    return commitment(raw) == commitment_ and tuple(ranking) == ballot(raw, segments)


def order(secrets: Mapping[str, str], segments: Sequence[str]) -> tuple[str, ...]:
    """The voted order of the segments.

    A tie in points is broken by a hash over all the secrets, which nobody knew when the segments were fixed.

    Args:
        secrets: by committee member, hex; those of the ballots that count, at least one.
        segments: the segment hashes, distinct.

    Returns:
        All segments, the first first.
    """
    known = sorted(segments)
    place = {segment: index for index, segment in enumerate(known)}
    ordered = [bytes.fromhex(secrets[peer]) for peer in sorted(secrets)]
    cast = array("i", (place[segment] for secret in ordered for segment in ballot(secret, known)))
    ballots = memoryview(cast).cast("B").cast("i", (len(ordered), len(known)))
    points = borda.score(ballots)
    joint = hashlib.sha256(b"".join(ordered)).digest()
    return tuple(sorted(known, key=lambda segment: (-int(points[place[segment]]), _score(joint, segment))))


def _score(secret: bytes, segment: str) -> bytes:
    return hashlib.sha256(secret + bytes.fromhex(segment)).digest()
