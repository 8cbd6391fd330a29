"""Whole clusters as dialogues that a reviewer reads as a diff, and traces that are the same on every machine.

After a change that is meant: ``MLNET_UPDATE_GOLDEN=1 pytest tests/simulation/test_golden.py``, and read the
diff.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlnet.simulation.scenario import Run, Scenario

GOLDEN = Path(__file__).parent / "golden"
SMALL: dict[str, object] = {"waiting-period": "5s", "max-committee-size": 2, "min-committee-size": 2}
DIALOGUES = {
    "three-nodes": Scenario(1, "calm", nodes=3, cluster=SMALL | {"max-committee-size": 3}),
    "sealed-vote-of-four-for-two-seats": Scenario(2, "calm", nodes=4, cluster=SMALL),
    "plain-vote-of-four-for-two-seats": Scenario(2, "calm", nodes=4, cluster=SMALL | {"sealed-votes": False}),
    "a-node-crashes": Scenario(41, "crashes", nodes=4, cluster=SMALL | {"max-committee-size": 4}),
    "a-member-contradicts-itself": Scenario(2, "hostile:equivocate", nodes=4, cluster=SMALL),
    "a-client-hands-out-other-segments": Scenario(1, "hostile-client:wrong-links", nodes=3, cluster=SMALL),
}
TRACES = ("calm", "real-keys", "chaos", "hostile-all")


def check(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("MLNET_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", DIALOGUES)
def test_the_dialogue_of_a_cluster(name: str) -> None:
    run = Run(DIALOGUES[name], keep=None)
    outcome = run.go()
    assert not outcome.violation
    check(f"{name}.txt", run.world.trace.dialogue(run.world.names) + "\n")


def test_traces() -> None:
    lines = [
        f"{faults} {seed} {Run(Scenario(seed, faults)).go().trace}" for faults in TRACES for seed in (1, 2)
    ]
    check("traces.txt", "\n".join(lines) + "\n")
