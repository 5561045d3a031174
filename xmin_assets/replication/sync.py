"""The four stations in a row, for one table or for many side by side."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from xmin_assets.config import ReplicationConfig, Settings, TableConfig, load_config
from xmin_assets.errors import ConnectionFailed, LoadPaused, XminAssetsError
from xmin_assets.postgres.connection import Database
from xmin_assets.replication.chunked_load import drop_load, read_source_table
from xmin_assets.replication.manifests.merge import MergedTarget, StagedTable
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.manifests.report import SyncReport, TableResult
from xmin_assets.replication.merging.merge import merge
from xmin_assets.replication.planning import held_back
from xmin_assets.replication.planning.snapshot import snapshot
from xmin_assets.replication.runtime.databases import (
    open_databases,
    open_target,
    unreachable,
)
from xmin_assets.replication.runtime.progress import Progress, ProgressCallback, ignore_progress
from xmin_assets.replication.runtime.retries import asked_again, run_concurrently, with_retries
from xmin_assets.replication.runtime.sizing import workers_for
from xmin_assets.replication.spool.last_sync import remember
from xmin_assets.replication.spool.spool import Spool
from xmin_assets.replication.staging.loader import StagedTableLoader
from xmin_assets.replication.staging.stage import loads_during_extract, stage
from xmin_assets.replication.state.failures import remember_failure
from xmin_assets.replication.state.resync import resync
from xmin_assets.replication.state.table_lock import TableLocks, hold_table_lock

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SyncContext:
    """What the sync of a table works with, and what it may do."""

    source: Database
    target: Database
    spool: Spool
    """Where the files go."""
    settings: Settings
    """Workers, batches and limits."""
    allow_mass_delete: bool = False
    """Lift the limit on deleted rows, this once."""
    allow_mass_change: bool = False
    """Let another source replace the rows, this once."""
    table_locks: TableLocks | None = None
    """Of a process that syncs several tables; without them each sync opens a connection for its lock."""
    on_progress: ProgressCallback = ignore_progress
    """Called with every step forward, from several threads."""

    def table_lock(self, table: TableConfig) -> AbstractContextManager[None]:
        """Return the lock that keeps other syncs of the table waiting.

        Raises:
            TableBusy: another sync is still at work after `queue_timeout`.
            XminAssetsError: the target failed.
        """
        timeout = self.settings.queue_timeout
        if self.table_locks:
            return self.table_locks.hold(table, timeout, self.on_progress)
        return hold_table_lock(self.target, table, timeout, self.on_progress)


@dataclass(frozen=True)
class TablePlan:
    """What the next sync of a table would do, or why it cannot."""

    table: str
    snapshot: SourceSnapshot | None
    error: str | None = None


def sync_tables(
    config: ReplicationConfig | None = None,
    *,
    tables: Sequence[str] = (),
    allow_mass_delete: bool = False,
    allow_mass_change: bool = False,
    on_progress: ProgressCallback = ignore_progress,
) -> SyncReport:
    """Bring target tables to the state of their sources, side by side; one that fails does not stop the others.

    Args:
        config: what to replicate; None loads the file that XMIN_CONFIG names.
        tables: names of the tables to sync; none means all.
        allow_mass_delete: lift the limit on deleted rows, this once.
        allow_mass_change: let another source replace the rows, this once.
        on_progress: called with every step forward, from several threads.

    Raises:
        ConfigError: the configuration is wrong or names no such table.
    """
    config = config or load_config()
    chosen = config.select(list(tables))
    spool = Spool.open(config.settings)
    with open_databases(config) as (source, target), TableLocks(target) as table_locks:
        table_locks.prepare()
        context = SyncContext(
            source=source,
            target=target,
            spool=spool,
            settings=config.settings,
            allow_mass_delete=allow_mass_delete,
            allow_mass_change=allow_mass_change,
            table_locks=table_locks,
            on_progress=on_progress,
        )
        reason = unreachable(source, target)

        def sync(table: TableConfig) -> TableResult:
            if reason:
                return TableResult(table=table.label, status="failed", error=reason)
            return with_retries(
                table,
                "snapshot",
                on_progress,
                attempt=lambda: sync_table(context, table),
                failed=lambda error: failed(table, error),
            )

        def failed(table: TableConfig, error: XminAssetsError) -> TableResult:
            nonlocal reason
            if isinstance(error, LoadPaused):
                return TableResult(table=table.label, status="paused", mode="full_sync", reason=str(error))
            if isinstance(error, ConnectionFailed):
                # The other tables need not find out one by one.
                reason = reason or unreachable(source, target)
            remember_failure(target, table, error)
            return TableResult(table=table.label, status="failed", error=str(error))

        return SyncReport(tuple(run_concurrently(sync, chosen, workers_for(config.settings))))


def plan_tables(config: ReplicationConfig | None = None, *, tables: Sequence[str] = ()) -> tuple[TablePlan, ...]:
    """Return what `sync_tables` would do now; nothing is changed.

    Raises:
        ConfigError: the configuration is wrong or names no such table.
    """
    config = config or load_config()
    chosen = config.select(list(tables))
    with open_databases(config) as (source, target):
        reason = unreachable(source, target)

        def plan(table: TableConfig) -> TablePlan:
            if reason:
                return TablePlan(table.label, None, reason)
            try:
                return TablePlan(table.label, asked_again(lambda: snapshot(source, target, table)))
            except XminAssetsError as error:
                _log.debug("%s: no plan", table.label, exc_info=True)
                return TablePlan(table.label, None, str(error))

        return tuple(run_concurrently(plan, chosen, workers_for(config.settings)))


def resync_tables(
    config: ReplicationConfig | None = None, *, tables: Sequence[str] = (), restart: bool = False
) -> tuple[str, ...]:
    """Make the next sync of the tables read and compare everything; the names of those that would not have anyway.

    Args:
        config: what to replicate; None loads the file that XMIN_CONFIG names.
        tables: names of the tables; none means all.
        restart: whether a load by chunks that is under way is given up, too, and begins anew.

    Raises:
        XminAssetsError: the configuration is wrong, or the target failed.
    """
    config = config or load_config()
    chosen = config.select(list(tables))
    with open_target(config) as target:
        return tuple(
            table.label for table in chosen if any([restart and drop_load(target, table), resync(target, table)])
        )


def sync_table(context: SyncContext, table: TableConfig) -> TableResult:
    """Bring one target table to the state of its source, when no other sync of it is at work.

    Args:
        context: what the sync works with.
        table: which table, and how it is replicated.

    Raises:
        XminAssetsError: a station failed; the target and its state are as they were.
    """
    staged, merged = run_table_sync(context, table)
    extracted = staged.extract
    return TableResult(
        table=table.label,
        status="success",
        mode=merged.mode.value,
        reason=merged.reason,
        rows_extracted=merged.rows_extracted,
        rows_inserted=merged.inserted,
        rows_updated=merged.updated,
        rows_deleted=merged.deleted,
        max_xmin=merged.max_xmin,
        watermark=merged.watermark,
        path=extracted.blocks_read,
        blocks_changed=extracted.block_map.changed if extracted.block_map else None,
        seconds={
            "snapshot": round(extracted.snapshot.seconds, 4),
            "extract": round(extracted.seconds, 4),
            "stage": round(staged.seconds, 4),
            "merge": round(merged.seconds, 4),
        },
    )


def run_table_sync(context: SyncContext, table: TableConfig) -> tuple[StagedTable, MergedTarget]:
    """Do what `sync_table` does, and return the manifests: each holds the one of the station before it.

    Raises:
        XminAssetsError: a station failed; the target and its state are as they were.
    """
    with context.table_lock(table):
        return _run_stations(context, table)


def _run_stations(context: SyncContext, table: TableConfig) -> tuple[StagedTable, MergedTarget]:
    source, target, spool, settings = context.source, context.target, context.spool, context.settings
    on_progress = context.on_progress
    planned = snapshot(source, target, table, on_progress=on_progress)
    if warning := held_back.warning(planned.held_back, settings.held_back_warning):
        on_progress(Progress(table.label, "snapshot", 0, 0, f"warning: {warning}"))
    try:
        with ExitStack() as stack:
            loader = None
            if loads_during_extract(planned):
                early = StagedTableLoader.during_extract(target, planned, spool, settings, on_progress)
                loader = stack.enter_context(early)
            extracted = read_source_table(
                source,
                planned,
                spool,
                settings,
                target=target,
                on_part_complete=loader.take if loader else None,
                on_progress=on_progress,
            )
            staged = stage(target, extracted, spool, settings, loader=loader, on_progress=on_progress)
        on_progress(Progress(table.label, "merge", 0, staged.rows))
        merged = merge(
            target,
            staged,
            allow_mass_delete=context.allow_mass_delete,
            allow_mass_change=context.allow_mass_change,
            history_rows=settings.history_rows,
        )
        remember(target, staged, merged)
    except BaseException:
        spool.remove(planned.sync_id)
        raise
    spool.remove_merged(planned.sync_id)
    on_progress(Progress(table.label, "merge", staged.rows, staged.rows))
    return staged, merged
