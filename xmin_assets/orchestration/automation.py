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
from xmin_assets.orchestration.names import StationName

AUTOMATION_SENSOR = "automation_sensor"


class Automation(TypedDict):
    """Attributes of an asset's spec."""

    automation_condition: AutomationCondition[AssetKey | AssetCheckKey] | None
    freshness_policy: FreshnessPolicy | None


def automation_of(config: ReplicationConfig, station: StationName) -> Automation:
    """Return when a table's asset is materialized by itself, and when it is out of date."""
    return {"automation_condition": _condition(config, station), "freshness_policy": _freshness(config, station)}


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
        AUTOMATION_SENSOR,
        target=AssetSelection.assets(*assets),
        default_status=DefaultSensorStatus.RUNNING,
        description="Has the assets of a table follow its source_snapshot, and makes that one when it is time to.",
    )


def _condition(config: ReplicationConfig, station: StationName) -> AutomationCondition[AssetKey | AssetCheckKey] | None:
    if config.automation is None:
        return None
    schedule = None if config.automation == "eager" else AutomationCondition.on_cron(config.automation)
    # One step makes all four together: there is nothing to follow, and what holds for one holds for all.
    if station == "source_snapshot" or config.steps == "table":
        return schedule
    return AutomationCondition.eager()


def _freshness(config: ReplicationConfig, station: StationName) -> FreshnessPolicy | None:
    if config.freshness is None or station != "merged_target":
        return None
    fail, warn = config.freshness.fail_after, config.freshness.warn_after
    return FreshnessPolicy.time_window(timedelta(seconds=fail), timedelta(seconds=warn) if warn else None)
