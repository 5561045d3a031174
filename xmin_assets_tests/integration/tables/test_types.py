"""A value arrives as the same value: every family of PostgreSQL's own types, compared as the servers store it."""

from __future__ import annotations

import io

import psycopg2
import pytest
from psycopg2 import sql

from xmin_assets_tests.clusters import Database
from xmin_assets_tests.replica import Replica

LONGEST = "2562047788:00:54.775807"
"""An interval, as text. Servers before PostgreSQL 15 do not read it."""

FAMILIES: dict[str, tuple[str, list[str]]] = {
    "smallint": ("smallint", ["-32768", "0", "32767"]),
    "bigint": ("bigint", ["-9223372036854775808", "0", "9223372036854775807"]),
    "numeric": (
        "numeric",
        [
            "NaN", "Infinity", "-Infinity", "0", "-0.00", "1.0", "1.00", "1e131071", "-1e-16383",
            "123456789012345678901234567890.123456789012345678901234567890",
        ],
    ),
    "numeric with a scale": ("numeric(12,4)", ["NaN", "99999999.9999", "-0.0001"]),
    "numeric with a negative scale": ("numeric(3,-2)", ["12300", "-99900"]),
    "real": ("real", ["NaN", "Infinity", "-Infinity", "-0", "1e-45", "1.17549435e-38", "3.4028235e38", "0.1"]),
    "double precision": (
        "double precision",
        ["NaN", "Infinity", "-Infinity", "-0", "4.94e-324", "2.2250738585072014e-308", "1.7976931348623157e308",
         "0.1", "0.30000000000000004"],
    ),
    "money": ("money", ["-92233720368547758.08", "0", "92233720368547758.07", "1234.5"]),
    "boolean": ("boolean", ["true", "false"]),
    "text": (
        "text",
        ["", " ", "NULL", "null", "\\N", "\\.", "\\", "a\\tb", '"', '""', "'", "''", ",", ";", "|", "a,b", "a\nb",
         "a\rb",
         "a\r\nb", "\n", "\r", "\t", "\v\f\b", "\x01\x02\x1f\x7f", "%", "%s", "%(a)s", "{}", "$1", ":a", "--", "/*",
         "é", "日本語", "🐘", "a\u0301", "\u200b", "\ufeff", "\u2028", " trailing ", "EOF", "\\x00", "x" * 20_000],
    ),
    "varchar": ("varchar(10)", ["", "abcdefghij", "äöüäöüäöüä"]),
    "char": ("char(5)", ["", "ab", "     ", "abcde"]),
    '"char"': ('"char"', ["a", "", "\\377"]),
    "name": ("name", ["", "x" * 63]),
    "bytea": ("bytea", ["", "\\x00", "\\xff00fe", "\\x" + "00ff" * 5000]),
    "date": ("date", ["infinity", "-infinity", "4713-01-01 BC", "0001-12-31 BC", "0001-01-01", "5874897-12-31"]),
    "time": ("time", ["00:00", "24:00", "23:59:59.999999", "00:00:00.000001"]),
    "time with precision": ("time(0)", ["24:00", "12:34:56"]),
    "timetz": ("timetz", ["00:00+15:59", "24:00-15:59", "12:34:56.789012+05:30"]),
    "timestamp": (
        "timestamp",
        ["infinity", "-infinity", "4713-11-24 00:00:00 BC", "0044-03-15 12:00:00.000001 BC",
         "294276-12-31 23:59:59.999999", "2026-03-29 02:30:00", "1999-12-31 24:00"],
    ),
    "timestamptz": (
        "timestamptz",
        ["infinity", "-infinity", "4713-11-24 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00",
         "2026-10-25 02:30:00.123456+02", "1890-01-01 00:00:00+00:53:28"],
    ),
    "interval": (
        "interval",
        ["0", "-1 mons +2 days -03:04:05.678901", "178000000 years", "-178000000 years", "1 year 2 mons -3 days",
         "24:00",
         "-00:00:00.000001", LONGEST],
    ),
    "interval of months": ("interval year to month", ["1 year 2 mons", "-5 mons"]),
    "uuid": ("uuid", ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
    "inet": ("inet", ["0.0.0.0", "10.1.2.3/8", "::1", "2001:db8::ff00:42:8329/64", "::ffff:1.2.3.4"]),
    "cidr": ("cidr", ["10.0.0.0/8", "2001:db8::/32", "0.0.0.0/0"]),
    "macaddr": ("macaddr", ["08:00:2b:01:02:03"]),
    "macaddr8": ("macaddr8", ["08:00:2b:01:02:03:04:05"]),
    "bit": ("bit(5)", ["00000", "10101"]),
    "varbit": ("varbit", ["", "1", "0" * 100]),
    "json": ("json", ['{"a" : 1,  "a": 2}', "null", '""', '[1.0, 1e400, "\\u0041"]', " 1 "]),
    "jsonb": ("jsonb", ['{"a": 1, "b": [null, true, {"c": "\\"\\n,"}]}', "null", "123456789012345678901234567890.10"]),
    "jsonpath": ("jsonpath", ['$."a b"[*] ? (@.x > 1)']),
    "xml": ("xml", ['<a b="c">d &amp; e</a>', "text only", "<a/><b/>"]),
    "point": ("point", ["(0.1,-0)", "(NaN,Infinity)", "(1e300,4.94e-324)"]),
    "line": ("line", ["{1,-1,0.5}"]),
    "lseg": ("lseg", ["[(0,0),(1,1)]"]),
    "box": ("box", ["(1,1),(0,0)"]),
    "path": ("path", ["((0,0),(1,1))", "[(0,0),(1,1)]"]),
    "polygon": ("polygon", ["((0,0),(1,1),(1,0))"]),
    "circle": ("circle", ["<(0,0),0.1>"]),
    "tsvector": ("tsvector", ["'a':1A 'b c':2,3B 'it''s'", ""]),
    "tsquery": ("tsquery", ["'a' & !'b' <-> 'c':*", ""]),
    "pg_lsn": ("pg_lsn", ["0/0", "FFFFFFFF/FFFFFFFF"]),
    "pg_snapshot": ("pg_snapshot", ["10:20:10,14,15"]),
    "xid8": ("xid8", ["0", "18446744073709551615"]),
    "oid": ("oid", ["0", "4294967295"]),
    "int4range": ("int4range", ["empty", "(,)", "[1,5)", "(,2147483647)"]),
    "numrange": ("numrange", ["(1.0,1.00]", "[NaN,NaN]", "(,5)"]),
    "tstzrange": ("tstzrange", ["[-infinity,infinity]", '["2026-01-01 00:00:00+00",)', "empty"]),
    "datemultirange": ("datemultirange", ["{}", "{[2026-01-01,2026-02-01), [2026-03-01,)}"]),
    "integer[]": ("integer[]", ["{}", "{NULL}", "{{1,NULL},{3,4}}", "[0:2]={1,2,3}", "[-1:0][5:6]={{1,2},{3,4}}"]),
    "text[]": ("text[]", ['{"",NULL,"NULL","a,b","{}","\\"","\\\\"," ","a\nb"}', "{}", "{{{a},{b}}}"]),
    "timestamptz[]": ("timestamptz[]", ['{infinity,"2026-01-01 00:00:00+00",NULL}']),
    "numeric[]": ("numeric(6,2)[]", ["{NaN,1.50,NULL}"]),
    "jsonb[]": ("jsonb[]", ['{"{\\"a\\": [1, null]}",NULL,"null"}']),
    "bytea[]": ("bytea[]", ['{"\\\\x","\\\\x00ff",NULL}']),
    "int4range[]": ("int4range[]", ['{empty,"[1,3)",NULL}']),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_every_value_of_a_family_arrives_as_it_is_stored(replica: Replica, family: str) -> None:
    families = supported(replica)
    if family not in families:
        pytest.skip(f"one of these servers has no {family}")
    kind, values = families[family]
    replica.source.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {kind}, also {kind})")
    for number, value in enumerate([*values, None]):
        replica.source.execute(f"INSERT INTO t VALUES (%s, %s::{kind}, NULL)", (number, value))

    assert replica.sync("public.t").rows_inserted == len(values) + 1

    assert images(replica.target, kind) == images(replica.source, kind)
    replica.assert_equal("public.t")
    # A second full passage compares what is stored, and finds nothing to write.
    again = replica.sync({"source": "public.t", "mode": "full_sync"})
    assert (again.rows_updated, again.rows_inserted) == (0, 0)


def test_changed_values_of_all_families_arrive_too(replica: Replica) -> None:
    columns = [(f"c{number}", kind, values) for number, (kind, values) in enumerate(supported(replica).values())]
    replica.source.execute(
        sql.SQL("CREATE TABLE t (id int PRIMARY KEY, {})").format(
            sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind, _ in columns
            )
        )
    )
    replica.source.execute("INSERT INTO t (id) SELECT generate_series(1, 20)")
    replica.sync("public.t")

    for name, kind, values in columns:
        for number, value in enumerate(values[:20]):
            update = sql.SQL("UPDATE t SET {} = %s::{} WHERE id = %s").format(sql.Identifier(name), sql.SQL(kind))
            replica.source.execute(update, (value, number + 1))
    result = replica.sync("public.t")

    assert (result.mode, result.rows_updated) == ("xmin_incremental", 20)
    replica.assert_equal("public.t")


