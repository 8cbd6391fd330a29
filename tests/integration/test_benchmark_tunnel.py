"""The tunnel benchmark runs; what it measures is for quiet machines."""

from __future__ import annotations

import msgspec
import pytest
from benchmarks import exchange, tunnel


def test_all_rows_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert tunnel.main(["--quick", "--json"]) == 0
    rows = msgspec.json.decode(capsys.readouterr().out)
    assert set(rows) == {
        *(tunnel.P50, tunnel.P99, *tunnel.RATES.values(), tunnel.BULK, tunnel.BULK_CPU, tunnel.SETUP),
        *(tunnel.IDLE, tunnel.BARE, exchange.CPU, *exchange.ROWS.values()),
    }
    for row, peers in rows.items():
        ours_alone = row in (tunnel.BARE, exchange.CPU, *exchange.ROWS.values())
        assert set(peers) == ({tunnel.NATIVE} if ours_alone else {tunnel.DIRECT, tunnel.NATIVE}), row
        assert all(value > 0 for value in peers.values()) or row in (tunnel.IDLE, tunnel.BARE)


def test_goals_are_judged() -> None:
    medians = {
        tunnel.P50: {tunnel.DIRECT: 100.0, tunnel.NATIVE: 119.0},
        tunnel.RATES[16]: {tunnel.DIRECT: 100.0, tunnel.NATIVE: 99.0},
        tunnel.BARE: {tunnel.NATIVE: 8.5},
    }

    text = tunnel.render(medians, tunnel.python_peers())

    assert "| <= 1.2 | 1.19 | met |" in text
    assert "| >= 1 | 0.99 | not met |" in text
    assert "| <= 8 | 8.50 | not met |" in text
    assert text.count("met |") == 3
