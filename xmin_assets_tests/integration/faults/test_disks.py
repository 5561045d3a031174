"""Disks run full: the spool's and the target's."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from xmin_assets_tests.clusters import Database, Workshop
from xmin_assets_tests.integration.faults.watched_table import TABLE, WatchedTable, files_in
from xmin_assets_tests.replica import Replica

MIB = 1 << 20


@pytest.fixture
def small_disk(workshop: Workshop, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of 12 MiB, in a folder that the servers can reach."""
    folder = workshop.folder / f"small-{abs(hash(request.node.name))}"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m,mode=0700", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        folder.rmdir()
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB // 4, MIB // 4))


def test_a_spool_beyond_its_quota_is_one_clear_error(fresh: WatchedTable) -> None:
    with fresh.start("sync", preexec_fn=limit_files) as running:
        _, stderr = running.communicate(timeout=60)

    assert running.returncode == 1
    assert len(stderr.splitlines()) <= 2, stderr
    assert "The spool file" in stderr
    assert "File too large" in stderr
    assert files_in(fresh.replica.spool) == []
    fresh.assert_whole()
    fresh.sync()


def test_a_full_spool_disk_is_one_clear_error(watched: WatchedTable, small_disk: Path) -> None:
    watched.replica.source.execute("UPDATE items SET filler = repeat('z', 4000)")
    config = watched.replica.config(TABLE)
    full = replace(watched.replica, spool=small_disk / "spool")

    result = full.try_sync(TABLE)

    assert result.status == "failed"
    assert "cannot be written: No space left on device" in str(result.error)
    assert files_in(full.spool) == []
    assert config.tables[0].source == TABLE
    watched.assert_whole()
    watched.sync()


def test_a_target_that_has_no_room_is_one_clear_error(watched: WatchedTable) -> None:
    target = watched.replica.target
    target.execute("CREATE SCHEMA disk")
    target.execute(
        "CREATE FUNCTION disk.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id > 4020 THEN"
        " RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';"
        " END IF; RETURN NEW; END $$"
    )
    target.execute("CREATE TRIGGER full_disk BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION disk.full()")

    result = watched.replica.try_sync(TABLE)

    assert result.status == "failed"
    assert "No space left on device" in str(result.error)
    assert "Make room on that server" in str(result.error)
    assert watched.now() == watched.before
    target.execute("DROP TRIGGER full_disk ON items")
    watched.sync()


def test_a_tablespace_that_runs_full_is_one_clear_error(
    source_db: Database, target_db: Database, small_disk: Path, tmp_path: Path
) -> None:
    replica = Replica(source_db, target_db, tmp_path / "spool", {"workers": 2})
    watched = WatchedTable.create(replica)
    source_db.execute("INSERT INTO items SELECT i, 0, repeat('x', 700) FROM generate_series(4001, 30000) i")
    target_db.cluster.programs.user.own(small_disk)
    space = f"small_{target_db.name}"
    target_db.execute(f"CREATE TABLESPACE {space} LOCATION '{small_disk}'")
    try:
        target_db.execute(f"ALTER ROLE postgres IN DATABASE {target_db.name} SET default_tablespace = {space}")

        result = replica.try_sync(TABLE)

        assert result.status == "failed"
        assert "No space left on device" in str(result.error)
        watched.assert_whole()
        assert files_in(replica.spool) == []
        target_db.execute(f"ALTER ROLE postgres IN DATABASE {target_db.name} RESET default_tablespace")
        watched.sync()
    finally:
        target_db.execute("DROP SCHEMA IF EXISTS xmin_assets CASCADE")
        target_db.execute("DROP TABLE IF EXISTS items")
        target_db.execute(f"DROP TABLESPACE {space}")
