"""A full sync that is read in chunks, each under a short snapshot, into a table of its own in the target.

A load begins with a horizon: all transactions below it have ended. Each chunk is a range of blocks, of which only
versions below the horizon are read: they can go, and never come or move. The rows of a file and the blocks they are
from commit together, so a load goes on where any process has left it. At its end, a sync like any other brings what the
horizon left out and takes away what has gone; that is merged into the load's table, and this into the target, in one
transaction (`merging/merge.py`). See docs/correctness.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import Mode, Settings, TableConfig
from xmin_assets.config.deletes import Deletes
from xmin_assets.errors import KeyInvalid, LoadPaused, PlanOutdated, StaleExtract
from xmin_assets.postgres import xid
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.server import snapshot_and_lsn, wait_for_flush
from xmin_assets.postgres.transaction import TransactionMode, transaction, transaction_on
from xmin_assets.replication.extraction.extract import extract
from xmin_assets.replication.manifests.extract import CsvExtract, Part
from xmin_assets.replication.manifests.load import NOTHING_LOADED, Load, LoadProgress
from xmin_assets.replication.manifests.merge import MergedTarget
from xmin_assets.replication.manifests.plan import BlockRange, Chunk, ClosedLoad, SourceSnapshot
from xmin_assets.replication.manifests.state import State, WalPosition
from xmin_assets.replication.planning.load_plan import (
    all_blocks,
    begun_anew,
    blocks_in,
    blocks_per_chunk,
    closing_config,
    left_to_read,
    loaded_share,
    next_chunk,
    pieces,
    wholly_loaded,
)
from xmin_assets.replication.planning.observation import locked_source
from xmin_assets.replication.planning.snapshot import snapshot
from xmin_assets.replication.runtime.progress import Progress, ProgressCallback, ignore_progress
from xmin_assets.replication.runtime.sizing import workers_for
from xmin_assets.replication.scan.ranges import RANGE_BYTES
from xmin_assets.replication.schema.type_making import ensure_types
from xmin_assets.replication.spool.spool import Spool
from xmin_assets.replication.staging.load_table import ChunkLoader, add_load_key, create_load_table
from xmin_assets.replication.staging.staged_table import require_target
from xmin_assets.replication.state.loads import forget_load, load_table, read_load, read_progress, write_load
from xmin_assets.replication.state.migrations import SCHEMA, ensure_schema
from xmin_assets.replication.state.table_state import forget_state, lock_table_state, read_state, write_state

QUIET_SECONDS = 2.0
"""How long the beginning of a load waits for transactions that were open at the WAL position that it notes."""

MOST_BEGINNINGS = 3
"""How often one sync begins a load anew before it is for a person to look."""

PATIENCE = 1.0
"""Seconds for which the source's disk is waited for, when a load begins. What is not on it by then, a crash may undo;
but after any restart of the source the closing sync checks the whole copy by a checksum."""


def read_source_table(
    source: Database,
    planned: SourceSnapshot,
    spool: Spool,
    settings: Settings,
    *,
    target: Database,
    on_part_complete: Callable[[Part], None] | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> CsvExtract:
    """Read what a plan says: as `extract` does, or what is left of a load by chunks and then what closes it.

    Args:
        source: the source database.
        planned: the plan; by chunks if it has a `load`.
        spool: where files go.
        settings: workers, batches and limits.
        target: the target database.
        on_part_complete: see `extract`; not for a load by chunks.
        on_progress: called with every batch, from several threads.

    Returns:
        Of a load by chunks the extract of its closing sync, whose snapshot has `closes`.

    Raises:
        XminAssetsError: a side failed; what was loaded stays, and the next sync goes on from there.
    """
    if planned.load is None:
        return extract(
            source, planned, spool, settings, target=target, on_part_complete=on_part_complete, on_progress=on_progress
        )
    return _ChunkedLoad(source, target, planned, spool, settings, on_progress).run()


@dataclass
class _ChunkedLoad:
    source: Database
    target: Database
    planned: SourceSnapshot
    spool: Spool
    settings: Settings
    on_progress: ProgressCallback
    begun: int = 0
    started: float = field(default_factory=time.monotonic)

    def run(self) -> CsvExtract:
        while True:
            load, progress = self._under_way() or (self._begin(), NOTHING_LOADED)
            closing = self._closing()
            if why := begun_anew(load, self.planned, closing, progress):
                if self.begun > MOST_BEGINNINGS:
                    raise PlanOutdated(f"{self.planned.table}: its load had to begin anew too often: {why}.")
                self._say(f"the load begins anew: {why}")
                drop_load(self.target, self.planned.config)
                self.begun += 1
                continue
            left = left_to_read(load, progress, closing.identity)
            if left:
                self._require_open(load, left)
                self._read_chunk(load, progress, closing, left)
                continue
            self._add_key(load)
            self._note_state(load, progress)
            return self._close(progress)

    def _require_open(self, load: Load, left: tuple[BlockRange, ...]) -> None:
        """Stop before a chunk that is not to be read now.

        Raises:
            LoadPaused: these are not the hours.
        """
        window, now = self.settings.window, datetime.now(timezone.utc)
        if window and not window.is_open(now):
            opens = window.opens_at(now).astimezone(window.hours.zone)
            raise LoadPaused(
                f"{self.planned.table}: {loaded_share(load, left):.0%} is loaded. "
                f"The load stops until its window opens, {opens:%Y-%m-%d %H:%M %Z}; a sync after that goes on with it."
            )

    def _add_key(self, load: Load) -> None:
        try:
            add_load_key(self.target, load)
        except KeyInvalid:
            drop_load(
                self.target, self.planned.config
            )  # the rows may be mended at the source, and then all of them are read
            raise

    def _close(self, progress: LoadProgress) -> CsvExtract:
        closing = self._closing()
        if closing.plan.mode is not Mode.XMIN_INCREMENTAL or closing.plan.column_operations:
            raise PlanOutdated(f"{self.planned.table} was changed just now. Run the sync again.")
        closed = ClosedLoad(self.planned, progress.rows, progress.csv_bytes)
        closing = replace(closing, sync_id=self.planned.sync_id, closes=closed)
        self._say(f"{progress.rows} rows are loaded; reading what has changed since the load began")
        found = extract(
            self.source, closing, self.spool, self.settings, target=self.target, on_progress=self.on_progress
        )
        return replace(found, seconds=time.monotonic() - self.started)

    def _read_chunk(
        self, load: Load, progress: LoadProgress, closing: SourceSnapshot, left: tuple[BlockRange, ...]
    ) -> None:
        chunk = next_chunk(left, blocks_per_chunk(load, self.planned.config.load_chunk_bytes))
        most = max(
            1, min(blocks_per_chunk(load, RANGE_BYTES), math.ceil(blocks_in(chunk) / workers_for(self.settings)))
        )
        plan = replace(
            closing.plan,
            mode=Mode.FULL_SYNC,
            watermark=None,
            full_leaves=(),
            checksum=False,
            map_from=None,
            chunk=Chunk(load.state.watermark, pieces(chunk, most)),
        )
        reading = replace(closing, sync_id=load.load_id, plan=plan, state=None)

        def show(step: Progress) -> None:
            total = max(self.planned.rows_estimate, progress.rows + step.done)
            self.on_progress(replace(step, done=progress.rows + step.done, total=total, note=""))

        self._say(f"loading by chunks: {math.floor(100 * loaded_share(load, left))} % are loaded", progress.rows)
        with ChunkLoader(self.target, load, self.spool, self.settings) as loader:
            extracted = extract(
                self.source, reading, self.spool, self.settings, on_part_complete=loader.take, on_progress=show
            )
            loader.complete(extracted, chunk)
        self.spool.remove(load.load_id)

    def _under_way(self) -> tuple[Load, LoadProgress] | None:
        with transaction_on(self.target, TransactionMode.READ, self._action) as cursor:
            self._require_base(cursor)
            load = read_load(cursor, self.planned.config.target_name)
            return (load, read_progress(cursor, load)) if load else None

    def _closing(self) -> SourceSnapshot:
        return snapshot(self.source, self.target, closing_config(self.planned.config))

    def _note_state(self, load: Load, progress: LoadProgress) -> None:
        """Let the load's table be one that a sync goes on with, as if one at the load's horizon had left its rows."""
        name = load_table(self.planned.config.target_name)
        with transaction_on(self.target, TransactionMode.WRITE, self._action) as cursor:
            lock_table_state(cursor, self.planned.config.target_name)
            self._require_own(cursor, load)
            state = replace(
                load.state,
                # Another process may have planned a closing sync when less was loaded: that one is stale.
                sync_id=f"{load.state.sync_id}-{blocks_in(progress.done)}",
                rows=progress.rows,
                max_xmin=progress.max_xid,
                identity=wholly_loaded(load, progress),
            )
            write_state(cursor, name, state, _result_of(load, state))

    def _require_own(self, cursor: ext.cursor, load: Load) -> None:
        now = read_load(cursor, self.planned.config.target_name)
        if now is None or now.load_id != load.load_id:
            raise PlanOutdated(f"{self.planned.table}: another process has ended this load. Run the sync again.")

    def _require_base(self, cursor: ext.cursor) -> None:
        """Make sure that what is loaded can be merged in the end.

        Raises:
            StaleExtract: another sync has merged since this one was planned, or this one has.
        """
        state = read_state(cursor, self.planned.config.target_name)
        if (state.base if state else None) != self.planned.base:
            raise StaleExtract(
                f"{self.planned.table}: a sync has merged after this one was planned. Nothing was loaded; "
                "run the sync again."
            )

    def _begin(self) -> Load:
        """Fix where the load begins, in the target, and make its table.

        Raises:
            XminAssetsError: a side failed; nothing was begun.
        """
        planned, table = self.planned, self.planned.config
        start = _LoadStart(self.source, planned, self._action).find()
        types = ensure_types(self.target, planned)
        name = load_table(table.target_name)
        with transaction_on(self.target, TransactionMode.WRITE, self._action) as cursor:
            require_target(cursor, planned)
            ensure_schema(cursor)
            lock_table_state(cursor, table.target_name)
            self._require_base(cursor)
            oid = create_load_table(cursor, planned)
            state = replace(
                start.state,
                target_oid=oid,
                types=types.maps,
                selection=replace(planned.target_selection, deletes=Deletes.HARD),
            )
            load = Load(planned.sync_id, planned, state, start.ranges, start.bytes)
            write_load(cursor, table.target_name, load)
            forget_state(cursor, name)
            write_state(cursor, name, state, _result_of(load, state))
        return load

    @property
    def _action(self) -> str:
        return f"{self.planned.table}: loading by chunks"

    def _say(self, note: str, rows: int = 0) -> None:
        self.on_progress(Progress(self.planned.table, "extract", rows, self.planned.rows_estimate, note))


def drop_load(target: Database, table: TableConfig) -> bool:
    """Drop the load of a table, and all that is remembered of it; False if there was none.

    A process that is at work on it fails with its next file.

    Raises:
        XminAssetsError: the target failed.
    """
    name = load_table(table.target_name)
    with transaction_on(target, TransactionMode.WRITE, f"{table.label}: giving up a load") as cursor:
        if read_load(cursor, table.target_name) is None:
            return False
        lock_table_state(cursor, table.target_name)
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(SCHEMA, name.name)))
        forget_load(cursor, table.target_name)
    return True


@dataclass(frozen=True)
class _Start:
    state: State
    ranges: tuple[BlockRange, ...]
    bytes: int


@dataclass
class _LoadStart:
    """Finds where a load may begin."""

    source: Database
    planned: SourceSnapshot
    action: str

    def find(self) -> _Start:
        planned, began = self.planned, time.monotonic()
        position: WalPosition | None = None
        with self.source.connection() as connection:
            while True:
                with locked_source(self.source, connection, planned.config, planned.identity.kind, self.action) as (
                    cursor,
                    facts,
                    storage,
                ):
                    if facts.identity != planned.identity or facts.selection != planned.source_selection:
                        raise PlanOutdated(f"{planned.table} changed after the sync was planned. Run the sync again.")
                    next_xid = xid.read_next_xid(cursor, facts.horizon)
                    _, lsn = snapshot_and_lsn(cursor)
                if position is None and facts.server.lsn is not None:
                    # The id was read after the position: whatever has it, or a later one, has written nothing before.
                    position = WalPosition(facts.server.lsn, next_xid)
                is_quiet = position is None or position.next_xid <= facts.horizon
                if is_quiet or time.monotonic() - began > QUIET_SECONDS:
                    break
                time.sleep(0.02)
            if lsn is not None:
                with transaction(self.source, connection, TransactionMode.READ, self.action) as cursor:
                    wait_for_flush(cursor, lsn, PATIENCE)
        state = State(
            revision=1,
            sync_id=f"{planned.sync_id}-load",  # not that of the closing sync, which would pass for merged
            watermark=facts.horizon,
            resync=None,
            max_xmin=0,
            rows=0,
            source_lsn=lsn,
            target_oid=0,
            source_table=planned.table,
            identity=facts.identity,
            selection=planned.target_selection,
            merged_at=datetime.now(timezone.utc),
            source_started=facts.server.started,
            wal_positions=(position,) if position and is_quiet else (),
        )
        return _Start(state, all_blocks(storage), sum(leaf.all_bytes for leaf in storage))


def _result_of(load: Load, state: State) -> MergedTarget:
    """Return what stands beside the state of a load's table: nothing was merged yet."""
    return MergedTarget(
        sync_id=state.sync_id,
        table=load.planned.table,
        target=str(load.planned.config.target_name),
        mode=Mode.FULL_SYNC,
        reason=load.planned.plan.reason,
        inserted=state.rows,
        updated=0,
        deleted=0,
        unchanged=0,
        rows=state.rows,
        watermark=state.watermark,
        watermark_before=None,
        max_xmin=state.max_xmin,
        rows_extracted=state.rows,
        bytes_extracted=0,
    )
