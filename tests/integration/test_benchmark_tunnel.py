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
    table = tunnel.Table()
    table.add(tunnel.DIRECT, {tunnel.P50: 100.0, tunnel.RATES[16]: 100.0})
    table.add(tunnel.NATIVE, {tunnel.P50: 119.0, tunnel.RATES[16]: 99.0, tunnel.BARE: 8.5})

    text = tunnel.render(table, tunnel.python_peers())

    assert "| <= 1.2 | 1.19 | met |" in text
    assert "| >= 1 | 0.99 | not met |" in text
    assert "| <= 8 | 8.5 | not met |" in text
    assert text.count("met |") == 3


def test_ratios_are_those_within_rounds() -> None:
    table = tunnel.Table()
    for number, slowness in enumerate((1.0, 7.0, 2.0)):
        table.add(tunnel.DIRECT, {tunnel.P50: 100.0 * slowness}, number)
        table.add(tunnel.NATIVE, {tunnel.P50: 110.0 * slowness}, number)
    table.add(tunnel.NATIVE, {tunnel.P50: 1.0}, 3)

    assert table.ratio(tunnel.P50, tunnel.NATIVE, tunnel.DIRECT) == pytest.approx(1.1)
    assert table.ratio(tunnel.P50, tunnel.NATIVE, tunnel.STOCK) is None
    assert table.medians()[tunnel.P50][tunnel.DIRECT] == 200.0
