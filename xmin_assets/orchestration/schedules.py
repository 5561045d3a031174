"""Jobs that run at a time of day, and the one that cleans up. What the configuration gives a time to, runs."""

# No `from __future__ import annotations` here: Dagster reads the annotations of the functions below as they are.

from dagster import (
    DefaultScheduleStatus,
    JobDefinition,
    OpExecutionContext,
    ScheduleDefinition,
    in_process_executor,
    job,
    op,
)

from xmin_assets.config import ReplicationConfig
from xmin_assets.orchestration.failures import spool_errors
from xmin_assets.orchestration.names import names_of
from xmin_assets.orchestration.resources import settings_of
from xmin_assets.orchestration.termination import terminable
from xmin_assets.replication.clean import clean


def build_schedules(config: ReplicationConfig) -> list[ScheduleDefinition]:
    """Return the schedules that the configuration asks for."""
    names, equality = names_of(config), config.checks.target_equals_source
    times = (
        (names.sync_all_tables, config.schedule, "Syncs every table, changed or not; the sensor syncs those that did."),
        (
            names.verify_all_tables,
            equality.schedule if equality.enabled else None,
            "Compares every target with its source, which reads both; nothing is written.",
        ),
        (names.clean_up, config.cleanup, "Removes what crashed syncs have left behind: staged tables and files."),
    )
    return [
        ScheduleDefinition(
            job_name=name, cron_schedule=cron, default_status=DefaultScheduleStatus.RUNNING, description=description
        )
        for name, cron, description in times
        if cron
    ]


def clean_up_job(config: ReplicationConfig) -> JobDefinition:
    """Return the job that does what ``xmin-assets clean`` does, with its default age."""
    names = names_of(config)

    @op(
        name=names.remove_leftovers,
        description="Remove what syncs that began more than a day ago have left in the target and in the spool.",
        required_resource_keys={names.settings},
    )
    def remove_leftovers(context: OpExecutionContext) -> None:
        with spool_errors():
            actual = config.model_copy(update={"settings": settings_of(context.resources, names.settings)})
            removed = terminable(lambda: clean(actual))
        for name in removed.staged_tables:
            context.log.info(f"dropped {name}")
        for name in removed.spool:
            context.log.info(f"deleted {name}")
        if not removed.staged_tables and not removed.spool:
            context.log.info("Nothing is left over from syncs more than a day ago.")

    @job(
        name=names.clean_up,
        description="Remove what crashed syncs have left behind: staged tables and files.",
        executor_def=in_process_executor,
    )
    def clean_up() -> None:
        remove_leftovers()

    return clean_up
