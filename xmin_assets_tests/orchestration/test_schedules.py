"""What runs at a time of day, and the job that cleans up."""

from __future__ import annotations

import os
from typing import Any

import pytest
from dagster import DagsterInstance, DefaultScheduleStatus, Definitions
from psycopg2 import sql

from xmin_assets.config import parse_config
from xmin_assets.orchestration.definitions_builder import build_definitions
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.orchestration.conftest import Deployment

STAGED = """
SELECT relname::text, obj_description(oid, 'pg_class') FROM pg_class
 WHERE relnamespace = 'xmin_assets'::regnamespace AND obj_description(oid, 'pg_class') LIKE 'xmin_assets staged%'
"""


def definitions(deployment: Deployment, **extra: Any) -> Definitions:
    settings = {"spool": str(deployment.spool), "workers": 2}
    return build_definitions(parse_config({"tables": ["public.orders"], "settings": settings, **extra}))


def times(made: Definitions) -> dict[str, str]:
    schedules = [made.get_repository_def().get_schedule_def(schedule.name) for schedule in made.schedules or ()]
    assert all(schedule.default_status is DefaultScheduleStatus.RUNNING for schedule in schedules)
    return {schedule.job_name: str(schedule.cron_schedule) for schedule in schedules}


def test_nothing_is_scheduled_that_the_configuration_gives_no_time_to(deployment: Deployment) -> None:
    assert times(definitions(deployment)) == {}


def test_each_job_runs_at_the_time_that_the_configuration_gives_it(deployment: Deployment) -> None:
    made = definitions(
        deployment,
        schedule="*/5 * * * *",
        cleanup="@daily",
        checks={"target_equals_source": {"schedule": "0 3 * * *"}},
    )
    assert times(made) == {"sync_all_tables": "*/5 * * * *", "clean_up": "@daily", "verify_all_tables": "0 3 * * *"}


def test_a_check_that_is_left_out_is_not_scheduled(deployment: Deployment) -> None:
    checks = {"target_equals_source": {"enabled": False, "schedule": "0 3 * * *"}}
    assert times(definitions(deployment, checks=checks)) == {}


def test_the_job_removes_what_a_crashed_sync_has_left_and_says_so(
    deployment: Deployment, target_db: Database, instance: DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    deployment.run("source_snapshot", "csv_extract", "staged_table")
    job = definitions(deployment).resolve_job_def("clean_up")
    ((name, comment),) = target_db.fetch(STAGED)

    assert job.execute_in_process(instance=instance).success
    assert target_db.fetch(STAGED) == [(name, comment)], "it is young, and may be in use"
    capfd.readouterr()
    old = comment.rpartition(" ")[0] + " 20200101T000000.000000-0123456789ab-0123456789abcdef"
    target_db.execute(sql.SQL("COMMENT ON TABLE xmin_assets.{} IS %s").format(sql.Identifier(name)), (old,))
    left_over = deployment.spool / "syncs" / "20200101T000000.000000-0123456789ab-0123456789abcdef"
    left_over.mkdir(parents=True)
    os.utime(left_over, (0, 0))
    assert job.execute_in_process(instance=instance).success

    assert target_db.fetch(STAGED) == []
    assert not left_over.exists()
    said = capfd.readouterr().err
    assert f"dropped xmin_assets.{name}" in said
    assert f"deleted {left_over}" in said


def test_a_target_that_does_not_answer_fails_the_job_in_words(
    deployment: Deployment, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XMIN_TARGET_URL", "postgresql://u@127.0.0.1:1/d")
    job = definitions(deployment).resolve_job_def("clean_up")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    data = result.failure_data_for_node("remove_leftovers")
    assert data is not None and data.user_failure_data is not None
    assert "No connection to the target" in str(data.user_failure_data.description)
