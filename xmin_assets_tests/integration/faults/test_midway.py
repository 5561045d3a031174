"""Somebody takes rights or tables away while a sync is at work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from xmin_assets.replication.manifests.report import TableResult
from xmin_assets.replication.sync import sync_tables
from xmin_assets_tests.integration.faults.failpoints import at_failpoint
from xmin_assets_tests.integration.faults.watched_table import TABLE, WatchedTable

SECRET = "s3cret"


@dataclass
class Guest:
    """A sync by roles that have the least rights there may be."""

    watched: WatchedTable

    def sync(self) -> TableResult:
        (result,) = sync_tables(self.watched.replica.config(TABLE)).tables
        return result


@pytest.fixture
def guest(watched: WatchedTable, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    source, target = watched.replica.source, watched.replica.target
    for database, side in ((source, "SOURCE"), (target, "TARGET")):
        database.execute(f"CREATE ROLE midway LOGIN PASSWORD '{SECRET}'")
        monkeypatch.setenv(f"XMIN_{side}_URL", database.url_as("midway", SECRET))
    source.execute("GRANT SELECT ON items TO midway")
    target.execute(
        "ALTER SCHEMA xmin_assets OWNER TO midway; ALTER TABLE xmin_assets.state OWNER TO midway;"
        "ALTER TABLE xmin_assets.loads OWNER TO midway; ALTER TABLE xmin_assets.loaded_ranges OWNER TO midway;"
        "ALTER TABLE xmin_assets.history OWNER TO midway; ALTER TABLE items OWNER TO midway"
    )
    yield Guest(watched)
    for database in (source, target):
        database.execute("REASSIGN OWNED BY midway TO postgres; DROP OWNED BY midway; DROP ROLE midway")


@pytest.mark.parametrize("failpoint", ["after the snapshot", "after the extract", "after the stage"])
def test_a_right_at_the_source_that_is_revoked_is_named(guest: Guest, failpoint: str) -> None:
    watched = guest.watched
    with at_failpoint(
        failpoint, lambda: watched.replica.source.execute("REVOKE SELECT ON items FROM midway")
    ) as happened:
        result = guest.sync()

    assert happened.is_set()
    watched.assert_whole()
    if failpoint == "after the snapshot":
        assert result.status == "failed"
        assert "permission denied" in str(result.error)
        assert SECRET not in str(result.error)
    watched.replica.source.execute("GRANT SELECT ON items TO midway")
    assert guest.sync().status == "success"
    watched.assert_well()


@pytest.mark.parametrize("failpoint", ["after the snapshot", "after the extract", "after the stage"])
def test_a_right_at_the_target_that_is_revoked_is_named(guest: Guest, failpoint: str) -> None:
    watched, target = guest.watched, guest.watched.replica.target
    with at_failpoint(failpoint, lambda: target.execute("ALTER TABLE items OWNER TO postgres")) as happened:
        result = guest.sync()

    assert happened.is_set()
    assert result.status == "failed"
    assert "permission denied" in str(result.error)
    assert watched.now() == watched.before
    target.execute("ALTER TABLE items OWNER TO midway")
    assert guest.sync().status == "success"
    watched.assert_well()


@pytest.mark.parametrize("failpoint", ["after the snapshot", "after the extract", "after the stage"])
def test_a_source_table_that_is_dropped_leaves_the_copy_alone(watched: WatchedTable, failpoint: str) -> None:
    source = watched.replica.source
    source.execute("CREATE TABLE kept AS TABLE items")
    with at_failpoint(failpoint, lambda: source.execute("DROP TABLE items")) as happened:
        result = watched.replica.try_sync(TABLE)

    assert happened.is_set()
    if failpoint == "after the snapshot":
        assert result.status == "failed"
        assert "there is no such table" in str(result.error)
        assert watched.now() == watched.before
    source.execute("ALTER TABLE kept RENAME TO items; ALTER TABLE items ADD PRIMARY KEY (id)")
    watched.sync()


@pytest.mark.parametrize("failpoint", ["after the snapshot", "after the extract", "after the stage"])
def test_a_target_table_that_is_dropped_is_made_again(watched: WatchedTable, failpoint: str) -> None:
    with at_failpoint(failpoint, lambda: watched.replica.target.execute("DROP TABLE items")) as happened:
        result = watched.replica.try_sync(TABLE)

    assert happened.is_set()
    assert result.status == "success", result.error
    watched.assert_well()


@pytest.mark.parametrize("failpoint", ["after the staged table was made", "after the stage"])
def test_a_staged_table_that_is_dropped_is_made_again(watched: WatchedTable, failpoint: str) -> None:
    target = watched.replica.target

    def drop() -> None:
        for (name,) in target.fetch("SELECT relname FROM pg_class WHERE relname LIKE 'staged%%' AND relkind = 'r'"):
            target.execute(f"DROP TABLE xmin_assets.{name}")

    with at_failpoint(failpoint, drop) as happened:
        result = watched.replica.try_sync(TABLE)

    assert happened.is_set()
    assert result.status == "success", result.error
    watched.assert_well()


def test_files_that_vanish_from_the_spool_are_written_again(watched: WatchedTable) -> None:
    def empty() -> None:
        for path in watched.replica.spool.rglob("*.csv*"):
            path.unlink()

    with at_failpoint("after the extract", empty) as happened:
        result = watched.replica.try_sync(TABLE)

    assert happened.is_set()
    assert result.status == "success", result.error
    watched.assert_well()
