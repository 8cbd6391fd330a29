"""How the payment is shared out: nine tenths by rows trained, one tenth in equal parts to the committee.

Rows are what all members can check: each knows the shares that follow from the order and the ranks. The tenth
pays for the pings, ballots and replication that only the committee does. All amounts are integers of
micro-units, so that every party computes the same split to the last one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping


def split(payment: int, rows: Mapping[str, int], committee: Collection[str]) -> dict[str, int]:
    """Share a payment out so that the parts sum to it exactly.

    The exact share of a member is ``payment * (9/10 * its rows / all rows + 1/10 / size of the committee if
    seated)``. Each gets the whole micro-units of its share; those left go one each by the largest remainder
    (Hamilton's method), then by peer id.

    Args:
        payment: micro-units, at least 0.
        rows: rows trained, by peer id; at least one row in all.
        committee: the seated members who are paid for it.

    Returns:
        Micro-units by peer id, for every member of either argument; with nobody on the committee to pay, rows
        take all.

    Raises:
        ValueError: nothing was trained.
    """
    trained = sum(rows.values())
    if trained <= 0:
        raise ValueError("no rows were trained, so there is nothing to share the payment out by")
    seats = len(set(committee))
    by_rows, by_seat = (9 * seats, trained) if seats else (1, 0)
    scale = 10 * trained * seats if seats else trained
    peers = sorted({*rows, *committee})
    numerators = {
        peer: payment * (by_rows * rows.get(peer, 0) + (by_seat if peer in committee else 0))
        for peer in peers
    }
    shares = {peer: numerator // scale for peer, numerator in numerators.items()}
    left = payment - sum(shares.values())
    for peer in sorted(peers, key=lambda peer: (-(numerators[peer] % scale), peer))[:left]:
        shares[peer] += 1
    return shares


def settled(
    split_: Mapping[str, int], signed: Mapping[str, Mapping[str, int]], committee: Collection[str]
) -> bool:
    """Whether more than half of the committee signed this very split (the client's signature is checked
    elsewhere)."""
    agreeing = sum(1 for peer in committee if peer in signed and dict(signed[peer]) == dict(split_))
    return 2 * agreeing > len(committee)
