"""Somebody takes rights or tables away while a sync is at work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from xmin_assets.replication.manifests.report import TableResult
from xmin_assets.replication.sync import sync_tables
from xmin_assets_tests.integration.faults.items import TABLE, Items
from xmin_assets_tests.integration.faults.places import happening

SECRET = "s3cret"


@dataclass
class Guest:
    """A sync by roles that have the least rights there may be."""

    items: Items

    def sync(self) -> TableResult:
        (result,) = sync_tables(self.items.replica.config(TABLE)).tables
        return result


@pytest.fixture
def guest(items: Items, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    source, target = items.replica.source, items.replica.target
    for database, side in ((source, "SOURCE"), (target, "TARGET")):
        database.execute(f"CREATE ROLE midway LOGIN PASSWORD '{SECRET}'")
        monkeypatch.setenv(f"XMIN_{side}_URL", database.url_as("midway", SECRET))
    source.execute("GRANT SELECT ON items TO midway")
    target.execute(
        "ALTER SCHEMA xmin_assets OWNER TO midway; ALTER TABLE xmin_assets.state OWNER TO midway;"
        "ALTER TABLE xmin_assets.history OWNER TO midway; ALTER TABLE items OWNER TO midway"
    )
    yield Guest(items)
    for database in (source, target):
        database.execute("REASSIGN OWNED BY midway TO postgres; DROP OWNED BY midway; DROP ROLE midway")


@pytest.mark.parametrize("place", ["after the snapshot", "after the extract", "after the stage"])
def test_a_right_at_the_source_that_is_revoked_is_named(guest: Guest, place: str) -> None:
    items = guest.items
    with happening(place, lambda: items.replica.source.execute("REVOKE SELECT ON items FROM midway")) as happened:
        result = guest.sync()

    assert happened.is_set()
    items.assert_whole()
    if place == "after the snapshot":
        assert result.status == "failed"
        assert "permission denied" in str(result.error)
        assert SECRET not in str(result.error)
    items.replica.source.execute("GRANT SELECT ON items TO midway")
    assert guest.sync().status == "success"
    items.assert_well()


@pytest.mark.parametrize("place", ["after the snapshot", "after the extract", "after the stage"])
def test_a_right_at_the_target_that_is_revoked_is_named(guest: Guest, place: str) -> None:
    items, target = guest.items, guest.items.replica.target
    with happening(place, lambda: target.execute("ALTER TABLE items OWNER TO postgres")) as happened:
        result = guest.sync()

    assert happened.is_set()
    assert result.status == "failed"
    assert "permission denied" in str(result.error)
    assert items.now() == items.before
    target.execute("ALTER TABLE items OWNER TO midway")
    assert guest.sync().status == "success"
    items.assert_well()


@pytest.mark.parametrize("place", ["after the snapshot", "after the extract", "after the stage"])
def test_a_source_table_that_is_dropped_leaves_the_copy_alone(items: Items, place: str) -> None:
    source = items.replica.source
    source.execute("CREATE TABLE kept AS TABLE items")
    with happening(place, lambda: source.execute("DROP TABLE items")) as happened:
        result = items.replica.try_sync(TABLE)

    assert happened.is_set()
    if place == "after the snapshot":
        assert result.status == "failed"
        assert "there is no such table" in str(result.error)
        assert items.now() == items.before
    source.execute("ALTER TABLE kept RENAME TO items; ALTER TABLE items ADD PRIMARY KEY (id)")
    items.sync()


@pytest.mark.parametrize("place", ["after the snapshot", "after the extract", "after the stage"])
def test_a_target_table_that_is_dropped_is_made_again(items: Items, place: str) -> None:
    with happening(place, lambda: items.replica.target.execute("DROP TABLE items")) as happened:
        result = items.replica.try_sync(TABLE)

    assert happened.is_set()
    assert result.status == "success", result.error
    items.assert_well()


@pytest.mark.parametrize("place", ["after the staged table was made", "after the stage"])
def test_a_staged_table_that_is_dropped_is_made_again(items: Items, place: str) -> None:
    target = items.replica.target

    def drop() -> None:
        for (name,) in target.fetch("SELECT relname FROM pg_class WHERE relname LIKE 'staged%%' AND relkind = 'r'"):
            target.execute(f"DROP TABLE xmin_assets.{name}")

    with happening(place, drop) as happened:
        result = items.replica.try_sync(TABLE)

    assert happened.is_set()
    assert result.status == "success", result.error
    items.assert_well()


def test_files_that_vanish_from_the_spool_are_written_again(items: Items) -> None:
    def empty() -> None:
        for path in items.replica.spool.rglob("*.csv*"):
            path.unlink()

    with happening("after the extract", empty) as happened:
        result = items.replica.try_sync(TABLE)

    assert happened.is_set()
    assert result.status == "success", result.error
    items.assert_well()
