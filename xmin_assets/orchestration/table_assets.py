"""The four assets of a table: each one calls a station of the engine and hands its manifest on.

source_snapshot  ->  csv_extract  ->  staged_table  ->  merged_target
"""

# No `from __future__ import annotations` here: Dagster reads the annotations of the functions below as they are.

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetIn,
    AssetMaterialization,
    AssetOut,
    AssetsDefinition,
    AssetSpec,
    Failure,
    MaterializeResult,
    RetryPolicy,
    asset,
    multi_asset,
)

from xmin_assets.config import ReplicationConfig, TableConfig
from xmin_assets.errors import DataInvalid, KeyInvalid, XminAssetsError
from xmin_assets.orchestration import checks, metadata
from xmin_assets.orchestration.names import STATIONS, StationName, names_of, source_key
from xmin_assets.orchestration.station_step import MergeConfig, StationStep
from xmin_assets.orchestration.termination import terminable
from xmin_assets.replication.chunked_load import read_source_table
from xmin_assets.replication.manifests.extract import CsvExtract
from xmin_assets.replication.manifests.merge import MergedTarget, StagedTable
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.merging.merge import merge
from xmin_assets.replication.planning import held_back
from xmin_assets.replication.planning.snapshot import snapshot
from xmin_assets.replication.spool.last_sync import remember
from xmin_assets.replication.staging.stage import stage
from xmin_assets.replication.status import comparison_basis
from xmin_assets.replication.sync import SyncContext, run_table_sync

SOURCE_POOL = "xmin_source"
"""The Dagster pool of the assets that connect to the source: its limit bounds them across runs."""


