"""The sensor that requests a sync of the tables that may have changed, and leaves the others alone."""

# No `from __future__ import annotations` here: Dagster reads the annotations of the functions below as they are.

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dagster import (
    AssetCheckKey,
    AssetKey,
    AssetsDefinition,
    DagsterRun,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from xmin_assets.config import ReplicationConfig, TableConfig, duration
from xmin_assets.errors import XminAssetsError
from xmin_assets.orchestration.names import names_of
from xmin_assets.orchestration.sensor_cursor import SensorCursor
from xmin_assets.orchestration.specs import TableSpecs
from xmin_assets.replication.change_detection import SyncRequest, next_request, sync_reason
from xmin_assets.replication.table_fingerprints import SourceProbe, probe

MANY = 10
"""Tables that changed at the same time from which one run syncs them all: a run of its own for each would make a long
queue, and starting a process costs many times an idle sync."""

LONGEST_PAUSE = 900
"""Seconds after which a database that did not answer, or a table whose sync failed, is tried again at the latest."""

TABLE_TAG = "xmin_assets/table"
REASON_TAG = "xmin_assets/reason"

IN_FLIGHT = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


def source_change_sensor(
    config: ReplicationConfig,
    assets: Sequence[AssetsDefinition],
    sync_all_tables: UnresolvedAssetJobDefinition,
    specs: TableSpecs,
) -> SensorDefinition | None:
    """Return the sensor of a configuration; None if it asks for none.

    Args:
        config: with the tables to look at.
        assets: of these tables.
        sync_all_tables: the job of whose assets a run makes those of the tables that changed.
        specs: of the assets.
    """
    if config.sensor is None:
        return None
    every = config.sensor.every
    watched = _Watched.of(config, assets, specs)

    @sensor(
        name=names_of(config).source_change_sensor,
        job=sync_all_tables,
        minimum_interval_seconds=round(every),
        default_status=DefaultSensorStatus.RUNNING if config.sensor.running else DefaultSensorStatus.STOPPED,
        description="Looks at the source's row counters and at the target's state, and requests a sync of each table "
        "that may have changed. No row is read for it.",
    )
    def source_changes(context: SensorEvaluationContext) -> SensorResult:
        cursor = SensorCursor.read(context.cursor)
        left = cursor.failed_at + _pause(every, cursor.failures) - time.time()
        if cursor.failures and left > 0:
            return _skip(f"A database did not answer; the next look is in {duration(left)}.", cursor)
        try:
            seen = probe(config)
        except XminAssetsError as error:
            failed = replace(cursor, failures=cursor.failures + 1, failed_at=time.time())
            return _skip(f"{error} The next look is in {duration(_pause(every, failed.failures))}.", failed)
        running = watched.in_flight(context)
        return _decide(watched, every, seen, cursor, running)

    return source_changes


@dataclass(frozen=True)
class _Watched:
    """The tables, with what a run of each of them selects."""

    tables: tuple[TableConfig, ...]
    keys: Mapping[TableConfig, tuple[AssetKey, ...]]
    checks: Mapping[AssetKey, tuple[AssetCheckKey, ...]]
    """Those that come with an asset's own run."""

    @classmethod
    def of(cls, config: ReplicationConfig, assets: Iterable[AssetsDefinition], specs: TableSpecs) -> "_Watched":
        keys = {table: tuple(spec.key for spec in of_table.values()) for table, of_table in specs.items()}
        checks: dict[AssetKey, tuple[AssetCheckKey, ...]] = {}
        for check in (check for definition in assets for check in definition.check_keys):
            checks[check.asset_key] = (*checks.get(check.asset_key, ()), check)
        return cls(config.tables, keys, checks)

    def in_flight(self, context: SensorEvaluationContext) -> frozenset[TableConfig]:
        """Return the tables that a run is about to sync or syncing."""
        runs = context.instance.get_runs(RunsFilter(statuses=IN_FLIGHT))
        busy = {key for run in runs for key in _selected(context, run)}
        return frozenset(table for table in self.tables if busy.intersection(self.keys[table]))

    def request(self, reasons: Mapping[TableConfig, str]) -> list[RunRequest]:
        """Return a run for each of the tables, or one for all of them.

        Without a run key: Dagster runs nothing for a key that it has seen, and a table may well change again to what it
        looked like before. That no table is requested twice for one change is known from the runs in flight.
        """
        if len(reasons) >= MANY:
            return [self._run(reasons, {REASON_TAG: f"{len(reasons)} tables may have changed"})]
        return [self._run([table], {TABLE_TAG: table.label, REASON_TAG: why}) for table, why in reasons.items()]

    def _run(self, tables: Iterable[TableConfig], tags: Mapping[str, str]) -> RunRequest:
        keys = [key for table in tables for key in self.keys[table]]
        # Said, so that the check which compares whole tables is not among them.
        checks = [check for key in keys for check in self.checks.get(key, ())]
        return RunRequest(asset_selection=keys, asset_check_keys=checks, tags=tags)


def _selected(context: SensorEvaluationContext, run: DagsterRun) -> Iterable[AssetKey]:
    """Return the assets that a run materializes; none if its job is of another code location."""
    if run.asset_selection is not None:
        return run.asset_selection
    repository = context.repository_def
    if repository is None or not repository.has_job(run.job_name):
        return ()
    return repository.get_job(run.job_name).asset_layer.selected_asset_keys


def _decide(
    watched: _Watched, every: float, seen: SourceProbe, cursor: SensorCursor, running: frozenset[TableConfig]
) -> SensorResult:
    """Decide what to request, or say why nothing is."""
    reasons = {table: why for table in watched.tables if (why := sync_reason(table, seen, cursor.of(table)))}
    pauses = {table: _left(seen, table, cursor.of(table), every) for table in reasons}
    due = {table: why for table, why in reasons.items() if table not in running and pauses[table] <= 0}
    # Only what is requested is remembered: a change seen during a sync is still one when that has ended.
    requested = {table: next_request(table, seen, cursor.of(table)) for table in due}
    after = cursor.of_these(watched.tables, requested)
    if due:
        return SensorResult(run_requests=watched.request(due), cursor=after.text())
    if not reasons:
        return _skip("No table has changed.", after)
    changed = f"{len(reasons)} of {_tables(len(watched.tables))} {'has' if len(reasons) == 1 else 'have'} changed"
    paused = {table: left for table, left in pauses.items() if table not in running}
    if not paused:
        return _skip(
            f"{changed}, but {'its sync is' if len(reasons) == 1 else 'their syncs are'} still running.", after
        )
    failed = f"the last sync of {_tables(len(paused))} has failed"
    return _skip(f"{changed}, but {failed}; the next one is requested in {duration(min(paused.values()))}.", after)


def _left(seen: SourceProbe, table: TableConfig, requested: SyncRequest | None, every: float) -> float:
    """Return seconds until a table may be requested again whose last request led to no merge."""
    merged = seen.merged.get(table)
    if requested is None or requested.revision != (merged.revision if merged else 0):
        return 0
    return requested.at + _pause(every, requested.repeats) - seen.at.timestamp()


def _pause(every: float, times: int) -> float:
    """Return seconds until the next attempt after so many that failed: none after the first, then doubled each time."""
    return min(every * (2.0 ** min(times, 20) - 1), max(LONGEST_PAUSE, every))


def _tables(number: int) -> str:
    return f"{number} table" if number == 1 else f"{number} tables"


def _skip(why: str, cursor: SensorCursor) -> SensorResult:
    return SensorResult(skip_reason=why, cursor=cursor.text())
