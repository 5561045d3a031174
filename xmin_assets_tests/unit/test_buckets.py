"""What a comparison reads one by one: every block of every relation once, whatever the sizes."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from xmin_assets.postgres.catalog import Storage
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.replication.scan.ranges import BLOCK_SIZE, MIN_BYTES, RANGE_BYTES
from xmin_assets.replication.verification.buckets import LEAF_BYTES, cut_blocks


def leaves(blocks: list[int]) -> tuple[Storage, ...]:
    return tuple(
        Storage(oid, oid, QualifiedName("public", f"t{oid}"), "r", count * BLOCK_SIZE, count * BLOCK_SIZE, 0, False)
        for oid, count in enumerate(blocks)
    )


@given(
    blocks=st.lists(st.one_of(st.integers(0, 2000), st.integers(0, 5_000_000)), min_size=1, max_size=4),
    workers=st.integers(1, 64),
)
def test_cuts_begin_with_the_first_block_follow_one_another_and_have_no_end(blocks: list[int], workers: int) -> None:
    found = cut_blocks(leaves(blocks), workers)

    edge: int | None = 0
    for cut in found:
        assert cut is not None and cut[0] == edge
        edge = cut[1]
        assert edge is None or edge > cut[0]
    assert edge is None


def test_a_large_table_is_cut_for_the_workers_and_many_small_ones_are_read_together() -> None:
    size = RANGE_BYTES // BLOCK_SIZE

    assert cut_blocks((), 8) == [None]
    assert cut_blocks(leaves([0]), 8) == [(0, None)]
    assert cut_blocks(leaves([MIN_BYTES // BLOCK_SIZE]), 8) == [(0, None)]
    assert len(cut_blocks(leaves([4 * size]), 1)) == 16
    assert len(cut_blocks(leaves([1000 * size]), 8)) == 1000
    # 1000 relations of 1 MiB each: LEAF_BYTES of each at a time.
    assert cut_blocks(leaves([MIN_BYTES // BLOCK_SIZE] * 1000), 2) == [
        (start, start + 32 if start < 96 else None) for start in range(0, 128, LEAF_BYTES // BLOCK_SIZE)
    ]
