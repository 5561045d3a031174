"""A comparison after half a cycle of transactions, a whole one, and across its boundary."""

from __future__ import annotations

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.integration.conftest import one_mode
from xmin_assets_tests.integration.ledger import TABLE, Ledger
from xmin_assets_tests.integration.verify.conftest import counts
from xmin_assets_tests.servers import CYCLE, burn_to, next_xid, travel

pytestmark = one_mode


def move_to(ledger: Ledger, server: Cluster, xid64: int) -> None:
    """Make this the next xid64, with every row frozen on the way."""
    ledger.source.disconnect()
    travel(server, xid64)


def test_faults_are_told_from_changes_on_both_sides_of_half_a_cycle(ledger: Ledger, traveller: Cluster) -> None:
    ledger.insert(1, 100)
    ledger.sync()
    ledger.change(1, 5)
    ledger.source.execute("DELETE FROM ledger WHERE id = 6")
    move_to(ledger, traveller, next_xid(traveller) + 2**31 + 1000)
    ledger.change(7, 8)
    ledger.replica.target.execute("UPDATE ledger SET note = 'meddled' WHERE id = 50; DELETE FROM ledger WHERE id = 51")

    assert counts(ledger.replica.verify(TABLE)) == (1, 0, 1, 8)


def test_a_watermark_a_cycle_old_tells_nothing_and_the_note_says_so(ledger: Ledger, traveller: Cluster) -> None:
    ledger.insert(1, 100)
    watermark = ledger.sync().watermark
    ledger.change(1, 5)
    move_to(ledger, traveller, watermark + CYCLE - 1)
    assert counts(ledger.replica.verify(TABLE)) == (0, 0, 0, 5)

    burn_to(traveller, watermark + CYCLE + 1)
    found = ledger.replica.verify(TABLE)

    assert counts(found) == (0, 0, 5, 0)
    assert "too long ago" in (found.note or "")


def test_values_that_the_next_sync_compares_are_pending_under_an_equal_id(ledger: Ledger, traveller: Cluster) -> None:
    ledger.insert(1, 10)
    old = next_xid(traveller) - 1
    move_to(ledger, traveller, old + CYCLE - 1000)
    burn_to(traveller, old + CYCLE)
    with ledger.open_transaction() as namesake:
        ledger.replica.sync(TABLE)
        namesake.execute("UPDATE ledger SET note = 'changed by the namesake', txid = DEFAULT WHERE id = 1")
        namesake.execute("DELETE FROM ledger WHERE id = 2")

    assert counts(ledger.replica.verify(TABLE)) == (0, 0, 0, 2)
    ledger.replica.sync(TABLE)
    assert counts(ledger.replica.verify(TABLE)) == (0, 0, 0, 0)
