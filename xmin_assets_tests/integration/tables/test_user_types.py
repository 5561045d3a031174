"""Types that users and extensions have made: created in the target, compared, and grown with the source's."""

from __future__ import annotations

import pytest

from xmin_assets import parse_config, plan_tables, sync_tables
from xmin_assets_tests.replica import Replica

KIN = """
CREATE SCHEMA "My Types";
CREATE TYPE "My Types"."mo""od" AS ENUM ('sad', 'it''s ok', 'happy');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN email AS varchar(60) COLLATE "C" NOT NULL;
CREATE TYPE span AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = float8mi, MULTIRANGE_TYPE_NAME = spans);
CREATE TYPE address AS (street text COLLATE "C", number positive, moods "My Types"."mo""od"[]);
CREATE TYPE place AS (name varchar(20), at address, area span);
CREATE TABLE t (
    id int PRIMARY KEY, mood "My Types"."mo""od", moods "My Types"."mo""od"[], amount positive, amounts positive[],
    mail email, home address, homes address[], spot place, span span, spans spans, range_of_array span[]
);
INSERT INTO t VALUES (
    1, 'it''s ok', '{happy,NULL,sad}', 5, '{1,2}', 'a@b', ROW('Main, "St."', 3, '{happy}'),
    ARRAY[ROW('x', 1, NULL)::address, NULL], ROW('n', ROW(NULL, 7, '{}'), '[1,2.5)'), '(,3]', '{[1,2),[5,6)}', '{empty}'
), (2, NULL, '{}', NULL, NULL, '', NULL, '{}', NULL, 'empty', '{}', NULL);
"""

TYPES = """
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
 WHERE attrelid = 't'::regclass AND attnum > 0 AND attname <> 'source_xmin' ORDER BY attnum
"""


@pytest.fixture
def kin(replica: Replica) -> Replica:
    replica.source.execute(KIN)
    return replica


def test_types_of_every_kind_are_made_in_the_target_with_what_they_are_made_of(kin: Replica) -> None:
    kin.sync("public.t")
    kin.source.execute("UPDATE t SET spot.name = 'other', moods = moods || moods WHERE id = 1")
    kin.sync("public.t")

    kin.assert_equal("public.t")
    assert kin.target.fetch(TYPES) == kin.source.fetch(TYPES)


def test_a_plan_shows_how_types_are_made(kin: Replica) -> None:
    planned = kin.plan("public.t").snapshot
    assert planned is not None

    assert planned.plan.statements[0] == 'CREATE SCHEMA "My Types"'
    assert planned.plan.statements[1] == ("""CREATE TYPE "My Types"."mo""od" AS ENUM ('sad', 'it''s ok', 'happy')""")
    for statement in planned.plan.statements:
        kin.target.execute(statement)
    kin.sync("public.t")
    kin.assert_equal("public.t")


def test_labels_that_an_enum_gets_are_added_where_they_are_at_the_source(kin: Replica) -> None:
    kin.sync("public.t")
    kin.source.execute("""ALTER TYPE "My Types"."mo""od" ADD VALUE 'worst' BEFORE 'sad';""")
    kin.source.execute("""ALTER TYPE "My Types"."mo""od" ADD VALUE 'so, so' AFTER 'sad'""")
    kin.source.execute("""ALTER TYPE "My Types"."mo""od" ADD VALUE 'best'""")
    kin.source.execute("UPDATE t SET mood = 'so, so', moods = '{worst,best}' WHERE id = 2")

    result = kin.sync("public.t")

    assert (result.mode, result.rows_updated) == ("xmin_incremental", 1)
    kin.assert_equal("public.t")
    labels = """SELECT enumlabel FROM pg_enum WHERE enumtypid = '"My Types"."mo""od"'::regtype ORDER BY enumsortorder"""
    assert kin.target.fetch(labels) == kin.source.fetch(labels)


