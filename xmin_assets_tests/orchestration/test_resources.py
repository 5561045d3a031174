"""The settings in the launchpad are the settings of the configuration."""

# No `from __future__ import annotations` here: Dagster reads the annotations of the asset below as they are.

import pytest
from dagster import EnvVar, Noneable, asset, materialize

from xmin_assets.config import Settings
from xmin_assets.errors import ConfigError
from xmin_assets.orchestration.definitions_builder import build_resources
from xmin_assets.orchestration.resources import ReplicationSettings
from xmin_assets_tests.orchestration.conftest import Deployment, failure


def test_the_resource_has_exactly_the_settings_with_their_defaults() -> None:
    assert ReplicationSettings().to_settings() == Settings()
    fields = ReplicationSettings.to_config_schema().as_field().config_type.fields
    assert set(fields) == set(Settings.model_fields)
    assert all(field.description for field in fields.values())


def test_only_what_may_be_left_to_us_takes_none() -> None:
    resource = ReplicationSettings.from_settings(Settings(batch_size=7)).get_resource_definition()
    fields = resource.config_schema.as_field().config_type.fields
    optional = {name for name, said in fields.items() if isinstance(said.config_type, Noneable)}
    assert optional == {"workers", "spool", "max_read_rate", "max_load_rate", "load_window", "quiet_hours"}
    assert fields["batch_size"].default_value == 7
    assert "launchpad" in str(resource.description)


def test_settings_survive_the_way_through_the_resource() -> None:
    settings = Settings(
        workers=3,
        min_workers=1,
        max_workers=5,
        batch_size=10,
        spool="/x",
        statement_timeout=1.5,
        lock_timeout=2,
        connect_timeout=3,
        max_snapshot_age=4,
    )
    assert ReplicationSettings.from_settings(settings).to_settings() == settings


def test_a_value_that_is_not_allowed_is_told_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"batch_size .*greater than or equal to 1") as caught:
        ReplicationSettings(batch_size=0).to_settings()
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="min_workers 9 is above max_workers 8"):
        ReplicationSettings(min_workers=9).to_settings()


def test_a_value_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_BATCH", "77")
    resource = ReplicationSettings(batch_size=EnvVar.int("MY_BATCH"))
    assert resource.process_config_and_initialize().to_settings().batch_size == 77


def test_the_launchpad_changes_the_settings_of_one_run(deployment: Deployment) -> None:
    deployment.settings = {"workers": 2, "batch_size": 7}
    seen: list[Settings] = []

    @asset
    def observer(replication_settings: ReplicationSettings) -> None:
        seen.append(replication_settings.to_settings())

    edited = {"resources": {"replication_settings": {"config": {"workers": 1, "lock_timeout": 5}}}}
    materialize([observer], resources=build_resources(deployment.config.settings), run_config=edited)
    (settings,) = seen
    assert (settings.workers, settings.lock_timeout) == (1, 5)
    assert (settings.batch_size, settings.spool) == (7, str(deployment.spool))


def test_a_wrong_value_in_the_launchpad_fails_with_a_sentence(deployment: Deployment) -> None:
    wrong = {"resources": {"replication_settings": {"config": {"max_workers": 1}}}}
    result = deployment.run("source_snapshot", run_config=wrong, raise_on_error=False)
    assert failure(result, "source_snapshot") == (
        "The resource replication_settings: Value error, min_workers 2 is above max_workers 1."
    )
