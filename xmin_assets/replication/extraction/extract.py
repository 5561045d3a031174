"""The second station: the changed rows, and the keys of all rows where they are needed, as CSV files in the spool.

All of it under one snapshot. If no transaction has written anything since the watermark, nothing is read. Where all
rows are wanted, they are copied, and counted by that. Otherwise the first pass counts the rows, range by range, and
finds out which ranges have changed ones. The second copies these. The keys of all rows are copied only if rows were
deleted, and the counts tell whether they were (see `deleted_rows`); or if rows changed, and nothing at the source
guarantees that a changed row does not repeat another one's key.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

import psycopg2.extensions as ext

from xmin_assets.config import Settings
from xmin_assets.errors import PlanOutdated
from xmin_assets.postgres import catalog
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.transaction import TransactionMode, transaction
from xmin_assets.postgres.types import still_means, types_of
from xmin_assets.replication.changed_blocks import block_map
from xmin_assets.replication.extraction.deletions import _keys_needed, _looks_for_deletes
from xmin_assets.replication.extraction.table_reader import TableReader
from xmin_assets.replication.extraction.unencodable import Unencodable, explained
from xmin_assets.replication.manifests.extract import CsvExtract, Part
from xmin_assets.replication.manifests.facts import SourceFacts
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.planning.observation import locked_source
from xmin_assets.replication.planning.resume_point import covering, resume_point
from xmin_assets.replication.planning.source_identity import RESTARTED, restarted, rewound
from xmin_assets.replication.runtime.progress import ProgressCallback, ignore_progress
from xmin_assets.replication.runtime.sizing import workers_for
from xmin_assets.replication.runtime.snapshot_workers import SnapshotWorkers
from xmin_assets.replication.scan import cursor_column, where_clause
from xmin_assets.replication.scan.cursor_column import SeenCursors
from xmin_assets.replication.scan.ranges import cut_into_ranges
from xmin_assets.replication.schema.selection import VIEWS
from xmin_assets.replication.spool.spool import Spool

WORTH_HELP = 16 << 20
"""Bytes of a table from which a second worker's connection is opened while the first one still looks at the catalog."""


