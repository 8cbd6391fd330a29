"""Who sits on the committee: minority voting over the candidates of a cluster, replayed from signed votes.

Every cycle keeps the candidates whose vote is in the minority. Candidates who agree on a vote, as the
identities of one person do, are a block: the larger it is, the more likely it is the majority and leaves. A
hash over peer ids would be simpler, and would be won by whoever generates the most keys. Each cycle removes
at least half, so few cycles suffice.

What a cycle decides is a pure function of all of its votes, so that whoever holds the envelopes computes the
same committee. A last voter who has seen the others' votes could join the smaller side;
:mod:`mlnet.protocol.decisions.commit_reveal` prevents that. The game without it is the minority game of
D. Challet and Y.-C. Zhang (Physica A 246, 1997).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from mlnet.protocol.wire.messages import MAX_CYCLES


class Vote(NamedTuple):
    """A vote, and the SHA-256 (hex) of the envelope that carries it, or of its opening if it was sealed."""

    vote: Literal[0, 1]
    envelope: str


class Cycle(NamedTuple):
    """One cycle of the vote, and why it ended as it did.

    Attributes:
        number: 0 for the initial votes.
        votes: by candidate.
        kept: who remains, by peer id.
        reason: for people and transcripts.
    """

    number: int
    votes: dict[str, int]
    kept: tuple[str, ...]
    reason: str


class Poll(NamedTuple):
    """How far the vote has come.

    Attributes:
        cycles: those that are complete.
        committee: by peer id; empty while votes are missing or when there are too few candidates.
        voters: who must vote in the next cycle; empty once the vote is over.
        reason: why the committee is what it is, or why there is none.
    """

    cycles: tuple[Cycle, ...]
    committee: tuple[str, ...]
    voters: tuple[str, ...]
    reason: str

    @property
    def cycle(self) -> int:
        """Number of the cycle whose votes are awaited, or would come next."""
        return len(self.cycles)


def poll(
    candidates: Iterable[str], votes: Mapping[int, Mapping[str, Vote]], *, seats: int, least: int
) -> Poll:
    """Replay the vote as far as the given votes reach.

    Args:
        candidates: peer ids of the members with an open port.
        votes: by cycle, then by candidate; votes of others are ignored.
        seats: ``max-committee-size``.
        least: ``min-committee-size``.

    Returns:
        The poll: over when ``voters`` is empty.
    """
    remaining = tuple(sorted(candidates))
    if len(remaining) < least:
        return Poll((), (), (), f"{nodes(len(remaining))} with an open port, the committee needs {least}")
    cycles: list[Cycle] = []
    digest = b""
    for number in range(MAX_CYCLES):
        if len(remaining) <= seats:
            return Poll(tuple(cycles), remaining, (), f"{len(remaining)} candidates for {seats} seats")
        cast = votes.get(number, {})
        if any(peer not in cast for peer in remaining):
            return Poll(tuple(cycles), (), remaining, f"votes of cycle {number} are missing")
        digest = cycle_digest(cast[peer].envelope for peer in remaining)
        cycle = _count(number, remaining, {peer: cast[peer].vote for peer in remaining}, digest, least)
        cycles.append(cycle)
        remaining = cycle.kept
    if len(remaining) > seats:
        ordered = sorted(remaining, key=lambda peer: hashlib.sha256(digest + peer.encode()).digest())
        remaining = tuple(sorted(ordered[:seats]))
        return Poll(tuple(cycles), remaining, (), f"seats filled in hash order after {MAX_CYCLES} cycles")
    return Poll(tuple(cycles), remaining, (), f"{len(remaining)} candidates for {seats} seats")


def nodes(number: int) -> str:
    """A number of nodes, for people."""
    return f"{number} node{'' if number == 1 else 's'}"


def cycle_digest(envelopes: Iterable[str]) -> bytes:
    """SHA-256 over a cycle's envelope hashes (hex), sorted, as bytes."""
    return hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in sorted(envelopes))).digest()


def _count(number: int, voters: tuple[str, ...], cast: dict[str, int], digest: bytes, least: int) -> Cycle:
    ones = tuple(peer for peer in voters if cast[peer])
    zeros = tuple(peer for peer in voters if not cast[peer])
    if not ones or not zeros:
        return Cycle(number, cast, voters, "unanimous, nobody leaves")
    if len(ones) == len(zeros):
        side = digest[-1] & 1
        kept, reason = (ones if side else zeros), f"a tie, the hash keeps side {side}"
    else:
        side = 1 if len(ones) < len(zeros) else 0
        kept, reason = (ones if side else zeros), f"side {side} is the minority"
    if len(kept) < least:
        return Cycle(number, cast, voters, f"{reason}, but {len(kept)} would be too few: nobody leaves")
    return Cycle(number, cast, kept, f"{reason} and stays")
