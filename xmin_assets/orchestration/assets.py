"""The four assets of a table: each one calls a station of the engine and hands its manifest on.

source_snapshot  ->  csv_extract  ->  staged_table  ->  merged_target
"""

# No `from __future__ import annotations` here: Dagster reads the annotations of the functions below as they are.

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetIn,
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    Config,
    MaterializeResult,
    RetryPolicy,
    asset,
    multi_asset,
)
from pydantic import Field

from xmin_assets.config import ReplicationConfig, Settings, TableConfig
from xmin_assets.errors import DataInvalid, KeyInvalid, PlanOutdated
from xmin_assets.orchestration import checks, metadata
from xmin_assets.orchestration.event_log import keep_connection
from xmin_assets.orchestration.failures import DEFAULT_RETRY_POLICY, station_errors
from xmin_assets.orchestration.io_manager import IO_MANAGER_KEY
from xmin_assets.orchestration.names import STATIONS, StationName
from xmin_assets.orchestration.resources import ReplicationSettings
from xmin_assets.orchestration.run_log import progress_lines
from xmin_assets.orchestration.specs import TableSpecs, table_specs
from xmin_assets.orchestration.termination import terminable
from xmin_assets.orchestration.translator import DagsterXminTranslator
from xmin_assets.postgres.connection import Database
from xmin_assets.replication.extraction.extract import extract
from xmin_assets.replication.manifests.extract import CsvExtract
from xmin_assets.replication.manifests.merge import MergedTarget, StagedTable
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.merging.merge import merge
from xmin_assets.replication.planning import held_back
from xmin_assets.replication.planning.snapshot import snapshot
from xmin_assets.replication.runtime.databases import open_databases
from xmin_assets.replication.spool.last_sync import remember
from xmin_assets.replication.spool.spool import Spool
from xmin_assets.replication.staging.stage import stage
from xmin_assets.replication.state.table_lock import hold_table_lock
from xmin_assets.replication.sync import SyncContext, run_table_sync

SOURCE_POOL = "xmin_source"
"""The Dagster pool of the assets that connect to the source: its limit bounds them across runs."""


class MergeConfig(Config):
    """What may be said for one run of a merged_target."""

    allow_mass_delete: bool = Field(
        default=False,
        description="Let this run delete more of the target than max_delete_share allows.",
    )
    allow_mass_change: bool = Field(
        default=False,
        description="Let this run change more of the target than max_change_share allows, though another source than "
        "the copy's answers.",
    )


def build_xmin_assets(
    config: ReplicationConfig,
    *,
    translator: DagsterXminTranslator | None = None,
    retry_policy: RetryPolicy = DEFAULT_RETRY_POLICY,
) -> list[AssetsDefinition]:
    """Four assets for each configured table, in the order of the configuration.

    They need the resources that `build_resources` makes. Nothing connects before an asset is materialized;
    the databases' URLs are looked up then.

    Args:
        config: the tables and how to replicate them, and whether a run takes one step for each station of a table
            (``steps: stages``) or one for all four (``steps: table``).
        translator: what the assets are called and look like.
        retry_policy: what to do about errors that may pass, such as a lost connection.

    Raises:
        ConfigError: the translator gives two assets the same key.
    """
    return assets_of(config, table_specs(config, translator), retry_policy)


def assets_of(config: ReplicationConfig, specs: TableSpecs, retry_policy: RetryPolicy) -> list[AssetsDefinition]:
    """As `build_xmin_assets`, from specs that are made already."""
    made: list[AssetsDefinition] = []
    for table, of_table in specs.items():
        assets = _TableAssets(config, table, of_table, retry_policy)
        made += [assets.table_step()] if config.steps == "table" else assets.stages()
    return made


def build_xmin_checks(
    config: ReplicationConfig, *, translator: DagsterXminTranslator | None = None
) -> list[AssetChecksDefinition]:
    """For each configured table the check that its target equals its source; none where the configuration says so.

    The other checks are part of the assets.

    Args:
        config: the tables and the check's settings.
        translator: the one of the assets.
    """
    return checks_of(config, table_specs(config, translator))


def checks_of(config: ReplicationConfig, specs: TableSpecs) -> list[AssetChecksDefinition]:
    """As `build_xmin_checks`, from specs that are made already."""
    if not config.checks.target_equals_source.enabled:
        return []
    return [checks.equality_check(config, table, of_table["merged_target"].key) for table, of_table in specs.items()]