def test_values_of_50_mb_arrive(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, body text, raw bytea);"
        "INSERT INTO t SELECT 1, repeat(E'a\"b\\n', 10000000), decode(repeat('00ff', 12000000), 'hex')"
    )

    replica.sync("public.t")

    query = "SELECT length(body), md5(body), length(raw), md5(raw) FROM t"
    assert replica.target.fetch(query) == replica.source.fetch(query)


def test_a_row_that_is_empty_or_null_everywhere_arrives(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE t (a text PRIMARY KEY, b text, c bytea, d text[], e jsonb);"
        "INSERT INTO t VALUES ('', '', '', '{}', '{}'), ('x', NULL, NULL, NULL, NULL)"
    )

    replica.sync("public.t")

    replica.assert_equal("public.t")
    assert replica.target.fetch("SELECT b IS NULL, c IS NULL FROM t ORDER BY a") == [(False, False), (True, True)]


def test_generated_identity_and_serial_columns_are_copied_as_values(replica: Replica) -> None:
    ((version,),) = replica.source.fetch("SELECT current_setting('server_version_num')::int")
    virtual = "VIRTUAL" if version >= 180000 else "STORED"  # PostgreSQL 18 brought virtual ones
    replica.source.execute(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, s serial, d int DEFAULT 7 NOT NULL,"
        " stored int GENERATED ALWAYS AS (d * 2) STORED, virtual int GENERATED ALWAYS AS (d * 3) " + virtual + ");"
        "INSERT INTO t (d) VALUES (1), (2), (DEFAULT)"
    )

    replica.sync("public.t")
    replica.source.execute("UPDATE t SET d = 100 WHERE id = 2")
    replica.sync("public.t")

    replica.assert_equal("public.t")
    assert replica.target.fetch("SELECT stored, virtual FROM t WHERE id = 2") == [(200, 300)]
    assert replica.target.fetch(
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0"
        " AND (attidentity <> '' OR attgenerated <> '' OR atthasdef)"
    ) == [(0,)]


