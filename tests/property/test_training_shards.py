"""Rows, ranks and steps, for all sizes."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mlnet.training import partition

worlds = st.integers(1, 70)
shares = st.one_of(st.just(0.0), st.floats(0.001, 0.999), st.sampled_from([0.1, 0.2, 0.25, 0.29, 0.5]))
segment_rows = st.lists(st.integers(1, 60), min_size=1, max_size=10)


@given(rows=st.integers(1, 100_000), world=worlds, share=shares)
def test_shards_cover_all_rows_once(rows: int, world: int, share: float) -> None:
    cut = partition.cut(rows, world, share)
    assert (len(cut), cut[0].start, cut[-1].stop) == (world, 0, rows)
    assert all(before.stop == after.start for before, after in pairwise(cut))
    sizes = [shard.stop - shard.start for shard in cut]
    assert max(sizes) - min(sizes) <= 1
    for shard, size in zip(cut, sizes, strict=True):
        assert shard.trained >= min(1, size)
        assert shard.validated >= 0
        if share and size > 1:
            assert 1 <= shard.validated <= max(Fraction(1), Fraction(repr(share)) * size)


@given(rows=st.integers(1, 3000), world=worlds, share=shares, batch_size=st.integers(1, 400))
def test_an_epoch_takes_every_training_row_once(rows: int, world: int, share: float, batch_size: int) -> None:
    cut = partition.cut(rows, world, share)
    count = partition.steps(cut, batch_size)
    total = sum(shard.trained for shard in cut)
    assert (count - 1) * batch_size < total <= count * batch_size
    for rank, shard in enumerate(cut):
        runs = [partition.batch(cut, rank, step, count) for step in range(count)]
        assert (runs[0][0], runs[-1][1]) == (0, shard.trained)
        assert all(before[1] == after[0] for before, after in pairwise(runs))
    sizes = [partition.batch_rows(cut, step, count) for step in range(count)]
    assert sum(sizes) == total
    # Shards differ by a row or two, so that ranks do not quite take turns in rounding up.
    assert max(sizes) < batch_size + world
    if len({shard.trained for shard in cut}) == 1:
        assert [sum(sizes[:step]) for step in range(count)] == [
            step * total // count for step in range(count)
        ]
        assert max(sizes) <= batch_size


@given(rows=segment_rows, data=st.data())
def test_parts_are_the_rows_of_the_joined_segments(rows: list[int], data: st.DataObject) -> None:
    total = sum(rows)
    start = data.draw(st.integers(0, total))
    stop = data.draw(st.integers(start, total))
    joined = [(segment, row) for segment, count in enumerate(rows) for row in range(count)]
    found = [
        (part.segment, row)
        for part in partition.parts(rows, start, stop)
        for row in range(part.start, part.stop)
    ]
    assert found == joined[start:stop]


@given(rows=segment_rows, world=worlds)
def test_every_segment_is_fetched_by_those_who_need_it(rows: list[int], world: int) -> None:
    needed = [partition.segments_of(rows, rank, world) for rank in range(world)]
    assert {segment for segments in needed for segment in segments} == set(range(len(rows)))
    cut = partition.cut(sum(rows), world, 0.1)
    for shard, segments in zip(cut, needed, strict=True):
        assert bool(segments) == (shard.stop > shard.start)


@given(rows=segment_rows, world=worlds, share=shares, epochs=st.integers(1, 50))
def test_contributions_are_the_rows_of_all_steps(
    rows: list[int], world: int, share: float, epochs: int
) -> None:
    cut = partition.cut(sum(rows), world, share)
    trained = partition.rows_trained(rows, world, share, epochs)
    assert sum(trained) == epochs * sum(shard.trained for shard in cut) > 0


def test_a_share_is_the_decimal_that_was_written() -> None:
    assert [shard.validated for shard in partition.cut(100, 1, 0.29)] == [29]


def test_seeds_differ_by_purpose() -> None:
    assert len({partition.seed("aa", 1, 2), partition.seed("aa", 12), partition.seed("ab", 1, 2)}) == 3
    assert partition.seed("aa", 1) == partition.seed("aa", 1)
