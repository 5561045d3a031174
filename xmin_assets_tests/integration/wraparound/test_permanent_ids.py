"""Rows whose raw xmin is no transaction: 2, as servers before 9.4 froze rows, and 1, as initdb writes them."""

from __future__ import annotations

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.integration.conftest import one_mode
from xmin_assets_tests.integration.ledger import TABLE, Ledger, counts
from xmin_assets_tests.servers import next_xid, travel, vacuum_freeze, write_xmins

BOOTSTRAP, FROZEN = 1, 2


@pytest.fixture
def ancient(ledger: Ledger, traveller: Cluster) -> Ledger:
    """Ten rows, of which the first two have the raw xmins 1 and 2."""
    ledger.insert(1, 10)
    vacuum_freeze(traveller)
    write_xmins(ledger.source, TABLE, {1: BOOTSTRAP, 2: FROZEN})
    raw = "SELECT id, xmin::text::int FROM ledger WHERE id <= 2 ORDER BY id"
    assert ledger.source.fetch(raw) == [(1, BOOTSTRAP), (2, FROZEN)]
    return ledger


def source_xmins(ledger: Ledger) -> list[tuple[int, int, int]]:
    return ledger.replica.target.fetch("SELECT id, source_xmin, txid FROM ledger WHERE id <= 3 ORDER BY id")


@one_mode
def test_they_are_copied_once_and_keep_their_value(ancient: Ledger) -> None:
    written = next(iter(ancient.source.fetch("SELECT txid FROM ledger WHERE id = 3")))[0]

    first = ancient.sync_once()
    idle = ancient.sync_once()

    assert counts(first) == (10, 10, 0, 0)
    assert first.max_xmin == written
    assert [row[:2] for row in source_xmins(ancient)] == [(1, BOOTSTRAP), (2, FROZEN), (3, written)]
    assert counts(idle) == (0, 0, 0, 0)
    ancient.assert_equal()


def test_they_arrive_when_they_are_changed_or_deleted(ancient: Ledger) -> None:
    ancient.sync_once()
    ancient.change(1, 1)
    ancient.source.execute("DELETE FROM ledger WHERE id = 2")

    result = ancient.sync()

    assert counts(result) == (1, 0, 1, 1)


@one_mode
def test_their_age_which_never_grows_makes_nothing_be_written_again(ancient: Ledger, traveller: Cluster) -> None:
    ancient.sync_once()
    ancient.source.disconnect()
    # age() of a permanent id is 2^31 - 1, below that of the watermark now.
    travel(traveller, next_xid(traveller) + 2**31 + 1000)
    ancient.change(3, 3)

    result = ancient.sync_once()

    assert counts(result) == (3, 0, 1, 0)
    assert [row[:2] for row in source_xmins(ancient)][:2] == [(1, BOOTSTRAP), (2, FROZEN)]
    ancient.assert_equal()
