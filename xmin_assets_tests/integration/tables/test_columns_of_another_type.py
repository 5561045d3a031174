"""Columns that are of another type in the target than at the source: by type_overrides, or altered by somebody.

What the target has in such a column is how a value was printed when its row was copied. So it must be noticed if a
value prints otherwise by now, and if the column's type in the target is made to print otherwise.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from xmin_assets.errors import PlanOutdated
from xmin_assets_tests.replica import Replica

MOODS = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE a (id int PRIMARY KEY, m mood);
CREATE TABLE b (id int PRIMARY KEY, m text);
INSERT INTO a VALUES (1, 'sad'), (2, 'ok');
INSERT INTO b VALUES (1, 'sad'), (2, 'ok');
"""
B = {"source": "public.b", "type_overrides": {"m": "public.mood"}}


def labels(replica: Replica, table: str) -> list[Any]:
    return replica.target.fetch(f"SELECT id, m::text FROM {table} ORDER BY id")


@pytest.fixture
def moods(replica: Replica) -> Replica:
    """`b` is text at the source and of the type of `a` in the target."""
    replica.source.execute(MOODS)
    replica.sync("public.a")
    replica.sync(B)
    return replica


# The type at the source before and after, the expression of its values, and what of it the target has after that.
UNWRITTEN = [
    ("timestamp", "timestamptz", "'2020-01-01 12:00'", "2020-01-01 12:00:00+00"),
    ("int", "oid", "-1", "4294967295"),
    ("regclass", "oid", "'pg_type'", "1247"),
]


@pytest.mark.parametrize(("before", "after", "value", "printed"), UNWRITTEN)
def test_another_type_at_the_source_that_writes_no_row_is_noticed_where_text_is_stored(
    replica: Replica, before: str, after: str, value: str, printed: str
) -> None:
    replica.source.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {before}); INSERT INTO t VALUES (1, {value})")
    table = {"source": "public.t", "type_overrides": {"v": "text"}}
    replica.sync(table)
    replica.source.execute(f"SET timezone = 'UTC'; ALTER TABLE t ALTER v TYPE {after}")

    refused = replica.try_sync({**table, "schema_changes": "fail"}).error or ""
    result = replica.sync(table)

    assert "column v is now" in refused and "schema_changes is 'fail'" in refused
    assert (result.mode, result.rows_updated) == ("full_sync", 1)
    assert replica.target.fetch("SELECT v FROM t") == [(printed,)]
    assert replica.verify(table).status == "match"
    assert replica.sync(table).mode == "xmin_incremental"


def test_another_type_at_the_source_is_noticed_where_the_targets_was_converted_already(replica: Replica) -> None:
    """As the message of a refused change advises; but the target's owner had another idea of the time zone."""
    replica.source.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamp); INSERT INTO t VALUES (1, '2020-01-01')")
    replica.sync("public.t")
    replica.source.execute("SET timezone = 'UTC'; ALTER TABLE t ALTER at TYPE timestamptz")
    replica.target.execute("SET timezone = 'America/New_York'; ALTER TABLE t ALTER at TYPE timestamptz")

    result = replica.sync("public.t")

    assert (result.mode, result.rows_updated) == ("full_sync", 1)
    assert replica.target.fetch("SELECT at FROM t") == [(datetime(2020, 1, 1, tzinfo=timezone.utc),)]


def test_labels_that_swapped_names_are_noticed_where_the_text_was_converted_already(replica: Replica) -> None:
    replica.source.execute(MOODS + "CREATE TABLE c (id int PRIMARY KEY, m mood); INSERT INTO c TABLE a")
    replica.sync("public.a")
    replica.sync({"source": "public.c", "type_overrides": {"m": "text"}})
    for name, to in ("sad", "x"), ("ok", "sad"), ("x", "ok"):
        replica.source.execute(f"ALTER TYPE mood RENAME VALUE '{name}' TO '{to}'")
    replica.sync("public.a")
    replica.target.execute("ALTER TABLE c ALTER m TYPE mood USING m::mood")

    replica.sync("public.c")

    assert labels(replica, "c") == [(1, "ok"), (2, "sad")]


def test_a_column_made_text_by_hand_that_is_renamed_as_its_types_labels_are_is_read_again(replica: Replica) -> None:
    replica.source.execute(MOODS)
    replica.sync("public.a")
    replica.target.execute("ALTER TABLE a ALTER m TYPE text")
    replica.sync("public.a")
    replica.source.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'; ALTER TABLE a RENAME m TO feels")

    replica.sync("public.a")

    assert replica.target.fetch("SELECT id, feels FROM a ORDER BY id") == [(1, "blue"), (2, "ok")]