def test_an_enum_in_the_key_grows_before_keys_are_compared(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TYPE kind AS ENUM ('a', 'b'); CREATE TABLE t (k kind, n int, PRIMARY KEY (k, n));"
        "INSERT INTO t SELECT 'a', i FROM generate_series(1, 50) i"
    )
    replica.sync("public.t")
    replica.source.execute("ALTER TYPE kind ADD VALUE 'c'")
    replica.source.execute("INSERT INTO t VALUES ('c', 1); DELETE FROM t WHERE n = 7")

    result = replica.sync("public.t")

    assert (result.rows_inserted, result.rows_deleted) == (1, 1)
    replica.assert_equal("public.t")


def test_a_renamed_label_is_renamed_and_no_row_is_copied(kin: Replica) -> None:
    kin.sync("public.t")
    kin.source.execute("""ALTER TYPE "My Types"."mo""od" RENAME VALUE 'happy' TO 'glad'""")

    assert kin.sync("public.t").rows_extracted == 0
    kin.assert_equal("public.t")


def test_an_attribute_that_a_composite_gets_loses_or_renames_is_followed(kin: Replica) -> None:
    kin.sync("public.t")
    kin.source.execute(
        "ALTER TYPE address ADD ATTRIBUTE zip int; ALTER TYPE address RENAME ATTRIBUTE street TO road;"
        "ALTER TYPE address DROP ATTRIBUTE number; UPDATE t SET home.zip = 5 WHERE id = 1"
    )

    kin.sync("public.t")

    kin.assert_equal("public.t")


def test_types_that_are_there_are_compared(kin: Replica) -> None:
    kin.target.execute("CREATE DOMAIN positive AS bigint")

    error = kin.try_sync("public.t").error or ""

    assert "the type public.positive is a domain of integer at the source and of bigint in the target" in error
    assert "type_overrides" in error
    assert kin.target.fetch("SELECT to_regtype('address')") == [(None,)]


def test_a_type_of_the_same_name_and_another_kind_is_refused(kin: Replica) -> None:
    kin.target.execute("CREATE DOMAIN span AS text")

    assert "a range at the source and a domain in the target" in (kin.try_sync("public.t").error or "")


def test_types_change_only_if_schema_changes_are_applied(kin: Replica) -> None:
    kin.sync("public.t")
    kin.source.execute("""ALTER TYPE "My Types"."mo""od" ADD VALUE 'new'""")

    error = kin.try_sync({"source": "public.t", "schema_changes": "fail"}).error or ""

    assert "ADD VALUE 'new'" in error
    assert "schema_changes is 'fail'" in error


def test_the_row_type_of_a_table_has_a_way_out(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE other (a int, b text); CREATE TABLE t (id int PRIMARY KEY, r other);"
        "INSERT INTO t VALUES (1, ROW(1, 'x'))"
    )

    assert "row type of a table" in (replica.try_sync("public.t").error or "")
    replica.sync({"source": "public.t", "type_overrides": {"r": "text"}})
    assert replica.target.fetch("SELECT r FROM t") == [("(1,x)",)]


def test_a_role_that_may_not_make_a_type_is_told_the_statement(kin: Replica) -> None:
    kin.target.execute(
        "CREATE SCHEMA xmin_assets; CREATE ROLE shy LOGIN PASSWORD 'shy'; ALTER SCHEMA xmin_assets OWNER TO shy"
    )
    try:
        config = kin.config("public.t").model_dump() | {"target": kin.target.url_as("shy", "shy")}
        config = parse_config({**config, "source": kin.source.url})
        (planned,) = plan_tables(config)
        assert 'Run, as a role that may: CREATE SCHEMA "My Types"' in (planned.error or "")
        assert [result.error for result in sync_tables(config).tables] == [planned.error]
    finally:
        kin.target.execute("DROP SCHEMA xmin_assets CASCADE; DROP ROLE shy")


