"""The verdict of the load test, its configurations, and the ghz that it takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from load import calls, envelopes, ghz, scenarios
from load.figures import Comparison, Figures, table

from mlnet.identity.envelope import Envelope
from mlnet.identity.keys import Identity
from mlnet.protocol.signer import IdentitySigner
from mlnet.v1 import peer_pb2

REPORT = {
    "count": 200,
    "rps": 1000.0,
    "latencyDistribution": [
        {"percentage": 50, "latency": 2_000_000},
        {"percentage": 95, "latency": 5_000_000},
        {"percentage": 99, "latency": 9_000_000},
    ],
    "statusCodeDistribution": {"OK": 190, "Unavailable": 10},
    "errorDistribution": {"rpc error: code = Unavailable desc = gone": 10},
}


def figures(rate: float, errors: dict[str, int] | None = None) -> Figures:
    return Figures(100, rate, 1.0, 2.0, 3.0, errors or {}, 400.0)


def test_figures_of_a_report() -> None:
    read = Figures.of(REPORT, processor_seconds=0.1)
    assert (read.calls, read.rate, read.p50, read.p95, read.p99) == (200, 1000.0, 2.0, 5.0, 9.0)
    assert read.processor == pytest.approx(500.0)
    assert read.errors == {"rpc error: code = Unavailable desc = gone": 10}


def test_a_code_that_is_expected_is_no_error_and_success_is() -> None:
    read = Figures.of(REPORT, 0.1, expected="Unavailable")
    assert read.errors == {"OK": 190}


def test_the_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    rounds = [(figures(1000), figures(900)), (figures(100), figures(95)), (figures(500), figures(100))]
    one = Comparison("status", "direct", "50", rounds, least=0.85)
    assert one.rate_ratio == pytest.approx(0.9)
    assert one.complaints == []


def test_what_is_slow_or_fails_is_named() -> None:
    slow = Comparison("status", "direct", "50", [(figures(1000), figures(500))], least=0.85)
    assert slow.complaints == ["status, direct, 50: 0.50 of the bare rate, less than 0.85"]
    failed = Comparison("get", "tls", "1", [(figures(1000), figures(1000, {"gone": 3}))])
    assert failed.complaints == ["get, tls, 1: 3 calls ended: gone"]


def test_the_table_has_a_row_for_each() -> None:
    lines = table([Comparison("get", "tls", "1", [(figures(1000), figures(900))])]).splitlines()
    assert len(lines) == 3
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| get | tls | 1 | 900 | 0.90 |")


@pytest.mark.parametrize("scenario", scenarios.SCENARIOS, ids=lambda one: one.name)
def test_every_scenario_has_a_configuration_of_a_method_that_there_is(scenario: scenarios.Scenario) -> None:
    configuration = calls.configuration(scenario.name)
    assert calls.method(configuration["call"]) is not None
    assert ("data" in configuration) != ("data-file" in configuration)
    if "proto" in configuration:
        assert (ghz.ROOT / configuration["import-paths"][0] / configuration["proto"]).exists()


def test_every_configuration_is_used() -> None:
    files = {path.stem for path in Path(calls.__file__).parent.glob("*.json")}
    assert files == {scenario.name for scenario in scenarios.SCENARIOS}


def test_envelopes_are_distinct_and_genuine(tmp_path: Path) -> None:
    file = envelopes.write(tmp_path / "exchange.json", envelopes.for_exchange(40, 16))
    requests = calls.requests(calls.configuration("exchange"), file)
    assert [len(request.envelopes) for request in requests] == [16, 16, 8]
    sent: list[peer_pb2.Envelope] = [one for request in requests for one in request.envelopes]
    assert len({one.yaml for one in sent}) == len(sent)
    reader = IdentitySigner(Identity.generate())
    assert all(reader.verify(Envelope(one.yaml, one.signature)).type == "PEERS" for one in sent)


def _program(path: Path, says: str) -> None:
    path.write_text(f"#!/bin/sh\necho {says}\n")
    path.chmod(0o755)


def test_another_version_of_ghz_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ghz, "BUILT", tmp_path / "nowhere")
    with pytest.raises(ghz.NoGhz, match="ghz is not in PATH"):
        ghz.find()
    _program(tmp_path / "ghz", "v0.119.0")
    with pytest.raises(ghz.NoGhz, match=re.escape("ghz in PATH is 0.119.0; ghz 0.120.0 is wanted")):
        ghz.find()
    _program(tmp_path / "ghz", "v0.120.0")
    assert ghz.find() == tmp_path / "ghz"


def test_go_knows_the_version_of_what_it_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    _program(tmp_path / "ghz", "dev")
    assert ghz.version(tmp_path / "ghz") == ""
    _program(tmp_path / "go", '"  mod github.com/bojand/ghz v0.120.0 h1:x"')
    assert ghz.version(tmp_path / "ghz") == "0.120.0"
