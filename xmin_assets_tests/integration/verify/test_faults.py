"""Faults in the target are found, exactly, alone and while the source goes on changing."""

from __future__ import annotations

import pytest

from xmin_assets.replication.sync import resync_tables
from xmin_assets_tests.integration.verify.conftest import ROWS, counts, ids
from xmin_assets_tests.replica import Replica

CHANGED = "UPDATE items SET price = 0 WHERE id = 17"
LOST = "DELETE FROM items WHERE id = 18"
FOREIGN = "INSERT INTO items (id, name) VALUES (9001, 'ghost')"
CLONED = "INSERT INTO items SELECT 9002, name, price, data, source_xmin FROM items WHERE id = 19"

PLANTED = {
    "value": (CHANGED, (0, 0, 1), {"different": [17]}),
    "lost": (LOST, (1, 0, 0), {"missing": [18]}),
    "ghost": (FOREIGN, (0, 1, 0), {"extra": [9001]}),
    "clone": (CLONED, (0, 1, 0), {"extra": [9002]}),
    "all": (
        ";".join((CHANGED, LOST, FOREIGN, CLONED)),
        (1, 2, 1),
        {"missing": [18], "extra": [9001, 9002], "different": [17]},
    ),
}

# 3 rows come, 4 change, 5 go, and 1 changes its key, which is one gone and one come.
LIFE = """
INSERT INTO items SELECT i, 'new' FROM generate_series(5001, 5003) i;
UPDATE items SET name = 'changed' WHERE id BETWEEN 101 AND 104;
DELETE FROM items WHERE id BETWEEN 201 AND 205;
UPDATE items SET id = 7000 WHERE id = 300;
"""
PENDING = 3 + 4 + 5 + 2


@pytest.fixture(params=PLANTED, ids=str)
def planted(request: pytest.FixtureRequest) -> tuple[str, tuple[int, int, int], dict[str, list[int]]]:
    return PLANTED[request.param]


def test_equal_tables_match(items: Replica) -> None:
    found = items.verify("public.items")

    assert (found.status, counts(found), found.examples["pending"], found.note) == ("match", (0, 0, 0, 0), [], None)
    assert (found.rows_source, found.rows_target) == (ROWS, ROWS)


def test_a_fault_is_found_and_named(
    items: Replica, planted: tuple[str, tuple[int, int, int], dict[str, list[int]]]
) -> None:
    fault, faults, named = planted
    items.target.execute(fault)

    found = items.verify("public.items")

    assert counts(found) == (*faults, 0)
    assert ids(found) == named


def test_a_fault_is_found_among_changes_that_the_next_sync_will_bring(
    items: Replica, planted: tuple[str, tuple[int, int, int], dict[str, list[int]]]
) -> None:
    fault, faults, named = planted
    items.target.execute(fault)
    items.source.execute(LIFE)

    found = items.verify("public.items")

    assert counts(found) == (*faults, PENDING)
    assert {kind: keys for kind, keys in ids(found).items() if kind != "pending"} == named


def test_what_is_pending_is_gone_after_the_next_sync(items: Replica) -> None:
    items.source.execute(LIFE)
    assert counts(items.verify("public.items")) == (0, 0, 0, PENDING)

    items.sync("public.items")

    assert counts(items.verify("public.items")) == (0, 0, 0, 0)


def test_a_resync_mends_all_that_was_found_and_writes_nothing_else(items: Replica) -> None:
    items.target.execute(PLANTED["all"][0])
    assert counts(items.verify("public.items")) == (1, 2, 1, 0)

    resync_tables(items.config("public.items"))
    mended = items.sync("public.items")

    assert (mended.rows_inserted, mended.rows_updated, mended.rows_deleted) == (1, 1, 2)
    assert counts(items.verify("public.items")) == (0, 0, 0, 0)
    items.assert_equal("public.items")


def test_a_fault_in_a_row_that_changed_at_the_source_is_pending(items: Replica) -> None:
    items.target.execute(CHANGED)
    items.source.execute("UPDATE items SET name = 'later' WHERE id = 17")

    assert counts(items.verify("public.items")) == (0, 0, 0, 1)
    items.sync("public.items")
    assert counts(items.verify("public.items")) == (0, 0, 0, 0)


def test_a_key_that_has_begun_to_repeat_is_pending(items: Replica) -> None:
    items.source.execute("ALTER TABLE items DROP CONSTRAINT items_pkey")
    # Updated rows come after their doubles in the heap: neither place nor value says which of two is the old one.
    items.source.execute("INSERT INTO items SELECT i, chr(32 + i * 2) FROM generate_series(1, 40) i")
    assert counts(items.verify({"source": "public.items", "key": "id"})) == (0, 0, 0, 40)


