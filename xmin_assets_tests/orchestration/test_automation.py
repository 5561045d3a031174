"""Automation conditions and freshness: which asset has which, and what Dagster makes of them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from dagster import (
    AssetKey,
    AssetSelection,
    AssetSpec,
    AutomationCondition,
    AutomationConditionSensorDefinition,
    DagsterInstance,
    DefaultSensorStatus,
    Definitions,
    FreshnessPolicy,
    evaluate_automation_conditions,
)
from dagster._core.remote_representation.external_data import SensorSnap

from xmin_assets.config import parse_config
from xmin_assets.errors import ConfigError
from xmin_assets.orchestration.definitions_builder import build_definitions
from xmin_assets.orchestration.names import STATIONS
from xmin_assets.orchestration.translator import DagsterXminTranslator, XminTranslatorProps
from xmin_assets_tests.orchestration.conftest import Deployment, key

SNAPSHOT, *FOLLOWERS = (key(station) for station in STATIONS)


def definitions(deployment: Deployment, **extra: Any) -> Definitions:
    settings = {"spool": str(deployment.spool), "workers": 2}
    return build_definitions(parse_config({"tables": ["public.orders"], "settings": settings, **extra}))


def conditions(made: Definitions) -> dict[AssetKey, AutomationCondition[Any] | None]:
    graph = made.resolve_asset_graph()
    return {asset: graph.get(asset).automation_condition for asset in (SNAPSHOT, *FOLLOWERS)}


def policies(made: Definitions) -> dict[AssetKey, FreshnessPolicy | None]:
    graph = made.resolve_asset_graph()
    return {asset: graph.get(asset).freshness_policy for asset in (SNAPSHOT, *FOLLOWERS)}


def test_nothing_is_automatic_that_the_configuration_does_not_ask_for(deployment: Deployment) -> None:
    made = definitions(deployment)
    assert set(conditions(made).values()) == {None}
    assert set(policies(made).values()) == {None}
    assert not made.sensors


def test_eager_assets_follow_their_snapshot(deployment: Deployment, instance: DagsterInstance) -> None:
    made = definitions(deployment, automation="eager")
    eager = AutomationCondition.eager()
    assert conditions(made) == {SNAPSHOT: None, **dict.fromkeys(FOLLOWERS, eager)}
    first = evaluate_automation_conditions(made, instance, AssetSelection.all())

    deployment.run("source_snapshot")
    second = evaluate_automation_conditions(made, instance, AssetSelection.all(), cursor=first.cursor)

    assert [second.get_num_requested(asset) for asset in (SNAPSHOT, *FOLLOWERS)] == [0, 1, 1, 1]
    deployment.run()
    third = evaluate_automation_conditions(made, instance, AssetSelection.all(), cursor=second.cursor)
    assert third.total_requested == 0, "all four were made together, as by the sensor or a schedule"


def test_a_schedule_materializes_the_snapshot_and_the_others_with_it(
    deployment: Deployment, instance: DagsterInstance
) -> None:
    made = definitions(deployment, automation="0 * * * *")
    hour = datetime(2026, 1, 1, 12, 0, tzinfo=timezone.utc)
    before, minute = hour - timedelta(minutes=1), timedelta(minutes=1)
    deployment.run()
    first = evaluate_automation_conditions(made, instance, AssetSelection.all(), evaluation_time=before)
    assert first.total_requested == 0

    second = evaluate_automation_conditions(
        made, instance, AssetSelection.all(), cursor=first.cursor, evaluation_time=hour + minute
    )

    assert [second.get_num_requested(asset) for asset in (SNAPSHOT, *FOLLOWERS)] == [1, 1, 1, 1]


def test_a_table_that_is_one_step_of_a_run_is_materialized_as_a_whole(
    deployment: Deployment, instance: DagsterInstance
) -> None:
    made = definitions(deployment, automation="0 * * * *", steps="table", freshness={"fail_after": "1 hour"})
    assert policies(made)[FOLLOWERS[2]] == FreshnessPolicy.time_window(timedelta(hours=1))
    hour = datetime(2026, 1, 1, 12, 0, tzinfo=timezone.utc)
    deployment.run()
    first = evaluate_automation_conditions(
        made, instance, AssetSelection.all(), evaluation_time=hour - timedelta(minutes=1)
    )

    second = evaluate_automation_conditions(
        made, instance, AssetSelection.all(), cursor=first.cursor, evaluation_time=hour + timedelta(minutes=1)
    )

    assert [second.get_num_requested(asset) for asset in (SNAPSHOT, *FOLLOWERS)] == [1, 1, 1, 1]


def test_the_conditions_are_evaluated_without_anybody_turning_that_on(deployment: Deployment) -> None:
    made = definitions(deployment, automation="eager")
    sensor = made.get_repository_def().get_sensor_def("automation_sensor")
    assert sensor.default_status is DefaultSensorStatus.RUNNING
    assert [defined.name for defined in made.get_repository_def().sensor_defs] == ["automation_sensor"]


def test_the_sensors_page_names_its_assets_by_one_tag(deployment: Deployment) -> None:
    for name, shown in ((None, 'tag:"xmin_assets/automation"'), ("sales", 'tag:"xmin_assets/automation"="sales"')):
        made = definitions(deployment, automation="eager", **({"name": name} if name else {}))
        sensor = made.get_repository_def().get_sensor_def(f"{name}_automation_sensor" if name else "automation_sensor")
        assert isinstance(sensor, AutomationConditionSensorDefinition)
        on_the_page = SensorSnap.from_def(sensor, made.get_repository_def()).asset_selection
        assert str(on_the_page) == shown
        for selection in (sensor.asset_selection, on_the_page):
            assert selection and selection.resolve(made.resolve_asset_graph()) == {SNAPSHOT, *FOLLOWERS}


def test_the_sensor_knows_assets_whose_tags_are_a_translators_own(deployment: Deployment) -> None:
    class Bare(DagsterXminTranslator):
        def get_asset_spec(self, props: XminTranslatorProps) -> AssetSpec:
            return props.default_spec.replace_attributes(tags={})

    config = parse_config({"tables": ["public.orders"], "automation": "eager"})
    made = build_definitions(config, translator=Bare())
    sensor = made.get_repository_def().get_sensor_def("automation_sensor")
    assert isinstance(sensor, AutomationConditionSensorDefinition)
    assert sensor.asset_selection.resolve(made.resolve_asset_graph()) == {SNAPSHOT, *FOLLOWERS}


def test_a_target_has_the_age_at_which_it_is_out_of_date(deployment: Deployment) -> None:
    made = definitions(deployment, freshness={"fail_after": "2 hours", "warn_after": "1 hour"})
    policy = FreshnessPolicy.time_window(timedelta(hours=2), timedelta(hours=1))
    assert policies(made) == {SNAPSHOT: None, FOLLOWERS[0]: None, FOLLOWERS[1]: None, FOLLOWERS[2]: policy}
    made = definitions(deployment, freshness={"fail_after": "2 hours"})
    assert policies(made)[FOLLOWERS[2]] == FreshnessPolicy.time_window(timedelta(hours=2))


def test_an_age_that_dagster_does_not_take_is_said(deployment: Deployment) -> None:
    with pytest.raises(ConfigError, match="fail_after"):
        definitions(deployment, freshness={"fail_after": "10 s"})
