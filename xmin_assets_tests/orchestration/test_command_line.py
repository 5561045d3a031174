"""Dagster's own commands on this project, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dagster import DagsterInstance

import xmin_assets
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.orchestration.conftest import ORDERS

PROJECT = Path(xmin_assets.__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
INSTANCE = PROJECT / "dagster.yaml"
# Empty where the package is installed without its project folder.
LOGS = {"python_logs": yaml.safe_load(INSTANCE.read_text())["python_logs"]} if INSTANCE.exists() else {}
COUNT = "SELECT count(*) FROM orders"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text(yaml.safe_dump({"telemetry": {"enabled": False}, **LOGS}))
    return {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "VIRTUAL_ENV": str(BIN.parent),
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }


SYNC_ALL = ["dagster", "job", "execute", "-m", "xmin_assets.definitions", "-j", "sync_all_tables"]


def orders_to_sync(source_db: Database, target_db: Database, folder: Path) -> dict[str, str]:
    """A table at the source, and the environment of a process that syncs it."""
    source_db.execute(ORDERS)
    (folder / "tables.yaml").write_text(f"settings: {{spool: {folder}/spool}}\ntables: [public.orders]\n")
    return {
        "XMIN_CONFIG": str(folder / "tables.yaml"),
        "XMIN_SOURCE_URL": source_db.url,
        "XMIN_TARGET_URL": target_db.url,
    }


def run(command: list[str], environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_job_and_a_selection_of_assets_run_from_a_terminal(
    source_db: Database, target_db: Database, environment: dict[str, str], tmp_path: Path
) -> None:
    environment |= orders_to_sync(source_db, target_db, tmp_path)
    shown = run(SYNC_ALL, environment, tmp_path)
    assert target_db.fetch(COUNT) == [(50,)]
    assert " - INFO - " in shown
    assert " - DEBUG - " not in shown or not LOGS
    with DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:
        (done,) = instance.get_runs()
        assert "STEP_SUCCESS" in {event.dagster_event_type for event in instance.all_logs(done.run_id)}
    source_db.execute("INSERT INTO orders VALUES (51, 'one more', 1)")
    run(["dagster", "asset", "materialize", "-m", "xmin_assets.definitions", "--select", "*"], environment, tmp_path)
    assert target_db.fetch(COUNT) == [(51,)]


def test_a_run_that_is_terminated_leaves_the_servers_at_once(
    source_db: Database, target_db: Database, environment: dict[str, str], tmp_path: Path
) -> None:
    environment |= orders_to_sync(source_db, target_db, tmp_path)
    locked = source_db.connect()
    locked.autocommit = False
    locked.cursor().execute("LOCK TABLE orders")
    with subprocess.Popen(SYNC_ALL, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL) as job:
        while not source_db.fetch("SELECT FROM pg_locks WHERE NOT granted"):
            assert job.poll() is None
        job.send_signal(signal.SIGINT)
        # Less than the 30 seconds of lock_timeout, after which it would have ended anyway.
        assert job.wait(timeout=20) != 0
    assert not source_db.fetch("SELECT FROM pg_locks WHERE NOT granted")


@pytest.mark.skipif(not (PROJECT / "workspace.yaml").exists(), reason="installed without its project folder")
@pytest.mark.parametrize(
    "command",
    [
        ["dagster", "definitions", "validate", "-w", "workspace.yaml"],
        ["dg", "check", "defs"],
    ],
    ids=" ".join,
)
def test_the_project_is_valid_without_any_database(command: list[str], environment: dict[str, str]) -> None:
    run(command, environment, PROJECT)
