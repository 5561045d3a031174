"""The first pass of a comparison: rows are put into buckets by their keys, and each bucket is counted and summed up.

Only these numbers leave the servers. A bucket that has the same count and the same sum of 64-bit hashes on both sides
has the same rows.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.replication.scan import Range, all_of, read_from, spans, within
from xmin_assets.replication.sides import Shape, Side, on_both

ROWS_PER_BUCKET = 1000

# From 2^6 to 2^14. Prime, so that keys with a regular pattern, multiples of a power of two for instance, still spread.
_NUMBERS = (67, 131, 257, 521, 1031, 2053, 4099, 8209, 16411)


@dataclass(frozen=True)
class Buckets:
    """How many buckets there are, and which of them are looked at."""

    number: int
    chosen: tuple[int, ...] | None = None
    """None: all."""

    @classmethod
    def for_rows(cls, rows: int, share: float | None = None) -> Buckets:
        """Buckets of about 1000 rows, and a random choice of them if only a share of the rows is to be compared."""
        number = next((number for number in _NUMBERS if number * ROWS_PER_BUCKET >= rows), _NUMBERS[-1])
        if share is None or share >= 1:
            return cls(number)
        return cls(number, tuple(sorted(random.sample(range(number), max(1, round(share * number))))))

    @property
    def looked_at(self) -> int:
        """How many of them are looked at."""
        return self.number if self.chosen is None else len(self.chosen)

    def narrowed(self, shape: Shape) -> sql.Composable | None:
        """The condition that a row is in a bucket that is looked at."""
        if self.chosen is None:
            return None
        return sql.SQL("{} = ANY ({}::int4[])").format(shape.bucket(self.number), sql.Literal(list(self.chosen)))


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


def count_both(source: Side, target: Side, buckets: Buckets, told: Callable[[int], None]) -> tuple[Totals, Totals]:
    """Count and sum up the buckets of both sides.

    Args:
        source: the one side.
        target: the other.
        buckets: which ones.
        told: gets the rows of every range that was read, from several threads.

    Raises:
        XminAssetsError: a side failed.
    """

    def count(side: Side, stopped: Event) -> Totals:
        totals = Totals(buckets.number)

        def count_one(cursor: ext.cursor, span: Range) -> None:
            cursor.execute(_count(side, span, buckets))
            told(totals.add(cursor.fetchall()))

        side.run(spans(side.leaves, side.workers), count_one, stopped)
        return totals

    return on_both(source, target, count)


def differing(source: Totals, target: Totals, buckets: Buckets) -> Buckets | None:
    """The buckets that do not have the same rows on both sides; None if all have."""
    found = tuple(
        bucket
        for bucket in range(buckets.number)
        if (source.rows[bucket], source.hashes[bucket]) != (target.rows[bucket], target.hashes[bucket])
    )
    return Buckets(buckets.number, found) if found else None


def _count(side: Side, span: Range, buckets: Buckets) -> sql.Composable:
    shape = side.shape
    return sql.SQL("SELECT {bucket}, count(*), sum({hash}) FROM {relation} WHERE {rows} GROUP BY 1").format(
        bucket=shape.bucket(buckets.number),
        hash=shape.hash(),
        relation=read_from(span, side.table),
        rows=all_of(within(span), shape.rows, buckets.narrowed(shape)),
    )
