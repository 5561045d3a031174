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
from dataclasses import dataclass, replace

import psycopg2.extensions as ext

from xmin_assets.config import Settings
from xmin_assets.errors import PlanOutdated
from xmin_assets.postgres import catalog
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.transaction import TransactionMode, transaction
from xmin_assets.postgres.types import still_means, types_of
from xmin_assets.replication.changed_blocks import block_map
from xmin_assets.replication.extraction.deletions import looks_for_deletes, needs_keys
from xmin_assets.replication.extraction.table_reader import ReadWorker, TableReader
from xmin_assets.replication.extraction.unsendable import Unsendable, explained
from xmin_assets.replication.manifests.extract import BlockMap, CsvExtract, Part
from xmin_assets.replication.manifests.facts import SourceFacts
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.planning.observation import locked_source
from xmin_assets.replication.planning.resume_point import ResumePoint, covering, resume_point
from xmin_assets.replication.planning.source_identity import rewound, unproven
from xmin_assets.replication.runtime.progress import ProgressCallback, ignore_progress
from xmin_assets.replication.runtime.sizing import workers_for
from xmin_assets.replication.runtime.snapshot_workers import SnapshotWorkers
from xmin_assets.replication.scan import cursor_column, where_clause
from xmin_assets.replication.scan.cursor_column import NO_CURSORS, SeenCursors
from xmin_assets.replication.scan.ranges import RANGE_BYTES, CtidRange, cut_into_ranges
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
        on_progress: called with every batch, from several threads.

    Raises:
        PlanOutdated: the table is no longer what was planned for.
        XminAssetsError: the source or the spool failed. The files of this sync are removed.
    """
    spool.remove(snapshot.sync_id)
    spool.make_folder(spool.sync_folder(snapshot.sync_id))
    try:
        return _Extract(source, snapshot, spool, settings, target, on_part_complete, on_progress).run()
    except BaseException as error:
        spool.remove(snapshot.sync_id)
        if isinstance(error, Unsendable):
            raise explained(source, snapshot, error) from error
        raise


@dataclass
class _Found:
    """What was read under the snapshot."""

    block_map: BlockMap | None = None
    """The blocks that were read; None where all were."""
    blocks_read: str = ""
    keys_copied: bool = False
    cursors: SeenCursors = NO_CURSORS
    scan_seconds: float = 0.0


@dataclass
class _Extract:
    """One extract, under one snapshot."""

    source: Database
    snapshot: SourceSnapshot
    spool: Spool
    settings: Settings
    target: Database | None
    on_part_complete: Callable[[Part], None] | None
    on_progress: ProgressCallback

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.action = f"{self.snapshot.table}: extracting"
        self.table = self.snapshot.config.source_name
        self.workers = workers_for(self.settings)

    def run(self) -> CsvExtract:
        """Read the table, make sure that it is what was planned for, and decide where the next sync resumes."""
        source, snapshot = self.source, self.snapshot
        if self.workers > 1 and snapshot.bytes >= WORTH_HELP:
            source.prepare()
        with source.connection() as connection, ExitStack() as files:
            kind = snapshot.identity.kind
            with locked_source(source, connection, snapshot.config, kind, self.action) as (cursor, facts, storage):
                lsn, since = covering(cursor, snapshot, facts.server), time.monotonic()
                _require_as_planned(snapshot, facts)
                reader = TableReader(
                    snapshot=snapshot,
                    facts=facts,
                    spool=self.spool,
                    files=files,
                    batch_size=self.settings.batch_size,
                    on_progress=self.on_progress,
                    on_part_complete=self.on_part_complete,
                )
                ranges = self._ranges(storage)
                with self._pool(cursor, reader) as pool:
                    found = self._read(cursor, reader, pool, storage, ranges, lsn)
                self._require_same_names(cursor, facts, ranges)
            with transaction(source, connection, TransactionMode.READ, self.action) as cursor:
                _require_types_as_read(cursor, snapshot)
                if snapshot.plan.chunk:  # the next sync resumes where the load began
                    return self._result(reader, found, ResumePoint(snapshot.plan.chunk.below, lsn, ()))
                resume = resume_point(
                    cursor,
                    snapshot,
                    facts,
                    next_xid=reader.workers[0].query.next_xid,
                    lsn=lsn,
                    since=since,
                    found=bool(reader.changed_rows or found.keys_copied),
                )
        return self._result(reader, found, resume)

    def _ranges(self, storage: tuple[catalog.Storage, ...]) -> list[CtidRange]:
        chunk = self.snapshot.plan.chunk
        if chunk is None:
            return cut_into_ranges(storage, self.workers, self.source.most_at_once(RANGE_BYTES))
        return block_map.ranges_to_read(chunk.ranges, storage)

    def _pool(self, cursor: ext.cursor, reader: TableReader) -> SnapshotWorkers[ReadWorker]:
        return SnapshotWorkers(
            self.source,
            cursor,
            self.table,
            workers=self.workers,
            make_worker=reader.make_worker,
            deadline=self.began + self.settings.max_snapshot_age,
            action=self.action,
        )

    def _read(
        self,
        cursor: ext.cursor,
        reader: TableReader,
        pool: SnapshotWorkers[ReadWorker],
        storage: tuple[catalog.Storage, ...],
        ranges: list[CtidRange],
        lsn: int | None,
    ) -> _Found:
        """Copy the rows that the plan asks for, and the keys of all rows where they are needed."""
        snapshot, facts, found = self.snapshot, reader.facts, _Found(blocks_read=self.snapshot.plan.blocks_read)
        if facts.selection.cursor:
            rows = reader.workers[0].query.condition()
            found.cursors = cursor_column.seen_cursors(cursor, self.table, facts.selection, rows)
        if facts.identity.kind in VIEWS or snapshot.plan.cursor_from is not None:
            reader.copy_whole(pool)
        elif snapshot.state and reader.nothing_written(snapshot.state, storage):
            reader.reuse_row_count(snapshot.state.rows)
            found.blocks_read = "no block, because no transaction has written since the last sync"
        else:
            reader.begin()
            with where_clause.without_search_path(cursor, facts.selection.terms.path):
                found.block_map, found.blocks_read = block_map.attempt(cursor, snapshot, facts.server, storage, lsn)
            if found.block_map is None:
                reader.read(pool, ranges)
                found.scan_seconds = time.monotonic() - self.began
        if found.block_map is not None:
            found.keys_copied = bool(found.block_map.ranges) and looks_for_deletes(snapshot)
            reader.copy_blocks(pool, block_map.ranges_to_read(found.block_map.ranges, storage), found.keys_copied)
        elif needs_keys(reader, pool, self.target):
            found.keys_copied = True
            reader.copy_keys(pool, reader.filled if snapshot.plan.cursor_from is None else ranges)
        return found

    def _require_same_names(self, cursor: ext.cursor, facts: SourceFacts, ranges: list[CtidRange]) -> None:
        leaves = {ctid_range.leaf.oid: ctid_range.leaf.name for ctid_range in ranges if ctid_range.leaf}
        if catalog.renamed(cursor, {facts.identity.relation_oid: self.table, **leaves}):
            raise PlanOutdated(f"{self.snapshot.table} got another name while it was read. Run the sync again.")

    def _result(self, reader: TableReader, found: _Found, resume: ResumePoint) -> CsvExtract:
        plan, parts, key_parts = self.snapshot.plan, reader.parts("rows"), reader.parts("keys")
        return CsvExtract(
            snapshot=self.snapshot,
            parts=parts,
            key_parts=key_parts if found.keys_copied else None,
            rows=sum(part.rows for part in parts),
            bytes=sum(part.bytes for part in parts),
            key_bytes=sum(part.bytes for part in key_parts),
            source_rows=None if found.block_map else _source_rows(reader, found.keys_copied),
            max_xmin=reader.max_xmin,
            horizon=resume.watermark,
            source_lsn=resume.lsn,
            source_started=reader.facts.server.started,
            checksum=reader.checksum if plan.checksum else None,
            cursor=plan.cursor_from if found.cursors.highest is None else found.cursors.highest,
            null_cursors=found.cursors.nulls,
            block_map=found.block_map,
            blocks_read=found.blocks_read,
            wal_positions=resume.wal_positions,
            unflushed=resume.unflushed,
            wal_records=resume.wal_records,
            scan_seconds=found.scan_seconds,
            workers=len(reader.workers),
            seconds=time.monotonic() - self.began,
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
    if state is None or (plan.watermark is None and plan.cursor_from is None):
        return
    other = rewound(facts, state)
    if other is None and not plan.checksum:
        other = unproven(replace(facts, proven_start=plan.proven_start), state)
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
    now = {made.oid: made for made in types_of(cursor, read)}
    for oid, made in read.items():
        if not still_means(made, now.get(oid)):
            raise PlanOutdated(f"{snapshot.table}: the type {made.text} was changed while it was read. Run it again.")
