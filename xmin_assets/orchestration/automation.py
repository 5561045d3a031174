"""What Dagster may do with an asset by itself: automation conditions, and how old a target may become."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TypedDict

from dagster import (
    AssetCheckKey,
    AssetKey,
    AssetsDefinition,
    AssetSelection,
    AutomationCondition,
    AutomationConditionSensorDefinition,
    DefaultSensorStatus,
    FreshnessPolicy,
)

from xmin_assets.config import ReplicationConfig
from xmin_assets.orchestration.names import StationName, names_of


class Automation(TypedDict):
    """Attributes of an asset's spec."""

    automation_condition: AutomationCondition[AssetKey | AssetCheckKey] | None
    freshness_policy: FreshnessPolicy | None


def automation_of(config: ReplicationConfig, station: StationName, source: AssetKey) -> Automation:
    """Return when a table's asset is materialized by itself, and when it is out of date.

    Args:
        config: says so for all tables.
        station: which of a table's assets.
        source: the key of the source's table, which nobody tells Dagster of when it changes.
    """
    return {
        "automation_condition": _condition(config, station, source),
        "freshness_policy": _freshness(config, station),
    }


def automation_sensor(
    config: ReplicationConfig, assets: Sequence[AssetsDefinition]
) -> AutomationConditionSensorDefinition | None:
    """Build the sensor that evaluates the conditions; None if there are none.

    Args:
        config: says whether there are conditions.
        assets: that have them.
    """
    if config.automation is None:
        return None
    return AutomationConditionSensorDefinition(
        names_of(config).automation_sensor,
        target=AssetSelection.assets(*assets),
        default_status=DefaultSensorStatus.RUNNING,
        description="Has the assets of a table follow its source_snapshot, and makes that one when it is time to.",
    )


def _condition(
    config: ReplicationConfig, station: StationName, source: AssetKey
) -> AutomationCondition[AssetKey | AssetCheckKey] | None:
    if config.automation is None:
        return None
    schedule = None
    if config.automation != "eager":
        schedule = AutomationCondition.on_cron(config.automation).ignore(AssetSelection.assets(source))
    # One step makes all four together: there is nothing to follow, and what holds for one holds for all.
    if station == "source_snapshot" or config.steps == "table":
        return schedule
    return AutomationCondition.eager()


def _freshness(config: ReplicationConfig, station: StationName) -> FreshnessPolicy | None:
    if config.freshness is None or station != "merged_target":
        return None
    fail, warn = config.freshness.fail_after, config.freshness.warn_after
    return FreshnessPolicy.time_window(timedelta(seconds=fail), timedelta(seconds=warn) if warn else None)
