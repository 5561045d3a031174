"""Types that get another name or schema at the source, under the columns that have them."""

from __future__ import annotations

import pytest

from xmin_assets_tests.replica import Replica

MOODS = """
CREATE SCHEMA other;
CREATE TYPE mood AS ENUM ('a', 'b', 'it''s c');
CREATE TABLE t (id int PRIMARY KEY, v mood);
INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'it''s c'), (4, NULL);
"""

TYPES = """
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
 WHERE attrelid = 't'::regclass AND attnum > 0 AND attname <> 'source_xmin' ORDER BY attnum
"""

KINDS = {
    "enum": ("AS ENUM ('x', 'y')", "kind", "x"),
    "array of enums": ("AS ENUM ('x', 'y')", "kind[]", "{x,NULL,y}"),
    "composite": ("AS (a int, b text)", "kind", '(1,"say ""x"", y")'),
}

RENAMES = {
    "renamed": "ALTER TYPE kind RENAME TO sort",
    "moved": "CREATE SCHEMA other; ALTER TYPE kind SET SCHEMA other",
    "schema renamed": "ALTER SCHEMA kinds RENAME TO sorts",
}


@pytest.fixture
def moods(replica: Replica) -> Replica:
    replica.source.execute(MOODS)
    replica.sync("public.t")
    return replica


@pytest.mark.parametrize("rename", RENAMES.values(), ids=[*RENAMES])
@pytest.mark.parametrize(("made", "type_", "value"), KINDS.values(), ids=[*KINDS])
def test_a_type_of_any_kind_is_followed_and_only_new_rows_are_read(
    replica: Replica, made: str, type_: str, value: str, rename: str
) -> None:
    schema = "kinds" if "SCHEMA kinds" in rename else "public"
    replica.source.execute(f"CREATE SCHEMA kinds; CREATE TYPE {schema}.kind {made}")
    replica.source.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {schema}.{type_})")
    replica.source.execute("INSERT INTO t SELECT 1, %s; INSERT INTO t VALUES (2, NULL)".replace("%s", f"'{value}'"))
    replica.sync("public.t")
    replica.source.execute(rename)
    replica.source.execute("INSERT INTO t SELECT 3, v FROM t WHERE id = 1")

    result = replica.sync("public.t")

    assert (result.mode, result.rows_extracted) == ("xmin_incremental", 1)
    replica.assert_equal("public.t")
    assert replica.target.fetch(TYPES) == replica.source.fetch(TYPES)
    assert replica.sync("public.t").rows_extracted == 0


def test_a_domain_is_followed(replica: Replica) -> None:
    replica.source.execute('CREATE DOMAIN mail AS varchar(9) COLLATE "C"; CREATE TABLE t (id int PRIMARY KEY, v mail)')
    replica.source.execute("INSERT INTO t VALUES (1, 'a@b'), (2, NULL)")
    replica.sync("public.t")
    replica.source.execute("ALTER DOMAIN mail RENAME TO email; INSERT INTO t VALUES (3, 'c@d')")

    assert replica.sync("public.t").rows_extracted == 1
    replica.assert_equal("public.t")
    assert replica.target.fetch(TYPES) == replica.source.fetch(TYPES)


def test_a_range_whose_multirange_keeps_its_name_is_to_be_renamed_in_the_target_too(replica: Replica) -> None:
    replica.source.execute("CREATE TYPE span AS RANGE (SUBTYPE = float8); CREATE TABLE t (id int PRIMARY KEY, v span)")
    replica.source.execute("INSERT INTO t VALUES (1, '[1,2.5)')")
    replica.sync("public.t")
    replica.source.execute("ALTER TYPE span RENAME TO stretch; INSERT INTO t VALUES (2, 'empty')")

    error = str(replica.plan("public.t").error)
    assert 'type "span_multirange" already exists. If the type was renamed at the source, rename it in the' in error
    replica.target.execute("ALTER TYPE span RENAME TO stretch")

    replica.sync("public.t")
    replica.assert_equal("public.t")
    assert replica.target.fetch(TYPES) == replica.source.fetch(TYPES)


def test_labels_that_are_renamed_along_with_their_type_are_followed(moods: Replica) -> None:
    moods.source.execute("ALTER TYPE mood RENAME TO feeling")
    for rename in ("'a' TO 'tmp'", "'b' TO 'a'", "'tmp' TO 'b'", "'it''s c' TO 'd'"):
        moods.source.execute(f"ALTER TYPE feeling RENAME VALUE {rename}")
    moods.source.execute("ALTER TYPE feeling ADD VALUE 'it''s c'")

    moods.sync("public.t")

    moods.assert_equal("public.t")
    assert moods.target.fetch(TYPES) == moods.source.fetch(TYPES)


def test_labels_of_an_array_that_are_renamed_along_with_the_type_are_refused_by_the_plan(moods: Replica) -> None:
    moods.source.execute("ALTER TABLE t ADD w mood[] DEFAULT '{a}'")
    moods.sync("public.t")
    moods.source.execute("ALTER TYPE mood RENAME TO feeling; ALTER TYPE feeling RENAME VALUE 'a' TO 'z'")

    planned = moods.plan("public.t")

    assert "the column w is public.feeling[] at the source now and public.mood[] in the target" in str(planned.error)


def test_a_new_type_may_have_the_name_that_another_one_had(moods: Replica) -> None:
    moods.source.execute("ALTER TYPE mood RENAME TO feeling; CREATE TYPE mood AS ENUM ('x', 'a')")
    moods.source.execute("ALTER TABLE t ADD w mood DEFAULT 'x'")

    moods.sync("public.t")

    moods.assert_equal("public.t")
    assert moods.target.fetch(TYPES) == moods.source.fetch(TYPES)


def test_types_that_swap_their_names_are_followed(moods: Replica) -> None:
    moods.source.execute("CREATE TYPE feeling AS ENUM ('x', 'a'); ALTER TABLE t ADD w feeling DEFAULT 'x'")
    moods.sync("public.t")
    for rename in ("mood RENAME TO tmp", "feeling RENAME TO mood", "tmp RENAME TO feeling"):
        moods.source.execute(f"ALTER TYPE {rename}")

    moods.sync("public.t")

    moods.assert_equal("public.t")
    assert moods.target.fetch(TYPES) == moods.source.fetch(TYPES)


def test_a_type_in_the_key_is_followed(replica: Replica) -> None:
    replica.source.execute("CREATE TYPE kind AS ENUM ('x', 'y'); CREATE TABLE t (k kind, n int, PRIMARY KEY (k, n))")
    replica.source.execute("INSERT INTO t SELECT 'x', i FROM generate_series(1, 50) i")
    replica.sync("public.t")
    replica.source.execute("ALTER TYPE kind RENAME TO sort")
    replica.source.execute("DELETE FROM t WHERE n < 3; UPDATE t SET k = 'y' WHERE n = 7")

    assert replica.sync("public.t").mode == "full_sync"
    replica.assert_equal("public.t")


def test_a_column_that_somebody_made_text_in_the_target_is_left_so(moods: Replica) -> None:
    moods.target.execute("ALTER TABLE t ALTER v TYPE text")
    moods.source.execute("ALTER TYPE mood RENAME TO feeling; INSERT INTO t VALUES (9, 'a')")

    result = moods.try_sync("public.t")

    assert result.status == "failed"
    assert "PostgreSQL does not convert the one into the other by itself" in str(result.error)
