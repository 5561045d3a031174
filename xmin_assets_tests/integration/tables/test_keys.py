"""What identifies a row: found or named, checked, compared by the equality of its type, there and gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from xmin_assets import sync_tables
from xmin_assets.postgres.catalog import Attribute
from xmin_assets.replication.schema.selection import with_proven_key
from xmin_assets_tests.integration.ledger import counts
from xmin_assets_tests.replica import Replica

INSENSITIVE = "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"

# Type of the key, and what gives its nth value: 1 to 8 are there, 1 is updated, 2 deleted, 9 inserted.
TYPES = {
    "uuid": "uuid '00000000-0000-0000-0000-00000000000{}'",
    "numeric": "{}.00::numeric",
    "timestamptz": "timestamptz '2026-01-01 00:00:00+00' + interval '{} microseconds'",
    "date": "date '2026-01-01' + {}",
    "time": "time '10:00' + interval '{} microseconds'",
    "interval": "interval '{} days'",
    "bytea": r"'\x000{}'::bytea",
    "inet": "inet '10.0.0.{}/8'",
    "macaddr": "macaddr '08:00:2b:01:02:0{}'",
    "float8": "{}::float8 / 3",
    'text COLLATE "C"': "'ä' || {}",
    "char(5)": "{}::text",
    "varchar(9)": "' ' || {} || ' '",
    "mood": "(enum_range(NULL::mood))[{}]",
    "int4range": "int4range({0}, {0} + 1)",
    "int[]": "ARRAY[{}, NULL]",
    "jsonb": "jsonb_build_object('k', {})",
}


@pytest.fixture
def insensitive(replica: Replica) -> Replica:
    """With the collation ci at the source, by which letters of either case are the same."""
    for database in (replica.source, replica.target):
        if database.fetch("SELECT count(*) FROM pg_collation WHERE collprovider = 'i' AND collname LIKE '%icu'") == [
            (0,)
        ]:
            pytest.skip("a server was built without ICU")
    replica.source.execute(INSENSITIVE)
    return replica


def key_of(replica: Replica, table: str = "t") -> list[tuple[Any, ...]]:
    """The target's primary key."""
    return replica.target.fetch(
        f"SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p' AND conrelid = '{table}'::regclass"
    )


def test_key_of_any_type_that_has_an_order(replica: Replica) -> None:
    replica.source.execute("CREATE TYPE mood AS ENUM ('z', 'b', 'a', 'c', 'q', 'd', 'y', 'x', 'e')")
    values = {f"t{n}": [text.format(number) for number in range(1, 10)] for n, text in enumerate(TYPES.values())}
    for name, kind in zip(values, TYPES, strict=True):
        replica.source.execute(f"CREATE TABLE {name} (k {kind} PRIMARY KEY, v int)")
        for value in values[name][:8]:
            replica.source.execute(f"INSERT INTO {name} VALUES ({value}, 0)")
    config = replica.config(*[f"public.{name}" for name in values])
    sync_tables(config)
    for name, (first, second, *_, ninth) in values.items():
        replica.source.execute(f"UPDATE {name} SET v = 1 WHERE k = {first}; DELETE FROM {name} WHERE k = {second}")
        replica.source.execute(f"INSERT INTO {name} VALUES ({ninth}, 0)")

    results = sync_tables(config).tables

    assert [result.error for result in results] == [None] * len(TYPES)
    assert {counts(result) for result in results} == {(2, 1, 1, 1)}
    for name in values:
        replica.assert_equal(f"public.{name}")


def test_key_that_is_equal_by_the_source_alone_is_a_new_one_in_the_target(insensitive: Replica) -> None:
    """The target does not know the collation: there "Bern" and "BERN" are two keys."""
    insensitive.source.execute(
        "CREATE TABLE t (k text COLLATE ci PRIMARY KEY, v int); INSERT INTO t VALUES ('Bern', 0)"
    )
    insensitive.sync("public.t")
    insensitive.source.execute("UPDATE t SET k = 'BERN' WHERE k = 'bern'; INSERT INTO t VALUES ('Wien', 0)")

    assert counts(insensitive.sync("public.t")) == (2, 2, 0, 1)
    insensitive.assert_equal("public.t")