def test_an_override_that_comes_when_the_column_has_its_type_is_a_reason_to_read_everything(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (id int PRIMARY KEY, r regclass); INSERT INTO t VALUES (1, 'pg_type')")
    replica.sync("public.t")
    replica.target.execute("ALTER TABLE t ALTER r TYPE text USING r::oid::text")

    result = replica.sync({"source": "public.t", "type_overrides": {"r": "text"}})

    assert result.mode == "full_sync"
    assert replica.target.fetch("SELECT r FROM t") == [("pg_type",)]


@pytest.mark.parametrize("type_overrides", ["public.mood", "public.mood[]"])
def test_a_label_is_not_renamed_under_a_column_that_is_text_at_the_source(
    replica: Replica, type_overrides: str
) -> None:
    is_array = type_overrides.endswith("[]")
    replica.source.execute(MOODS + ("UPDATE b SET m = '{' || m || '}'" if is_array else ""))
    table = {"source": "public.b", "type_overrides": {"m": type_overrides}}
    replica.sync("public.a")
    replica.sync(table)
    replica.source.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")

    replica.sync("public.a")

    sad, ok = ("{sad}", "{ok}") if is_array else ("sad", "ok")
    assert labels(replica, "a") == [(1, "blue"), (2, "ok")]
    assert labels(replica, "b") == [(1, sad), (2, ok)]
    assert replica.sync(table).mode == "xmin_incremental"
    # The source has no such label any more.
    assert replica.verify(table).status == "match"
    replica.source.execute("UPDATE b SET m = CASE WHEN m LIKE '{%' THEN '{blue}' ELSE 'blue' END WHERE id = 2")
    replica.sync(table)
    assert labels(replica, "b") == [(1, sad), (2, "{blue}" if is_array else "blue")]
    assert replica.verify(table).status == "match"


def test_a_label_that_somebody_renames_in_the_target_is_noticed_by_a_column_that_is_text_at_the_source(
    moods: Replica,
) -> None:
    moods.target.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'x'; ALTER TYPE mood RENAME VALUE 'ok' TO 'sad'")
    moods.target.execute("ALTER TYPE mood RENAME VALUE 'x' TO 'ok'")

    result = moods.sync(B)

    assert (result.mode, result.rows_updated) == ("full_sync", 2)
    assert labels(moods, "b") == [(1, "sad"), (2, "ok")]


def test_rows_that_were_loaded_by_the_names_of_labels_are_not_merged_under_others(moods: Replica) -> None:
    moods.source.execute("UPDATE b SET m = 'ok' WHERE id = 1")
    with moods.stations(B) as stations:
        staged = stations.up_to_stage()
        moods.target.execute("ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'")

        with pytest.raises(PlanOutdated):
            stations.merge(staged)

    moods.target.execute("ALTER TYPE mood RENAME VALUE 'fine' TO 'ok'")
    moods.sync(B)
    assert labels(moods, "b") == [(1, "ok"), (2, "ok")]


def test_a_column_that_somebody_made_an_enum_is_refused_with_the_way_out(moods: Replica) -> None:
    moods.source.execute("CREATE TABLE c (id int PRIMARY KEY, m text); INSERT INTO c TABLE b")
    moods.sync("public.c")
    moods.target.execute("ALTER TABLE c ALTER m TYPE mood USING m::mood")

    error = moods.try_sync("public.c").error or ""
    moods.source.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
    moods.sync("public.a")

    assert "the target's column m the type public.mood" in error
    assert "type_overrides: {m: public.mood}" in error
    assert labels(moods, "c") == [(1, "sad"), (2, "ok")]
    table = {"source": "public.c", "type_overrides": {"m": "public.mood"}}
    assert moods.sync(table).mode == "full_sync"
    assert labels(moods, "c") == [(1, "sad"), (2, "ok")]
    assert moods.verify(table).status == "match"


def test_a_new_column_of_the_name_of_an_enum_is_not_taken_for_one_that_somebody_altered(moods: Replica) -> None:
    moods.source.execute("ALTER TABLE a DROP COLUMN m; ALTER TABLE a ADD COLUMN m text DEFAULT 'new'")

    moods.sync("public.a")

    assert labels(moods, "a") == [(1, "new"), (2, "new")]


def test_a_column_of_a_domain_over_an_enum_goes_on_by_hand(moods: Replica) -> None:
    moods.target.execute("CREATE DOMAIN feeling AS mood; ALTER TABLE a ALTER m TYPE feeling")
    moods.sync("public.a")
    moods.source.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'; INSERT INTO a VALUES (3, 'blue')")

    moods.sync("public.a")

    assert labels(moods, "a") == [(1, "blue"), (2, "ok"), (3, "blue")]


def test_a_composite_is_not_changed_under_a_column_that_is_text_at_the_source(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TYPE place AS (street text, town text);"
        "CREATE TABLE a (id int PRIMARY KEY, p place); CREATE TABLE b (id int PRIMARY KEY, p text);"
        "INSERT INTO a VALUES (1, '(x,y)'); INSERT INTO b VALUES (1, '(x,y)')"
    )
    replica.sync("public.a")
    table = {"source": "public.b", "type_overrides": {"p": "public.place"}}
    replica.sync(table)
    replica.source.execute("ALTER TYPE place DROP ATTRIBUTE street")

    error = replica.try_sync("public.a").error or ""

    assert "or columns that are of another type at the source" in error
    assert replica.target.fetch("SELECT p::text FROM b") == [("(x,y)",)]
