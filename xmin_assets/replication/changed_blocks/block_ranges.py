"""Ranges of the blocks that changed: made by the source, and bounded there before any of them is sent.

So what a map needs here, in the manifest and in the target does not grow with the table. Where blocks lie in too many
places, those between near ones are read along with them: a range may hold more than what changed, and never less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.postgres.rows import fetch_one_as
from xmin_assets.replication.manifests.plan import BlockRange

MOST_RANGES = 1 << 16
"""Ranges that a table is read by; the manifest has some 60 bytes of each, and the target is told of all in 2 MB."""

_RANGES = """
WITH blocks AS (
    SELECT filenode, block, bool_or(is_limit) AS is_limit
      FROM ({modified}) AS modified (filenode, block, is_limit)
     GROUP BY filenode, block
), ordered AS MATERIALIZED (
    SELECT filenode, block, is_limit,
           lag(block) OVER (PARTITION BY filenode ORDER BY block) AS before,
           max(block) OVER (PARTITION BY filenode) AS last
      FROM blocks
), widest AS (
    -- Each file takes a range, and each gap that is left one more.
    SELECT coalesce((SELECT block - before
                       FROM ordered
                      WHERE block - before > 1
                      ORDER BY block - before DESC
                     OFFSET greatest(0, %(most_ranges)s - (SELECT count(*) FROM ordered WHERE before IS NULL))
                      LIMIT 1), 1) AS bridged
), ranges AS MATERIALIZED (
    SELECT filenode, block AS start,
           coalesce(lead(before) OVER (PARTITION BY filenode ORDER BY block), last) + 1 AS stop
      FROM ordered
     WHERE before IS NULL OR block - before > (SELECT bridged FROM widest)
), size AS (
    SELECT count(*) AS ranges, coalesce(sum(stop - start), 0)::int8 AS spanned FROM ranges
)
SELECT (SELECT count(*) FROM ordered) AS changed, (SELECT bool_or(is_limit) FROM ordered) AS has_limit,
       size.spanned, size.ranges, kept.filenodes, kept.starts, kept.stops
  FROM size,
       LATERAL (SELECT array_agg(filenode ORDER BY filenode, start) AS filenodes,
                       array_agg(start ORDER BY filenode, start) AS starts,
                       array_agg(stop ORDER BY filenode, start) AS stops
                  FROM ranges
                 WHERE size.ranges <= %(most_ranges)s AND size.spanned <= %(most_blocks)s) AS kept
"""


@dataclass(frozen=True)
class BlockRanges:
    """Blocks as ranges, by file and in order."""

    ranges: tuple[BlockRange, ...] | None
    """None where there would be too many, or they would hold too many blocks; no range was fetched then."""
    changed: int
    """Blocks that changed."""
    spanned: int
    """Blocks in the ranges: those that changed, and those between near ones."""
    has_limit: bool = False
    """Whether a limit block is among them: some blocks may not have been told."""


NO_BLOCKS = BlockRanges((), 0, 0)


class _Told(NamedTuple):
    """What the source's query returns."""

    changed: int
    has_limit: bool | None
    spanned: int
    ranges: int
    filenodes: list[int] | None
    starts: list[int] | None
    stops: list[int] | None


def fetch_ranges(
    cursor: ext.cursor, modified: sql.Composable, values: dict[str, object], most_blocks: float
) -> BlockRanges:
    """Fetch blocks as ranges, `MOST_RANGES` at most: the widest gaps between blocks stay, the others are bridged.

    Args:
        cursor: at the source.
        modified: a query of a filenode, a block and whether that is a limit block, of 8, 8 and 1 bytes; blocks may
            come in any order, and many times.
        values: what is bound in it.
        most_blocks: that are worth reading. Where the ranges hold more, none is fetched.
    """
    bounds = {"most_ranges": MOST_RANGES, "most_blocks": most_blocks}
    cursor.execute(sql.SQL(_RANGES).format(modified=modified), {**values, **bounds})
    told = fetch_one_as(cursor, _Told)
    ranges: tuple[BlockRange, ...] | None = None
    if told.filenodes is not None and told.starts is not None and told.stops is not None:
        ranges = tuple(map(BlockRange, told.filenodes, told.starts, told.stops))
    elif not told.changed:
        ranges = ()
    return BlockRanges(ranges, told.changed, told.spanned, bool(told.has_limit))