def test_key_that_stays_equal_and_is_written_otherwise_stays_one_row(insensitive: Replica) -> None:
    insensitive.target.execute(INSENSITIVE)
    insensitive.source.execute(
        "CREATE TABLE t (k text COLLATE ci, n numeric, v int, PRIMARY KEY (k, n));"
        "INSERT INTO t VALUES ('Bern', 1.0, 0), ('Wien', 2, 0)"
    )
    insensitive.sync("public.t")
    insensitive.source.execute("UPDATE t SET k = 'BERN', n = 1.00 WHERE k = 'bern'")

    assert counts(insensitive.sync("public.t")) == (1, 0, 1, 0)
    insensitive.assert_equal("public.t")


def test_a_target_whose_collation_takes_two_of_the_sources_keys_for_one_is_refused(insensitive: Replica) -> None:
    insensitive.source.execute("CREATE TABLE t (k text PRIMARY KEY); INSERT INTO t VALUES ('a'), ('A')")
    insensitive.target.execute(INSENSITIVE)
    insensitive.target.execute("CREATE TABLE t (k text COLLATE ci PRIMARY KEY)")

    error = insensitive.try_sync("public.t").error or ""

    assert "(k)=" in error
    assert insensitive.target.fetch("SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("", 'COLLATE "C"'),
        ('COLLATE "C"', "COLLATE ucs_basic"),
        ("COLLATE ucs_basic", ""),
        ("", 'COLLATE "POSIX"'),
    ],
)
def test_an_adopted_target_may_have_another_collation_than_the_source(replica: Replica, there: str, here: str) -> None:
    replica.source.execute(f"CREATE TABLE t (k text {there} PRIMARY KEY, v int)")
    replica.target.execute(f"CREATE TABLE t (k text {here} PRIMARY KEY, v int)")
    replica.target.execute("INSERT INTO t VALUES ('ä1', 0), ('x', 0)")
    replica.source.execute("INSERT INTO t SELECT unnest('{ä1,B2,a3,Z4,z5,é6}'::text[]), 0")
    table = {"source": "public.t", "adopt": True}
    replica.sync(table)
    replica.assert_equal("public.t")
    replica.source.execute("UPDATE t SET v = 1 WHERE k < 'ä'; DELETE FROM t WHERE k = 'Z4'")
    replica.source.execute("UPDATE t SET k = 'A3' WHERE k = 'a3'; INSERT INTO t VALUES ('ß7', 0)")

    replica.sync(table)

    replica.assert_equal("public.t")