class TableAssets:
    """The four assets of one table, as four steps of a run or as one.

    Args:
        config: what is replicated.
        table: which table.
        specs: of its assets, by the station that makes each.
        retry_policy: what to do about errors that may pass.
    """

    def __init__(
        self,
        config: ReplicationConfig,
        table: TableConfig,
        specs: Mapping[StationName, AssetSpec],
        retry_policy: RetryPolicy,
    ) -> None:
        self.config = config
        self.table = table
        self.specs = specs
        self.keys = {station: spec.key for station, spec in specs.items()}
        self.names = names_of(config)
        self.source = source_key(table, self.names)
        self.step = StationStep(config, table, self.keys["source_snapshot"], self.names.settings, retry_policy)

    def stages(self) -> list[AssetsDefinition]:
        """Build an asset with a step of its own for each station."""
        return [self.source_snapshot(), self.csv_extract(), self.staged_table(), self.merged_target()]

    def table_step(self) -> AssetsDefinition:
        """Build all four assets, made by one step. Nothing is handed from step to step, so pods need no common disk."""
        keys = self.keys
        specs = [
            spec.replace_attributes(deps=[*spec.deps, *([keys[STATIONS[place - 1]]] if place else [])])
            for place, spec in enumerate(self.specs[station] for station in STATIONS)
        ]
        check_specs = [
            *checks.snapshot_specs(self.config, keys["source_snapshot"]),
            *checks.staged_specs(keys["staged_table"]),
        ]

        @multi_asset(
            name=keys["merged_target"].to_python_identifier(),
            specs=specs,
            check_specs=check_specs,
            # Without the checks, or one of the assets alone; the whole table is synced in any case.
            can_subset=True,
            pool=SOURCE_POOL,
            required_resource_keys={self.names.settings},
        )
        def sync_table(
            context: AssetExecutionContext, config: MergeConfig
        ) -> Iterator[AssetCheckResult | MaterializeResult[Any]]:
            with self.step.open(context, plans=True, limits=config) as sync:
                try:
                    staged, merged = terminable(lambda: run_table_sync(sync, self.table))
                except DataInvalid as error:
                    found = checks.staged_failure(keys["staged_table"], str(error), key=isinstance(error, KeyInvalid))
                    yield from checks.selected(context, [found])
                    raise
                self._carry_on(context, sync)
            extracted, planned = staged.extract, staged.extract.snapshot.asked_for
            if warning := held_back.warning(planned.held_back, sync.settings.held_back_warning):
                context.log.warning(f"{self.table.label}: {warning}")
            context.log.info(f"{merged.table}: {metadata.changes(merged)}")
            made = {
                "source_snapshot": metadata.of_source_snapshot(planned, self.source),
                "csv_extract": metadata.of_csv_extract(extracted, keys["source_snapshot"]),
                "staged_table": metadata.of_staged_table(staged, keys["csv_extract"]),
                "merged_target": metadata.of_merged_target(merged, staged, keys["staged_table"]),
            }
            for station in STATIONS:
                if keys[station] in context.selected_asset_keys:
                    yield MaterializeResult(asset_key=keys[station], metadata=made[station])
                else:
                    context.log_event(AssetMaterialization(keys[station], metadata=made[station]))
            yield from checks.selected(
                context,
                [
                    *checks.snapshot_results(self.config, keys["source_snapshot"], planned),
                    *checks.staged_results(keys["staged_table"], staged),
                ],
            )

        return sync_table

    def source_snapshot(self) -> AssetsDefinition:
        """Build the asset that plans a sync."""
        key = self.keys["source_snapshot"]

        @self.asset("source_snapshot", pool=SOURCE_POOL, checks=checks.snapshot_specs(self.config, key))
        def source_snapshot(
            context: AssetExecutionContext,
        ) -> Iterator[AssetCheckResult | MaterializeResult[SourceSnapshot]]:
            with self.step.open(context) as sync:
                made = terminable(lambda: snapshot(sync.source, sync.target, self.table, on_progress=sync.on_progress))
            if warning := held_back.warning(made.held_back, sync.settings.held_back_warning):
                context.log.warning(f"{self.table.label}: {warning}")
            # The checks alone may be asked for: what they need is a plan.
            if key in context.selected_asset_keys:
                facts = metadata.of_source_snapshot(made, self.source)
                yield MaterializeResult(asset_key=key, value=made, metadata=facts)
            yield from checks.selected(context, checks.snapshot_results(self.config, key, made))

        return source_snapshot

    def csv_extract(self) -> AssetsDefinition:
        """Build the asset that reads the source into CSV files."""
        upstream = self.keys["source_snapshot"]

        @self.asset("csv_extract", ins={"source_snapshot": AssetIn(upstream)}, pool=SOURCE_POOL)
        def csv_extract(
            context: AssetExecutionContext, source_snapshot: SourceSnapshot
        ) -> MaterializeResult[CsvExtract]:
            with self.step.open(context, source_snapshot) as sync:
                made = terminable(
                    lambda: read_source_table(
                        sync.source,
                        source_snapshot,
                        sync.spool,
                        sync.settings,
                        target=sync.target,
                        on_progress=sync.on_progress,
                    )
                )
            return MaterializeResult(value=made, metadata=metadata.of_csv_extract(made, upstream))

        return csv_extract

    def staged_table(self) -> AssetsDefinition:
        """Build the asset that loads the files into the staged table."""
        upstream, key = self.keys["csv_extract"], self.keys["staged_table"]

        @self.asset("staged_table", ins={"csv_extract": AssetIn(upstream)}, checks=checks.staged_specs(key))
        def staged_table(
            context: AssetExecutionContext, csv_extract: CsvExtract
        ) -> Iterator[AssetCheckResult | MaterializeResult[StagedTable]]:
            if key not in context.selected_asset_keys:
                raise Failure(
                    f"{self.table.label}: these checks are made while the table is staged. Materialize "
                    f"{key.to_user_string()}, and they come with it.",
                    allow_retries=False,
                )
            with self.step.open(context, csv_extract.snapshot) as sync:

                def load() -> StagedTable:
                    with sync.table_lock(self.table):
                        return stage(sync.target, csv_extract, sync.spool, sync.settings, on_progress=sync.on_progress)

                try:
                    made = terminable(load)
                except DataInvalid as error:
                    found = checks.staged_failure(key, str(error), key=isinstance(error, KeyInvalid))
                    yield from checks.selected(context, [found])
                    raise
            yield MaterializeResult(asset_key=key, value=made, metadata=metadata.of_staged_table(made, upstream))
            yield from checks.selected(context, checks.staged_results(key, made))

        return staged_table

    def merged_target(self) -> AssetsDefinition:
        """Build the asset that merges the staged table into the target."""
        upstream = self.keys["staged_table"]

        @self.asset("merged_target", ins={"staged_table": AssetIn(upstream)})
        def merged_target(
            context: AssetExecutionContext,
            config: MergeConfig,
            staged_table: StagedTable,
        ) -> MaterializeResult[MergedTarget]:
            planned = staged_table.extract.snapshot
            with self.step.open(context, planned, limits=config) as sync:

                def apply() -> MergedTarget:
                    with sync.table_lock(self.table):
                        return merge(
                            sync.target,
                            staged_table,
                            allow_mass_delete=sync.allow_mass_delete,
                            allow_mass_change=sync.allow_mass_change,
                            history_rows=sync.settings.history_rows,
                        )

                made = terminable(apply)
                sync.spool.remove_merged(made.sync_id)
                remember(sync.target, staged_table, made)
                self._carry_on(context, sync)
            context.log.info(f"{made.table}: {metadata.changes(made)}")
            facts = metadata.of_merged_target(made, staged_table, upstream)
            return MaterializeResult(value=made, metadata=facts)

        return merged_target

    def asset(
        self,
        station: StationName,
        *,
        ins: Mapping[str, AssetIn] | None = None,
        pool: str | None = None,
        checks: Sequence[AssetCheckSpec] = (),
    ) -> Callable[[Callable[..., Any]], AssetsDefinition]:
        """Return Dagster's decorator, with what the four assets have in common."""
        spec = self.specs[station]
        common: dict[str, Any] = {
            "ins": ins,
            "deps": spec.deps,
            "pool": pool,
            "required_resource_keys": {self.names.settings},
            # A process that runs many tables finishes one before it begins the next: the plans stay fresh and
            # the spool small.
            "op_tags": {"dagster/priority": str(STATIONS.index(station))},
        }
        if checks:
            # Of an asset with checks, these can be left out of a selection only where it is one of many in form.
            out = spec.replace_attributes(deps=[])
            made: Callable[[Callable[..., Any]], AssetsDefinition] = multi_asset(
                name=spec.key.to_python_identifier(),
                outs={station: AssetOut.from_spec(out, io_manager_key=self.names.manifests, is_required=False)},
                check_specs=checks,
                can_subset=True,
                **common,
            )
            return made
        single: Callable[[Callable[..., Any]], AssetsDefinition] = asset(
            key=spec.key,
            description=spec.description,
            group_name=spec.group_name,
            metadata=spec.metadata,
            tags=spec.tags,
            owners=spec.owners,
            code_version=spec.code_version,
            automation_condition=spec.automation_condition,
            freshness_policy=spec.freshness_policy,
            io_manager_key=self.names.manifests,
            **common,
        )
        return single

    def _carry_on(self, context: AssetExecutionContext, sync: SyncContext) -> None:
        """Have the last comparison of source and target stand after this merge, unless the run compares them itself."""
        try:
            stands = checks.standing_evaluation(
                context, self.config, self.keys["merged_target"], lambda: comparison_basis(sync.target, self.table)
            )
        except XminAssetsError as error:
            # The merge is done, and stands without it.
            context.log.info(f"{self.table.label}: what was last found by {checks.EQUAL} is not carried on: {error}")
            return
        if stands:
            context.log_event(stands)
