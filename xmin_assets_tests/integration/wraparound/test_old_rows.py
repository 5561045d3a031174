"""Rows and watermarks that are half a cycle, almost a cycle and more than a cycle of transactions old."""

from __future__ import annotations

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.integration.conftest import CHANGED, EVERY, one_mode
from xmin_assets_tests.integration.ledger import Ledger, counts
from xmin_assets_tests.servers import CYCLE, burn_to, next_xid, travel


def move_on(ledger: Ledger, server: Cluster, transactions: int) -> None:
    """Let so many transactions go by, with every row frozen on the way."""
    move_to(ledger, server, next_xid(server) + transactions)


def move_to(ledger: Ledger, server: Cluster, xid64: int) -> None:
    """Make this the next xid64, with every row frozen on the way."""
    ledger.source.disconnect()
    travel(server, xid64)


@pytest.mark.parametrize(
    ("blocks", "age"),
    [(EVERY, 2**31 - 1000), (EVERY, 2**31 + 1000), (EVERY, CYCLE - 1000), (CHANGED, CYCLE - 1000)],
    indirect=["blocks"],
)
def test_frozen_rows_of_this_age_are_not_copied_again(ledger: Ledger, traveller: Cluster, age: int) -> None:
    ledger.insert(1, 1000)
    ledger.sync()
    move_on(ledger, traveller, age)
    ledger.change(1, 1)

    after_the_move = ledger.sync()
    ledger.insert(1001, 1001)
    ledger.change(2, 2)
    later = ledger.sync()

    assert counts(after_the_move) == (1, 0, 1, 0)
    assert counts(later) == (2, 1, 1, 0)


@one_mode
def test_first_sync_gives_rows_of_half_a_cycle_ago_their_own_xid64(ledger: Ledger, traveller: Cluster) -> None:
    ledger.insert(1, 10)
    move_on(ledger, traveller, 2**31 + 1000)
    ledger.insert(11, 20)

    result = ledger.sync()

    assert counts(result) == (20, 20, 0, 0)
    assert result.max_xmin == next_xid(traveller) - 1


@one_mode
def test_watermark_just_less_than_a_cycle_old_is_still_resumed_from(ledger: Ledger, traveller: Cluster) -> None:
    ledger.insert(1, 100)
    watermark = ledger.sync().watermark
    ledger.change(1, 10)
    move_to(ledger, traveller, watermark + CYCLE - 1)

    result = ledger.sync_once()

    assert result.mode == "xmin_incremental"
    assert (result.reason or "").startswith(f"rows changed since transaction {watermark};")
    ledger.assert_equal()


@one_mode
def test_watermark_a_cycle_old_leads_to_a_full_extract_that_says_why(ledger: Ledger, traveller: Cluster) -> None:
    ledger.insert(1, 100)
    watermark = ledger.sync().watermark
    move_to(ledger, traveller, watermark + CYCLE)

    result = ledger.sync_once()

    assert result.mode == "full_sync"
    assert result.reason == (
        f"the watermark {watermark} is 4294967296 transactions old, and row ages tell only the last 4294967296 apart"
    )
    assert result.rows_extracted == 100
    ledger.assert_equal()


def test_rows_of_a_cycle_ago_cost_a_copy_and_change_no_value(ledger: Ledger, traveller: Cluster) -> None:
    ledger.insert(1, 100)
    old = next_xid(traveller) - 1
    move_on(ledger, traveller, CYCLE - 1000)
    ledger.sync()
    burn_to(traveller, old + CYCLE + 50)

    again = ledger.sync_once()
    ledger.change(1, 1)
    changed = ledger.sync_once()
    idle = ledger.sync_once()

    # Their blocks have not changed, and so they are not mistaken for new ones where only those are read.
    copied = 0 if ledger.by_blocks else 100
    assert (again.rows_extracted, again.rows_inserted, again.rows_deleted) == (copied, 0, 0)
    assert counts(changed) == (1, 0, 1, 0)
    assert counts(idle) == (0, 0, 0, 0)
    ledger.assert_equal()


def test_row_is_not_missed_when_it_is_changed_by_the_transaction_that_its_age_mistakes_it_for(
    ledger: Ledger, traveller: Cluster
) -> None:
    ledger.insert(1, 10)
    old = next_xid(traveller) - 1
    move_on(ledger, traveller, CYCLE - 1000)
    burn_to(traveller, old + CYCLE)
    with ledger.open_transaction() as namesake:
        namesake.execute("SELECT pg_current_xact_id()::text::int8")
        assert namesake.fetchone() == (old + CYCLE,)
        first = ledger.sync_once()
        namesake.execute("UPDATE ledger SET note = 'changed by the namesake', txid = DEFAULT WHERE id = 1")
        namesake.execute("DELETE FROM ledger WHERE id = 2")

    result = ledger.sync_once(whole="a transaction that was open at the last syncs may have written before them")

    assert first.rows_inserted == 10
    assert result.mode == "xmin_incremental"
    ledger.assert_equal()
