"""Ranges of changed blocks: made by the server, with all that changed, and bounded before they are sent."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from random import Random

import psycopg2
import pytest
from psycopg2 import sql

from benchmarks.watch import high_water_mark
from xmin_assets.replication.changed_blocks import block_ranges
from xmin_assets.replication.changed_blocks.block_ranges import NO_BLOCKS, BlockRanges, fetch_ranges
from xmin_assets.replication.manifests.extract import BlockMap
from xmin_assets.replication.manifests.plan import BlockRange
from xmin_assets.replication.manifests.serialization import from_json, to_json
from xmin_assets.replication.merging.deletes import blocks_of
from xmin_assets_tests.clusters import Database

MEGABYTE = 1 << 20
MOST_BYTES = 64 * MEGABYTE
ALL = float("inf")
GIVEN = sql.SQL("SELECT * FROM unnest(%(files)s::int8[], %(blocks)s::int8[], %(limits)s::bool[])")


def ranges_of(
    database: Database, blocks: Sequence[tuple[int, int]], most_blocks: float = ALL, *, limit: bool = False
) -> BlockRanges:
    """The ranges of blocks, as pairs of a file and a number, in any order."""
    files, numbers = zip(*blocks, strict=True) if blocks else ((), ())
    values: dict[str, object] = {"files": [*files], "blocks": [*numbers], "limits": [limit] * len(blocks)}
    with database.connect().cursor() as cursor:
        return fetch_ranges(cursor, GIVEN, values, most_blocks)


def held_by(ranges: tuple[BlockRange, ...] | None) -> set[tuple[int, int]]:
    assert ranges is not None
    return {(r.filenode, block) for r in ranges for block in range(r.start, r.end)}


def test_blocks_that_follow_each_other_are_one_range(source_db: Database) -> None:
    made = ranges_of(source_db, [(7, 5), (7, 3), (8, 4), (7, 4), (7, 9), (7, 3), (7, 0)])

    assert made.ranges == (BlockRange(7, 0, 1), BlockRange(7, 3, 6), BlockRange(7, 9, 10), BlockRange(8, 4, 5))
    assert (made.changed, made.spanned, made.has_limit) == (6, 6, False)


def test_no_blocks_are_no_ranges(source_db: Database) -> None:
    assert ranges_of(source_db, []) == NO_BLOCKS


def test_the_highest_file_and_block_are_told(source_db: Database) -> None:
    last = (1 << 32) - 2

    assert ranges_of(source_db, [(last, last), (last, 0)]).ranges == (
        BlockRange(last, 0, 1),
        BlockRange(last, last, last + 1),
    )


def test_where_there_are_too_many_the_widest_gaps_stay(source_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_ranges, "MOST_RANGES", 3)
    made = ranges_of(source_db, [(7, 0), (7, 2), (7, 5), (7, 50), (7, 53), (8, 1), (8, 4)])

    assert made.ranges == (BlockRange(7, 0, 6), BlockRange(7, 50, 54), BlockRange(8, 1, 5))
    assert (made.changed, made.spanned) == (7, 14)


def test_gaps_of_which_not_all_may_stay_are_all_bridged(source_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_ranges, "MOST_RANGES", 2)

    assert ranges_of(source_db, [(7, 0), (7, 10), (7, 20)]).ranges == (BlockRange(7, 0, 21),)


@pytest.mark.parametrize("seed", range(10))
def test_no_block_that_changed_is_lost(source_db: Database, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    random = Random(seed)
    monkeypatch.setattr(block_ranges, "MOST_RANGES", random.randrange(4, 40))
    blocks = [(random.randrange(1, 5), random.randrange(random.choice([10, 100, 1000]))) for _ in range(200)]
    made = ranges_of(source_db, blocks)

    assert made.ranges is not None
    assert len(made.ranges) <= block_ranges.MOST_RANGES
    assert made.changed == len({*blocks})
    assert made.spanned == len(held_by(made.ranges))
    assert held_by(made.ranges) >= {*blocks}
    assert all(a.filenode != b.filenode or a.end < b.start for a, b in zip(made.ranges, made.ranges[1:], strict=False))


def test_a_limit_block_is_told_though_no_range_is_fetched(source_db: Database) -> None:
    assert ranges_of(source_db, [(7, 0)], 0, limit=True) == BlockRanges(None, 1, 1, True)


def test_ranges_of_too_many_blocks_are_not_fetched(source_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_ranges, "MOST_RANGES", 1)

    assert ranges_of(source_db, [(7, 0), (7, 9)], 10).ranges == (BlockRange(7, 0, 10),)
    assert ranges_of(source_db, [(7, 0), (7, 9)], 9) == BlockRanges(None, 2, 10)


def test_more_files_than_ranges_are_not_fetched(source_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_ranges, "MOST_RANGES", 2)

    assert ranges_of(source_db, [(7, 0), (8, 0), (9, 0)]) == BlockRanges(None, 3, 3)


# Groups of 62 blocks, of which each second one changed: there are more gaps than may stay, and 64,517 groups.
SCATTERED = sql.SQL("SELECT 7::int8, i * 2 + i / 62 * 1000, false FROM generate_series(0::int8, %(blocks)s - 1) AS i")


def weigh(url: str, blocks: int) -> tuple[int, int, int]:
    """Make a map of scattered blocks in this process, write and read its manifest, and name its blocks to a target.

    Returns:
        Its ranges, the bytes by which the process's peak rose, and the most bytes that were written or sent.
    """
    connected = psycopg2.connect(url)
    with connected.cursor() as cursor:
        fetch_ranges(cursor, GIVEN, {"files": [7], "blocks": [1], "limits": [False]}, ALL)
        to_json(BlockMap((), 0, 0, 0))
        before = high_water_mark()
        made = fetch_ranges(cursor, SCATTERED, {"blocks": blocks}, ALL)
        assert made.ranges is not None
        kept = BlockMap(made.ranges, made.changed, made.spanned, 0)
        manifest = to_json(kept)
        read = from_json(BlockMap, manifest)
        told = blocks_of(read).as_string(cursor)
        assert read == kept
    connected.close()
    return len(made.ranges), high_water_mark() - before, max(len(manifest), len(told))


def test_a_map_of_millions_of_blocks_takes_as_much_as_any(source_db: Database) -> None:
    if not high_water_mark():
        pytest.skip("this system does not tell the peak of a process's memory in /proc")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        ranges, peak, text = apart.submit(weigh, source_db.url, 4_000_000).result()

    assert ranges == 64_517 <= block_ranges.MOST_RANGES
    assert text < 6 * MEGABYTE
    assert peak < MOST_BYTES, f"{peak / MEGABYTE:.0f} MiB"


def test_a_target_finds_the_rows_of_blocks_by_their_index(target_db: Database) -> None:
    target_db.execute(
        "CREATE TABLE t AS SELECT i AS id, 7::int8 << 32 | i / 60 AS source_block FROM generate_series(0, 199999) i;"
        "CREATE INDEX by_block ON t (source_block); ANALYZE t"
    )
    for ranges in (1, 300):
        found = BlockMap(tuple(BlockRange(7, 10 * n, 10 * n + 2) for n in range(ranges)), 0, 0, 0)
        query = sql.SQL("SELECT count(*) FROM t WHERE t.source_block = ANY({})").format(blocks_of(found))

        assert target_db.fetch(query) == [(ranges * 2 * 60,)]
        assert "by_block" in str(target_db.fetch(sql.SQL("EXPLAIN {}").format(query)))


def test_blocks_of_a_file_that_turns_the_sign_are_named_as_the_target_has_them(target_db: Database) -> None:
    found = BlockMap((BlockRange((1 << 32) - 1, 3, 6), BlockRange(1, 8, 9)), 0, 0, 0)

    ((named,),) = target_db.fetch(sql.SQL("SELECT {}").format(blocks_of(found)))

    assert named == [-(1 << 32) + 3, -(1 << 32) + 4, -(1 << 32) + 5, (1 << 32) + 8]
