"""The clause chooses rows; the values of those that are copied are what they are without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.replica import Replica


@pytest.mark.parametrize("kind", ["regclass", "regtype[]", "named", "pair"])
def test_names_of_objects_that_would_lose_their_schema_are_refused(replica: Replica, kind: str) -> None:
    replica.source.execute(
        "CREATE DOMAIN named AS regclass; CREATE TYPE pair AS (a int, b regtype[]);"
        f"CREATE TABLE items (id int PRIMARY KEY, name {kind}, other regclass)"
    )
    table = {"source": "public.items", "where": "id > 0", "exclude_columns": ["other"]}

    refused = replica.plan(table)

    assert "public.items: the column name is " in str(refused.error)
    assert "exclude_columns: [name]" in str(refused.error)
    assert replica.plan({**table, "exclude_columns": ["name", "other"]}).error is None


def test_a_row_that_is_left_out_is_not_blamed_for_one_that_cannot_be_sent(
    source_server: Cluster, target_db: Database, tmp_path: Path
) -> None:
    source = Database.create(source_server, encoding="SQL_ASCII")
    try:
        source.execute(
            "CREATE TABLE items (id int PRIMARY KEY, note text, kept bool);"
            "INSERT INTO items VALUES (1, E'\\377', false), (2, E'\\377', true)"
        )
        replica = Replica(source, target_db, tmp_path / "spool", {"workers": 1})

        failed = replica.try_sync({"source": "public.items", "where": "kept"})

        assert "It is in column note, in the row with (id)=(2)." in str(failed.error)
    finally:
        source.drop()
