"""The sensor: what it requests, what it leaves alone, what it says, and what it remembers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest
from dagster import (
    AssetCheckKey,
    AssetSpec,
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    Definitions,
    RunRequest,
    SensorDefinition,
    build_sensor_context,
)
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from xmin_assets.config import ReplicationConfig, parse_config
from xmin_assets.orchestration import sensors
from xmin_assets.orchestration.definitions_builder import build_definitions
from xmin_assets.orchestration.names import STATIONS
from xmin_assets.orchestration.sensor_cursor import SensorCursor
from xmin_assets.orchestration.translator import DagsterXminTranslator, XminTranslatorProps
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.orchestration.conftest import Deployment, key
from xmin_assets_tests.servers import have_counted

OTHERS = "CREATE TABLE others (id bigint PRIMARY KEY, item text); INSERT INTO others VALUES (1, 'one')"


@dataclass
class Ticking:
    """A code location with a sensor, and the daemon that evaluates it."""

    deployment: Deployment
    source: Database
    cursor: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    tables: Sequence[Any] = ("public.orders", "public.others")

    @property
    def config(self) -> ReplicationConfig:
        settings = {"spool": str(self.deployment.spool), "workers": 2, "connect_timeout": 2}
        return parse_config({"tables": list(self.tables), "settings": settings, "sensor": {}, **self.extra})

    @property
    def definitions(self) -> Definitions:
        return build_definitions(self.config)

    @property
    def sensor(self) -> SensorDefinition:
        return self.definitions.get_repository_def().get_sensor_def("source_change_sensor")

    @property
    def instance(self) -> DagsterInstance:
        return self.deployment.instance

    def write(self, statement: str) -> None:
        """Change something at the source, and have it counted before the next look."""
        with closing(self.source.connect()) as session, session.cursor() as cursor:
            cursor.execute(statement)
            have_counted(self.source, session)

    def tick(self) -> SensorExecutionData:
        """One evaluation; the cursor is kept, the requests are not run."""
        repository = self.definitions.get_repository_def()
        context = build_sensor_context(self.instance, cursor=self.cursor, repository_def=repository)
        result = repository.get_sensor_def("source_change_sensor").evaluate_tick(context)
        self.cursor = result.cursor
        return result

    def said(self) -> str | None:
        """Why nothing is requested."""
        result = self.tick()
        assert not result.run_requests
        return result.skip_message

    def requested(self) -> list[str]:
        return [request.tags["xmin_assets/table"] for request in self.tick().run_requests or ()]

    def job(self, request: RunRequest) -> Any:
        checks = None if request.asset_check_keys is None else set(request.asset_check_keys)
        job = self.definitions.get_repository_def().get_job(request.job_name or "sync_all_tables")
        return job.get_subset(asset_selection=set(request.asset_selection or ()), asset_check_selection=checks)

    def run(self, request: RunRequest) -> Any:
        """What the daemon does with a request."""
        return self.job(request).execute_in_process(instance=self.instance, tags=dict(request.tags))

    def queue(self, request: RunRequest, status: DagsterRunStatus = DagsterRunStatus.QUEUED) -> str:
        """A run that waits for its turn."""
        selected = frozenset(request.asset_selection or ())
        origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "all"), "job")
        run = self.instance.create_run_for_job(
            self.job(request), status=status, asset_selection=selected, remote_job_origin=origin
        )
        return run.run_id

    def settle(self) -> None:
        """Run what is requested until nothing is."""
        for _ in range(20):
            requests = self.tick().run_requests or []
            if not requests:
                return
            for request in requests:
                assert self.run(request).success
        raise AssertionError("a table is requested again and again")


@pytest.fixture
def ticking(deployment: Deployment, source_db: Database) -> Ticking:
    """Two tables, never synced."""
    made = Ticking(deployment, source_db)
    made.write(OTHERS)
    return made


@pytest.fixture
def flushed(ticking: Ticking) -> Ticking:
    """Two tables in sync, and a sensor that knows it."""
    ticking.settle()
    return ticking


def test_there_is_a_sensor_only_where_the_configuration_asks_for_one(ticking: Ticking) -> None:
    assert ticking.sensor.minimum_interval_seconds == 60
    assert ticking.sensor.default_status is DefaultSensorStatus.RUNNING
    ticking.extra = {"sensor": {"every": "5 minutes", "running": False}}
    assert ticking.sensor.minimum_interval_seconds == 300
    assert ticking.sensor.default_status is DefaultSensorStatus.STOPPED
    ticking.extra = {"sensor": None}
    assert not ticking.definitions.sensors


def test_tables_that_were_never_synced_are_requested_with_their_four_assets_and_not_verified(ticking: Ticking) -> None:
    requests = ticking.tick().run_requests or []

    assert [request.tags["xmin_assets/table"] for request in requests] == ["public.orders", "public.others"]
    assert requests[0].tags["xmin_assets/reason"] == "it was never synced"
    assert set(requests[0].asset_selection or ()) == {key(station) for station in STATIONS}
    assert AssetCheckKey(key("merged_target"), "target_equals_source") not in (requests[0].asset_check_keys or ())
    result = ticking.run(requests[0])
    assert result.success
    assert {found.check_name for found in result.get_asset_check_evaluations()} == {
        "far_from_wraparound",
        "watermark_is_not_held_back",
        "columns_match_the_target",
        "rows_are_complete",
        "key_identifies_rows",
    }


def test_a_table_that_is_one_step_of_a_run_is_requested_as_a_whole(ticking: Ticking) -> None:
    ticking.extra = {"steps": "table"}
    ticking.settle()
    ticking.write("UPDATE others SET item = 'x'")
    assert ticking.requested() == ["public.others"]


def test_assets_with_other_names_are_requested_by_these(ticking: Ticking) -> None:
    class Prefixed(DagsterXminTranslator):
        def get_asset_spec(self, props: XminTranslatorProps) -> AssetSpec:
            spec = super().get_asset_spec(props)
            return spec.replace_attributes(key=spec.key.with_prefix("copies"))

    repository = build_definitions(ticking.config, translator=Prefixed()).get_repository_def()
    context = build_sensor_context(ticking.instance, repository_def=repository)
    request, _ = repository.get_sensor_def("source_change_sensor").evaluate_tick(context).run_requests or ()
    assert key("merged_target").with_prefix("copies") in (request.asset_selection or ())
    assert len(request.asset_check_keys or ()) == 5


def test_only_the_table_that_changed_is_requested(flushed: Ticking) -> None:
    assert flushed.said() == "No table has changed."

    flushed.write("UPDATE orders SET item = 'x' WHERE id = 1")
    (request,) = flushed.tick().run_requests or ()

    assert request.tags["xmin_assets/table"] == "public.orders"
    assert request.tags["xmin_assets/reason"] == "rows were inserted, updated or deleted"
    assert flushed.run(request).success
    assert flushed.said() == "No table has changed."


def test_a_table_that_changes_again_in_the_same_way_is_requested_again(flushed: Ticking) -> None:
    for _ in range(2):
        flushed.write("UPDATE orders SET item = item WHERE id = 1")
        (request,) = flushed.tick().run_requests or ()
        assert request.run_key is None
        flushed.run(request)


@pytest.mark.parametrize("status", sensors.IN_FLIGHT)
def test_a_table_whose_run_is_in_flight_is_not_requested(flushed: Ticking, status: DagsterRunStatus) -> None:
    flushed.write("UPDATE orders SET item = 'x' WHERE id = 1")
    (request,) = flushed.tick().run_requests or ()
    run_id = flushed.queue(request, status)

    assert flushed.said() == "1 of 2 tables has changed, but its sync is still running."
    flushed.write("UPDATE others SET item = 'x'; UPDATE orders SET item = 'y' WHERE id = 1")
    assert flushed.requested() == ["public.others"]
    flushed.instance.delete_run(run_id)
    assert "public.orders" in flushed.requested()


def test_a_change_during_a_run_is_requested_when_the_run_has_ended(flushed: Ticking) -> None:
    flushed.write("UPDATE orders SET item = 'x' WHERE id = 1")
    (request,) = flushed.tick().run_requests or ()
    run_id = flushed.queue(request)
    flushed.write("UPDATE orders SET item = 'y' WHERE id = 1")
    assert flushed.said() is not None
    flushed.instance.delete_run(run_id)
    with_both = flushed.run(request)
    assert with_both.success

    assert flushed.requested() == ["public.orders"]


def test_a_run_of_another_job_is_in_flight_too(flushed: Ticking) -> None:
    flushed.write("UPDATE orders SET item = 'x' WHERE id = 1; UPDATE others SET item = 'x'")
    jobs = flushed.definitions
    verify = jobs.resolve_job_def("verify_all_tables")
    other = flushed.instance.create_run_for_job(verify, status=DagsterRunStatus.STARTED)
    kept = flushed.cursor
    assert flushed.requested() == ["public.orders", "public.others"]
    flushed.cursor = kept

    everything = jobs.resolve_job_def("sync_all_tables")
    flushed.instance.create_run_for_job(everything, status=DagsterRunStatus.STARTED)

    assert flushed.said() == "2 of 2 tables have changed, but their syncs are still running."
    assert flushed.instance.get_run_by_id(other.run_id)


def test_a_table_whose_sync_fails_is_requested_again_with_longer_and_longer_pauses(
    flushed: Ticking,
) -> None:
    flushed.write("UPDATE orders SET item = 'x' WHERE id = 1")
    assert flushed.requested() == ["public.orders"]
    assert flushed.requested() == ["public.orders"]

    why = "1 of 2 tables has changed, but the last sync of 1 table has failed; the next one is requested in "
    assert str(flushed.said()).startswith(why)
    flushed.cursor = earlier(flushed.cursor, 61)
    assert flushed.requested() == ["public.orders"]
    flushed.cursor = earlier(flushed.cursor, 170)
    assert str(flushed.said()).startswith(why)
    flushed.cursor = earlier(flushed.cursor, 11)
    assert flushed.requested() == ["public.orders"]
    for _ in range(10):
        flushed.cursor = earlier(flushed.cursor, 901)
        assert flushed.requested() == ["public.orders"]
    flushed.write("UPDATE others SET item = 'x'")
    assert flushed.requested() == ["public.others"]


def earlier(cursor: str | None, seconds: float) -> str:
    """The cursor, as if everything in it had happened so many seconds before."""
    data = json.loads(cursor or "")
    data["failed_at"] -= seconds
    for remembered in data["tables"].values():
        remembered[3] -= seconds
    return json.dumps(data)


def test_many_tables_at_once_are_one_run(flushed: Ticking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "MANY", 2)
    flushed.write("UPDATE orders SET item = 'x' WHERE id = 1; UPDATE others SET item = 'x'")

    (request,) = flushed.tick().run_requests or ()

    assert request.tags["xmin_assets/reason"] == "2 tables may have changed"
    assert len(request.asset_selection or ()) == 8
    assert flushed.run(request).success
    assert flushed.said() == "No table has changed."


@pytest.mark.parametrize("side", ["SOURCE", "TARGET"])
def test_a_database_that_does_not_answer_is_asked_less_and_less_often(
    flushed: Ticking, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    known = SensorCursor.read(flushed.cursor).requested
    with monkeypatch.context() as patched:
        patched.setenv(f"XMIN_{side}_URL", "postgresql://u:secret@127.0.0.1:1/d")
        first = str(flushed.said())
        assert f"No connection to the {side.lower()}" in first
        assert "The next look is in 1 min." in first
        assert "secret" not in first
        assert str(flushed.said()).startswith("A database did not answer; the next look is in ")
        flushed.cursor = earlier(flushed.cursor, 61)
        assert "The next look is in 3 min." in str(flushed.said())
        for _ in range(10):
            flushed.cursor = earlier(flushed.cursor, 3600)
            last = str(flushed.said())
        assert "The next look is in 15 min." in last

    flushed.cursor = earlier(flushed.cursor, 3600)
    assert flushed.said() == "No table has changed."
    assert SensorCursor.read(flushed.cursor).failures == 0
    assert set(SensorCursor.read(flushed.cursor).requested) == set(known)


def test_a_database_that_is_not_configured_is_said(flushed: Ticking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XMIN_SOURCE_URL")
    assert "Set XMIN_SOURCE_URL" in str(flushed.said())


@pytest.mark.parametrize(
    "cursor",
    ["", "1234", "[]", "null", "{}", '{"version": 0, "tables": {"public.orders": 5}}', '{"version": 1, "tables": 7}'],
)
def test_a_cursor_that_cannot_be_read_costs_one_sync_of_every_table(flushed: Ticking, cursor: str) -> None:
    flushed.cursor = cursor
    assert flushed.requested() == ["public.orders", "public.others"]


def test_a_cursor_of_another_release_is_not_read(flushed: Ticking) -> None:
    flushed.cursor = json.dumps({**json.loads(flushed.cursor or ""), "version": 0})
    assert flushed.requested() == ["public.orders", "public.others"]


def test_the_cursor_holds_what_is_remembered_and_forgets_tables_that_are_gone(flushed: Ticking) -> None:
    kept = SensorCursor.read(flushed.cursor)
    assert SensorCursor.read(kept.text()) == kept
    assert set(kept.requested) == {"public.orders", "public.others"}
    flushed.tables = ["public.orders"]
    assert flushed.said() == "No table has changed."
    assert set(SensorCursor.read(flushed.cursor).requested) == {"public.orders"}


def test_three_hundred_tables_are_one_run_and_a_small_cursor(ticking: Ticking) -> None:
    ticking.write(
        "DO $$ BEGIN FOR i IN 1 .. 300 LOOP"
        " EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY)', i); END LOOP; END $$"
    )
    ticking.tables = [f"public.t{number}" for number in range(1, 301)]

    (request,) = ticking.tick().run_requests or ()

    assert len(request.asset_selection or ()) == 1200
    assert len(ticking.cursor or "") < 50_000
