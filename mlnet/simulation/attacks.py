"""What attackers of the committee vote get, with plain and sealed votes, by trials of the product's own rule.

The share of an attacker is compared with what everybody gets by chance. Each of three attackers does the best
that it can see a way to: it looks one cycle ahead at every way to cast its votes and takes the one that
leaves it best off.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from mlnet.protocol.decisions.committee import Vote, poll
from mlnet.protocol.wire.messages import MAX_CYCLES

Bit = Literal[0, 1]


@dataclass(frozen=True)
class Gain:
    """What an attacker got over many trials, in thousandths.

    Attributes:
        seats: its share of the seats of the committees.
        majority: committees of which it holds more than half.
        fair: its share of the candidates.
    """

    seats: int
    majority: int
    fair: int


def group(random: Random, trials: int, *, candidates: int, seats: int, share: int, sealed: bool) -> Gain:
    """A group with ``share`` candidates in a hundred that votes last, together, in each cycle."""
    held = majority = total = 0
    count = max(1, candidates * share // 100)
    for _ in range(trials):
        names = _names(random, candidates)
        friends = frozenset(names[:count])
        elected = _elect(random, names, friends, seats, sealed=sealed)
        mine = len(friends.intersection(elected))
        held, total, majority = held + mine, total + len(elected), majority + (2 * mine > len(elected))
    return Gain(1000 * held // total, 1000 * majority // trials, 1000 * count // candidates)


def choosing_client(
    random: Random, trials: int, *, answers: int, members: int, seats: int, share: int, sealed: bool
) -> Gain:
    """A client that has friends among those who answered, and names the members after it has seen the votes.

    With plain votes it takes all its friends of one side, and fills the cluster with the other side, so that
    its friends are the minority; with sealed votes it takes its friends and whoever comes.
    """
    held = majority = total = 0
    count = max(1, answers * share // 100)
    for _ in range(trials):
        names = _names(random, answers)
        friends, others = names[:count], names[count:]
        votes: dict[str, Bit] = {peer: _coin(random) for peer in names}
        if sealed:
            named = [*friends, *others][:members]
        else:
            named = max(
                (_minority(friends, others, votes, side, members) for side in (0, 1)),
                key=lambda named: len(set(named[: members // 2]) & set(friends)),
            )
        ours = frozenset(friends)
        elected = _elect(random, named, ours, seats, sealed=sealed, first=None if sealed else votes)
        mine = len(ours.intersection(elected))
        held, total, majority = held + mine, total + len(elected), majority + (2 * mine > len(elected))
    return Gain(1000 * held // total, 1000 * majority // trials, 1000 * min(count, members) // members)


def _minority(
    friends: Sequence[str], others: Sequence[str], votes: dict[str, Bit], side: int, members: int
) -> list[str]:
    with_us = [peer for peer in friends if votes[peer] == side]
    against = [peer for peer in others if votes[peer] != side]
    few = with_us[: max(0, min((members - 1) // 2, len(against) - 1))]
    return few + against[: members - len(few)]


def _elect(
    random: Random,
    names: Sequence[str],
    friends: frozenset[str],
    seats: int,
    *,
    sealed: bool,
    first: dict[str, Bit] | None = None,
) -> tuple[str, ...]:
    votes: dict[int, dict[str, Vote]] = {}
    for cycle in range(MAX_CYCLES):
        result = poll(names, votes, seats=seats, least=2)
        if not result.voters:
            return result.committee
        honest = {
            peer: Vote(first[peer] if first is not None and cycle == 0 else _coin(random), _lot(random))
            for peer in result.voters
            if peer not in friends
        }
        ours = [peer for peer in result.voters if peer in friends]
        blind = sealed or (cycle == 0 and first is None)
        if blind:
            votes[cycle] = honest | {peer: Vote(_coin(random), _lot(random)) for peer in ours}
        elif first is not None and cycle == 0:
            votes[cycle] = honest | {peer: Vote(first[peer], _lot(random)) for peer in ours}
        else:
            votes[cycle] = honest | _best(random, names, friends, votes, cycle, honest, ours, seats)
    return poll(names, votes, seats=seats, least=2).committee


def _best(
    random: Random,
    names: Sequence[str],
    friends: frozenset[str],
    votes: dict[int, dict[str, Vote]],
    cycle: int,
    honest: dict[str, Vote],
    ours: list[str],
    seats: int,
) -> dict[str, Vote]:
    """The votes of the group that leave it with the largest share of those who remain."""
    options = []
    for ones in range(len(ours) + 1):
        cast = {peer: Vote(1 if place < ones else 0, _lot(random)) for place, peer in enumerate(ours)}
        result = poll(names, votes | {cycle: honest | cast}, seats=seats, least=2)
        kept = result.committee or result.voters
        mine = len(friends.intersection(kept))
        options.append((mine * 1000 // len(kept), mine, ones, cast))
    return max(options, key=lambda option: option[:3])[3]


def _coin(random: Random) -> Bit:
    return 1 if random.randrange(2) else 0


def _lot(random: Random) -> str:
    return hashlib.sha256(random.randbytes(16)).hexdigest()


def _names(random: Random, count: int) -> list[str]:
    return [random.randbytes(16).hex() for _ in range(count)]


def table(trials: int, seed: int = 0) -> str:
    """The attack table as Markdown: shares of seats and of majorities, with plain and with sealed votes."""
    lines = [
        "| attacker | by chance | seats, plain | seats, sealed | majority, plain | majority, sealed |",
        "|---|---|---|---|---|---|",
    ]
    for share in (5, 10, 33, 49):
        gains = [
            group(
                Random(f"{seed} {share} {sealed}"), trials, candidates=20, seats=5, share=share, sealed=sealed
            )
            for sealed in (False, True)
        ]
        name = "one last voter of 20" if share == 5 else f"a group of {share} % of 20 that votes last"
        lines.append(_row(name, *gains))
    for share in (10, 33, 49):
        gains = [
            choosing_client(
                Random(f"{seed} client {share} {sealed}"),
                trials,
                answers=40,
                members=20,
                seats=5,
                share=share,
                sealed=sealed,
            )
            for sealed in (False, True)
        ]
        lines.append(_row(f"a client with {share} % of 40 answers that names 20", *gains))
    return "\n".join(lines)


def _row(name: str, plain: Gain, sealed: Gain) -> str:
    figures = (plain.fair, plain.seats, sealed.seats, plain.majority, sealed.majority)
    return f"| {name} | " + " | ".join(f"{figure / 10:.1f} %" for figure in figures) + " |"