def extract(
    source: Database,
    snapshot: SourceSnapshot,
    spool: Spool,
    settings: Settings,
    *,
    target: Database | None = None,
    on_part_complete: Callable[[Part], None] | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> CsvExtract:
    """Read what the plan says, under a snapshot of its own.

    Args:
        source: the source database.
        snapshot: the plan.
        spool: where the files go.
        settings: workers, batches and limits.
        target: asked which of the changed keys it has, so that all keys are copied only if rows were deleted; without
            it they are copied whenever rows changed.
        on_part_complete: called with each complete file of rows while others are written, from several threads;
            with it a worker writes several files instead of one.
        on_progress: told of every batch, from several threads.

    Raises:
        PlanOutdated: the table is no longer what was planned for.
        XminAssetsError: the source or the spool failed. The files of this sync are removed.
    """
    began = time.monotonic()
    action = f"{snapshot.table}: extracting"
    table = snapshot.config.source_name
    workers = workers_for(settings)
    spool.remove(snapshot.sync_id)
    spool.make_folder(spool.sync_folder(snapshot.sync_id))
    try:
        if workers > 1 and snapshot.bytes >= WORTH_HELP:
            source.prepare()
        with source.connection() as connection, ExitStack() as files:
            kind = snapshot.identity.kind
            with locked_source(source, connection, snapshot.config, kind, action) as (cursor, facts, storage):
                lsn, since = covering(cursor, snapshot, facts.server), time.monotonic()
                _require_as_planned(snapshot, facts)
                reader = TableReader(snapshot, facts, spool, files, settings.batch_size, on_progress, on_part_complete)
                deadline = began + settings.max_snapshot_age
                ranges = cut_into_ranges(storage, workers)
                seen = SeenCursors(None, 0)
                changed, path, scan_seconds = None, snapshot.plan.path, 0.0
                with SnapshotWorkers(source, cursor, table, workers, reader.make_worker, deadline, action) as pool:
                    if facts.selection.cursor:
                        rows = reader.workers[0].query.condition()
                        seen = cursor_column.observe(cursor, table, facts.selection, rows)
                    if facts.identity.kind in VIEWS or snapshot.plan.cursor_from is not None:
                        reader.copy_whole(pool)
                    elif snapshot.state and reader.nothing_written(snapshot.state, storage):
                        reader.reuse_row_count(snapshot.state.rows)
                        path = "no block, because no transaction has written since the last sync"
                    else:
                        reader.begin()
                        with where_clause.left(cursor, facts.selection.terms.path):
                            changed, path = block_map.attempt(cursor, snapshot, facts.server, storage, lsn)
                        if changed is None:
                            reader.read(pool, ranges)
                            scan_seconds = time.monotonic() - began
                    if changed is not None:
                        keys_needed = bool(changed.ranges) and _looks_for_deletes(snapshot)
                        reader.copy_blocks(pool, block_map.ranges_to_read(changed, storage), keys_needed)
                    elif keys_needed := _keys_needed(reader, pool, target):
                        reader.copy_keys(pool, reader.filled if snapshot.plan.cursor_from is None else ranges)
                leaves = {ctid_range.leaf.oid: ctid_range.leaf.name for ctid_range in ranges if ctid_range.leaf}
                if catalog.renamed(cursor, {facts.identity.relation_oid: table, **leaves}):
                    raise PlanOutdated(f"{snapshot.table} got another name while it was read. Run the sync again.")
            with transaction(source, connection, TransactionMode.READ, action) as cursor:
                _require_types_as_read(cursor, snapshot)
                found = bool(reader.changed_rows or keys_needed)
                resume = resume_point(cursor, snapshot, facts, reader.workers[0].query.next_xid, lsn, since, found)
    except BaseException as error:
        spool.remove(snapshot.sync_id)
        if isinstance(error, Unencodable):
            raise explained(source, snapshot, error) from None
        raise
    parts, key_parts = reader.parts("rows"), reader.parts("keys")
    return CsvExtract(
        snapshot=snapshot,
        parts=parts,
        key_parts=key_parts if keys_needed else None,
        rows=sum(part.rows for part in parts),
        bytes=sum(part.bytes for part in parts),
        key_bytes=sum(part.bytes for part in key_parts),
        source_rows=None if changed else _source_rows(reader, keys_needed),
        max_xmin=reader.max_xmin,
        horizon=resume.watermark,
        source_lsn=resume.lsn,
        source_started=facts.server.started,
        checksum=reader.checksum if snapshot.plan.checksum else None,
        cursor=snapshot.plan.cursor_from if seen.highest is None else seen.highest,
        null_cursors=seen.nulls,
        block_map=changed,
        path=path,
        wal_positions=resume.wal_positions,
        unflushed=resume.unflushed,
        scan_seconds=scan_seconds,
        workers=len(reader.workers),
        seconds=time.monotonic() - began,
    )


def _source_rows(reader: TableReader, keys_copied: bool) -> int | None:
    if reader.snapshot.plan.cursor_from is None:
        return reader.source_rows
    return reader.keys_copied if keys_copied else None


def _require_as_planned(snapshot: SourceSnapshot, facts: SourceFacts) -> None:
    if facts.identity != snapshot.identity or facts.selection != snapshot.source_selection:
        raise PlanOutdated(
            f"{snapshot.table} changed after the sync was planned (another relation, columns or storage). "
            "Plan it again: run the sync, or materialize source_snapshot, once more."
        )
    # Days may have gone by, and behind one address there may be several standbys.
    plan, state = snapshot.plan, snapshot.state
    if state is None or plan.watermark is None:
        return
    other = rewound(facts, state)
    if other is None and restarted(facts, state) and not plan.checksum:
        other = RESTARTED
    if other:
        raise PlanOutdated(f"{snapshot.table}: after the sync was planned, {other}. Plan it again.")


def _require_types_as_read(cursor: ext.cursor, snapshot: SourceSnapshot) -> None:
    """Make sure that no label was renamed and no attribute changed while rows were read.

    How values of enums and composites print is looked up in the catalog as it is, whatever the snapshot.

    Raises:
        PlanOutdated: one was.
    """
    selection = snapshot.source_selection
    read = {made.oid: made for made in (*selection.types, *selection.printed_types, *selection.terms.types)}
    if not read:
        return
    next_xid = {made.oid: made for made in types_of(cursor, read)}
    for oid, made in read.items():
        if not still_means(made, next_xid.get(oid)):
            raise PlanOutdated(f"{snapshot.table}: the type {made.text} was changed while it was read. Run it again.")
