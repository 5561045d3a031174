"""Partitions that come, go and exchange rows. A partition that comes brings rows that are older than the watermark."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from xmin_assets_tests.integration.ledger import CREATE, INSERT, Ledger, counts
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.servers import wait_until

OTHER_FILES = "the table has other files than at the last sync"
PARENT = CREATE.rstrip().rstrip(")") + ") PARTITION BY RANGE (id)"


def attached(partitions: str) -> str:
    return f"all rows of {partitions} attached since the last sync"


@pytest.fixture
def ledger(replica: Replica, options: dict[str, Any]) -> Ledger:
    """Rows 1 to 20 in the partitions `low` (below 11) and `high` (below 101), synced."""
    made = Ledger.create(replica, options, PARENT)
    made.source.execute("CREATE TABLE low PARTITION OF ledger FOR VALUES FROM (1) TO (11)")
    made.source.execute("CREATE TABLE high PARTITION OF ledger FOR VALUES FROM (11) TO (101)")
    made.insert(1, 20)
    return made


def fill(ledger: Ledger, table: str, first: int, last: int, note: str = "attached") -> None:
    """A plain table with such rows."""
    ledger.source.execute(CREATE.replace("ledger", table))
    ledger.source.execute(INSERT.replace("ledger", table), (note, first, last))


def attach(ledger: Ledger, table: str, first: int, last: int, parent: str = "ledger") -> None:
    ledger.source.execute(f"ALTER TABLE {parent} ATTACH PARTITION {table} FOR VALUES FROM ({first}) TO ({last})")


def test_rows_older_than_the_watermark_come_with_the_partition_that_is_attached(ledger: Ledger) -> None:
    fill(ledger, "old", 101, 110)
    ledger.sync()
    attach(ledger, "old", 101, 201)

    result = ledger.sync()
    idle = ledger.sync()

    assert result.mode == "xmin_incremental"
    assert attached("a partition") in result.reason
    assert counts(result) == (10, 10, 0, 0)
    assert counts(idle) == (0, 0, 0, 0)


def test_tree_of_partitions_is_attached_with_all_its_rows(ledger: Ledger) -> None:
    ledger.source.execute(PARENT.replace("ledger", "branch"))
    for name, first in (("one", 101), ("two", 111)):
        fill(ledger, name, first, first + 9)
        attach(ledger, name, first, first + 10, "branch")
    ledger.sync()
    attach(ledger, "branch", 101, 201)
    ledger.change(1, 1)

    result = ledger.sync()

    assert attached("2 partitions") in result.reason
    assert counts(result) == (21, 20, 1, 0)


@pytest.mark.parametrize("detach", ["ALTER TABLE ledger DETACH PARTITION high", "DROP TABLE high"])
def test_rows_go_with_the_partition_that_is_detached(ledger: Ledger, detach: str) -> None:
    ledger.sync()
    ledger.source.execute(detach)

    result = ledger.sync(whole=OTHER_FILES)

    assert result.mode == "xmin_incremental"
    assert counts(result) == (0, 0, 0, 10)


def test_partition_whose_detachment_is_pending_is_gone_already(ledger: Ledger) -> None:
    ledger.sync()
    detaching = ledger.source.connect()
    pending = "SELECT bool_or(inhdetachpending) FROM pg_inherits"
    with ThreadPoolExecutor(1) as pool:
        with ledger.open_transaction() as reader:
            reader.execute("SELECT FROM ledger")
            detach = "ALTER TABLE ledger DETACH PARTITION high CONCURRENTLY"
            waiting = pool.submit(lambda: detaching.cursor().execute(detach))
            wait_until(lambda: ledger.source.fetch(pending) == [(True,)], "the partition waits for its reader")
            result = ledger.sync(whole=OTHER_FILES)
        waiting.result(timeout=30)

    assert counts(result) == (0, 0, 0, 10)
    assert counts(ledger.sync()) == (0, 0, 0, 0)


def test_partition_replaced_by_one_of_as_many_older_rows_under_its_name(ledger: Ledger) -> None:
    fill(ledger, "other", 11, 20, "of the other partition")
    ledger.sync()
    ledger.source.execute(
        "ALTER TABLE ledger DETACH PARTITION high; ALTER TABLE high RENAME TO gone; ALTER TABLE other RENAME TO high"
    )
    attach(ledger, "high", 11, 101)

    result = ledger.sync()

    assert attached("a partition") in result.reason
    assert counts(result) == (10, 0, 10, 0)


def test_partition_that_was_away_for_a_sync_comes_back_whole(ledger: Ledger) -> None:
    ledger.sync()
    ledger.source.execute("ALTER TABLE ledger DETACH PARTITION high")
    ledger.sync(whole=OTHER_FILES)
    ledger.source.execute("UPDATE high SET note = 'changed while it was away', txid = DEFAULT WHERE id = 11")
    ledger.sync()
    attach(ledger, "high", 11, 101)

    assert counts(ledger.sync()) == (10, 10, 0, 0)


def test_partition_that_was_away_between_two_syncs_brings_its_changes(ledger: Ledger) -> None:
    ledger.sync()
    ledger.source.execute("ALTER TABLE ledger DETACH PARTITION high")
    ledger.source.execute("UPDATE high SET note = 'changed while it was away', txid = DEFAULT WHERE id = 11")
    ledger.source.execute("DELETE FROM high WHERE id = 12")
    attach(ledger, "high", 11, 101)

    assert counts(ledger.sync()) == (1, 0, 1, 1)


def test_rows_that_move_between_partitions_move_once(ledger: Ledger) -> None:
    ledger.sync()
    ledger.source.execute("UPDATE ledger SET id = id + 20, txid = DEFAULT WHERE id <= 5")
    ledger.source.execute("UPDATE ledger SET id = id - 10, txid = DEFAULT WHERE id BETWEEN 11 AND 15")

    result = ledger.sync()

    assert counts(result) == (10, 5, 5, 5)


def test_key_written_by_one_transaction_in_two_tables_has_the_value_of_the_one_that_is_attached(
    replica: Replica, options: dict[str, Any]
) -> None:
    ledger = Ledger.create(replica, options, PARENT)
    replica.source.execute("CREATE TABLE low PARTITION OF ledger FOR VALUES FROM (1) TO (11)")
    fill(ledger, "twin", 2, 1)
    with ledger.open_transaction() as writer:
        writer.execute("INSERT INTO ledger (id, note) VALUES (1, 'in the partition')")
        writer.execute("INSERT INTO twin (id, note) VALUES (1, 'in its twin')")
    ledger.sync()
    replica.source.execute("ALTER TABLE ledger DETACH PARTITION low")
    attach(ledger, "twin", 1, 11)

    result = ledger.sync()

    assert counts(result) == (1, 0, 1, 0)


def test_partition_truncated_and_reloaded(ledger: Ledger) -> None:
    ledger.sync()
    ledger.source.execute("TRUNCATE high")
    ledger.insert(16, 30, "reloaded")

    result = ledger.sync()

    assert result.mode == "xmin_incremental"
    assert "rewritten or truncated" in result.reason
    assert counts(result) == (15, 10, 5, 5)


def test_plain_table_made_into_a_partitioned_one_is_another_table(replica: Replica, options: dict[str, Any]) -> None:
    ledger = Ledger.create(replica, options)
    ledger.insert(1, 20)
    ledger.sync()
    ledger.source.execute("ALTER TABLE ledger RENAME TO low")
    ledger.source.execute(PARENT.replace("PRIMARY KEY", "CONSTRAINT key PRIMARY KEY"))
    attach(ledger, "low", 1, 101)
    ledger.change(1, 2)

    result = ledger.sync()

    assert result.mode == "full_sync"
    assert result.reason.startswith("another table")
    assert counts(result) == (20, 0, 2, 0)
