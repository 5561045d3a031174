"""What a step of a run works with: the databases, the spool and the settings, as the run has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dagster import AssetExecutionContext, AssetKey, Config, RetryPolicy
from pydantic import Field

from xmin_assets.config import ReplicationConfig, TableConfig
from xmin_assets.errors import PlanOutdated, XminAssetsError
from xmin_assets.orchestration.event_log import keep_connection
from xmin_assets.orchestration.failures import station_errors
from xmin_assets.orchestration.resources import settings_of
from xmin_assets.orchestration.run_log import progress_lines
from xmin_assets.postgres.connection import Database
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.runtime.databases import open_databases
from xmin_assets.replication.spool.spool import Spool
from xmin_assets.replication.state.failures import remember_failure
from xmin_assets.replication.sync import SyncContext


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


@dataclass(frozen=True)
class StationStep:
    """The steps of a run that are about one table."""

    config: ReplicationConfig
    table: TableConfig
    planner: AssetKey
    """The asset that makes the table's plan."""
    settings_key: str
    """Of the resource with the settings."""
    retry_policy: RetryPolicy

    @contextmanager
    def open(
        self,
        context: AssetExecutionContext,
        planned: SourceSnapshot | None = None,
        *,
        plans: bool = False,
        limits: MergeConfig | None = None,
    ) -> Iterator[SyncContext]:
        """Open what the step works with; the engine's errors come out as Dagster's failures.

        Args:
            context: of the step.
            planned: the plan that the step works by, if it was made by another one.
            plans: whether the step begins with a plan, so that to repeat it helps where a plan is outdated.
            limits: what may be said for this run.
        """
        limits = limits or MergeConfig()
        keep_connection(context.instance)
        planner = None if plans else self.planner
        op = context.op_execution_context.op.name
        with station_errors(context, self.table.label, op, planner, self.retry_policy):
            if planned is not None:
                self._require_this_table(planned.asked_for.config)
            settings = settings_of(context.resources, self.settings_key)
            with open_databases(self.config, settings) as (source, target), self._remembered(target):
                yield SyncContext(
                    source=source,
                    target=target,
                    spool=Spool.open(settings),
                    settings=settings,
                    allow_mass_delete=limits.allow_mass_delete,
                    allow_mass_change=limits.allow_mass_change,
                    on_progress=progress_lines(context.log.info),
                )

    @contextmanager
    def _remembered(self, target: Database) -> Iterator[None]:
        """Note why the step has failed, for `xmin-assets status`."""
        try:
            yield
        except XminAssetsError as error:
            remember_failure(target, self.table, error)
            raise

    def _require_this_table(self, planned: TableConfig) -> None:
        """Refuse a manifest that an older configuration, or a folder for two names, puts in this table's place."""
        if (planned.source_name, planned.target_name) != (self.table.source_name, self.table.target_name):
            raise PlanOutdated(
                f"The manifest in the spool is about the copy of {planned.label} in {planned.target_name}, not of "
                f"{self.table.label} in {self.table.target_name}."
            )