class _TableAssets:
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
        self.retry_policy = retry_policy

    def stages(self) -> list[AssetsDefinition]:
        """An asset with a step of its own for each station."""
        return [self.source_snapshot(), self.csv_extract(), self.staged_table(), self.merged_target()]

    def table_step(self) -> AssetsDefinition:
        """All four assets, made by one step. Nothing is handed from step to step, so pods need no common disk."""
        keys = self.keys
        specs = [
            spec.replace_attributes(deps=[keys[STATIONS[place - 1]]] if place else [])
            for place, spec in enumerate(self.specs[station] for station in STATIONS)
        ]
        check_specs = [
            *checks.snapshot_specs(self.config, keys["source_snapshot"]),
            *checks.staged_specs(keys["staged_table"]),
        ]

        @multi_asset(
            name=AssetKey(keys["merged_target"].path[:-1] or keys["merged_target"].path).to_python_identifier(),
            specs=specs,
            check_specs=check_specs,
            pool=SOURCE_POOL,
        )
        def sync_table(
            context: AssetExecutionContext, config: MergeConfig, replication_settings: ReplicationSettings
        ) -> Iterator[AssetCheckResult | MaterializeResult[Any]]:
            with self.station(context, replication_settings, again=True) as (settings, source, target):
                sync = SyncContext(
                    source,
                    target,
                    Spool.open(settings),
                    settings,
                    allow_mass_delete=config.allow_mass_delete,
                    allow_mass_change=config.allow_mass_change,
                    on_progress=progress_lines(context.log.info),
                )
                try:
                    staged, merged = terminable(lambda: run_table_sync(sync, self.table))
                except DataInvalid as error:
                    yield checks.staged_failure(keys["staged_table"], str(error), key=isinstance(error, KeyInvalid))
                    raise
            extracted, planned = staged.extract, staged.extract.snapshot
            if told := held_back.warning(planned.held_back, settings.held_back_warning):
                context.log.warning(f"{self.table.label}: {told}")
            context.log.info(f"{merged.table}: {metadata.changes(merged)}")
            yield MaterializeResult(
                asset_key=keys["source_snapshot"],
                metadata=metadata.of_source_snapshot(planned),
                check_results=checks.snapshot_results(self.config, keys["source_snapshot"], planned),
            )
            yield MaterializeResult(
                asset_key=keys["csv_extract"], metadata=metadata.of_csv_extract(extracted, keys["source_snapshot"])
            )
            yield MaterializeResult(
                asset_key=keys["staged_table"],
                metadata=metadata.of_staged_table(staged, keys["csv_extract"]),
                check_results=checks.staged_results(keys["staged_table"], staged),
            )
            yield MaterializeResult(
                asset_key=keys["merged_target"],
                metadata=metadata.of_merged_target(merged, staged, keys["staged_table"]),
            )

        return sync_table

    def source_snapshot(self) -> AssetsDefinition:
        key = self.keys["source_snapshot"]

        @self.asset("source_snapshot", pool=SOURCE_POOL, checks=checks.snapshot_specs(self.config, key))
        def source_snapshot(
            context: AssetExecutionContext, replication_settings: ReplicationSettings
        ) -> MaterializeResult[SourceSnapshot]:
            with self.station(context, replication_settings) as (settings, source, target):
                report = progress_lines(context.log.info)
                made = terminable(lambda: snapshot(source, target, self.table, on_progress=report))
            if told := held_back.warning(made.held_back, settings.held_back_warning):
                context.log.warning(f"{self.table.label}: {told}")
            found = checks.snapshot_results(self.config, key, made)
            return MaterializeResult(value=made, metadata=metadata.of_source_snapshot(made), check_results=found)

        return source_snapshot

    def csv_extract(self) -> AssetsDefinition:
        upstream = self.keys["source_snapshot"]

        @self.asset("csv_extract", ins={"source_snapshot": AssetIn(upstream)}, pool=SOURCE_POOL)
        def csv_extract(
            context: AssetExecutionContext, replication_settings: ReplicationSettings, source_snapshot: SourceSnapshot
        ) -> MaterializeResult[CsvExtract]:
            with self.station(context, replication_settings, source_snapshot) as (settings, source, target):
                spool = Spool.open(settings)
                report = progress_lines(context.log.info)
                made = terminable(
                    lambda: extract(source, source_snapshot, spool, settings, target=target, on_progress=report)
                )
            return MaterializeResult(value=made, metadata=metadata.of_csv_extract(made, upstream))

        return csv_extract

    def staged_table(self) -> AssetsDefinition:
        upstream, key = self.keys["csv_extract"], self.keys["staged_table"]

        @self.asset("staged_table", ins={"csv_extract": AssetIn(upstream)}, checks=checks.staged_specs(key))
        def staged_table(
            context: AssetExecutionContext, replication_settings: ReplicationSettings, csv_extract: CsvExtract
        ) -> Iterator[AssetCheckResult | MaterializeResult[StagedTable]]:
            with self.station(context, replication_settings, csv_extract.snapshot) as (settings, _, target):
                spool = Spool.open(settings)
                report = progress_lines(context.log.info)

                def load() -> StagedTable:
                    with hold_table_lock(target, self.table, settings.queue_timeout, report):
                        return stage(target, csv_extract, spool, settings, on_progress=report)

                try:
                    made = terminable(load)
                except DataInvalid as error:
                    yield checks.staged_failure(key, str(error), key=isinstance(error, KeyInvalid))
                    raise
            found = checks.staged_results(key, made)
            yield MaterializeResult(value=made, metadata=metadata.of_staged_table(made, upstream), check_results=found)

        return staged_table

    def merged_target(self) -> AssetsDefinition:
        upstream = self.keys["staged_table"]

        @self.asset("merged_target", ins={"staged_table": AssetIn(upstream)})
        def merged_target(
            context: AssetExecutionContext,
            config: MergeConfig,
            replication_settings: ReplicationSettings,
            staged_table: StagedTable,
        ) -> MaterializeResult[MergedTarget]:
            planned = staged_table.extract.snapshot
            with self.station(context, replication_settings, planned) as (settings, _, target):
                report = progress_lines(context.log.info)

                def apply() -> MergedTarget:
                    with hold_table_lock(target, self.table, settings.queue_timeout, report):
                        return merge(
                            target,
                            staged_table,
                            allow_mass_delete=config.allow_mass_delete,
                            allow_mass_change=config.allow_mass_change,
                            history_rows=settings.history_rows,
                        )

                made = terminable(apply)
                spool = Spool.open(settings)
                spool.remove_merged(made.sync_id)
                remember(target, staged_table, made)
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
        """Dagster's decorator, with what the four assets have in common."""
        spec = self.specs[station]
        made = asset(
            key=spec.key,
            description=spec.description,
            group_name=spec.group_name,
            metadata=spec.metadata,
            tags=spec.tags,
            owners=spec.owners,
            code_version=spec.code_version,
            automation_condition=spec.automation_condition,
            freshness_policy=spec.freshness_policy,
            ins=ins,
            pool=pool,
            check_specs=checks,
            io_manager_key=IO_MANAGER_KEY,
            # A process that runs many tables finishes one before it begins the next: the plans stay fresh and
            # the spool small.
            op_tags={"dagster/priority": str(STATIONS.index(station))},
        )

        def decorate(station: Callable[..., Any]) -> AssetsDefinition:
            # Of a function with several outputs, checks being such, Dagster does not understand the annotation.
            if checks:
                station.__annotations__.pop("return")
            return made(station)

        return decorate

    @contextmanager
    def station(
        self,
        context: AssetExecutionContext,
        resource: ReplicationSettings,
        planned: SourceSnapshot | None = None,
        *,
        again: bool = False,
    ) -> Iterator[tuple[Settings, Database, Database]]:
        """The settings and the two databases; errors come out as Dagster's failures.

        Args:
            context: of the step.
            resource: the settings, as the run has them.
            planned: the plan that the step works by, if it was made by another one.
            again: whether the step begins with a plan, so that to repeat it helps where a plan is outdated.
        """
        keep_connection(context.instance)
        planner = None if again else self.keys["source_snapshot"]
        op = context.op_execution_context.op.name
        with station_errors(context, self.table.label, op, planner, self.retry_policy):
            if planned is not None:
                self.check_manifest(planned.config)
            settings = resource.to_settings()
            with open_databases(self.config, settings) as (source, target):
                yield settings, source, target

    def check_manifest(self, planned: TableConfig) -> None:
        """Refuse a manifest that an older configuration, or a folder for two names, puts in this table's place."""
        if (planned.source_name, planned.target_name) != (self.table.source_name, self.table.target_name):
            raise PlanOutdated(
                f"The manifest in the spool is about the copy of {planned.label} in {planned.target_name}, not of "
                f"{self.table.label} in {self.table.target_name}."
            )
