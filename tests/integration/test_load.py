"""The load test runs, in its short form; what it measures is for quiet machines."""

from __future__ import annotations

import msgspec
import pytest
from load import ghz, run, scenarios


@pytest.mark.timeout(ghz.BUILD_SECONDS + 120)
def test_a_node_answers_all_that_ghz_asks(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        ghz.build()
    except ghz.NoGhz as error:
        pytest.skip(str(error))

    assert run.main(["--short", "--json"]) == 0, capsys.readouterr().err

    document = msgspec.json.decode(capsys.readouterr().out)
    assert [one["scenario"] for one in document["comparisons"]] == list(scenarios.SHORT)
    for one in document["comparisons"]:
        for bare, ours in one["rounds"]:
            assert min(bare["calls"], ours["calls"]) > 50
            assert bare["errors"] == ours["errors"] == {}
            assert 0 < ours["p50"] <= ours["p95"] <= ours["p99"]
            assert ours["processor"] > 0
