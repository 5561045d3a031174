"""The map of the blocks of a table that have changed since its last sync: where it begins, and whether it is worth it.

A sync that has one reads those blocks, and no others. `wal_summaries` finds them. Where something does not allow it,
the reason is given in words, and the table is read as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise

import psycopg2.extensions as ext

from xmin_assets.config import TableConfig
from xmin_assets.errors import XminAssetsError
from xmin_assets.postgres.catalog import Storage
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.server import Server, wait_for_flush
from xmin_assets.postgres.server_facts import is_refusal
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.replication.changed_blocks.prerequisites import (
    BlockMapUnavailable,
    refused_because,
    require_prerequisites,
    savepoint,
    scan_because,
)
from xmin_assets.replication.changed_blocks.wal_positions import lsn_text
from xmin_assets.replication.changed_blocks.wal_summaries import UnsummarizedWal, Wal
from xmin_assets.replication.manifests.extract import BlockMap, BlockRange
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.runtime.units import bytes_text
from xmin_assets.replication.scan.ranges import BLOCK_SIZE, CtidRange

MOST_RANGES = 1 << 16
"""Ranges that a table is read by; blocks between near ones are read along with them."""

MOST_BLOCKS = 1 << 18
"""Blocks that are read by a map, 2 GiB: the target finds the rows of each in an array of them all."""

MOST_SHARE = 0.5
"""Share of a table's blocks up to which reading those that changed is worth more than the map costs."""

LEAST_BYTES = 16 << 20
"""WAL that is worth reading for any table: it takes about 16 ms."""


def unreadable_wal(
    source: Database, server: Server, table: TableConfig, storage: Sequence[Storage], start: int
) -> str | None:
    """Say why the WAL since a position does not tell which blocks changed, or is too much to read; None if it does.

    Args:
        source: the source database.
        server: observed before.
        table: the table's configuration.
        storage: the relations that hold the table's rows.
        start: a WAL position, in bytes.
    """
    try:
        with transaction_on(source, TransactionMode.READ, f"{table.label}: looking for WAL summaries") as cursor:
            access = require_prerequisites(cursor, server, storage, checkpoint=table.checkpoint)
            assert server.lsn is not None  # a prerequisite
            assert server.timeline is not None
            wal_to_read = UnsummarizedWal(cursor, server.timeline, access).cost(start, server.lsn)
    except BlockMapUnavailable as reason:
        return str(reason)
    except XminAssetsError as error:
        if not is_refusal(error):
            raise
        return refused_because(error.__cause__ or error)
    if wal_to_read > max(LEAST_BYTES, sum(leaf.main_bytes for leaf in storage)):
        return f"{bytes_text(wal_to_read)} of WAL are more to read than the table"
    return None


def read(
    cursor: ext.cursor,
    server: Server,
    table: TableConfig,
    storage: Sequence[Storage],
    start: int,
    stop: int,
) -> BlockMap:
    """Read which blocks were modified between two WAL positions, and perhaps some more.

    Args:
        cursor: at the source, in the extract's transaction: what goes wrong is rolled back to a savepoint.
        server: observed before.
        table: the table's configuration.
        storage: the relations that hold the table's rows, locked.
        start: see `start_position`.
        stop: read after the snapshot was taken, and flushed.

    Raises:
        BlockMapUnavailable: they cannot be found, or are too many.
    """
    with savepoint(cursor):
        access = require_prerequisites(cursor, server, storage, checkpoint=table.checkpoint)
        assert server.timeline is not None  # a prerequisite
        summarized = UnsummarizedWal(cursor, server.timeline, access).reach(start, stop)
        wal = Wal(cursor, server, [leaf.relfilenode for leaf in storage], access.inspector)
        found, wal_bytes = wal.blocks(start, summarized, stop)
    ranges = ranges_of(found)
    to_read, in_all = sum(r.end - r.start for r in ranges), sum(leaf.main_bytes // BLOCK_SIZE for leaf in storage)
    if to_read > min(MOST_BLOCKS, MOST_SHARE * in_all):
        raise BlockMapUnavailable(f"{len(found):,} of its {in_all:,} blocks changed")
    return BlockMap(ranges, len(found), in_all, wal_bytes)


def attempt(
    cursor: ext.cursor, planned: SourceSnapshot, server: Server, storage: Sequence[Storage], position: int | None
) -> tuple[BlockMap | None, str]:
    """Read the map of an extract, if it can have one; say which blocks are read.

    Args:
        cursor: in the extract's transaction.
        planned: the sync.
        server: observed before the snapshot was taken.
        storage: the relations that hold the table's rows, locked.
        position: a WAL position that covers the snapshot; None where the source does not tell.
    """
    start = planned.plan.map_from
    if start is None:
        return None, planned.plan.blocks_read
    try:
        # WAL is read as far as it is on disk, and no word is said of the rest.
        patience = planned.state.scan_seconds if planned.state else 0.0
        covered = None if position is None else wait_for_flush(cursor, position, patience)
        if covered is None:
            raise BlockMapUnavailable("what the snapshot shows is not in the WAL on the source's disk yet")
        made = read(cursor, server, planned.config, storage, start, covered)
    except BlockMapUnavailable as reason:
        return None, scan_because(str(reason))
    return made, f"{made.changed:,} of {made.in_all:,} blocks: those changed since WAL position {lsn_text(start)}"


def ranges_to_read(found: BlockMap, storage: Sequence[Storage]) -> list[CtidRange]:
    """Return the ranges of a map, as they are read."""
    leaves = {leaf.relfilenode: leaf for leaf in storage}
    return [CtidRange(leaves[r.filenode], r.start, r.end, r.end - r.start) for r in found.ranges]


def ranges_of(blocks: Iterable[tuple[int, int]]) -> tuple[BlockRange, ...]:
    """Return blocks as ranges, by file and in order: as many as may be, and blocks between near ones for the rest.

    Args:
        blocks: pairs of a relfilenode and a block number.
    """
    ordered = sorted(blocks)
    gaps = sorted(b[1] - a[1] for a, b in pairwise(ordered) if a[0] == b[0])
    apart = gaps[-MOST_RANGES] if len(gaps) >= MOST_RANGES else 1
    ranges: list[BlockRange] = []
    for filenode, of_file in groupby(ordered, key=lambda block: block[0]):
        for _, block in of_file:
            last = ranges[-1] if ranges and ranges[-1].filenode == filenode else None
            if last and block - (last.end - 1) <= apart:
                ranges[-1] = BlockRange(filenode, last.start, block + 1)
            else:
                ranges.append(BlockRange(filenode, block, block + 1))
    return tuple(ranges)
