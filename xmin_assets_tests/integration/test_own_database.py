"""What the other tests rest on: databases of their own, and nothing of the machine."""

from __future__ import annotations

import os
from pathlib import Path

from xmin_assets_tests.clusters import Database


def test_source_and_target_are_two_servers_with_empty_databases(source_db: Database, target_db: Database) -> None:
    identifier = "SELECT system_identifier FROM pg_control_system()"
    assert source_db.fetch(identifier) != target_db.fetch(identifier)
    tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert source_db.fetch(tables) == target_db.fetch(tables) == [(0,)]


def test_execute_counts_rows_and_commits(source_db: Database) -> None:
    source_db.execute("CREATE TABLE t (id int)")
    assert source_db.execute("INSERT INTO t SELECT generate_series(1, %s)", (3,)) == 3
    with source_db.connect().cursor() as cursor:
        cursor.execute("SELECT count(*) FROM t")
        assert cursor.fetchone() == (3,)


def test_dropping_ends_the_connections_of_others(source_server) -> None:
    database = Database.create(source_server)
    database.connect()
    stranger = source_server.connect(database.name)
    database.drop()
    with source_server.connect() as connected, connected.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_database WHERE datname = %s", (database.name,))
        assert cursor.fetchone() == (0,)
    connected.close()
    stranger.close()


def test_no_setting_of_the_machine_is_seen() -> None:
    assert not [name for name in os.environ if name.startswith(("PG", "DAGSTER_", "XMIN_SOURCE", "XMIN_T"))]
    assert not list(Path.cwd().iterdir())
