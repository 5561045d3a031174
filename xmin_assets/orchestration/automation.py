"""What Dagster may do with an asset by itself: automation conditions, and how old a target may become."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypedDict

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
from dagster._core.definitions.asset_selection import TagAssetSelection
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from xmin_assets.config import ReplicationConfig
from xmin_assets.orchestration.names import StationName, names_of

AUTOMATION_TAG = "xmin_assets/automation"
"""The tag of the assets that a sensor looks after, with the configuration's name: the sensor's page would else show a
list of hundreds of keys."""


class _Tagged(TagAssetSelection):
    """Assets with a tag, shown as such: Dagster's own selection by tags becomes a list of keys on the sensor's page."""

    def to_serializable_asset_selection(self, asset_graph: BaseAssetGraph[Any]) -> AssetSelection:  # noqa: ARG002
        return AssetSelection.tag(self.key, self.value)


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


def automation_tags(config: ReplicationConfig) -> dict[str, str]:
    """Return the tag by which the sensor knows the assets of a configuration; none if it has no sensor."""
    return {} if config.automation is None else {AUTOMATION_TAG: config.name or ""}


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
        target=_selection(config, assets),
        default_status=DefaultSensorStatus.RUNNING,
        description="Has the assets of a table follow its source_snapshot, and makes that one when it is time to.",
    )


def _selection(config: ReplicationConfig, assets: Sequence[AssetsDefinition]) -> AssetSelection:
    tag = config.name or ""
    if all(spec.tags.get(AUTOMATION_TAG) == tag for made in assets for spec in made.specs):
        return _Tagged(key=AUTOMATION_TAG, value=tag, include_sources=False)
    # A translator has its own tags.
    return AssetSelection.assets(*assets)


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
