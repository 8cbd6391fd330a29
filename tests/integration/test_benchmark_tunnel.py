"""The tunnel benchmark runs; what it measures is for quiet machines."""

from __future__ import annotations

import msgspec
import pytest
from benchmarks import exchange, tunnel
from benchmarks import tunnel_table as names

ALONE = (names.BARE, names.SEALING, exchange.CPU, *exchange.ROWS.values())
"""Rows in which nothing can be compared with gRPC alone."""


def test_all_rows_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert tunnel.main(["--quick", "--json"]) == 0
    rows = msgspec.json.decode(capsys.readouterr().out)
    assert set(rows) == {
        *(names.P50, names.P99, *names.RATES.values(), names.BULK, names.BULK_CPU, names.SETUP),
        *(names.IDLE, *ALONE),
    }
    for row, peers in rows.items():
        assert set(peers) == ({names.NATIVE} if row in ALONE else {names.DIRECT, names.NATIVE}), row
        assert all(value > 0 for value in peers.values()) or row in (names.IDLE, names.BARE)


def test_goals_are_judged() -> None:
    table = names.Table()
    table.add(names.DIRECT, {names.P50: 100.0, names.RATES[16]: 100.0})
    table.add(names.NATIVE, {names.P50: 119.0, names.RATES[16]: 99.0, names.BARE: 8.5})

    text = names.render(table, tunnel.python_peers())

    assert "| <= 1.2 | 1.19 | met |" in text
    assert "| >= 1 | 0.99 | not met |" in text
    assert "| <= 8 | 8.5 | not met |" in text
    assert text.count("met |") == 3


def test_ratios_are_those_within_rounds() -> None:
    table = names.Table()
    for number, slowness in enumerate((1.0, 7.0, 2.0)):
        table.add(names.DIRECT, {names.P50: 100.0 * slowness}, number)
        table.add(names.NATIVE, {names.P50: 110.0 * slowness}, number)
    table.add(names.NATIVE, {names.P50: 1.0}, 3)

    assert table.ratio(names.P50, names.NATIVE, names.DIRECT) == pytest.approx(1.1)
    assert table.ratio(names.P50, names.NATIVE, names.STOCK) is None
    assert table.medians()[names.P50][names.DIRECT] == 200.0
