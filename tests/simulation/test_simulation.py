"""Some hundred runs of mixed faults, the trace that is the same everywhere, and what a violation shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlnet.simulation.profiles import MIXED
from mlnet.simulation.scenario import Run, Scenario

PROJECT = Path(__file__).parents[2]
SEEDS = 10
"""A profile."""


@pytest.mark.parametrize("faults", MIXED)
def test_everything_holds_that_must(faults: str) -> None:
    for seed in range(SEEDS):
        outcome = Run(Scenario(seed, faults)).go()
        assert not outcome.violation, f"seed {seed}: {outcome.problem}\n{outcome.dialogue}"


def simulate(*options: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-m", "mlnet", "simulate", *options],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=100,
        cwd=PROJECT,
    )


def test_a_seed_has_one_trace_whatever_the_hash_seed() -> None:
    options = ("--faults", "chaos", "--seed", "5", "--json")
    runs = [json.loads(simulate(*options, hash_seed=hash_seed).stdout)["run"] for hash_seed in ("1", "77")]
    assert runs[0]["trace"] == runs[1]["trace"] == Run(Scenario(5, "chaos")).go().trace


def test_a_run_can_be_shown_up_to_a_step() -> None:
    shown = simulate("--faults", "calm", "--seed", "3", "--until", "5")
    assert shown.returncode == 0
    assert "client   << publish NEW_ML_TASK" in shown.stdout
    assert shown.stdout.splitlines()[-1].endswith("after 5 steps")


def test_a_client_that_knows_of_few_nodes_gets_more_answers() -> None:
    options = ("--faults", "calm", "--nodes", "120", "--cluster", "max-nodes=5", "--json")
    few, all_ = (
        json.loads(simulate(*options, "--known", known).stdout)["run"]["traffic"] for known in ("11", "120")
    )
    assert few["client_received"] > 2 * all_["client_received"]


def test_unknown_faults_are_an_error_that_names_the_known() -> None:
    shown = simulate("--faults", "nonsense")
    assert shown.returncode == 3
    assert "calm" in shown.stderr


def test_seeds_over_several_processes_give_what_one_gives() -> None:
    options = ("--faults", "loss", "--seeds", "20", "--json")
    alone, together = (json.loads(simulate(*options, "--processes", number).stdout) for number in ("1", "2"))
    assert alone["profiles"] == together["profiles"]
    assert alone["profiles"]["loss"]["seeds"] == 20