def test_a_collation_is_kept_where_the_target_knows_it(replica: Replica) -> None:
    replica.source.execute(
        'CREATE COLLATION ours FROM "C";'
        'CREATE TABLE t (id int PRIMARY KEY, a text COLLATE "C", b text COLLATE ours,'
        " c varchar(5)[] COLLATE ucs_basic);"
        "INSERT INTO t VALUES (1, 'a', 'b', '{c}')"
    )

    replica.sync("public.t")

    assert replica.target.fetch(
        "SELECT attname, (SELECT collname FROM pg_collation WHERE oid = attcollation) FROM pg_attribute"
        " WHERE attrelid = 't'::regclass AND attname IN ('a', 'b', 'c') ORDER BY 1"
    ) == [("a", "C"), ("b", "default"), ("c", "ucs_basic")]


def test_a_type_that_is_overridden_is_stored_as_what_it_prints(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TYPE mood AS ENUM ('ok');"
        "CREATE TABLE t (id int PRIMARY KEY, a mood, b jsonb, c regclass, d text);"
        "INSERT INTO t VALUES (1, 'ok', '{\"a\":1}', 'pg_class', '5')"
    )
    table = {"source": "public.t", "type_overrides": {"a": "text", "b": "json", "c": "text", "d": "numeric(5,1)"}}

    replica.sync(table)

    assert replica.target.fetch("SELECT a || '', b::text, c || '', d FROM t")[0][:3] == ("ok", '{"a": 1}', "pg_class")
    assert replica.target.fetch(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass"
        " AND attname IN ('a', 'b', 'c', 'd') ORDER BY attname"
    ) == [("text",), ("json",), ("text",), ("numeric(5,1)",)]


