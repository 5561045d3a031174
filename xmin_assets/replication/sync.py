"""The four stations in a row, for one table or for many side by side."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from xmin_assets.config import ReplicationConfig, Settings, TableConfig, load_config
from xmin_assets.errors import ConnectionFailed, XminAssetsError
from xmin_assets.postgres.connection import Database
from xmin_assets.replication.extraction.extract import extract
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
from xmin_assets.replication.runtime.retries import run_concurrently, with_retries
from xmin_assets.replication.runtime.sizing import workers_for
from xmin_assets.replication.spool.last_sync import remember
from xmin_assets.replication.spool.spool import Spool
from xmin_assets.replication.staging.loader import Loading
from xmin_assets.replication.staging.stage import loads_meanwhile, stage
from xmin_assets.replication.state.resync import resync
from xmin_assets.replication.state.table_lock import TableLocks, hold_table_lock

_log = logging.getLogger(__name__)


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
        on_progress: told of every step forward, from several threads.

    Raises:
        ConfigError: the configuration is wrong or names no such table.
    """
    config = config or load_config()
    chosen = config.select(list(tables))
    spool = Spool.open(config.settings)
    with open_databases(config) as (source, target), TableLocks(target) as table_locks:
        table_locks.prepare()
        reason = unreachable(source, target)

        def sync(table: TableConfig) -> TableResult:
            if reason:
                return TableResult(table=table.label, status="failed", error=reason)
            return with_retries(
                table, "snapshot", on_progress, lambda: attempt(table), lambda error: failed(table, error)
            )

        def attempt(table: TableConfig) -> TableResult:
            return sync_table(
                source,
                target,
                table,
                spool,
                config.settings,
                allow_mass_delete=allow_mass_delete,
                allow_mass_change=allow_mass_change,
                table_locks=table_locks,
                on_progress=on_progress,
            )

        def failed(table: TableConfig, error: XminAssetsError) -> TableResult:
            nonlocal reason
            if isinstance(error, ConnectionFailed):
                # Not every table in turn has to find out for itself.
                reason = reason or unreachable(source, target)
            return TableResult(table=table.label, status="failed", error=str(error))

        return SyncReport(tuple(run_concurrently(sync, chosen, workers_for(config.settings))))


def plan_tables(config: ReplicationConfig | None = None, *, tables: Sequence[str] = ()) -> tuple[TablePlan, ...]:
    """What `sync_tables` would do now; nothing is changed.

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
                return TablePlan(table.label, snapshot(source, target, table))
            except XminAssetsError as error:
                _log.debug("%s: no plan", table.label, exc_info=True)
                return TablePlan(table.label, None, str(error))

        return tuple(run_concurrently(plan, chosen, workers_for(config.settings)))


def resync_tables(config: ReplicationConfig | None = None, *, tables: Sequence[str] = ()) -> tuple[str, ...]:
    """Make the next sync of the tables read and compare everything; the names of those that would not have anyway.

    Raises:
        XminAssetsError: the configuration is wrong, or the target failed.
    """
    config = config or load_config()
    chosen = config.select(list(tables))
    with open_target(config) as target:
        return tuple(table.label for table in chosen if resync(target, table))


def sync_table(
    source: Database,
    target: Database,
    table: TableConfig,
    spool: Spool,
    settings: Settings,
    *,
    allow_mass_delete: bool = False,
    allow_mass_change: bool = False,
    table_locks: TableLocks | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> TableResult:
    """One passage of one table through the four stations, when no other sync of it is at work.

    Args:
        source: the source database.
        target: the target database.
        table: which table, and how it is replicated.
        spool: where the files go.
        settings: workers, batches and limits.
        allow_mass_delete: lift the limit on deleted rows, this once.
        allow_mass_change: let another source replace the rows, this once.
        table_locks: of a process that syncs several tables.
        on_progress: told of every step forward, from several threads.

    Raises:
        XminAssetsError: a station failed; the target and its state are as they were.
    """
    staged, merged = run_table_sync(
        source,
        target,
        table,
        spool,
        settings,
        allow_mass_delete=allow_mass_delete,
        allow_mass_change=allow_mass_change,
        table_locks=table_locks,
        on_progress=on_progress,
    )
    extracted = staged.extract
    return TableResult(
        table=table.label,
        status="success",
        mode=merged.mode.value,
        reason=merged.reason,
        rows_extracted=extracted.rows,
        rows_inserted=merged.inserted,
        rows_updated=merged.updated,
        rows_deleted=merged.deleted,
        max_xmin=merged.max_xmin,
        watermark=merged.watermark,
        path=extracted.path,
        blocks_changed=extracted.block_map.changed if extracted.block_map else None,
        seconds={
            "snapshot": round(extracted.snapshot.seconds, 4),
            "extract": round(extracted.seconds, 4),
            "stage": round(staged.seconds, 4),
            "merge": round(merged.seconds, 4),
        },
    )


def run_table_sync(
    source: Database,
    target: Database,
    table: TableConfig,
    spool: Spool,
    settings: Settings,
    *,
    allow_mass_delete: bool = False,
    allow_mass_change: bool = False,
    table_locks: TableLocks | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> tuple[StagedTable, MergedTarget]:
    """As `sync_table`, with the manifests of all stations: each holds the one before it.

    Raises:
        XminAssetsError: a station failed; the target and its state are as they were.
    """
    timeout = settings.queue_timeout
    with (
        table_locks.hold(table, timeout, on_progress)
        if table_locks
        else hold_table_lock(target, table, timeout, on_progress)
    ):
        return _run_stations(source, target, table, spool, settings, allow_mass_delete, allow_mass_change, on_progress)


def _run_stations(
    source: Database,
    target: Database,
    table: TableConfig,
    spool: Spool,
    settings: Settings,
    allow_mass_delete: bool,
    allow_mass_change: bool,
    on_progress: ProgressCallback,
) -> tuple[StagedTable, MergedTarget]:
    planned = snapshot(source, target, table, on_progress=on_progress)
    if told := held_back.warning(planned.held_back, settings.held_back_warning):
        on_progress(Progress(table.label, "snapshot", 0, 0, f"warning: {told}"))
    try:
        with ExitStack() as stack:
            loading = None
            if loads_meanwhile(planned):
                loading = stack.enter_context(Loading.meanwhile(target, planned, spool, settings, on_progress))
            on_part_complete = loading.take if loading else None
            extracted = extract(
                source,
                planned,
                spool,
                settings,
                target=target,
                on_part_complete=on_part_complete,
                on_progress=on_progress,
            )
            staged = stage(target, extracted, spool, settings, begun=loading, on_progress=on_progress)
        on_progress(Progress(table.label, "merge", 0, staged.rows))
        merged = merge(
            target,
            staged,
            allow_mass_delete=allow_mass_delete,
            allow_mass_change=allow_mass_change,
            history_rows=settings.history_rows,
        )
        remember(target, staged, merged)
    except BaseException:
        spool.remove(planned.sync_id)
        raise
    spool.remove_merged(planned.sync_id)
    on_progress(Progress(table.label, "merge", staged.rows, staged.rows))
    return staged, merged
