"""Manifests: each run finds its own, nobody else can read them, and they do not pile up."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from dagster import (
    AssetKey,
    DagsterInstance,
    Failure,
    InputContext,
    build_input_context,
    build_output_context,
)
from dagster._core.types.dagster_type import resolve_dagster_type
from upath import UPath

from xmin_assets.config import Mode
from xmin_assets.orchestration import io_manager
from xmin_assets.orchestration.io_manager import ManifestIOManager
from xmin_assets.orchestration.resources import ReplicationSettings
from xmin_assets.replication.manifests.merge import MergedTarget, StagedTable
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.orchestration.conftest import Deployment, failure

KEY = AssetKey(["public", "orders"])
MADE = MergedTarget(
    sync_id="a",
    table="public.orders",
    target="public.orders",
    mode=Mode.FULL_SYNC,
    reason="first sync",
    inserted=1,
    updated=0,
    deleted=0,
    unchanged=0,
    rows=1,
    watermark=10,
    watermark_before=None,
    max_xmin=9,
    rows_extracted=1,
    bytes_extracted=5,
)


def manager(spool: str | Path) -> ManifestIOManager:
    return ManifestIOManager(ReplicationSettings(spool=str(spool)))


def write(managed: ManifestIOManager, run: str, made: MergedTarget) -> None:
    managed.handle_output(build_output_context(asset_key=KEY, run_id=run), made)


def asking(run: str | None, kind: type = MergedTarget) -> InputContext:
    upstream = build_output_context(asset_key=KEY, run_id=run)
    return build_input_context(asset_key=KEY, upstream_output=upstream, dagster_type=resolve_dagster_type(kind))


@pytest.mark.parametrize("scheme", ["", "file://", "memory://"])
def test_what_was_written_is_read_back_from_any_kind_of_spool(tmp_path: Path, scheme: str) -> None:
    managed = manager(f"{scheme}{tmp_path}/spool")
    write(managed, "run-1", MADE)
    assert managed.load_input(asking("run-1")) == MADE


def test_a_run_reads_what_it_made_itself_and_not_the_latest(tmp_path: Path) -> None:
    managed = manager(tmp_path / "spool")
    later = replace(MADE, sync_id="b")
    write(managed, "run-1", MADE)
    write(managed, "run-2", later)
    assert managed.load_input(asking("run-1")) == MADE
    assert managed.load_input(asking("run-2")) == later


def test_a_run_without_the_upstream_asset_reads_the_latest(tmp_path: Path) -> None:
    managed = manager(tmp_path / "spool")
    later = replace(MADE, sync_id="b")
    write(managed, "run-1", MADE)
    write(managed, "run-2", later)
    assert managed.load_input(asking(None)) == later


def test_where_there_is_no_manifest_the_message_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="Materialize public/orders first") as caught:
        manager(tmp_path / "spool").load_input(asking(None))
    assert caught.value.allow_retries is False


def test_a_damaged_manifest_is_told_in_words(tmp_path: Path) -> None:
    managed = manager(tmp_path / "spool")
    write(managed, "run-1", MADE)
    (tmp_path / "spool/manifests/public/orders/run-1.json").write_text('{"sync_id": 5')
    with pytest.raises(Failure, match="not a MergedTarget") as caught:
        managed.load_input(asking("run-1"))
    assert caught.value.allow_retries is False


def test_an_input_without_a_type_is_refused_with_the_types_to_choose_from(tmp_path: Path) -> None:
    managed = manager(tmp_path / "spool")
    write(managed, "run-1", MADE)
    with pytest.raises(Failure, match="MergedTarget"):
        managed.load_input(asking("run-1", dict))


def test_a_manifest_is_not_taken_for_one_of_another_kind(tmp_path: Path) -> None:
    managed = manager(tmp_path / "spool")
    write(managed, "run-1", MADE)
    with pytest.raises(Failure, match="not a StagedTable"):
        managed.load_input(asking("run-1", StagedTable))


def test_nobody_else_can_read_the_spool(deployment: Deployment) -> None:
    before = os.umask(0)
    try:
        deployment.run("source_snapshot", "csv_extract")
    finally:
        os.umask(before)
    for path in [deployment.spool, *deployment.spool.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_a_write_leaves_the_manifest_and_the_latest_and_nothing_else(tmp_path: Path) -> None:
    managed = manager(tmp_path / "spool")
    write(managed, "run-1", MADE)
    write(managed, "run-1", MADE)
    folder = tmp_path / "spool/manifests/public/orders"
    assert sorted(path.name for path in folder.iterdir()) == ["latest.json", "run-1.json"]


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_old_manifests_are_forgotten(tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io_manager, "KEEP", 2)
    managed = manager(f"{scheme}{tmp_path}/spool")
    for number in range(4):
        write(managed, f"run-{number}", replace(MADE, sync_id=str(number)))
    folder = UPath(f"{scheme}{tmp_path}/spool/manifests/public/orders")
    assert sorted(path.name for path in folder.iterdir()) == ["latest.json", "run-2.json", "run-3.json"]


def test_a_table_moves_through_an_object_store(
    deployment: Deployment, source_db: Database, target_db: Database
) -> None:
    deployment.settings = {"spool": "memory://xmin-spool"}
    assert deployment.run().success
    rows = "SELECT id, item, price FROM orders ORDER BY id"
    assert target_db.fetch(rows) == source_db.fetch(rows)
    assert not deployment.spool.exists()


def test_the_spool_of_the_launchpad_is_the_one_that_is_used(deployment: Deployment, tmp_path: Path) -> None:
    other = tmp_path / "other"
    edited = {"resources": {"replication_settings": {"config": {"spool": str(other)}}}}
    deployment.run("source_snapshot", run_config=edited)
    assert (other / "manifests/public/orders_source_snapshot/latest.json").exists()
    assert not deployment.spool.exists()


def test_a_spool_that_others_can_enter_is_refused(deployment: Deployment) -> None:
    deployment.spool.mkdir(mode=0o755)
    deployment.spool.chmod(0o755)
    result = deployment.run("source_snapshot", raise_on_error=False)
    assert "open to other users" in failure(result, "source_snapshot")


def test_instances_that_share_a_spool_read_the_same_latest(deployment: Deployment) -> None:
    deployment.run("source_snapshot")
    with DagsterInstance.ephemeral() as other:
        assert Deployment(other, deployment.spool).run("csv_extract").success
