"""Cutting and shuffling, for all sizes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnet.data.segments import bounds, permutation
from mlnet.errors import TooFewRows
from mlnet.task.segments import SEGMENTS


@given(rows=st.integers(SEGMENTS, 10**12))
def test_segments_are_nearly_equal_and_cover_all_rows(rows: int) -> None:
    cuts = bounds(rows)
    sizes = [after - before for before, after in pairwise(cuts)]
    assert (cuts[0], cuts[-1], len(sizes)) == (0, rows, SEGMENTS)
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1


@given(rows=st.integers(0, SEGMENTS - 1))
def test_too_few_rows_are_refused(rows: int) -> None:
    with pytest.raises(TooFewRows):
        bounds(rows)


@given(rows=st.integers(0, 500), seed=st.binary(min_size=16, max_size=32))
def test_a_permutation_holds_every_row_once(rows: int, seed: bytes) -> None:
    order = permutation(rows, seed)
    assert sorted(order.tolist()) == list(range(rows))
    np.testing.assert_array_equal(order, permutation(rows, seed))


def test_permutations_are_stable_over_versions() -> None:
    """A dataset that is split again after an upgrade gives the segments whose hashes were promised."""
    assert permutation(8, bytes(range(16))).tolist() == EXPECTED


EXPECTED = [2, 3, 1, 4, 0, 7, 5, 6]
