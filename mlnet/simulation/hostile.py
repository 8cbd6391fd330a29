"""Hostile parties: real machines whose words and effects are bent by a kind of mischief."""

from __future__ import annotations

from random import Random

from mlnet.simulation.profiles import Profile
from mlnet.simulation.world import World


def infect(world: World, profile: Profile, random: Random) -> None:
    """Make some parties hostile, as a profile says."""