def test_rows_that_are_only_written_anew_at_the_source_are_no_difference(items: Replica) -> None:
    items.source.execute("UPDATE items SET name = name WHERE id < 100")

    assert counts(items.verify("public.items")) == (0, 0, 0, 0)


def test_a_row_that_the_next_sync_reads_and_does_not_write_is_a_fault(items: Replica) -> None:
    holder = items.source.connect()
    holder.autocommit = False
    holder.cursor().execute("SELECT pg_current_xact_id()")
    items.source.execute("UPDATE items SET name = 'held back' WHERE id IN (1, 2)")
    items.sync("public.items")
    items.target.execute("UPDATE items SET name = 'meddled' WHERE id = 1")
    items.source.execute("UPDATE items SET name = 'later' WHERE id = 2")

    found = items.verify("public.items")

    assert counts(found) == (0, 0, 1, 1)
    assert ids(found) == {"different": [1], "pending": [2]}
    assert items.sync("public.items").rows_updated == 1
    assert counts(items.verify("public.items")) == (0, 0, 1, 0)


def test_a_row_lost_that_changed_at_the_source_comes_back_with_the_next_sync(items: Replica) -> None:
    items.target.execute(LOST)
    items.source.execute("UPDATE items SET name = 'later' WHERE id = 18; DELETE FROM items WHERE id = 20")

    assert counts(items.verify("public.items")) == (0, 0, 0, 2)


def test_an_unexpected_row_without_its_source_xmin_is_told_from_deleted_rows_by_that(items: Replica) -> None:
    items.target.execute(
        "DROP TABLE xmin_assets.history; COMMENT ON SCHEMA xmin_assets IS 'xmin_assets state, version 1'"
    )
    items.target.execute(FOREIGN)
    items.source.execute("DELETE FROM items WHERE id <= 3")

    found = items.verify("public.items")

    assert (counts(found), ids(found)) == ((0, 1, 0, 3), {"extra": [9001], "pending": [1, 2, 3]})


def test_without_a_history_an_unexpected_row_is_counted_and_not_named(items: Replica) -> None:
    items.target.execute(
        "DROP TABLE xmin_assets.history; COMMENT ON SCHEMA xmin_assets IS 'xmin_assets state, version 1'"
    )
    items.target.execute(CLONED)
    items.source.execute("DELETE FROM items WHERE id <= 3")

    found = items.verify("public.items")

    assert (counts(found), ids(found)) == ((0, 1, 0, 3), {})
    assert "not which" in (found.note or "")


def test_a_target_rewritten_by_its_owner_makes_no_unexpected_rows_of_deleted_rows(items: Replica) -> None:
    items.target.execute("UPDATE items SET name = name")
    items.source.execute("DELETE FROM items WHERE id <= 3; INSERT INTO items SELECT generate_series(5001, 5004)")

    assert counts(items.verify("public.items")) == (0, 0, 0, 7)

    items.target.execute(CLONED)

    assert counts(items.verify("public.items")) == (0, 1, 0, 7)


def test_a_table_rewritten_in_place_keeps_its_merges(items: Replica) -> None:
    items.target.execute("VACUUM FULL items")
    items.target.execute("VACUUM FREEZE items")
    items.source.execute("DELETE FROM items WHERE id <= 3")

    assert counts(items.verify("public.items")) == (0, 0, 0, 3)


def test_many_differences_are_counted_and_five_are_named(items: Replica) -> None:
    items.target.execute("UPDATE items SET price = -1")

    found = items.verify("public.items")

    assert counts(found) == (0, 0, ROWS, 0)
    assert len(found.examples["different"]) == 5


def test_an_emptied_target_misses_all_rows(items: Replica) -> None:
    items.target.execute("TRUNCATE items")

    assert counts(items.verify("public.items")) == (ROWS, 0, 0, 0)


def test_a_truncated_source_is_pending_with_and_without_new_rows(items: Replica) -> None:
    items.source.execute("TRUNCATE items")
    assert counts(items.verify("public.items")) == (0, 0, 0, ROWS)

    items.source.execute("INSERT INTO items SELECT i, 'reloaded' FROM generate_series(1001, 4000) i")
    assert counts(items.verify("public.items")) == (0, 0, 0, 4000)

    items.sync("public.items")
    assert counts(items.verify("public.items")) == (0, 0, 0, 0)


def test_a_source_reloaded_with_the_same_rows_is_no_difference(items: Replica) -> None:
    items.source.execute(
        "CREATE TABLE kept AS TABLE items; TRUNCATE items; INSERT INTO items SELECT * FROM kept; DROP TABLE kept"
    )

    assert counts(items.verify("public.items")) == (0, 0, 0, 0)
