"""Votes that nobody can fit to those of others: committed to in INIT_CLUSTER, opened cycle by cycle.

INIT_CLUSTER holds one hash for each possible cycle. The vote of a cycle, COMMITTEE_VOTING from cycle 0 on,
opens its own. Who sees all other votes can still do no more than keep silent, which costs its place in the
cluster; the client names the members before it knows a vote. Ties, and seats after the last cycle, go by a
hash over the opened secrets instead of the envelopes, whose hashes a last voter could choose.

A new attempt opens the same commitments again: of the cycles that an earlier attempt has opened, the votes
are known.
"""

from __future__ import annotations

import hashlib
from typing import Literal

CONTEXT = b"mlnet-vote-1\0"


def commitment(secret: bytes, cycle: int, vote: Literal[0, 1]) -> str:
    """What is published of a vote: SHA-256 over context, secret, cycle and vote, hex."""
    return hashlib.sha256(CONTEXT + secret + bytes((cycle, vote))).hexdigest()


def opens(opening: str, commitments: tuple[str, ...], cycle: int, vote: Literal[0, 1]) -> bool:
    """Whether a vote is the one that its sender committed to for a cycle."""
    if cycle >= len(commitments):
        return False
    try:
        secret = bytes.fromhex(opening)
    except ValueError:
        return False
    return commitment(secret, cycle, vote) == commitments[cycle]
