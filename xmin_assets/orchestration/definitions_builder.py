"""Everything that one configuration becomes in Dagster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster import AssetSelection, Definitions, define_asset_job, in_process_executor

from xmin_assets.config import ReplicationConfig, Settings
from xmin_assets.errors import ConfigError
from xmin_assets.orchestration.assets import assets_of, checks_of
from xmin_assets.orchestration.automation import automation_sensor
from xmin_assets.orchestration.event_log import keep_files_open
from xmin_assets.orchestration.failures import DEFAULT_RETRY_POLICY
from xmin_assets.orchestration.io_manager import manifest_io_manager
from xmin_assets.orchestration.names import DefinitionNames, names_of
from xmin_assets.orchestration.resources import ReplicationSettings
from xmin_assets.orchestration.schedules import build_schedules, clean_up_job
from xmin_assets.orchestration.sensors import source_change_sensor
from xmin_assets.orchestration.specs import source_specs, table_specs
from xmin_assets.orchestration.translator import DagsterXminTranslator
from xmin_assets.replication.spool.last_sync import recall


def build_resources(settings: Settings | None = None, name: str | None = None) -> dict[str, Any]:
    """Build the resources that the assets need.

    Args:
        settings: their defaults.
        name: the configuration's, with which the resources' keys begin.
    """
    names = DefinitionNames(name)
    return {
        names.settings: ReplicationSettings.from_settings(settings or Settings()),
        names.manifests: manifest_io_manager(names.settings),
    }


def build_definitions(
    config: ReplicationConfig,
    *,
    translator: DagsterXminTranslator | None = None,
    scope: Mapping[str, Any] | None = None,
) -> Definitions:
    """Build the assets of all tables with their checks, jobs, schedules, sensors and resources.

    They can be merged with any others (`Definitions.merge`), and with those of another configuration if each has a
    `name` of its own. Nothing is said of what belongs to a code location as a whole: its executor and its loggers.

    Args:
        config: what is replicated, and what Dagster does by itself.
        translator: what the assets are called and look like.
        scope: what templates under `translation:` may name beside Dagster's own, such as a component's variables.
    """
    keep_files_open()
    known = recall(config)
    specs = table_specs(config, translator, scope, known)
    assets = assets_of(config, specs, DEFAULT_RETRY_POLICY)
    checks = checks_of(config, specs)
    verified = AssetSelection.checks(*checks)
    names = names_of(config)
    # A process for each step would cost some two seconds of starting up, many times the work of an idle sync. Within
    # a step the workers are parallel in any case.
    sync_all_tables = define_asset_job(
        names.sync_all_tables,
        AssetSelection.assets(*assets) - verified,
        description="Sync every table: plan, extract, stage and merge.",
        executor_def=in_process_executor,
    )
    jobs = [sync_all_tables]
    if checks:
        jobs.append(
            define_asset_job(
                names.verify_all_tables,
                verified,
                description="Compare every target table with its source; nothing is written.",
                executor_def=in_process_executor,
            )
        )
    sensors = (
        source_change_sensor(config, assets, sync_all_tables, specs),
        automation_sensor(config, assets),
    )
    return Definitions(
        assets=[*assets, *source_specs(config, known)],
        asset_checks=checks,
        jobs=[*jobs, clean_up_job(config)],
        schedules=build_schedules(config),
        sensors=[made for made in sensors if made],
        resources=build_resources(config.settings, config.name),
        metadata={_OnlyOnce(f"xmin_assets/{config.name or ''}"): len(config.tables)},
    )


class _OnlyOnce(str):
    """A key of metadata that two configurations of a project cannot both have.

    `Definitions.merge` puts metadata together before it looks at resources, of which it would say only that two have
    the same key.
    """

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        """Compare as text does, but refuse the key of another configuration that is the same."""
        same = str.__eq__(self, other)
        if same is True and isinstance(other, _OnlyOnce):
            name = self.rpartition("/")[2]
            have = f"have the same name, {name}" if name else "have no name"
            raise ConfigError(f"Two configurations of this project {have}: each needs a `name:` of its own.")
        return same
