"""Named profiles: the faults and the hostile parties of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlnet.simulation.effects import Odds
from mlnet.simulation.network import Quality

NODE_FAULTS = ("crash", "power", "disk", "pause", "slow")
NETWORK_FAULTS = ("partition", "partial", "one-way", "break", "flap")

_GOOD, _NEVER = Quality(), Odds()


@dataclass(frozen=True)
class Profile:
    """Conditions of a run.

    Attributes:
        quality: of the network's paths.
        faults: kinds of faults that happen, see :mod:`mlnet.simulation.faults`.
        rate: faults in a hundred steps, roughly.
        odds: of effects.
        skew: ms by which a clock is off at most.
        wrong: clocks in a hundred that are off by hours, as long as most clocks of a run are right.
        drift: parts in a million by which one runs fast or slow at most.
        hostile: kinds of hostile nodes, see :mod:`mlnet.simulation.hostile`.
        share: hostile members in a hundred.
        client: kinds of hostile clients.
        real: signatures are Ed25519.
        tasks: announced at about the same time.
        must_complete: every task ends with a model.
        waiting: the waiting period; empty leaves it to the seed.
    """

    quality: Quality = _GOOD
    faults: tuple[str, ...] = ()
    rate: int = 2
    odds: Odds = _NEVER
    skew: int = 0
    drift: int = 0
    wrong: int = 0
    hostile: tuple[str, ...] = ()
    share: int = 0
    client: tuple[str, ...] = ()
    real: bool = False
    tasks: int = 1
    must_complete: bool = False
    waiting: str = ""


# One envelope in twenty is lost: far worse than a network is, so that retries matter in every run.
_LOSSY = Quality(loss=50, duplicate=20, reorder=50, jitter=1000)
_HOSTILE_NODES = (
    "equivocate",
    "replay",
    "forge",
    "garbage",
    "flood",
    "usurp",
    "silent",
    "selective",
    "pings",
    "port",
    "result",
    "ballot",
    "ready",
    "vote",
)
_HOSTILE_CLIENTS = ("two-lists", "two-datasets", "silent-client", "wrong-links", "two-orders")

PROFILES = {
    "calm": Profile(must_complete=True),
    "real-keys": Profile(real=True, must_complete=True),
    "loss": Profile(_LOSSY, must_complete=True),
    "duplicates": Profile(Quality(duplicate=400, reorder=400, jitter=3000), must_complete=True),
    "clocks": Profile(skew=120_000, drift=500, must_complete=True),
    "wrong-clocks": Profile(faults=("clock",), skew=30_000, drift=500, wrong=20, must_complete=True),
    "connections": Profile(_LOSSY, ("break", "flap")),
    "partitions": Profile(faults=("partition", "partial", "one-way")),
    "crashes": Profile(faults=("crash",)),
    "power": Profile(faults=("power",)),
    "reboots": Profile(faults=("crash", "power", "twice", "at-end"), rate=25, waiting="1m"),
    "disks": Profile(faults=("disk", "crash")),
    "pauses": Profile(faults=("pause", "slow")),
    "effects": Profile(odds=Odds(closed_port=200, trainer=60, replication=150, corrupt=20, hang=60)),
    "busy": Profile(tasks=3, faults=("crash",), rate=1),
    "chaos": Profile(
        _LOSSY, NODE_FAULTS + NETWORK_FAULTS, 4, Odds(100, 30, 100, 10), skew=60_000, drift=300, tasks=2
    ),
    "hostile": Profile(hostile=_HOSTILE_NODES, share=33),
    "hostile-lossy": Profile(_LOSSY, ("break", "crash", "pause"), hostile=_HOSTILE_NODES, share=33),
    "hostile-client": Profile(client=_HOSTILE_CLIENTS),
    "hostile-all": Profile(_LOSSY, hostile=_HOSTILE_NODES, share=33, client=_HOSTILE_CLIENTS),
}
MIXED = tuple(PROFILES)
"""The profiles that ``--faults mixed`` takes in turn, seed by seed."""


def profile(name: str) -> Profile:
    """A profile by name.

    ``hostile:KIND`` is the profile ``hostile`` with one kind of hostile party only, ``hostile@SHARE`` has
    SHARE hostile nodes in a hundred; both together are ``hostile:KIND@SHARE``.

    Raises:
        KeyError: there is no such profile.
    """
    rest, _, share = name.partition("@")
    base, _, kind = rest.partition(":")
    found = PROFILES[base]
    if share:
        if not share.isdecimal() or int(share) > 100:
            raise KeyError(name)
        found = replace(found, share=int(share))
    if not kind:
        return found
    if kind in found.hostile:
        return replace(found, hostile=(kind,))
    if kind in found.client:
        return replace(found, client=(kind,))
    raise KeyError(name)
