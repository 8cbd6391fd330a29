"""How values are written for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnet.util.wording import MAX_TEXT, amount, clean, count, duration, printable, share, short, shorts


@pytest.mark.parametrize(
    ("micro", "text"),
    [
        (0, "0"),
        (1, "0.000001"),
        (12_500_000, "12.5"),
        (100_000_000, "100"),
        (-1_500_000, "-1.5"),
        (10, "0.00001"),
    ],
)
def test_amounts(micro: int, text: str) -> None:
    assert amount(micro) == text


@given(st.integers(min_value=0, max_value=10**18))
def test_an_amount_is_exact(micro: int) -> None:
    whole, _, decimals = amount(micro).partition(".")
    assert int(whole) * 10**6 + int(decimals.ljust(6, "0")) == micro


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((-1.0, "0.0 s"), (0.0, "0.0 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (37.4, "37 s")),
        *((65.0, "1:05"), (599.6, "10:00"), (3600.0, "1:00:00"), (3725.0, "1:02:05")),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.text())
def test_clean_text_is_one_short_line_without_controls(text: str) -> None:
    found = clean(text)
    assert found.isprintable()
    assert len(found) <= MAX_TEXT


@given(st.text())
def test_printable_text_keeps_its_lines(text: str) -> None:
    found = printable(text)
    assert found.count("\n") == text.count("\n")
    assert len(found) == len(text)
    assert found.replace("\n", "").isprintable()


def test_names_counts_and_shares() -> None:
    peer = "12D3KooWPRvhsWVsLj8XPC4wndRzoGeqAMbBRSNUfYdAtvJD9wro"
    assert short(peer) == "JD9wro"
    assert shorts((peer, "short")) == "JD9wro short"
    assert clean(f"{peer}: gone, says {peer}.") == "JD9wro: gone, says JD9wro."
    typed = f"is a node running at /ip4/10.0.0.1/tcp/4001/p2p/{peer}?"
    assert clean(typed) == typed, "what somebody typed, or may copy, stays whole"
    assert (count(1, "node"), count(1797, "row")) == ("1 node", "1,797 rows")
    assert (share(0.9375), share(None)) == ("93.75 %", "none")