EXTENSIONS = {
    "citext": ("citext", "'Ab'", "'aB'"),
    "hstore": ("hstore", """'a=>1, "b c"=>NULL'""", "'x=>y'"),
    "ltree": ("ltree", "'Top.Science'", "'Top'"),
    "cube": ("cube", "'(1,2),(3,4)'", "'(0)'"),
    "isn": ("isbn13", "'9780262201629'", "'9780596513986'"),
}


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("installed", ["not yet", "in another schema"])
def test_types_of_extensions_are_the_extensions_in_the_target(replica: Replica, extension: str, installed: str) -> None:
    kind, one, two = EXTENSIONS[extension]
    require(replica, extension)
    replica.source.execute(
        f"CREATE SCHEMA ext; CREATE EXTENSION {extension} SCHEMA ext;"
        f"CREATE DOMAIN d AS ext.{kind}; CREATE TYPE c AS (a ext.{kind}, b d);"
        f"CREATE TABLE t (id int PRIMARY KEY, v ext.{kind}, many ext.{kind}[], d d, c c);"
        f"INSERT INTO t VALUES (1, {one}, ARRAY[{one}, NULL]::ext.{kind}[], {two}, ROW({one}, {two})),"
        f" (2, {two}, NULL, NULL, NULL)"
    )
    if installed != "not yet":
        replica.target.execute(f'CREATE SCHEMA "other place"; CREATE EXTENSION {extension} SCHEMA "other place"')

    replica.sync("public.t")
    replica.source.execute("UPDATE t SET v = NULL WHERE id = 2")
    replica.sync("public.t")

    replica.assert_equal("public.t")
    (where,) = replica.target.fetch(
        "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = %s", (extension,)
    )
    assert where == ("ext",) if installed == "not yet" else ('"other place"',)


def test_citext_as_a_key_is_compared_by_its_own_operators(replica: Replica) -> None:
    require(replica, "citext")
    replica.source.execute(
        "CREATE EXTENSION citext; CREATE TABLE t (k citext PRIMARY KEY, v int);"
        "INSERT INTO t VALUES ('Key', 1), ('b', 2)"
    )
    replica.sync("public.t")
    replica.source.execute("UPDATE t SET k = 'KEY' WHERE k = 'key'; DELETE FROM t WHERE k = 'B'")

    result = replica.sync("public.t")

    assert (result.rows_updated, result.rows_inserted, result.rows_deleted) == (1, 0, 1)
    replica.assert_equal("public.t")


def test_an_extension_that_the_targets_server_lacks_is_named(replica: Replica) -> None:
    # An extension of this name is on no server; the source has a type that belongs to it all the same.
    require(replica, "citext")
    replica.source.execute(
        "CREATE EXTENSION citext; CREATE TABLE t (id int PRIMARY KEY, v citext);"
        "UPDATE pg_extension SET extname = 'only_here' WHERE extname = 'citext'"
    )

    error = replica.try_sync("public.t").error or ""

    assert "needs the extension only_here, which is not installed on its server" in error
    replica.sync({"source": "public.t", "type_overrides": {"v": "text"}})


def test_an_extension_that_the_role_may_not_create_is_named_with_the_statement(replica: Replica) -> None:
    require(replica, "pageinspect")
    require(replica, "isn")
    replica.source.execute("CREATE EXTENSION isn; CREATE TABLE t (id int PRIMARY KEY, v isbn)")
    replica.target.execute("CREATE ROLE shy LOGIN PASSWORD 'shy'; GRANT CREATE ON SCHEMA public TO shy")
    try:
        config = replica.config("public.t").model_dump()
        (result,) = sync_tables(
            parse_config({**config, "source": replica.source.url, "target": replica.target.url_as("shy", "shy")})
        ).tables
        assert 'as a superuser: CREATE EXTENSION "isn" SCHEMA "public" CASCADE' in (result.error or "")
    finally:
        replica.target.execute("REVOKE ALL ON SCHEMA public FROM shy; DROP ROLE shy")


def require(replica: Replica, extension: str) -> None:
    if not replica.source.fetch("SELECT FROM pg_available_extensions WHERE name = %s", (extension,)):
        pytest.skip(f"this server comes without the extension {extension}")
