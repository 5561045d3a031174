"""The map of the blocks of a table that have changed since its last sync: where it begins, and whether it is worth it.

A sync that has one reads those blocks, and no others. `wal_summaries` finds them. Where something does not allow it,
the reason is given in words, and the table is read as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg2.extensions as ext

from xmin_assets.config import TableConfig
from xmin_assets.errors import XminAssetsError
from xmin_assets.postgres.catalog import Storage
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.server import Server, wait_for_flush
from xmin_assets.postgres.server_facts import is_refusal
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.replication.changed_blocks.block_ranges import MOST_RANGES, BlockRanges
from xmin_assets.replication.changed_blocks.prerequisites import (
    BlockMapUnavailable,
    refused_because,
    require_prerequisites,
    savepoint,
    scan_because,
)
from xmin_assets.replication.changed_blocks.wal_positions import lsn_text
from xmin_assets.replication.changed_blocks.wal_summaries import UnsummarizedWal, Wal
from xmin_assets.replication.manifests.extract import BlockMap
from xmin_assets.replication.manifests.plan import BlockRange, SourceSnapshot
from xmin_assets.replication.runtime.units import bytes_text
from xmin_assets.replication.scan.ranges import BLOCK_SIZE, CtidRange

MOST_BLOCKS = 1 << 18
"""Blocks that are read by a map, 2 GiB: the target makes an array of them all, to find the rows of each."""

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
    in_all = sum(leaf.main_bytes // BLOCK_SIZE for leaf in storage)
    most = min(MOST_BLOCKS, MOST_SHARE * in_all)
    with savepoint(cursor):
        access = require_prerequisites(cursor, server, storage, checkpoint=table.checkpoint)
        assert server.timeline is not None  # a prerequisite
        summarized = UnsummarizedWal(cursor, server.timeline, access).reach(start, stop)
        wal = Wal(cursor, server, [leaf.relfilenode for leaf in storage], access.inspector)
        found, wal_bytes = wal.ranges(start, summarized, stop, most)
    if found.ranges is None:
        raise BlockMapUnavailable(too_much_because(found, most, in_all))
    return BlockMap(found.ranges, found.changed, in_all, wal_bytes)


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


def too_much_because(found: BlockRanges, most: float, in_all: int) -> str:
    """Say why ranges were not fetched.

    Args:
        found: what is known of them.
        most: blocks that are worth reading.
        in_all: blocks that the table has.
    """
    changed = f"{found.changed:,} of its {in_all:,} blocks changed"
    if found.changed > most:
        return changed
    if found.spanned > most:
        return f"{changed}, scattered so that {found.spanned:,} would be read with those between them"
    return f"{changed}, in more than {MOST_RANGES:,} places"


def ranges_to_read(ranges: Sequence[BlockRange], storage: Sequence[Storage]) -> list[CtidRange]:
    """Return the ranges of a map or of a chunk, as they are read."""
    leaves = {leaf.relfilenode: leaf for leaf in storage}
    return [CtidRange(leaves[r.filenode], r.start, r.end, r.end - r.start) for r in ranges]
