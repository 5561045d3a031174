"""Where the last watermark says nothing of the source's rows, every difference counts. And what a sample can tell."""

from __future__ import annotations

import pytest

from xmin_assets.replication.sync import resync_tables
from xmin_assets_tests.integration.verify.conftest import ITEMS, ROWS, counts, ids
from xmin_assets_tests.replica import Replica


def test_after_a_resync_was_asked_for_nothing_is_pending(items: Replica) -> None:
    items.source.execute("UPDATE items SET name = 'x' WHERE id = 1; DELETE FROM items WHERE id = 2")
    resync_tables(items.config("public.items"))

    found = items.verify("public.items")

    assert counts(found) == (0, 1, 1, 0)
    assert (
        found.note
        == "every difference counts, none as pending: the next sync reads everything (a resync was asked for)"
    )


def test_another_table_of_that_name_is_compared_by_names_and_nothing_is_pending(items: Replica) -> None:
    items.source.execute(
        "DROP TABLE items; CREATE TABLE items (data json, price numeric(10, 2), name text, id int PRIMARY KEY)"
    )
    items.source.execute(
        f"INSERT INTO items SELECT '{{\"n\": 1}}', i / 4.0, 'item ' || i, i FROM generate_series(2, {ROWS + 1}) i"
    )

    found = items.verify("public.items")

    assert counts(found) == (1, 1, 0, 0)
    assert "another table" in (found.note or "")


def test_a_table_that_was_never_synced_is_not_compared(replica: Replica) -> None:
    replica.source.execute(ITEMS)

    found = replica.verify("public.items")

    assert (found.status, found.error) == ("failed", "public.items: it was never synced. Run xmin-assets sync first.")


def test_a_target_that_is_gone_or_was_replaced_is_not_compared(items: Replica) -> None:
    items.target.execute("ALTER TABLE items RENAME TO hidden")
    assert "never synced" in (items.verify("public.items").error or "")

    items.target.execute("CREATE TABLE items (LIKE hidden)")
    found = items.verify("public.items")

    assert (found.status, "another table" in (found.error or "")) == ("failed", True)


def test_a_source_that_is_gone_is_named(items: Replica) -> None:
    items.source.execute("DROP TABLE items")

    found = items.verify("public.items")

    assert (found.status, "public.items" in (found.error or "")) == ("failed", True)


def test_a_table_recreated_by_a_sync_has_no_unexpected_rows_from_before(items: Replica) -> None:
    # Its rows were staged after a merge that is remembered, by transactions that are not.
    items.target.execute("DROP TABLE items")
    items.sync("public.items")
    items.source.execute("DELETE FROM items WHERE id <= 3; INSERT INTO items SELECT generate_series(5001, 5010)")

    items.target.execute("INSERT INTO items SELECT 9002, name, price, data, source_xmin FROM items WHERE id = 19")

    found = items.verify("public.items")

    assert (counts(found), found.examples["extra"]) == ((0, 1, 0, 13), [{"id": "9002"}])


@pytest.mark.parametrize("share", [0.01, 0.3, 1])
def test_a_sample_reads_its_share_of_the_buckets_on_both_sides(items: Replica, share: float) -> None:
    items.target.execute("UPDATE items SET name = 'x'")
    items.source.execute("DELETE FROM items WHERE id % 2 = 0")

    found = items.verify("public.items", sample=share)

    assert found.different == found.rows_source
    assert found.pending == found.rows_target - found.rows_source
    assert 0.3 * share * ROWS < found.rows_target < max(2 * share, share + 0.01) * ROWS
    assert (share == 1) is (found.note is None)


def test_a_sample_tells_unexpected_rows_by_who_wrote_them(items: Replica) -> None:
    items.target.execute("INSERT INTO items SELECT id + 10000, name, price, data, source_xmin FROM items")
    items.source.execute("DELETE FROM items WHERE id > 2900")

    found = items.verify("public.items", sample=0.5)

    assert found.extra > 500
    assert found.pending < found.extra / 5
    assert found.missing == found.different == 0


def test_a_sample_of_a_target_that_its_owner_rewrote_calls_no_deleted_row_an_unexpected_row(items: Replica) -> None:
    items.target.execute("UPDATE items SET name = name")
    items.source.execute("DELETE FROM items WHERE id > 2000")

    found = items.verify("public.items", sample=0.5)

    assert (found.status, found.extra) == ("match", 0)
    assert found.pending > 100


def test_samples_differ(items: Replica) -> None:
    items.target.execute("UPDATE items SET name = 'x'")
    named = {str(items.verify("public.items", sample=0.05).examples["different"]) for _ in range(6)}

    assert len(named) > 1


HOURLY = {"source": "public.items", "delete_detection": "1 hour"}
CLAIMED = "UPDATE xmin_assets.state SET facts = jsonb_set(facts, '{deletes_left}', 'false')"


def test_a_row_left_by_a_sync_that_looked_for_no_deleted_ones_is_pending(items: Replica) -> None:
    items.source.execute("DELETE FROM items WHERE id = 5; UPDATE items SET price = 0 WHERE id = 6")
    assert items.sync(HOURLY).rows_deleted == 0

    assert counts(items.verify(HOURLY)) == (0, 0, 0, 1)


@pytest.mark.parametrize("sample", [None, 0.999])
def test_a_row_left_by_a_sync_that_looked_for_deleted_ones_is_a_fault_until_somebody_may_have_deleted_it(
    items: Replica, sample: float | None
) -> None:
    items.source.execute("DELETE FROM items WHERE id = 5; UPDATE items SET price = 0 WHERE id = 6")
    items.sync(HOURLY)
    items.target.execute(CLAIMED)

    found = items.verify("public.items", sample=sample)
    assert (counts(found), ids(found)) == ((0, 1, 0, 0), {"extra": [5]})

    items.source.fetch("SELECT pg_current_xact_id()")
    assert counts(items.verify("public.items", sample=sample)) == (0, 0, 0, 1)


def test_rows_that_a_crash_may_have_taken_without_a_transaction_are_pending(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE items (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);"
        "CREATE TABLE low PARTITION OF items FOR VALUES FROM (0) TO (10);"
        "CREATE UNLOGGED TABLE high PARTITION OF items FOR VALUES FROM (10) TO (20);"
        "INSERT INTO items SELECT i, i FROM generate_series(0, 19) i"
    )
    replica.sync(HOURLY)
    replica.source.execute("DELETE FROM items WHERE id = 15; UPDATE items SET n = 0 WHERE id = 6")
    replica.sync(HOURLY)
    replica.target.execute(CLAIMED)

    assert counts(replica.verify(HOURLY)) == (0, 0, 0, 1)
