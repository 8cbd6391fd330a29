"""Sealed votes: committed to in INIT_CLUSTER, opened cycle by cycle.

In a vote that the minority wins, the last voter wins: it sees the others' votes and takes the smaller side.
So INIT_CLUSTER commits to the vote of each possible cycle by a hash, the client names the members before it
knows a vote, and COMMITTEE_VOTING, from cycle 0 on, opens one commitment a cycle. A voter who has seen all
others can still refuse to open its own vote, which costs it its place in the cluster. This is the coin
flipping of M. Blum ("Coin flipping by telephone", 1981) among many.

Ties, and seats after the last cycle, go by a hash over the opened secrets. A hash over the envelopes would
let a last voter try one date after another until the hash suits it.

A new attempt opens the same commitments again: the votes of cycles that an earlier attempt opened are known.
The commitment is a hash over 32 secret bytes, so that nobody finds the vote by trying both.
"""

from __future__ import annotations

import hashlib
from typing import Literal

CONTEXT = b"mlnet-vote-1\0"


def commitment(secret: bytes, cycle: int, vote: Literal[0, 1]) -> str:
    """What is published of a vote: SHA-256 over context, secret, cycle and vote, hex.

    Args:
        secret: 32 bytes that nobody else knows.
        cycle: from 0.
        vote: 0 or 1.
    """
    return hashlib.sha256(CONTEXT + secret + bytes((cycle, vote))).hexdigest()


def opens(opening: str, commitments: tuple[str, ...], cycle: int, vote: Literal[0, 1]) -> bool:
    """Whether a vote is the one that its sender committed to for a cycle.

    Args:
        opening: the secret, hex; anything else opens nothing.
        commitments: of the sender, one a cycle.
        cycle: from 0.
        vote: what the sender says that it voted.
    """
    if cycle >= len(commitments):
        return False
    try:
        secret = bytes.fromhex(opening)
    except ValueError:
        return False
    return commitment(secret, cycle, vote) == commitments[cycle]
