"""Another table, or another database, under the names that are configured; and the same one under new circumstances."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg2 import sql

from xmin_assets.errors import PlanOutdated
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.integration.conftest import one_mode
from xmin_assets_tests.integration.ledger import CREATE, TABLE, Ledger, counts
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.servers import command, create_database

ANOTHER = "another table: public.ledger was dropped and recreated, or another one got its name"
REWRITTEN = "the table was rewritten or truncated since the last sync"


@pytest.fixture
def ledger(replica: Replica, options: dict[str, Any]) -> Ledger:
    """Twenty rows, synced."""
    made = Ledger.create(replica, options)
    made.insert(1, 20)
    made.sync()
    return made


def test_table_dropped_and_recreated_is_read_in_full(ledger: Ledger) -> None:
    ledger.source.execute("DROP TABLE ledger")
    ledger.source.execute(CREATE)
    ledger.insert(15, 24, "of the new table")

    result = ledger.sync()

    assert (result.mode, result.reason) == ("full_sync", ANOTHER)
    assert counts(result) == (10, 4, 6, 14)


def test_table_swapped_by_renames_is_read_in_full_though_its_rows_are_older(
    replica: Replica, options: dict[str, Any]
) -> None:
    ledger = Ledger.create(replica, options)
    ledger.insert(1, 20, "of the table to come")
    ledger.source.execute("ALTER TABLE ledger RENAME TO next")
    ledger.source.execute(CREATE.replace("PRIMARY KEY", "CONSTRAINT key PRIMARY KEY"))
    ledger.insert(11, 30, "of the table to go")
    ledger.sync()

    ledger.source.execute("ALTER TABLE ledger RENAME TO previous; ALTER TABLE next RENAME TO ledger")
    result = ledger.sync()
    ledger.source.execute("ALTER TABLE ledger RENAME TO next; ALTER TABLE previous RENAME TO ledger")
    back = ledger.sync()

    assert (result.mode, result.reason) == ("full_sync", ANOTHER)
    assert counts(result) == (20, 10, 10, 10)
    assert (back.mode, back.reason) == ("full_sync", ANOTHER)
    assert counts(back) == (20, 10, 10, 10)


@one_mode
def test_table_swapped_after_the_plan_is_not_extracted(ledger: Ledger) -> None:
    with ledger.replica.stations(TABLE) as stations:
        planned = stations.snapshot()
        ledger.source.execute("ALTER TABLE ledger RENAME TO previous")
        ledger.source.execute(CREATE.replace("PRIMARY KEY", "CONSTRAINT key PRIMARY KEY"))

        with pytest.raises(PlanOutdated, match="changed after the sync was planned"):
            stations.extract(planned)


def test_table_renamed_along_with_its_configuration_goes_on(ledger: Ledger) -> None:
    ledger.source.execute("CREATE SCHEMA archive")
    ledger.source.execute("ALTER TABLE ledger SET SCHEMA archive; ALTER TABLE archive.ledger RENAME TO old_ledger")
    ledger.source.execute("UPDATE archive.old_ledger SET note = 'moved', txid = DEFAULT WHERE id = 1")

    result = ledger.sync_once(source="archive.old_ledger", target=TABLE)

    assert (result.mode, counts(result)) == ("xmin_incremental", (1, 0, 1, 0))
    ledger.replica.assert_equal("archive.old_ledger", TABLE)


def test_truncate_and_reload_goes_on_and_says_so(ledger: Ledger) -> None:
    ledger.source.execute("TRUNCATE ledger")
    ledger.insert(11, 25, "reloaded")

    result = ledger.sync()

    assert result.mode == "xmin_incremental"
    assert REWRITTEN in result.reason
    assert counts(result) == (15, 5, 10, 10)


def test_truncate_and_reload_in_one_transaction_goes_on(ledger: Ledger) -> None:
    with ledger.open_transaction() as reload:
        reload.execute("TRUNCATE ledger")
        reload.execute("INSERT INTO ledger (id, note) SELECT i, 'reloaded' FROM generate_series(1, 20) i")

    assert counts(ledger.sync()) == (20, 0, 20, 0)


def test_truncate_alone_empties_the_target(ledger: Ledger) -> None:
    ledger.source.execute("TRUNCATE ledger")

    assert counts(ledger.sync()) == (0, 0, 0, 20)


@pytest.mark.parametrize("rewrite", ["VACUUM FULL ledger", "CLUSTER ledger USING ledger_pkey"])
def test_rewrite_that_keeps_xmin_copies_only_what_changed(ledger: Ledger, rewrite: str) -> None:
    ledger.change(1, 3)
    ledger.source.execute("DELETE FROM ledger WHERE id = 20")
    ledger.source.execute(rewrite)

    result = ledger.sync()
    idle = ledger.sync()

    # All rows are in other blocks, which the copy has to learn if it keeps them.
    copied = 19 if ledger.by_blocks else 3
    assert result.mode == "xmin_incremental"
    assert REWRITTEN in result.reason
    assert counts(result) == (copied, 0, copied, 1)
    assert REWRITTEN not in idle.reason
    assert counts(idle) == (0, 0, 0, 0)


def test_renamed_database_goes_on(source_db: Database, ledger: Ledger) -> None:
    ledger.change(1, 1)
    source_db.disconnect()
    renamed = f"{source_db.name}_renamed"
    command(source_db.cluster, f"ALTER DATABASE {source_db.name} RENAME TO {renamed}")

    there = ledger.read_from(source_db.cluster, renamed)
    result = there.sync()

    assert (result.mode, counts(result)) == ("xmin_incremental", (1, 0, 1, 0))
    there.source.drop()


def test_database_dropped_and_recreated_is_read_in_full(source_db: Database, replica: Replica, ledger: Ledger) -> None:
    ((before,),) = source_db.fetch("SELECT oid::text FROM pg_database WHERE datname = current_database()")
    source_db.drop()
    anew = Replica(create_database(source_db.cluster, source_db.name), replica.target, replica.spool)
    again = Ledger.create(anew, ledger.options)
    again.insert(11, 30, "of the new database")
    ((after,),) = again.source.fetch("SELECT oid::text FROM pg_database WHERE datname = current_database()")

    result = again.sync()

    assert result.mode == "full_sync"
    assert result.reason == f"another database of the cluster: its oid is {after}, not {before}"
    assert counts(result) == (20, 10, 10, 10)
    again.source.disconnect()


def test_database_made_from_this_one_as_template_is_read_in_full(source_db: Database, ledger: Ledger) -> None:
    source_db.disconnect()
    copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
        sql.Identifier(f"{source_db.name}_copy"), sql.Identifier(source_db.name)
    )
    Database(source_db.cluster, "postgres").execute(copy)
    there = ledger.read_from(source_db.cluster, f"{source_db.name}_copy")
    ledger.change(1, 5, "only in the first")
    ledger.sync()

    result = there.sync()

    assert result.mode == "full_sync"
    assert result.reason.startswith("another database of the cluster")
    assert counts(result) == (20, 0, 5, 0)
    there.source.drop()
