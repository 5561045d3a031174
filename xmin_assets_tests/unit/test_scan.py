"""Tables cut into ranges: every block there is or will be lies in exactly one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmin_assets.postgres.catalog import Storage
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.replication.scan.ranges import (
    BATCH_BYTES,
    BLOCK_SIZE,
    MIN_BYTES,
    RANGE_BYTES,
    CtidRange,
    batches,
    cut_into_ranges,
    rows_estimate,
)

MIN_BLOCKS = MIN_BYTES // BLOCK_SIZE
BATCH_BLOCKS = BATCH_BYTES // BLOCK_SIZE
SPAN_BLOCKS = RANGE_BYTES // BLOCK_SIZE


def leaf(blocks: int, oid: int = 1, all_bytes: int | None = None) -> Storage:
    size = blocks * BLOCK_SIZE
    return Storage(oid, oid, QualifiedName("public", f"t{oid}"), "r", size, all_bytes or size, 0, False)


def assert_whole(ranges: list[CtidRange], start: int, end: int | None) -> None:
    """The ranges follow one another from `start` to `end`."""
    assert ranges[0].start == start
    assert ranges[-1].end == end
    assert all(before.end == after.start for before, after in pairwise(ranges))
    assert all(found.start < found.end for found in ranges[:-1] if found.end is not None)


@given(
    blocks=st.lists(st.one_of(st.integers(0, 2000), st.integers(0, 5_000_000)), min_size=1, max_size=4),
    workers=st.integers(1, 64),
)
def test_spans_cover_all_blocks_of_all_leaves_and_the_last_one_is_open(blocks: list[int], workers: int) -> None:
    leaves = tuple(leaf(count, oid) for oid, count in enumerate(blocks, start=1))

    ranges = cut_into_ranges(leaves, workers)

    for one in leaves:
        own = [found for found in ranges if found.leaf is one]
        assert_whole(own, 0, None)
        assert sum(found.blocks for found in own) == one.main_bytes // BLOCK_SIZE
        assert all(found.blocks <= SPAN_BLOCKS for found in own)


@given(
    blocks=st.integers(0, 100_000),
    first=st.integers(0, 1000),
    is_last=st.booleans(),
    rows=st.one_of(st.none(), st.integers(0, 10_000_000)),
    batch_size=st.integers(1, 100_000),
    toast=st.integers(0, 1000),
)
def test_batches_cover_their_span(
    blocks: int, first: int, is_last: bool, rows: int | None, batch_size: int, toast: int
) -> None:
    table = leaf(first + blocks, all_bytes=(first + blocks) * BLOCK_SIZE * (1 + toast))
    end = None if is_last else first + blocks
    ctid_range = CtidRange(table, first, end, blocks)

    ranges = batches(ctid_range, rows, batch_size)

    assert_whole(ranges, first, end)
    assert sum(found.blocks for found in ranges) == blocks


def test_empty_table_is_one_open_range() -> None:
    assert cut_into_ranges((leaf(0),), 8) == [CtidRange(leaf(0), 0, None, 0)]


def test_small_table_is_not_cut_up() -> None:
    assert len(cut_into_ranges((leaf(MIN_BLOCKS),), 8)) == 1


def test_large_table_gives_every_worker_work() -> None:
    assert len(cut_into_ranges((leaf(64 * MIN_BLOCKS),), 4)) == 64


@pytest.mark.parametrize(("toast", "pieces"), [(0, 1), (9, 10)])
def test_batches_are_sized_by_toast_too(toast: int, pieces: int) -> None:
    ctid_range = CtidRange(leaf(BATCH_BLOCKS, all_bytes=BATCH_BYTES * (1 + toast)), 0, None, BATCH_BLOCKS)

    assert len(batches(ctid_range, 1_000_000, 1000)) == pieces


def test_batches_have_about_the_wanted_rows() -> None:
    ctid_range = CtidRange(leaf(100 * MIN_BLOCKS), 0, None, 100 * MIN_BLOCKS)

    assert len(batches(ctid_range, 5_000, 1000)) == 5


@pytest.mark.parametrize(("toast", "pieces"), [(0, 1), (9, 10)])
def test_range_with_an_unknown_number_of_changes_is_cut_by_its_bytes(toast: int, pieces: int) -> None:
    ctid_range = CtidRange(leaf(SPAN_BLOCKS, all_bytes=RANGE_BYTES * (1 + toast)), 0, None, SPAN_BLOCKS)

    assert len(batches(ctid_range, None, 1000)) == pieces


@pytest.mark.parametrize(("by_statistics", "estimate"), [(40_000, 1_000), (0, 1_600)])
def test_rows_of_a_range_are_estimated_by_statistics_or_by_its_size(by_statistics: int, estimate: int) -> None:
    table = replace(leaf(1_000), rows_estimate=by_statistics)

    assert rows_estimate(CtidRange(table, 0, 25, 25)) == estimate
