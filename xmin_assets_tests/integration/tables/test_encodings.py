"""Databases of other encodings: text is converted, or the row that cannot be is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.replica import Replica


@pytest.fixture
def latin1(source_server: Cluster) -> Iterator[Database]:
    database = Database.create(source_server, "LATIN1")
    yield database
    database.drop()


@pytest.fixture
def any_bytes(source_server: Cluster) -> Iterator[Database]:
    database = Database.create(source_server, "SQL_ASCII")
    yield database
    database.drop()


def test_text_of_a_latin1_database_is_converted(latin1: Database, target_db: Database, tmp_path: Path) -> None:
    replica = Replica(latin1, target_db, tmp_path / "spool")
    latin1.execute(
        'CREATE TABLE "Tür" (id int PRIMARY KEY, "größe" text, many text[]);'
        """INSERT INTO "Tür" SELECT i, 'é' || chr(160 + i % 90), '{"ü,ß",NULL}' FROM generate_series(1, 500) i"""
    )
    replica.sync("public.Tür")
    latin1.execute("""UPDATE "Tür" SET "größe" = 'ÿ' WHERE id = 3; DELETE FROM "Tür" WHERE id = 4""")
    replica.sync("public.Tür")

    assert contents(target_db) == contents(latin1)


def test_a_restart_of_a_latin1_source_is_proven_equal_by_the_checksum(
    workshop: object, latin1: Database, target_db: Database, tmp_path: Path
) -> None:
    replica = Replica(latin1, target_db, tmp_path / "spool")
    latin1.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'é')")
    replica.sync("public.t")
    # As after a restart: the state has another start of the server than the one that answers.
    target_db.execute(
        "UPDATE xmin_assets.state SET facts = jsonb_set(facts, '{source_started}', '\"2026-01-01T00:00:00Z\"')"
    )

    result = replica.sync("public.t")

    assert result.mode == "xmin_incremental"
    assert "checksum" in (result.reason or "")
    assert "was restarted, and its rows are not" not in (result.reason or "")


@pytest.mark.parametrize("size", [1, 5000])
def test_bytes_that_are_no_utf8_are_refused_with_the_key_of_their_row(
    any_bytes: Database, target_db: Database, tmp_path: Path, size: int
) -> None:
    replica = Replica(any_bytes, target_db, tmp_path / "spool", {"workers": 2})
    any_bytes.execute(
        "CREATE TABLE t (id int, part text, a text, b text, PRIMARY KEY (id, part));"
        f"INSERT INTO t SELECT i, 'p', repeat('x', 1000), 'fine' FROM generate_series(1, {size}) i"
    )
    replica.sync("public.t")
    any_bytes.execute("UPDATE t SET b = convert_from('\\xe9', 'SQL_ASCII') WHERE id = 1")

    error = replica.try_sync("public.t").error or ""

    assert "invalid byte sequence" in error
    assert "column b" in error
    assert "(id, part)=(1, p)" in error
    any_bytes.execute("UPDATE t SET b = 'mended' WHERE id = 1")
    replica.sync("public.t")
    replica.assert_equal("public.t")


def test_a_key_that_is_no_utf8_itself_is_found_by_its_place(
    any_bytes: Database, target_db: Database, tmp_path: Path
) -> None:
    replica = Replica(any_bytes, target_db, tmp_path / "spool")
    any_bytes.execute(
        "CREATE TABLE t (id text PRIMARY KEY); INSERT INTO t VALUES ('a'), (convert_from('\\xff', 'SQL_ASCII'))"
    )

    error = replica.try_sync("public.t").error or ""

    assert "column id, in the row at ctid (0,2)" in error


def test_text_that_the_targets_encoding_lacks_is_refused_with_the_key_of_its_row(
    source_db: Database, target_server: Cluster, tmp_path: Path
) -> None:
    target = Database.create(target_server, "LATIN1")
    try:
        replica = Replica(source_db, target, tmp_path / "spool")
        source_db.execute(
            "CREATE TABLE t (id int PRIMARY KEY, v text);"
            "INSERT INTO t SELECT i, E'line\\nbreak é' FROM generate_series(1, 300) i;"
            "UPDATE t SET v = '€' WHERE id = 77"
        )

        error = replica.try_sync("public.t").error or ""

        assert 'has no equivalent in encoding "LATIN1"' in error
        assert "(id)=(77)" in error
        source_db.execute("UPDATE t SET v = 'ÿ' WHERE id = 77")
        replica.sync("public.t")
    finally:
        target.drop()


def contents(database: Database) -> list[tuple[object, ...]]:
    connection = database.connect()
    connection.set_client_encoding("UTF8")
    with connection.cursor() as cursor:
        cursor.execute('SELECT id, "größe", many::text FROM "Tür" ORDER BY id')
        return cursor.fetchall()
