"""Servers, databases and roles with other settings: what a session prints and reads is pinned."""

from __future__ import annotations

import pytest

from xmin_assets_tests.clusters import Database
from xmin_assets_tests.replica import Replica

SETTINGS = {
    "DateStyle": ("SQL, DMY", "German, MDY"),
    "IntervalStyle": ("sql_standard", "iso_8601"),
    "TimeZone": ("Asia/Kolkata", "America/St_Johns"),
    "extra_float_digits": ("-15", "0"),
    "bytea_output": ("escape", "hex"),
    "search_path": ("evil, public", "nowhere"),
    "client_encoding": ("LATIN1", "SQL_ASCII"),
    "xmloption": ("document", "content"),
    "array_nulls": ("off", "on"),
    "standard_conforming_strings": ("off", "on"),
    "transform_null_equals": ("on", "off"),
    "quote_all_identifiers": ("on", "on"),
    "row_security": ("on", "off"),
    "default_transaction_isolation": ("serializable", "repeatable read"),
    "default_transaction_read_only": ("off", "on"),
    "enable_tidscan": ("off", "on"),
    "statement_timeout": ("100", "100"),
    "lock_timeout": ("100", "100"),
    "idle_in_transaction_session_timeout": ("100", "100"),
    "jit_above_cost": ("0", "0"),
    "default_toast_compression": ("pglz", "pglz"),
}


@pytest.fixture
def hostile(replica: Replica) -> Replica:
    replica.source.execute(
        "CREATE SCHEMA evil; CREATE TYPE kind AS ENUM ('x', 'y'); CREATE TYPE pair AS (at timestamptz, part bytea);"
        "CREATE FUNCTION evil.age(xid) RETURNS int LANGUAGE sql AS 'SELECT 0';"
        "CREATE FUNCTION evil.never(int, int) RETURNS bool LANGUAGE sql AS 'SELECT false';"
        "CREATE OPERATOR evil.= (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.never);"
        "CREATE TABLE t (id int, ts timestamptz, plain timestamp, d date, i interval, f float8, r real, b bytea,"
        " n numeric, m money, a text[], kind kind, pair pair, t text, z timetz, spans tstzrange);"
        "ALTER TABLE t ADD PRIMARY KEY (id);"
        "INSERT INTO t SELECT i,"
        " '2026-02-03 04:05:06.789+00'::timestamptz + i * '1 day'::interval, '2026-03-02 01:02:03',"
        ""
        " '2026-05-04', '-1 year 2 days -03:04:05.6', 0.1 + i / 3.0, 1e-40, '\\x00ff5c27', 1234.5678, 12.34,"
        " ARRAY['NULL', NULL, 'a\\b'], 'y', ROW('2026-02-03 04:05:06+00', '\\x5c00')::pair, 'é \\ ''', '01:02:03+05',"
        " '[2026-01-02 03:04:05+00,)' FROM generate_series(1, 300) i"
    )
    for side, database in enumerate((replica.source, replica.target)):
        for name, values in SETTINGS.items():
            setting = f'"{name}"' if name != "search_path" else "search_path"
            value = values[side] if name == "search_path" else f"'{values[side]}'"
            database.execute(f"ALTER DATABASE {database.name} SET {setting} = {value}")
    return replica


def test_values_arrive_whatever_the_sessions_print_by_default(hostile: Replica) -> None:
    assert hostile.sync("public.t").rows_inserted == 300
    hostile.source.execute(
        "UPDATE public.t SET ts = ts + '1 hour', f = f / 3 WHERE id <= 10; DELETE FROM public.t WHERE id = 300"
    )

    result = hostile.sync("public.t")

    assert (result.rows_updated, result.rows_deleted) == (10, 1)
    assert pinned(hostile.target) == pinned(hostile.source)


def test_an_idle_sync_and_a_checksum_find_nothing_either(hostile: Replica) -> None:
    hostile.sync("public.t")
    with hostile.target.connect().cursor() as cursor:
        cursor.execute("BEGIN READ WRITE; SET LOCAL statement_timeout = 0")
        cursor.execute(
            "UPDATE xmin_assets.state SET facts = jsonb_set(facts, '{source_started}', '\"2026-01-01T00:00:00Z\"')"
        )
        cursor.execute("COMMIT")

    result = hostile.sync("public.t")

    assert (result.mode, result.rows_extracted) == ("xmin_incremental", 0)


def pinned(database: Database) -> list[tuple[object, ...]]:
    """All rows, printed by one session's settings on both sides."""
    connection = database.connect()
    connection.set_client_encoding("UTF8")
    with connection.cursor() as cursor:
        cursor.execute(
            "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL search_path = public; SET LOCAL TimeZone = 'UTC';"
            "SET LOCAL DateStyle = 'ISO'; SET LOCAL IntervalStyle = 'postgres'; SET LOCAL extra_float_digits = 3;"
            "SET LOCAL bytea_output = 'hex'; SET LOCAL idle_in_transaction_session_timeout = 0"
        )
        cursor.execute(
            "SELECT id, ts::text, plain::text, d::text, i::text, f::text, r::text, b::text, n::text, m::text, a::text,"
            " kind::text, pair::text, t, z::text, spans::text FROM public.t ORDER BY id"
        )
        rows = cursor.fetchall()
        cursor.execute("ROLLBACK")
        return rows
