"""The benchmark program runs; what it measures is for quiet machines."""

from __future__ import annotations

import msgspec
import pytest
from benchmarks import bench, measure


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "ROUNDS", 1)
    monkeypatch.setattr(measure, "SECONDS", 0.0)
    monkeypatch.setattr(measure, "SHORTEST", 0.0)


def test_the_table_names_goals_and_peers(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--peers", "20", "--size", "7"]) == 0
    text = capsys.readouterr().out
    assert "processor " in text
    assert "| hash of 7 MiB |" in text
    assert text.count("met |") >= 6


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--peers", "20", "--size", "7", "--json"]) == 0
    document = msgspec.json.decode(capsys.readouterr().out)
    assert document["machine"]["threads"] >= 1
    assert all(result["seconds"] > 0 for result in document["results"])


def test_the_shortest_round_counts() -> None:
    result = measure.compare(
        "sum", lambda: sum(range(10)), {"longer": lambda: sum(range(10_000))}, goals={"longer": 2}
    )

    assert (result.peers[0].name, result.peers[0].goal) == ("longer", 2)
    assert result.peers[0].ratio == result.peers[0].seconds / result.seconds
    assert "2, met" in measure.table([result])


def test_durations() -> None:
    assert [measure.duration(seconds) for seconds in (1.5, 0.0123, 2.5e-6)] == ["1.5 s", "12.3 ms", "2.5 us"]