def test_an_override_that_comes_later_alters_the_column(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (id int PRIMARY KEY, a jsonb); INSERT INTO t VALUES (1, '[1]')")
    replica.sync("public.t")

    replica.sync({"source": "public.t", "type_overrides": {"a": "text"}})

    assert replica.target.fetch("SELECT a || '!' FROM t") == [("[1]!",)]


@pytest.mark.parametrize("wanted", ["no_such_type", "text; DROP TABLE t", "text -- x", "text /* x", ""])
def test_an_override_that_is_no_type_is_refused(replica: Replica, wanted: str) -> None:
    replica.source.execute("CREATE TABLE t (id int PRIMARY KEY, a jsonb)")

    result = replica.try_sync({"source": "public.t", "type_overrides": {"a": wanted}})

    assert result.status == "failed"
    assert "is no type" in (result.error or "")


def test_a_value_that_the_target_refuses_is_named_with_its_row_and_the_way_out(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE t (a int, b text, r regclass, PRIMARY KEY (a, b)); CREATE TABLE other ();"
        "INSERT INTO t VALUES (1, E'x\\ny', 'pg_class'), (2, E'odd \"key\",\\n', 'other')"
    )

    error = replica.try_sync("public.t").error or ""

    assert 'relation "public.other" does not exist' in error
    assert '(a, b)=(2, odd "key",' in error
    assert "type_overrides: {r: text}" in error
    replica.sync({"source": "public.t", "type_overrides": {"r": "text"}})


def supported(replica: Replica) -> dict[str, tuple[str, list[str]]]:
    """The families and values that both servers can store: xml is an option of the build, some are of PostgreSQL 15."""
    families = dict(FAMILIES)
    for database in (replica.source, replica.target):
        try:
            database.fetch("SELECT '<a/>'::xml")
        except psycopg2.errors.FeatureNotSupported:
            families.pop("xml", None)
        if database.connect().server_version < 150000:
            families.pop("numeric with a negative scale", None)
            kind, values = FAMILIES["interval"]
            families["interval"] = (kind, [value for value in values if value != LONGEST])
    return families


def images(database: Database, kind: str) -> bytes:
    """The column in the servers' binary form, which tells apart what prints alike."""
    out = io.BytesIO()
    with database.connect().cursor() as cursor:
        column = "v" if kind != "jsonpath" else "v::text"
        cursor.copy_expert(f"COPY (SELECT id, {column} FROM t ORDER BY id) TO STDOUT (FORMAT binary)", out)
    return out.getvalue()


def test_another_collation_at_the_source_is_the_targets_too(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t VALUES (1, 'a')")
    replica.sync("public.t")
    replica.source.execute('ALTER TABLE t ALTER a TYPE text COLLATE "C"')
    replica.sync("public.t")

    assert replica.target.fetch(
        "SELECT (SELECT collname FROM pg_collation WHERE oid = attcollation) FROM pg_attribute"
        " WHERE attrelid = 't'::regclass AND attname = 'a'"
    ) == [("C",)]


@pytest.mark.parametrize(
    ("wanted", "printed"),
    [
        ("varchar( 20 )", "character varying(20)"),
        ("timestamp (3)", "timestamp(3) without time zone"),
        ("timestamptz(0)", "timestamp(0) with time zone"),
        ("decimal(10, 2)", "numeric(10,2)"),
        ("varchar(5)[]", "character varying(5)[]"),
        ("varbit(7)", "bit varying(7)"),
        ("pg_catalog.time(2)", "time(2) without time zone"),
    ],
)
def test_an_overridden_type_is_what_the_catalog_calls_it(replica: Replica, wanted: str, printed: str) -> None:
    replica.source.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    replica.target.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {wanted})")

    replica.sync({"source": "public.t", "type_overrides": {"v": wanted}})

    (made,) = replica.target.fetch(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'v'"
    )
    assert made == (printed,)


def test_a_column_of_our_name_and_another_type_in_the_target_is_refused(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    replica.target.execute("CREATE TABLE t (id int PRIMARY KEY, source_xmin text)")

    assert "the one that xmin_assets adds is bigint" in (replica.try_sync("public.t").error or "")
    replica.sync({"source": "public.t", "xmin_column": "their_xmin"})
