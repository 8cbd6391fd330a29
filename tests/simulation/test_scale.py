"""A large network: few answer, the cluster forms at once, and nobody is asked for much."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from mlnet.protocol.decisions.answering import EIGHTHS, FACTOR, eighth
from mlnet.simulation.scenario import Run, Scenario

CLUSTER: dict[str, object] = {"waiting-period": "15m", "max-nodes": 20, "max-committee-size": 7}


def test_a_cluster_of_20_out_of_600_forms_with_few_answers() -> None:
    run = Run(Scenario(1, "calm", nodes=600, cluster=CLUSTER), keep=10)
    outcome = run.go()
    assert outcome.states == {"completed": 1}
    assert outcome.seconds["bound"] < 30
    client = run.world.clients()[0]
    assert client.got_messages < 400
    assert max(node.sent_messages for node in run.world.nodes()) < 400
    assert outcome.traffic["node_sent"] <= 2 * 16


def test_an_estimate_that_is_too_large_only_takes_longer() -> None:
    cluster: dict[str, object] = {"waiting-period": "40s", "max-nodes": 10}
    outcome = Run(Scenario(2, "calm", nodes=40, cluster=cluster, known=2000), keep=10).go()
    assert outcome.states == {"completed": 1}


@given(st.text("0123456789abcdef", min_size=64, max_size=64), st.text(min_size=1), st.integers(1, 1024))
def test_a_small_network_answers_at_once(task: str, peer: str, wanted: int) -> None:
    assert eighth(task, peer, wanted=wanted, network=wanted * FACTOR) == 0


def test_the_share_of_those_who_answer_doubles_with_each_eighth() -> None:
    wanted, network = 10, 100_000
    turns = [eighth("00" * 32, f"peer{index}", wanted=wanted, network=network) for index in range(network)]
    for number in range(EIGHTHS):
        answered = sum(turn is not None and turn <= number for turn in turns)
        expected = wanted * FACTOR << number
        assert abs(answered - expected) < 6 * math.sqrt(expected)
