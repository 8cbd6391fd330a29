"""The verdict of the soak test: it sees what grows, and is not misled by what comes and goes."""

from __future__ import annotations

import random

import pytest
from soak.run import BOUNDS, growth, judge, table, warm


def curve(**figures: list[float]) -> dict[str, list[dict[str, float]]]:
    length = len(next(iter(figures.values())))
    flat = {figure: [50.0] * length for figure in BOUNDS}
    both = {**flat, **figures}
    return {"node": [{"second": at, **{name: both[name][at] for name in both}} for at in range(length)]}


def test_a_steady_node_is_well() -> None:
    assert judge(curve(rss_mib=[100.0] * 120)) == []


@pytest.mark.parametrize("figure", BOUNDS)
def test_a_leak_is_seen_in_every_figure(figure: str) -> None:
    values = [100.0 + 0.8 * at for at in range(120)]
    (complaint,) = judge(curve(**{figure: values}))
    assert complaint.startswith(f"node: {figure} grew from ")


def test_a_leak_is_seen_under_noise() -> None:
    chance = random.Random(7)
    values = [40 + 0.8 * at + chance.choice([0, 0, 20, 60]) for at in range(120)]
    assert len(judge(curve(tasks=values))) == 1


def test_noise_alone_is_no_leak() -> None:
    chance = random.Random(7)
    for _ in range(100):
        values = [40.0 + chance.choice([0, 0, 20, 60]) for _ in range(120)]
        assert judge(curve(tasks=values)) == []


def test_warm_up_does_not_count() -> None:
    assert judge(curve(rss_mib=[60.0] * 60 + [140.0] * 60)) == []


def test_an_hour_has_a_warm_up_of_ten_minutes() -> None:
    seconds = [sample["second"] for sample in warm([{"second": 30.0 * at} for at in range(120)])]
    assert seconds[0] == 600.0
    assert len(seconds) == 100


def test_what_is_compared_is_the_first_and_the_last_third() -> None:
    assert growth([1.0] * 30 + [5.0] * 40 + [2.0] * 30) == (1.0, 2.0)


def test_the_table_has_a_row_for_some_of_the_samples() -> None:
    lines = table(curve(rss_mib=[1.0] * 120), rows=10)
    assert len(lines) == 11
    assert all(len(line) == len(lines[0]) for line in lines)
