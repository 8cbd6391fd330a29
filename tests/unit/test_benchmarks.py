"""The benchmark program runs; what it measures is for quiet machines."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

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


def test_the_shortest_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def takes(*seconds: float) -> Callable[[], None]:
        rounds = cycle(seconds)

        def work() -> None:
            nonlocal now
            now += next(rounds)

        return work

    monkeypatch.setattr(measure, "ROUNDS", 3)
    monkeypatch.setattr("benchmarks.measure.time.perf_counter", lambda: now)
    result = measure.compare(
        "sum", takes(0.5, 0.125, 0.25), {"longer": takes(0.5, 0.75)}, goals={"longer": 2}
    )

    assert (result.seconds, result.peers[0].seconds, result.peers[0].ratio) == (0.125, 0.5, 4)
    assert (result.peers[0].name, result.peers[0].goal) == ("longer", 2)
    assert "2, met" in measure.table([result])


def test_durations() -> None:
    assert [measure.duration(seconds) for seconds in (1.5, 0.0123, 2.5e-6)] == ["1.5 s", "12.3 ms", "2.5 us"]
