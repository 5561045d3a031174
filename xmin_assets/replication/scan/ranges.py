"""A table cut into ranges of blocks: for a scan, and for the batches of a COPY."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from psycopg2 import sql

from xmin_assets.postgres.catalog import Storage

BLOCK_SIZE = 8192
"""Bytes of a block of every common build; a build with other blocks only gets other range sizes."""

MIN_BYTES = 1 << 20
"""The least that is worth a statement of its own: its fixed cost is about that of counting 1 MiB."""

BATCH_BYTES = 4 << 20
"""Smaller batches are joined: copying a table by 4 MiB takes 5 % less CPU than by 1 MiB; larger ones gain little."""

RANGE_BYTES = 64 << 20
"""The most that is counted, or copied, by one statement."""

ROW_BYTES = 128
"""What a row is taken to need as long as nothing is known of a table's rows."""

RANGES_PER_WORKER = 16
"""Ranges that a large table gives each worker at least, so that none is idle for long while another does the last."""


@dataclass(frozen=True, slots=True)
class CtidRange:
    """Blocks `start` to `end` (not included; None is no end) of one leaf relation, or all rows of the table."""

    leaf: Storage | None
    """None: the table is read under its own name, as a whole."""
    start: int
    end: int | None
    blocks: int
    """Blocks that were there when the range was cut."""
    ends: tuple[sql.Composable, sql.Composable] | None = None
    """What stands for both ends in a statement that is about many ranges."""


@dataclass(frozen=True)
class Count:
    """What a range holds."""

    ctid_range: CtidRange
    rows: int
    changed: int | None
    """Rows to be copied; None: some, and how many shows when they are."""
    checksum: int = 0


WHOLE = CtidRange(None, 0, None, 1)
"""A table that is read in one piece."""


def cut_into_ranges(storage: tuple[Storage, ...], workers: int, most: int = RANGE_BYTES) -> list[CtidRange]:
    """Cut a table into ranges to be counted: large ones, but enough of them to keep the workers busy.

    A view has nothing to be cut, and a role that may read a table, but not its partitions under their own names, reads
    it as a whole; and so are partitions whose rows would be others under their own names.

    Args:
        storage: what the table has rows in.
        workers: that read it.
        most: bytes of a range, its TOAST aside.
    """
    if not storage or not all(leaf.readable and leaf.alike for leaf in storage):
        return [WHOLE]
    ranges: list[CtidRange] = []
    for leaf in storage:
        blocks = leaf.main_bytes // BLOCK_SIZE
        least = max(1, MIN_BYTES // BLOCK_SIZE)
        size = min(max(1, most // BLOCK_SIZE), max(least, math.ceil(blocks / (RANGES_PER_WORKER * workers))))
        ranges += _cut(leaf, 0, None, blocks, max(1, math.ceil(blocks / size)))
    return ranges


def batches(ctid_range: CtidRange, rows: int | None, batch_size: int, most: int = RANGE_BYTES) -> list[CtidRange]:
    """Cut a range into batches of about `batch_size` rows each, and of 4 MiB at least where as much is allowed.

    Args:
        ctid_range: what to cut.
        rows: how many of its rows are to be copied. If that is not known, it is cut only where it has much TOAST.
        batch_size: rows.
        most: bytes of a batch and its TOAST.
    """
    if ctid_range.leaf is None:
        return [ctid_range]
    size = bytes_with_toast(ctid_range)
    pieces = 1 if rows is None else min(math.ceil(rows / batch_size), max(1, size // BATCH_BYTES))
    return _cut(ctid_range.leaf, ctid_range.start, ctid_range.end, ctid_range.blocks, max(pieces, size // most))


def pieces_of(ctid_range: CtidRange, most: int) -> list[CtidRange]:
    """Cut a range into pieces of so many bytes at most, TOAST included."""
    if ctid_range.leaf is None:
        return [ctid_range]
    pieces = math.ceil(bytes_with_toast(ctid_range) / most)
    return _cut(ctid_range.leaf, ctid_range.start, ctid_range.end, ctid_range.blocks, pieces)


def heap_bytes(ctid_range: CtidRange) -> int:
    """Return the bytes of a range's blocks."""
    return ctid_range.blocks * BLOCK_SIZE


def bytes_with_toast(ctid_range: CtidRange) -> int:
    """Return the bytes of a range's blocks and its share of the TOAST: a few blocks may point to gigabytes."""
    leaf = ctid_range.leaf
    if leaf is None:
        return heap_bytes(ctid_range)
    return ctid_range.blocks * max(BLOCK_SIZE, leaf.all_bytes // max(1, leaf.main_bytes // BLOCK_SIZE))


def rows_estimate(ctid_range: CtidRange) -> int:
    """Estimate how many rows a range of blocks has, by the statistics of its table, or by its size."""
    if ctid_range.leaf is None:
        return 0
    if ctid_range.leaf.rows_estimate:
        return ctid_range.leaf.rows_estimate * ctid_range.blocks // max(1, ctid_range.leaf.main_bytes // BLOCK_SIZE)
    return ctid_range.blocks * BLOCK_SIZE // ROW_BYTES


def _cut(leaf: Storage, start: int, end: int | None, blocks: int, pieces: int) -> list[CtidRange]:
    pieces = max(1, min(pieces, blocks))
    edges = [start + blocks * piece // pieces for piece in range(pieces + 1)]
    ends = [*edges[1:-1], end]
    sizes = [after - before for before, after in pairwise(edges)]
    return [CtidRange(leaf, *cut) for cut in zip(edges[:-1], ends, sizes, strict=True)]
