"""Everything that one configuration becomes in Dagster."""

from __future__ import annotations

from typing import Any

from dagster import AssetSelection, Definitions, colored_console_logger, define_asset_job, in_process_executor

from xmin_assets.config import ReplicationConfig, Settings
from xmin_assets.orchestration.assets import assets_of, checks_of
from xmin_assets.orchestration.automation import automation_sensor
from xmin_assets.orchestration.event_log import keep_files_open
from xmin_assets.orchestration.failures import DEFAULT_RETRY_POLICY
from xmin_assets.orchestration.io_manager import IO_MANAGER_KEY, manifest_io_manager
from xmin_assets.orchestration.resources import RESOURCE_KEY, ReplicationSettings
from xmin_assets.orchestration.schedules import SYNC_ALL_TABLES, VERIFY_ALL_TABLES, build_schedules, clean_up_job
from xmin_assets.orchestration.sensors import source_change_sensor
from xmin_assets.orchestration.specs import table_specs
from xmin_assets.orchestration.translator import DagsterXminTranslator


def build_resources(settings: Settings | None = None) -> dict[str, Any]:
    """Build the resources that the assets need, with these settings as their defaults."""
    return {
        RESOURCE_KEY: ReplicationSettings.from_settings(settings or Settings()),
        IO_MANAGER_KEY: manifest_io_manager,
    }


def build_definitions(config: ReplicationConfig, *, translator: DagsterXminTranslator | None = None) -> Definitions:
    """Build the assets of all tables with their checks, jobs, schedules, sensors and resources.

    Args:
        config: what is replicated, and what Dagster does by itself.
        translator: what the assets are called and look like.
    """
    keep_files_open()
    specs = table_specs(config, translator)
    assets = assets_of(config, specs, DEFAULT_RETRY_POLICY)
    checks = checks_of(config, specs)
    verified = AssetSelection.checks(*checks)
    jobs = [
        define_asset_job(
            SYNC_ALL_TABLES,
            AssetSelection.assets(*assets) - verified,
            description="Sync every table: plan, extract, stage and merge.",
        )
    ]
    if checks:
        jobs.append(
            define_asset_job(
                VERIFY_ALL_TABLES,
                verified,
                description="Compare every target table with its source; nothing is written.",
            )
        )
    sensors = (
        source_change_sensor(config, assets, verified, specs),
        automation_sensor(config, assets),
    )
    return Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=[*jobs, clean_up_job(config)],
        schedules=build_schedules(config),
        sensors=[made for made in sensors if made],
        resources=build_resources(config.settings),
        # A process for each step would cost some two seconds of starting up, many times the work of an idle
        # sync. Within a step the workers are parallel in any case.
        executor=in_process_executor,
        # The terminal shows what the UI's run page shows at first; all of it is in the event log.
        loggers={"console": colored_console_logger.configured({"log_level": "INFO"})},
    )