def test_the_primary_key_goes_before_unique_constraints(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (a int NOT NULL UNIQUE, b int, c int, PRIMARY KEY (c, b))")

    replica.sync("public.t")

    assert key_of(replica) == [("PRIMARY KEY (c, b)",)]


@pytest.mark.parametrize(
    "not_a_key",
    [
        "UNIQUE (a)",  # may be NULL
        "EXCLUDE USING gist (r WITH &&)",
        "CHECK (b > 0)",
    ],
)
def test_what_may_be_null_or_repeat_is_no_key(replica: Replica, not_a_key: str) -> None:
    replica.source.execute(f"CREATE TABLE t (a int, b int NOT NULL, r int4range, {not_a_key})")
    replica.source.execute("CREATE UNIQUE INDEX ON t (b) WHERE a > 0; CREATE UNIQUE INDEX ON t (abs(b))")

    error = replica.try_sync("public.t").error or ""

    assert "no primary key" in error
    assert "key: [a, b]" in error and "mode: full_sync" in error


def test_columns_that_an_index_only_includes_are_not_of_the_key(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (a int NOT NULL, b int NOT NULL); CREATE UNIQUE INDEX ON t (b) INCLUDE (a)")

    replica.sync("public.t")

    assert key_of(replica) == [("PRIMARY KEY (b)",)]


def test_a_named_key_serves_where_the_table_has_none(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE t (a int, b text, v int); INSERT INTO t SELECT i / 3, i % 3, i FROM generate_series(1, 30) i"
    )
    table = {"source": "public.t", "key": ["a", "b"]}
    replica.sync(table)
    replica.source.execute(
        "UPDATE t SET v = 0 WHERE v = 5; DELETE FROM t WHERE v = 6; INSERT INTO t VALUES (99, '', 1)"
    )

    assert counts(replica.sync(table)) == (2, 1, 1, 1)
    replica.assert_equal("public.t")
    assert key_of(replica) == [("PRIMARY KEY (a, b)",)]


@pytest.mark.parametrize(
    ("row", "example"),
    [
        ("(1, 'x', 2)", "(a, b)=(1, x)"),
        ("(NULL, 'y', 2)", "(a, b, v)=(NULL, y, 2)"),
        ("(3, NULL, 2)", "(a, b, v)=(3, NULL, 2)"),
    ],
)
@pytest.mark.parametrize("later", [False, True])
def test_a_named_key_that_repeats_or_is_null_is_refused_with_an_example(
    replica: Replica, row: str, example: str, later: bool
) -> None:
    replica.source.execute("CREATE TABLE t (a int, b text, v int); INSERT INTO t VALUES (1, 'x', 1)")
    table = {"source": "public.t", "key": ["a", "b"]}
    if later:
        replica.sync(table)
    replica.source.execute(f"INSERT INTO t VALUES {row}")

    error = replica.try_sync(table).error or ""

    assert "the key (a, b) does not identify its rows" in error
    assert example in error
    if later:
        assert replica.target.fetch("SELECT a, b, v FROM t") == [(1, "x", 1)]


def test_a_row_that_repeats_the_key_of_one_that_has_not_changed_is_refused(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (a int, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 100) i")
    table = {"source": "public.t", "key": "a"}
    replica.sync(table)
    replica.source.execute("INSERT INTO t VALUES (50, 0)")

    error = replica.try_sync(table).error or ""

    assert "the key (a) does not identify its rows" in error
    assert "(a)=(50)" in error


def test_another_named_key_is_followed(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE t (a int PRIMARY KEY, b int NOT NULL UNIQUE);"
        "INSERT INTO t SELECT i, -i FROM generate_series(1, 9) i"
    )
    replica.sync("public.t")
    # By the old key nothing is to be recognised any more: the values of a go round.
    replica.source.execute("BEGIN; ALTER TABLE t DROP CONSTRAINT t_pkey; UPDATE t SET a = 1 + a % 9; COMMIT")

    result = replica.sync({"source": "public.t", "key": "b"})

    assert "the key is now b" in (result.reason or "")
    replica.assert_equal("public.t")
    assert key_of(replica) == [("PRIMARY KEY (b)",)]


def test_a_key_that_used_to_repeat_and_to_be_null(replica: Replica) -> None:
    """The rows that the target has cannot be told apart by it."""
    replica.source.execute("CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t VALUES (1, 1), (2, 1), (3, NULL)")
    replica.sync("public.t")
    replica.source.execute("UPDATE t SET b = a; ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (b)")

    assert counts(replica.sync("public.t")) == (3, 3, 0, 3)
    replica.assert_equal("public.t")
    assert key_of(replica) == [("PRIMARY KEY (b)",)]


@pytest.mark.parametrize("deletes", ["hard", "soft", "ignore"])
def test_a_former_key_may_become_null(replica: Replica, deletes: str) -> None:
    replica.source.execute(
        "CREATE TABLE t (a int PRIMARY KEY, b int NOT NULL UNIQUE);"
        "INSERT INTO t SELECT i, -i FROM generate_series(1, 9) i"
    )
    table = {"source": "public.t", "deletes": deletes}
    replica.sync(table)
    replica.source.execute(
        "ALTER TABLE t DROP CONSTRAINT t_pkey, ALTER a DROP NOT NULL; UPDATE t SET a = NULL WHERE b = -1"
    )

    replica.sync(table)

    replica.assert_equal("public.t")
    assert key_of(replica) == [("PRIMARY KEY (b)",)]


def test_a_key_that_appears_is_used_from_then_on(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (a int, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 9) i")
    replica.sync({"source": "public.t", "mode": "full_sync"})
    assert key_of(replica) == []
    replica.source.execute("ALTER TABLE t ADD PRIMARY KEY (a)")

    full = replica.sync({"source": "public.t", "mode": "full_sync"})
    idle = replica.sync("public.t")
    replica.source.execute("UPDATE t SET v = 0 WHERE a = 1; DELETE FROM t WHERE a = 2")
    changed = replica.sync("public.t")

    assert full.reason == "the key is now a"
    assert counts(full) == (9, 0, 0, 0)
    assert key_of(replica) == [("PRIMARY KEY (a)",)]
    assert (idle.mode, counts(idle)) == ("xmin_incremental", (0, 0, 0, 0))
    assert counts(changed) == (1, 0, 1, 1)
    replica.assert_equal("public.t")


def test_a_key_that_disappears_leaves_its_rows_to_be_compared_as_a_whole(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE t (a int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 9) i"
    )
    replica.sync("public.t")
    replica.source.execute("ALTER TABLE t DROP CONSTRAINT t_pkey, ALTER a DROP NOT NULL")
    replica.source.execute("INSERT INTO t VALUES (1, 1), (NULL, NULL), (NULL, NULL)")

    refused = replica.try_sync("public.t")
    result = replica.sync({"source": "public.t", "mode": "full_sync"})

    assert "mode: full_sync" in (refused.error or "")
    assert result.reason == "there is no key any more"
    assert counts(result) == (12, 3, 0, 0)
    replica.assert_equal("public.t")
    assert key_of(replica) == []


def test_a_new_key_that_kept_rows_repeat_is_refused_with_the_way_out(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t VALUES (1, 1), (2, 1), (3, 3)")
    table = {"source": "public.t", "deletes": "soft"}
    replica.sync(table)
    replica.source.execute(
        "DELETE FROM t WHERE a = 2; ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (b)"
    )

    error = replica.try_sync(table).error or ""

    assert "do not fit the new key" in error
    assert "(b)=(1)" in error
    assert "deletes: hard" in error
    replica.sync({"source": "public.t"})
    replica.sync(table)


def test_the_key_of_an_adopted_table_is_left_to_its_owner(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t VALUES (1, 10), (2, 20)")
    replica.target.execute("CREATE TABLE t (a int, b int CONSTRAINT mine PRIMARY KEY)")
    table = {"source": "public.t", "adopt": True}
    for _ in range(2):
        replica.source.execute("UPDATE t SET b = b + 1")
        replica.sync(table)

    keys = "SELECT conname FROM pg_constraint WHERE conrelid = 't'::regclass AND contype IN ('p', 'u') ORDER BY 1"
    assert replica.target.fetch(keys) == [("mine",), ("t_a_key",)]


def test_a_plan_shows_what_becomes_of_the_key(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t VALUES (1, 10)")
    replica.sync("public.t")
    replica.source.execute("ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (b)")

    planned = replica.plan("public.t").snapshot

    assert planned is not None
    assert planned.plan.statements == (
        'ALTER TABLE "public"."t" DROP CONSTRAINT "t_pkey", ALTER COLUMN "a" DROP NOT NULL',
        'ALTER TABLE "public"."t" ADD PRIMARY KEY ("b")',
    )


INHERITED = "CREATE TABLE t (a int PRIMARY KEY, v int); CREATE TABLE heir (PRIMARY KEY (a)) INHERITS (t)"
PARTITIONED = (
    "CREATE TABLE t (a int PRIMARY KEY, v int) PARTITION BY RANGE (a);"
    "CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (50); CREATE TABLE high PARTITION OF t DEFAULT"
)
LOOSE_KEYS = {
    "no index": "CREATE TABLE t (a int, v int)",
    "an index that lets some rows repeat": "CREATE TABLE t (a int, v int); CREATE UNIQUE INDEX ON t (a) WHERE v > 9999",
    "an index over more than the key": "CREATE TABLE t (a int, v int, PRIMARY KEY (a, v))",
    "rows of a table that inherits": INHERITED,
}


@pytest.mark.parametrize("why", LOOSE_KEYS)
@pytest.mark.parametrize("deletes", ["hard", "soft", "ignore"])
@pytest.mark.parametrize("due", [True, False])
def test_a_second_row_of_a_key_is_refused_though_another_row_goes(
    replica: Replica, why: str, deletes: str, due: bool
) -> None:
    """The counts cancel: 1000 rows before and 1000 after, none of whose keys the target lacks."""
    replica.source.execute(LOOSE_KEYS[why])
    replica.source.execute("INSERT INTO t SELECT i, i FROM generate_series(1, 1000) i")
    table = {"source": "public.t", "key": "a", "deletes": deletes, "delete_detection": "every_sync" if due else "1 h"}
    replica.sync(table)
    child = "heir" if why == "rows of a table that inherits" else "t"
    replica.source.execute(f"INSERT INTO {child} VALUES (5, -5); DELETE FROM t WHERE a = 900")

    error = replica.try_sync(table).error or ""

    assert "the key (a) does not identify its rows" in error and "(a)=(5)" in error
    assert replica.target.fetch("SELECT count(*), sum(v) FROM t") == [(1000, 500500)]
    replica.source.execute(f"DELETE FROM {child} WHERE v = -5; UPDATE t SET v = 0 WHERE a = 5")
    # 1 to 1000 less 5; and less 900, unless it is kept.
    assert counts(replica.sync(table)) == (1, 0, 1, 1 if due and deletes != "ignore" else 0)
    assert replica.target.fetch("SELECT v FROM t WHERE a = 5") == [(0,)]


def test_deletes_wait_for_their_time_though_keys_are_compared(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (a int, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 100) i")
    table = {"source": "public.t", "key": "a", "delete_detection": "1 hour"}
    replica.sync(table)
    replica.source.execute(
        "DELETE FROM t WHERE a <= 10; UPDATE t SET v = 0 WHERE a > 90; INSERT INTO t VALUES (200, 0)"
    )

    soon = replica.sync(table)
    replica.source.execute("UPDATE t SET v = 1 WHERE a = 50")
    due = replica.sync({**table, "delete_detection": "every_sync"})

    assert counts(soon) == (11, 1, 10, 0)
    assert counts(due) == (1, 0, 1, 10)
    replica.assert_equal("public.t")


@pytest.mark.parametrize("deletes", ["hard", "ignore"])
def test_a_row_of_a_view_that_repeats_a_key_is_refused(replica: Replica, deletes: str) -> None:
    replica.source.execute(
        "CREATE TABLE t (a int, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 1000) i;"
        "CREATE VIEW shown AS SELECT a, v FROM t"
    )
    table = {"source": "public.shown", "mode": "incremental_sync", "cursor": "v", "key": "a", "deletes": deletes}
    replica.sync(table)
    replica.source.execute("INSERT INTO t VALUES (5, 2000); DELETE FROM t WHERE a = 900")

    error = replica.try_sync(table).error or ""

    assert "the key (a) does not identify its rows" in error and "(a)=(5)" in error
    assert replica.target.fetch("SELECT count(*), sum(v) FROM shown") == [(1000, 500500)]


@pytest.mark.parametrize(
    "guarantee",
    ["CREATE TABLE t (a int, v int NOT NULL UNIQUE)", "CREATE TABLE t (a int PRIMARY KEY, v int)", PARTITIONED],
)
def test_no_keys_are_read_where_an_index_over_some_of_its_columns_guarantees_them(
    replica: Replica, guarantee: str
) -> None:
    replica.source.execute(guarantee)
    replica.source.execute("INSERT INTO t SELECT i, i FROM generate_series(1, 100) i")
    table = {"source": "public.t", "key": ["a", "v"], "delete_detection": "every_sync"}
    replica.sync(table)
    replica.source.execute("INSERT INTO t VALUES (200, 200)")

    with replica.stations(table) as stations:
        extracted = stations.up_to_extract()

    assert extracted.rows == 1
    assert extracted.key_parts is None


def test_an_index_that_goes_is_missed(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE t (a int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 100) i"
    )
    table = {"source": "public.t", "key": "a"}
    replica.sync(table)
    replica.source.execute(
        "ALTER TABLE t DROP CONSTRAINT t_pkey; INSERT INTO t VALUES (5, 0); DELETE FROM t WHERE a = 9"
    )

    assert "(a)=(5)" in (replica.try_sync(table).error or "")


def test_a_not_null_that_was_never_validated_guarantees_nothing(replica: Replica) -> None:
    if replica.source.fetch("SELECT current_setting('server_version_num')::int < 180000") == [(True,)]:
        pytest.skip("NOT NULL can be NOT VALID since PostgreSQL 18")
    replica.source.execute("CREATE TABLE t (a int UNIQUE, v int); INSERT INTO t VALUES (NULL, 1), (NULL, 2), (3, 3)")
    replica.source.execute("ALTER TABLE t ADD CONSTRAINT filled NOT NULL a NOT VALID")

    assert "no primary key" in (replica.try_sync("public.t").error or "")
    assert "(a, v)=(NULL," in (replica.try_sync({"source": "public.t", "key": "a"}).error or "")


def test_keys_that_only_the_target_takes_for_one_are_refused(insensitive: Replica) -> None:
    """A row of its own at the source would overwrite another one."""
    insensitive.target.execute(INSENSITIVE)
    insensitive.target.execute("CREATE TABLE t (k text COLLATE ci PRIMARY KEY, v int)")
    insensitive.source.execute("CREATE TABLE t (k text PRIMARY KEY, v int); INSERT INTO t VALUES ('Bern', 1), ('x', 1)")
    insensitive.sync("public.t")
    insensitive.source.execute("INSERT INTO t VALUES ('BERN', 2); DELETE FROM t WHERE k = 'x'")

    error = insensitive.try_sync("public.t").error or ""

    assert "the key (k) does not identify its rows" in error and "(k)=(" in error
    assert insensitive.target.fetch("SELECT k, v FROM t ORDER BY k") == [("Bern", 1), ("x", 1)]


@pytest.mark.parametrize("deletes", ["hard", "ignore"])
def test_keys_that_only_another_type_takes_for_one_are_refused(replica: Replica, deletes: str) -> None:
    replica.source.execute("CREATE TABLE t (k text PRIMARY KEY, v int); INSERT INTO t VALUES ('1.0', 1), ('7', 1)")
    table = {"source": "public.t", "type_overrides": {"k": "numeric"}, "deletes": deletes}
    replica.sync(table)
    replica.source.execute("INSERT INTO t VALUES ('1.00', 2); DELETE FROM t WHERE k = '7'")

    error = replica.try_sync(table).error or ""

    assert "the key (k) does not identify its rows" in error and "(k)=(1.0" in error
    assert error.endswith("mend the rows at the source, or take k out of type_overrides.")
    assert replica.target.fetch("SELECT k::text, v FROM t ORDER BY k") == [("1.0", 1), ("7", 1)]


FINER = {
    "citext as text": ("CREATE EXTENSION citext", "citext", "text_ops", ("a", "A")),
    "record by its bytes": (
        "CREATE TYPE pair AS (a numeric, b int)",
        "pair",
        "record_image_ops",
        ("(1.0,1)", "(1.00,1)"),
    ),
    "domain": ("CREATE EXTENSION citext; CREATE DOMAIN word AS citext", "word", "text_ops", ("a", "A")),
}


@pytest.mark.parametrize(("made", "type_", "finer", "keys"), FINER.values(), ids=[*FINER])
def test_an_index_by_a_finer_equality_than_its_columns_guarantees_no_key(
    replica: Replica, made: str, type_: str, finer: str, keys: tuple[str, str]
) -> None:
    replica.source.execute(f"{made}; CREATE TABLE t (k {type_} NOT NULL, v int); CREATE UNIQUE INDEX ON t (k {finer})")
    replica.source.execute("INSERT INTO t VALUES (%s, 1)", (keys[0],))
    if "EXTENSION" in made:
        replica.target.execute("CREATE EXTENSION citext")
    table = {"source": "public.t", "key": "k", "deletes": "ignore"}

    assert "no primary key" in (replica.try_sync("public.t").error or "")
    replica.sync(table)
    replica.source.execute("INSERT INTO t VALUES (%s, 2)", (keys[1],))

    assert "does not identify its rows" in (replica.try_sync(table).error or "")
    assert replica.target.fetch("SELECT v FROM t") == [(1,)]


@pytest.mark.parametrize(
    ("type_", "other"), [("text", "text_pattern_ops"), ("varchar(9)", "varchar_ops"), ("varchar", "text_pattern_ops")]
)
def test_an_index_by_another_order_and_the_same_equality_guarantees_a_key(
    replica: Replica, type_: str, other: str
) -> None:
    replica.source.execute(f"CREATE TABLE t (k {type_} NOT NULL, v int); CREATE UNIQUE INDEX ON t (k {other})")
    replica.source.execute("INSERT INTO t VALUES ('a', 1), ('A', 2)")

    replica.sync("public.t")
    replica.assert_equal("public.t")


def test_an_index_by_a_finer_collation_than_its_columns_guarantees_no_key(insensitive: Replica) -> None:
    insensitive.source.execute("CREATE TABLE t (k text COLLATE ci NOT NULL, v int)")
    insensitive.source.execute("CREATE UNIQUE INDEX ON t (k COLLATE \"C\"); INSERT INTO t VALUES ('a', 1), ('x', 1)")
    insensitive.target.execute(INSENSITIVE)
    table = {"source": "public.t", "key": "k"}

    assert "no primary key" in (insensitive.try_sync("public.t").error or "")
    insensitive.sync(table)
    insensitive.source.execute("INSERT INTO t VALUES ('A', 2); DELETE FROM t WHERE v = 1 AND k = 'x'")
    assert "does not identify its rows" in (insensitive.try_sync(table).error or "")


@pytest.mark.parametrize("same", [True, False])
def test_a_collation_of_the_same_name_guarantees_keys_only_if_it_is_the_same(insensitive: Replica, same: bool) -> None:
    """Level 2 tells accents apart, level 1 does not."""
    insensitive.target.execute(INSENSITIVE if same else INSENSITIVE.replace("level2", "level1"))
    insensitive.source.execute("CREATE TABLE t (k text COLLATE ci PRIMARY KEY, v int)")
    insensitive.source.execute(
        "INSERT INTO t SELECT 'n' || i, 0 FROM generate_series(1, 20) i; INSERT INTO t VALUES ('resume', 1)"
    )
    insensitive.sync("public.t")
    insensitive.source.execute("INSERT INTO t VALUES ('other', 2)")
    with insensitive.stations("public.t") as stations:
        assert (stations.up_to_extract().key_parts is None) is same
    insensitive.source.execute("INSERT INTO t VALUES ('résumé', 3)")

    error = insensitive.try_sync("public.t").error

    assert (error is None) is same
    if not same:
        assert "does not identify its rows" in (error or "")


@pytest.mark.parametrize(
    ("make", "kind", "value", "known"),
    [
        ("CREATE DOMAIN code AS varchar(9)", "code", "i::text", True),
        ("CREATE TYPE mood AS ENUM ('1', '2', '3', '4', '5', '6', '7', '8', '9')", "mood", "i::text::mood", True),
        ("CREATE EXTENSION citext", "citext", "i::text", True),
        ("CREATE EXTENSION citext; CREATE DOMAIN name AS citext", "public.name", "i::text", True),
        ("CREATE TYPE pair AS (a int, b text)", "pair", "(i, '')::pair", False),
    ],
)
def test_keys_of_own_types_are_guaranteed_where_both_sides_tell_them_apart_alike(
    replica: Replica, make: str, kind: str, value: str, known: bool
) -> None:
    """What a composite is made of is not looked into."""
    replica.source.execute(f"{make}; CREATE TABLE t (k {kind} PRIMARY KEY, v int)")
    replica.source.execute(f"INSERT INTO t SELECT {value}, i FROM generate_series(1, 8) i")
    replica.sync("public.t")
    replica.source.execute(f"INSERT INTO t SELECT {value}, i FROM generate_series(9, 9) i")

    with replica.stations("public.t") as stations:
        assert stations.snapshot().target_selection.unique_key is known
    replica.sync("public.t")
    replica.assert_equal("public.t")


def test_a_type_that_goes_by_the_locale_guarantees_keys_only_under_the_same_one(replica: Replica) -> None:
    """By the locale C, say, the letters ä and Ä are not the same; by others they are."""
    replica.source.execute("CREATE EXTENSION citext; CREATE TABLE t (k citext PRIMARY KEY, v int)")
    replica.source.execute("INSERT INTO t VALUES ('ä', 1)")
    replica.sync("public.t")
    with replica.stations("public.t") as stations:
        planned = stations.snapshot()
    (column,) = planned.target_selection.key_columns

    assert column.equality
    here = Attribute(1, "k", "public.citext", not_null=True, equality="6 xx_XX c")
    assert planned.target_selection.unique_key
    assert not with_proven_key(planned.target_selection, [here], {}).unique_key
    assert with_proven_key(planned.target_selection, [replace(here, equality=column.equality)], {}).unique_key


KEY_CHANGES = {
    "int to bigint through a shadow column": (
        (
            "ALTER TABLE t ADD id_new bigint; UPDATE t SET id_new = id; ALTER TABLE t DROP COLUMN id;"
            "ALTER TABLE t RENAME id_new TO id; ALTER TABLE t ADD PRIMARY KEY (id)"
        ),
        "id",
    ),
    "the same, as the values are others": (
        (
            "ALTER TABLE t ADD id_new bigint; UPDATE t SET id_new = 1000 - id; ALTER TABLE t DROP COLUMN id;"
            "ALTER TABLE t RENAME id_new TO id; ALTER TABLE t ADD PRIMARY KEY (id)"
        ),
        "id",
    ),
    "a surrogate key": ("ALTER TABLE t DROP COLUMN id; ALTER TABLE t ADD nr bigserial PRIMARY KEY", "nr"),
    "another column": ("ALTER TABLE t DROP COLUMN id; ALTER TABLE t ADD PRIMARY KEY (code)", "code"),
}


@pytest.mark.parametrize("dropped", ["keep", "drop"])
@pytest.mark.parametrize("change", KEY_CHANGES)
def test_a_key_column_that_is_dropped_is_followed(replica: Replica, change: str, dropped: str) -> None:
    replica.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, code int NOT NULL UNIQUE, v int);"
        "INSERT INTO t SELECT i, -i, i FROM generate_series(1, 2000) i"
    )
    table = {"source": "public.t", "dropped_columns": dropped}
    replica.sync(table)
    statements, key = KEY_CHANGES[change]
    replica.source.execute(f"{statements}; UPDATE t SET v = 0 WHERE v = 5; DELETE FROM t WHERE v = 6")

    replica.sync(table)

    replica.assert_equal("public.t")
    assert key_of(replica) == [(f"PRIMARY KEY ({key})",)]
    replica.source.execute("UPDATE t SET v = 0 WHERE v = 7; DELETE FROM t WHERE v = 8")
    assert counts(replica.sync(table)) == (1, 0, 1, 1)
    replica.assert_equal("public.t")


@pytest.mark.parametrize("dropped", ["keep", "drop"])
def test_one_column_of_a_key_that_is_dropped_is_followed(replica: Replica, dropped: str) -> None:
    replica.source.execute(
        "CREATE TABLE t (a int, b int, v int, PRIMARY KEY (a, b));"
        "INSERT INTO t SELECT i, -i, i FROM generate_series(1, 9) i"
    )
    table = {"source": "public.t", "dropped_columns": dropped}
    replica.sync(table)
    replica.source.execute("ALTER TABLE t DROP COLUMN b; ALTER TABLE t ADD PRIMARY KEY (a)")

    replica.sync(table)

    replica.assert_equal("public.t")
    assert key_of(replica) == [("PRIMARY KEY (a)",)]


def test_a_key_column_that_is_dropped_and_leaves_no_key(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i % 3 FROM generate_series(1, 9) i"
    )
    replica.sync("public.t")
    replica.source.execute("ALTER TABLE t DROP COLUMN id")

    assert "mode: full_sync" in (replica.plan("public.t").error or "")
    replica.sync({"source": "public.t", "mode": "full_sync"})

    replica.assert_equal("public.t")


@pytest.mark.parametrize("deletes", ["soft", "ignore"])
def test_a_new_key_column_that_kept_rows_lack_is_refused_by_the_plan(replica: Replica, deletes: str) -> None:
    replica.source.execute("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2)")
    table = {"source": "public.t", "deletes": deletes}
    replica.sync(table)
    replica.source.execute("ALTER TABLE t DROP COLUMN id; ALTER TABLE t ADD nr bigserial PRIMARY KEY")

    error = replica.plan(table).error or ""

    assert "have no nr" in error and "deletes: hard" in error
    replica.sync("public.t")
    replica.sync(table)
    replica.assert_equal("public.t")


def test_a_key_column_that_is_renamed_reads_only_what_changed(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 99) i"
    )
    replica.sync("public.t")
    replica.source.execute(
        "ALTER TABLE t RENAME id TO nr; UPDATE t SET v = 0 WHERE nr = 1; DELETE FROM t WHERE nr = 2;"
        "INSERT INTO t VALUES (100)"
    )

    result = replica.sync("public.t")

    assert (result.mode, counts(result)) == ("xmin_incremental", (2, 1, 1, 1))
    assert key_of(replica) == [("PRIMARY KEY (nr)",)]
    replica.assert_equal("public.t")
    assert counts(replica.sync("public.t")) == (0, 0, 0, 0)


def test_a_mark_that_gets_another_name_in_a_sync_of_changed_rows(replica: Replica) -> None:
    """The target is asked for new keys before the merge renames its columns."""
    replica.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 99) i"
    )
    replica.sync({"source": "public.t", "deletes": "soft"})
    replica.source.execute("UPDATE t SET v = 0 WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (100)")

    result = replica.sync({"source": "public.t", "deletes": "soft", "deleted_at_column": "gone_at"})

    assert counts(result) == (2, 1, 1, 1)
