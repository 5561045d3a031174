"""Why a map of changed blocks takes little memory: it has so many ranges at most, and each is small."""

from __future__ import annotations

import tracemalloc

from xmin_assets.replication.changed_blocks.block_map import too_much_because
from xmin_assets.replication.changed_blocks.block_ranges import MOST_RANGES, BlockRanges
from xmin_assets.replication.manifests.extract import BlockMap
from xmin_assets.replication.manifests.plan import BlockRange
from xmin_assets.replication.manifests.serialization import from_json, to_json
from xmin_assets.replication.merging.deletes import blocks_of

MEGABYTE = 1 << 20
HIGHEST = (1 << 32) - 1


def test_the_largest_map_its_manifest_and_what_the_target_is_told_take_less_than_64_mib() -> None:
    to_json(BlockMap((), 0, 0, 0))
    tracemalloc.start()
    try:
        ranges = tuple(BlockRange(HIGHEST, HIGHEST - 3 * n - 2, HIGHEST - 3 * n) for n in range(MOST_RANGES))
        manifest = to_json(BlockMap(ranges, 0, 0, 0))
        read = from_json(BlockMap, manifest)
        told = blocks_of(read)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert read.ranges == ranges
    assert told is not None
    assert len(manifest) < 6 * MEGABYTE
    assert peak < 64 * MEGABYTE, f"{peak / MEGABYTE:.0f} MiB"


def test_a_map_that_is_not_fetched_has_a_reason_in_words() -> None:
    assert too_much_because(BlockRanges(None, 600, 900), 500, 1000) == "600 of its 1,000 blocks changed"
    assert too_much_because(BlockRanges(None, 60, 900), 500, 1000) == (
        "60 of its 1,000 blocks changed, scattered so that 900 would be read with those between them"
    )
    assert too_much_because(BlockRanges(None, 60, 90), 500, 1000) == (
        "60 of its 1,000 blocks changed, in more than 65,536 places"
    )
