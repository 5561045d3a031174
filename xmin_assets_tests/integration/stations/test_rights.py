"""The least rights that are promised are enough."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xmin_assets import sync_tables
from xmin_assets_tests.replica import Replica

SECRET = "p@ss/word"


@pytest.fixture
def roles(replica: Replica) -> Iterator[Replica]:
    """A role on each side that may do nothing yet, and a table."""
    for database in (replica.source, replica.target):
        database.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        database.execute(f"CREATE ROLE guest LOGIN PASSWORD '{SECRET}'")
    replica.source.execute("CREATE TABLE items (id int PRIMARY KEY, n int); INSERT INTO items VALUES (1, 1), (2, 2)")
    try:
        yield replica
    finally:
        for database in (replica.source, replica.target):
            database.execute("REASSIGN OWNED BY guest TO postgres; DROP OWNED BY guest; DROP ROLE guest")


def sync_as_guest(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.setenv("XMIN_SOURCE_URL", replica.source.url_as("guest", SECRET))
    monkeypatch.setenv("XMIN_TARGET_URL", replica.target.url_as("guest", SECRET))
    (result,) = sync_tables(replica.config({"source": "public.items", "target": "copies.items"})).tables
    return result.status, result.error or ""


def test_usage_and_select_are_enough_at_the_source_and_create_on_the_database_at_the_target(
    roles: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles.source.execute("GRANT USAGE ON SCHEMA public TO guest; GRANT SELECT ON items TO guest")
    roles.target.execute(f"GRANT CREATE ON DATABASE {roles.target.name} TO guest")

    assert sync_as_guest(roles, monkeypatch) == ("success", "")
    roles.source.execute("UPDATE items SET n = 9 WHERE id = 1; DELETE FROM items WHERE id = 2")
    assert sync_as_guest(roles, monkeypatch) == ("success", "")
    roles.assert_equal("public.items", "copies.items")


def test_schemas_made_by_an_administrator_spare_the_right_to_make_them(
    roles: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles.source.execute("GRANT USAGE ON SCHEMA public TO guest; GRANT SELECT ON items TO guest")
    roles.target.execute("CREATE SCHEMA xmin_assets AUTHORIZATION guest; CREATE SCHEMA copies AUTHORIZATION guest")

    assert sync_as_guest(roles, monkeypatch) == ("success", "")
    roles.assert_equal("public.items", "copies.items")


@pytest.mark.parametrize("missing", ["USAGE ON SCHEMA public", "SELECT ON items"])
def test_a_missing_right_at_the_source_is_named(roles: Replica, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    roles.source.execute("GRANT USAGE ON SCHEMA public TO guest; GRANT SELECT ON items TO guest")
    roles.source.execute(f"REVOKE {missing} FROM guest")
    roles.target.execute(f"GRANT CREATE ON DATABASE {roles.target.name} TO guest")

    status, error = sync_as_guest(roles, monkeypatch)

    assert status == "failed"
    assert "permission denied" in error
    assert SECRET not in error


def test_row_security_that_would_filter_is_an_error(roles: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    roles.source.execute("GRANT USAGE ON SCHEMA public TO guest; GRANT SELECT ON items TO guest")
    roles.source.execute("ALTER TABLE items ENABLE ROW LEVEL SECURITY; CREATE POLICY one ON items USING (id = 1)")
    roles.target.execute(f"GRANT CREATE ON DATABASE {roles.target.name} TO guest")

    status, error = sync_as_guest(roles, monkeypatch)

    assert status == "failed"
    assert "row-level security" in error
    assert roles.target.fetch("SELECT to_regclass('copies.items')") == [(None,)]
