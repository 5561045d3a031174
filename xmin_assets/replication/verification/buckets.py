"""The first pass of a comparison: rows are put into buckets by their keys, and each bucket is counted and summed up.

Only these numbers leave the servers. A bucket that has the same count and the same sum of 64-bit hashes on both sides
has the same rows.

Each side is read by the table's own name, in ranges of blocks that are cut through all relations below it at once. What
belongs to the table is so PostgreSQL's to say, as in every query of a user: no list of partitions that an extract goes
by has a part in it.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from threading import Event

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.postgres.catalog import Storage
from xmin_assets.replication.scan.conditions import all_of, between
from xmin_assets.replication.scan.ranges import BLOCK_SIZE, MIN_BYTES, RANGE_BYTES, RANGES_PER_WORKER
from xmin_assets.replication.verification.sides import ComparedTable, RowFormat, on_both

ROWS_PER_BUCKET = 1000

LEAF_BYTES = 256 << 10
"""The least of each relation that is worth its place in a statement's plan."""

# From 2^6 to 2^14. Prime, so that keys with a regular pattern, multiples of a power of two for instance, still spread.
_NUMBERS = (67, 131, 257, 521, 1031, 2053, 4099, 8209, 16411)

BlockCut = tuple[int, int | None]
"""A block, and the one before which to end; None is no end."""


@dataclass(frozen=True)
class Buckets:
    """How many buckets there are, and which of them are looked at."""

    number: int
    chosen: tuple[int, ...] | None = None
    """None: all."""

    @classmethod
    def for_rows(cls, rows: int, share: float | None = None) -> Buckets:
        """Return buckets of about 1000 rows; a random choice of them if only a share of the rows is compared."""
        number = next((number for number in _NUMBERS if number * ROWS_PER_BUCKET >= rows), _NUMBERS[-1])
        if share is None or share >= 1:
            return cls(number)
        return cls(number, tuple(sorted(random.sample(range(number), max(1, round(share * number))))))

    @property
    def looked_at(self) -> int:
        """How many of them are looked at."""
        return self.number if self.chosen is None else len(self.chosen)

    def narrowed(self, row_format: RowFormat) -> sql.Composable | None:
        """Build the condition that a row is in a bucket that is looked at."""
        if self.chosen is None:
            return None
        return sql.SQL("{} = ANY ({}::int4[])").format(row_format.bucket(self.number), sql.Literal(list(self.chosen)))


class Totals:
    """Rows, and the sum of their hashes, of each bucket of one side."""

    def __init__(self, buckets: int) -> None:
        self.rows = [0] * buckets
        self.hashes = [0] * buckets
        self._guard = threading.Lock()

    def add(self, found: Sequence[tuple[int, int, int]]) -> int:
        """Take over what a range has: bucket, rows, sum of hashes. How many rows these are."""
        with self._guard:
            for bucket, rows, hashes in found:
                self.rows[bucket] += rows
                self.hashes[bucket] += int(hashes)
        return sum(rows for _, rows, _ in found)

    @property
    def all_rows(self) -> int:
        """Rows in all buckets."""
        return sum(self.rows)


def count_both(
    source: ComparedTable, target: ComparedTable, buckets: Buckets, on_rows_read: Callable[[int], None]
) -> tuple[Totals, Totals]:
    """Count and sum up the buckets of both sides.

    Args:
        source: the source table.
        target: the target table.
        buckets: which ones.
        on_rows_read: called with the number of rows of every range that was read, from several threads.

    Raises:
        XminAssetsError: a side failed.
    """

    def count(side: ComparedTable, stopped: Event) -> Totals:
        totals = Totals(buckets.number)

        def count_one(cursor: ext.cursor, cut: BlockCut | None) -> None:
            cursor.execute(_count(side, cut, buckets))
            on_rows_read(totals.add(cursor.fetchall()))

        side.run(cut_blocks(side.leaves, side.workers), count_one, stopped)
        return totals

    return on_both(source, target, count)


def cut_blocks(leaves: Sequence[Storage], workers: int) -> Sequence[BlockCut | None]:
    """Cut a table into ranges of blocks in which every row is read once; None, which is all, if it has no storage.

    Each cut goes through every relation that the table has rows in. The first one begins with block 0 and the last one
    has no end, so the sizes decide only how much comes at a time.
    """
    if not leaves:
        return [None]
    least = max(MIN_BYTES, LEAF_BYTES * len(leaves))
    total = sum(leaf.main_bytes for leaf in leaves)
    size = min(max(RANGE_BYTES, least), max(least, math.ceil(total / (RANGES_PER_WORKER * workers))))
    blocks = max(leaf.main_bytes for leaf in leaves) // BLOCK_SIZE
    pieces = max(1, min(blocks, math.ceil(total / size)))
    edges = [blocks * piece // pieces for piece in range(pieces)]
    return [*pairwise(edges), (edges[-1], None)]


def differing(source: Totals, target: Totals, buckets: Buckets) -> Buckets | None:
    """Return the buckets that do not have the same rows on both sides; None if all have."""
    found = tuple(
        bucket
        for bucket in range(buckets.number)
        if (source.rows[bucket], source.hashes[bucket]) != (target.rows[bucket], target.hashes[bucket])
    )
    return Buckets(buckets.number, found) if found else None


def _count(side: ComparedTable, cut: BlockCut | None, buckets: Buckets) -> sql.Composable:
    row_format = side.row_format
    return sql.SQL("SELECT {bucket}, count(*), sum({hash}) FROM {table} WHERE {rows} GROUP BY 1").format(
        bucket=row_format.bucket(buckets.number),
        hash=row_format.hash(),
        table=side.table.sql,
        rows=all_of(between(*cut) if cut else None, row_format.rows, buckets.narrowed(row_format)),
    )
