"""Every planted bug is found, so that the invariants are known to look."""

from __future__ import annotations

import pytest
from simulation.planted import PLANTS, finds, planted

MOST_SEEDS = 60


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_found(name: str) -> None:
    assert any(finds(PLANTS[name], seed) for seed in range(MOST_SEEDS))


def test_a_plant_is_gone_after_its_context() -> None:
    plant = PLANTS["a resend signed anew"]
    before = plant.function.__code__
    with planted(plant):
        assert plant.function.__code__ is not before
    assert plant.function.__code__ is before
