"""What attackers of the vote get: with sealed votes no more than by chance."""

from __future__ import annotations

from random import Random

import pytest

from mlnet.simulation.attacks import choosing_client, group


@pytest.mark.parametrize("share", [10, 33, 49])
def test_a_group_that_votes_last_gains_nothing_from_sealed_votes(share: int) -> None:
    plain, sealed = (
        group(Random(share), 300, candidates=20, seats=5, share=share, sealed=sealed)
        for sealed in (False, True)
    )
    assert abs(sealed.seats - sealed.fair) < 50
    assert plain.seats > sealed.seats + 50


def test_a_client_that_sees_plain_votes_seats_its_friends_alone() -> None:
    plain, sealed = (
        choosing_client(Random(1), 200, answers=40, members=20, seats=5, share=10, sealed=sealed)
        for sealed in (False, True)
    )
    assert plain.majority > 950
    assert sealed.majority < 100
