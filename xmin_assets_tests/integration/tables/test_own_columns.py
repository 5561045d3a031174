"""The columns that a target has and its source has not: called otherwise where the source has one of that name."""

from __future__ import annotations

from typing import Any

import pytest

from xmin_assets.config import parse_config
from xmin_assets.errors import ConfigError
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets_tests.integration.ledger import counts
from xmin_assets_tests.replica import Replica, contents

TABLE = QualifiedName("public", "items")


@pytest.fixture
def items(replica: Replica) -> Replica:
    replica.source.execute(
        "CREATE TABLE items (id int PRIMARY KEY, n int); INSERT INTO items SELECT i, i FROM generate_series(1, 9) i"
    )
    return replica


def equal(items: Replica) -> bool:
    columns = items.columns(items.source, TABLE)
    return contents(items.target, TABLE, columns) == contents(items.source, TABLE, columns)


@pytest.mark.parametrize(
    ("deletes", "setting", "own", "kind"),
    [
        ("hard", "xmin_column", "source_xmin", "bigint"),
        ("soft", "xmin_column", "source_xmin", "text"),
        ("soft", "deleted_at_column", "source_deleted_at", "timestamptz"),
    ],
)
def test_a_source_column_of_our_name_is_refused_with_the_setting_that_renames_ours(
    items: Replica, deletes: str, setting: str, own: str, kind: str
) -> None:
    items.source.execute(f"ALTER TABLE items ADD COLUMN {own} {kind}")
    table = {"source": "public.items", "deletes": deletes}

    refused = items.try_sync(table)
    renamed = items.sync({**table, setting: "ours"})
    items.source.execute("UPDATE items SET n = 0 WHERE id = 1; DELETE FROM items WHERE id = 2")
    again = items.sync({**table, setting: "ours"})

    assert f"{setting}: " in (refused.error or "") and f"exclude_columns: [{own}]" in (refused.error or "")
    assert (counts(renamed), counts(again)) == ((9, 9, 0, 0), (1, 0, 1, 1))
    assert equal(items) == (deletes == "hard")


def test_without_soft_deletes_the_source_may_have_a_column_of_the_marks_name(items: Replica) -> None:
    items.source.execute("ALTER TABLE items ADD COLUMN source_deleted_at timestamptz DEFAULT '2020-01-01'")
    items.sync("public.items")

    result = items.sync({"source": "public.items", "deleted_at_column": "gone_at"})

    assert counts(result) == (0, 0, 0, 0)
    assert equal(items)


def test_a_kept_column_makes_room_for_ours(items: Replica) -> None:
    items.sync("public.items")
    items.source.execute("ALTER TABLE items DROP COLUMN n")
    items.sync("public.items")

    items.sync({"source": "public.items", "xmin_column": "n", "deletes": "soft"})

    assert items.columns(items.target, TABLE) == ["id", "n_dropped", "n", "source_deleted_at"]
    assert items.target.fetch("SELECT n_dropped FROM items WHERE n > 9 AND id = 5") == [(5,)]


@pytest.mark.parametrize("kind", ["bigint", "text"])
def test_a_source_column_of_our_name_that_comes_later_gets_the_name_when_ours_has_left_it(
    items: Replica, kind: str
) -> None:
    items.sync("public.items")
    xmins = items.source_xmins("public.items")
    items.source.execute(f"ALTER TABLE items ADD COLUMN source_xmin {kind} DEFAULT '7'")
    assert "xmin_column" in (items.try_sync("public.items").error or "")

    items.sync({"source": "public.items", "xmin_column": "ours"})

    assert equal(items)
    assert items.target.fetch("SELECT ours FROM items ORDER BY 1") == [(value,) for value in xmins]
    assert items.columns(items.target, TABLE) == ["id", "n", "ours", "source_xmin"]


def test_a_source_column_of_our_deletion_marks_name_that_comes_later(items: Replica) -> None:
    items.sync({"source": "public.items", "deletes": "soft"})
    items.source.execute("DELETE FROM items WHERE id = 3")
    items.sync({"source": "public.items", "deletes": "soft"})
    items.source.execute("ALTER TABLE items ADD COLUMN source_deleted_at timestamptz DEFAULT '2020-01-01'")

    items.sync({"source": "public.items", "deletes": "soft", "deleted_at_column": "gone_at"})

    assert items.target.fetch("SELECT id FROM items WHERE gone_at IS NOT NULL") == [(3,)]
    assert items.target.fetch("SELECT count(*) FROM items WHERE source_deleted_at = '2020-01-01'") == [(8,)]


def test_another_xmin_column_renames_the_targets_and_copies_nothing(items: Replica) -> None:
    items.sync("public.items")
    table = {"source": "public.items", "xmin_column": "version"}
    planned = items.plan(table).snapshot

    result = items.sync(table)
    items.source.execute("UPDATE items SET n = 0 WHERE id = 1")
    changed = items.sync(table)

    assert planned is not None
    assert planned.plan.statements == ('ALTER TABLE "public"."items" RENAME COLUMN "source_xmin" TO "version"',)
    assert (result.mode, counts(result)) == ("xmin_incremental", (0, 0, 0, 0))
    assert counts(changed) == (1, 0, 1, 0)
    assert items.columns(items.target, TABLE) == ["id", "n", "version"]


def test_our_two_columns_may_swap_their_names(items: Replica) -> None:
    items.sync({"source": "public.items", "deletes": "soft"})
    swapped = {"xmin_column": "source_deleted_at", "deleted_at_column": "source_xmin"}

    items.sync({"source": "public.items", "deletes": "soft", **swapped})

    types = "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'items'::regclass"
    assert items.target.fetch("SELECT count(source_deleted_at), count(source_xmin) FROM items") == [(9, 0)]
    assert ("source_deleted_at", "bigint") in items.target.fetch(types)
    assert ("source_xmin", "timestamp with time zone") in items.target.fetch(types)


def test_a_source_column_takes_our_old_name_and_leaves_another(items: Replica) -> None:
    items.sync("public.items")
    items.source.execute("ALTER TABLE items RENAME n TO source_xmin")

    items.sync({"source": "public.items", "xmin_column": "n"})

    assert equal(items)
    types = "SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname = 'n'"
    assert items.target.fetch(types) == [("bigint",)]


@pytest.mark.parametrize("name", ["xmin", "ctid", "tableoid", "cmax"])
@pytest.mark.parametrize("setting", ["xmin_column", "deleted_at_column"])
def test_the_name_of_a_system_column_is_refused_as_ours(setting: str, name: str) -> None:
    table: dict[str, Any] = {"source": "public.items", setting: name}

    with pytest.raises(ConfigError, match=f"{setting}.*system column"):
        parse_config({"tables": [table]})


def test_a_view_column_of_a_system_columns_name_is_refused_with_the_way_out(items: Replica) -> None:
    items.source.execute("CREATE VIEW shown AS SELECT id, n, xmin FROM items")
    table = {"source": "public.shown", "mode": "full_sync"}

    refused = items.try_sync(table)
    items.sync({**table, "exclude_columns": "xmin"})

    assert "exclude_columns: [xmin]" in (refused.error or "")
    assert items.target.fetch("SELECT count(*) FROM shown") == [(9,)]
