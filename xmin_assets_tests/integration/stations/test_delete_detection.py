"""Deleted rows looked for at most once in an interval: what waits, what does not, and what is still proven."""

from __future__ import annotations

import pytest

from xmin_assets.replication.status import table_statuses
from xmin_assets_tests.replica import Replica

HOURLY = {"source": "public.items", "delete_detection": "1 hour"}


@pytest.fixture
def items(replica: Replica) -> Replica:
    replica.source.execute(
        "CREATE TABLE items (id int PRIMARY KEY, n int); INSERT INTO items SELECT i, i FROM generate_series(1, 100) i"
    )
    replica.sync(HOURLY)
    return replica


def let_an_hour_go_by(replica: Replica) -> None:
    replica.target.execute(
        "UPDATE xmin_assets.state SET facts = jsonb_set(facts, '{deletes_compared_at}',"
        " to_jsonb((facts ->> 'deletes_compared_at')::timestamptz - interval '61 min'))"
    )


def test_deletes_are_looked_for_once_in_the_interval(items: Replica) -> None:
    items.source.execute(
        "DELETE FROM items WHERE id <= 10; UPDATE items SET n = 0 WHERE id > 90; INSERT INTO items VALUES (101, 1)"
    )

    soon = items.sync(HOURLY)

    assert (soon.rows_inserted, soon.rows_updated, soon.rows_deleted) == (1, 10, 0)
    assert "deleted rows were looked for" in (soon.reason or "")
    assert items.target.fetch("SELECT count(*) FROM items") == [(101,)]
    let_an_hour_go_by(items)
    items.source.execute("DELETE FROM items WHERE id = 50; INSERT INTO items VALUES (5, 5)")
    later = items.sync(HOURLY)
    assert (later.rows_deleted, later.rows_updated + later.rows_inserted) == (10, 1)
    items.assert_equal("public.items")


def test_no_keys_are_read_before_it_is_time(items: Replica) -> None:
    items.source.execute("DELETE FROM items WHERE id <= 10; UPDATE items SET n = 0 WHERE id = 50")
    with items.stations(HOURLY) as stations:
        assert stations.up_to_extract().key_parts is None
    let_an_hour_go_by(items)
    with items.stations(HOURLY) as stations:
        assert stations.up_to_extract().key_parts is not None


def test_an_idle_sync_that_is_due_counts_as_a_comparison(items: Replica) -> None:
    let_an_hour_go_by(items)

    before = items.sync(HOURLY)
    after = items.sync(HOURLY)

    assert "looked for" not in (before.reason or "")
    assert "looked for" in (after.reason or "")


@pytest.mark.parametrize("then", ["due", "every_sync"])
def test_a_row_that_was_not_looked_for_is_found_though_nothing_was_written_since(items: Replica, then: str) -> None:
    items.source.execute("DELETE FROM items WHERE id = 5")
    assert items.sync(HOURLY).rows_deleted == 0
    let_an_hour_go_by(items)

    result = items.sync(HOURLY if then == "due" else {**HOURLY, "delete_detection": then})

    assert result.rows_deleted == 1
    items.assert_equal("public.items")
    idle = items.sync({**HOURLY, "delete_detection": "every_sync"})
    assert (idle.rows_deleted, idle.path) == (0, "no block, because no transaction has written since the last sync")


def test_a_row_that_somebody_deleted_from_the_target_is_still_noticed(items: Replica) -> None:
    items.source.execute("UPDATE items SET n = 0 WHERE id = 1; DELETE FROM items WHERE id = 2")
    items.sync({**HOURLY, "deletes": "soft"})
    items.target.execute("DELETE FROM items WHERE id IN (50, 51)")
    items.source.execute("UPDATE items SET n = -1 WHERE id = 1")

    result = items.sync({**HOURLY, "deletes": "soft"})

    assert result.mode == "full_sync"
    assert items.target.fetch("SELECT count(*) FROM items WHERE source_deleted_at IS NULL") == [(99,)]


def test_a_full_sync_does_not_wait(items: Replica) -> None:
    items.source.execute("DELETE FROM items WHERE id <= 10")

    assert items.sync({**HOURLY, "mode": "full_sync"}).rows_deleted == 10


def test_by_a_cursor_keys_wait_for_their_time_too(items: Replica) -> None:
    table = {**HOURLY, "mode": "incremental_sync", "cursor": "n"}
    items.sync(table)
    items.source.execute("DELETE FROM items WHERE id = 3; INSERT INTO items VALUES (200, 200)")

    assert items.sync(table).rows_deleted == 0
    let_an_hour_go_by(items)
    assert items.sync(table).rows_deleted == 1
    items.assert_equal("public.items")


def test_the_status_tells_when_deletes_were_last_compared(items: Replica) -> None:
    (before,) = table_statuses(items.config(HOURLY))
    items.sync(HOURLY)
    (after,) = table_statuses(items.config(HOURLY))

    assert before.state and after.state
    assert before.state.deletes_compared_at == after.state.deletes_compared_at
    assert after.state.merged_at > before.state.merged_at


@pytest.mark.parametrize("wrong", ["sometimes", "-1 hour", "1 fortnight", -5])
def test_a_length_of_time_that_is_none_is_refused(items: Replica, wrong: object) -> None:
    with pytest.raises(Exception, match=r"length of time|negative"):
        items.config({"source": "public.items", "delete_detection": wrong})
