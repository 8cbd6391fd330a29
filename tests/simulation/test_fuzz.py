"""A few thousand mutants; ``make fuzz`` feeds a million."""

from __future__ import annotations

from simulation.fuzz import fuzz


def test_mutants_are_taken_in_or_refused_without_a_trace() -> None:
    fuzzer = fuzz(6000, 1)
    assert min(fuzzer.taken, fuzzer.refused, fuzzer.malformed) > 20
