"""Syncs while the counter crosses 2^31, where signed 32-bit ages turn, and 2^32, where 32-bit ids begin anew."""

from __future__ import annotations

import math

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.clusters import Workshop
from xmin_assets_tests.integration.conftest import one_mode
from xmin_assets_tests.integration.ledger import Ledger, counts
from xmin_assets_tests.servers import (
    CYCLE,
    JUMP,
    await_replay,
    burn_to,
    next_xid,
    remove,
    standby_of,
    travel,
    vacuum_freeze,
)

HALF = CYCLE // 2


@pytest.fixture(params=[HALF, 0], ids=["half a cycle", "a cycle"])
def boundary(request: pytest.FixtureRequest, ledger: Ledger, traveller: Cluster) -> int:
    """An odd or an even multiple of 2^31, the server 100 transactions before it, and 50 rows, frozen long before."""
    offset = request.param
    found = offset + math.ceil((next_xid(traveller) + JUMP - offset) / CYCLE) * CYCLE
    ledger.source.disconnect()
    travel(traveller, found - JUMP)
    ledger.insert(1, 50)
    ledger.source.disconnect()
    travel(traveller, found - 100)
    return found


def after(boundary: int) -> int:
    """The first transaction at or past a boundary: the 32-bit ids 0, 1 and 2 are no transactions."""
    return boundary + 3 if boundary % CYCLE == 0 else boundary


def test_transactions_open_across_the_boundary_arrive_when_they_commit(
    ledger: Ledger, traveller: Cluster, boundary: int
) -> None:
    first = ledger.sync()
    with ledger.open_transaction() as early:
        early.execute("UPDATE ledger SET note = 'early', txid = DEFAULT WHERE id = 1")
        burn_to(traveller, boundary - 1)
        with ledger.open_transaction() as last:
            last.execute("INSERT INTO ledger (id, note) VALUES (100, 'last of its cycle')")
            ledger.insert(101, 101)
            ledger.change(2, 2)
            before_commits = ledger.sync()
            burn_to(traveller, boundary + 50)
            ledger.change(2, 3)
        one_commit = ledger.sync()
    both_commits = ledger.sync()

    assert counts(before_commits) == (2, 1, 1, 0)
    assert before_commits.max_xmin == after(boundary) + 1
    assert counts(one_commit)[1:] == (1, 2, 0)
    assert counts(both_commits)[1:] == (0, 1, 0)
    assert first.watermark == boundary - 100
    assert before_commits.watermark == one_commit.watermark == boundary - 100, "the early transaction holds it"
    assert both_commits.watermark == next_xid(traveller) > boundary
    assert all(result.mode == "xmin_incremental" for result in (before_commits, one_commit, both_commits))


def test_watermark_at_the_very_boundary_loses_nothing(ledger: Ledger, traveller: Cluster, boundary: int) -> None:
    ledger.sync()
    burn_to(traveller, boundary - 1)
    ledger.change(1, 1)
    at_the_end = ledger.sync()
    ledger.change(2, 2)
    at_the_beginning = ledger.sync()

    assert at_the_end.max_xmin == boundary - 1
    assert at_the_end.watermark == at_the_beginning.max_xmin == after(boundary)
    assert counts(at_the_beginning) == (1, 0, 1, 0)


@one_mode
def test_watermark_and_max_xmin_keep_rising(ledger: Ledger, traveller: Cluster, boundary: int) -> None:
    seen = []
    for step in range(8):
        burn_to(traveller, boundary - 40 + 10 * step)
        ledger.change(step + 1, step + 1)
        seen.append(ledger.sync())

    assert [result.max_xmin for result in seen] == sorted({result.max_xmin for result in seen})
    assert [result.watermark for result in seen] == sorted({result.watermark for result in seen})
    assert seen[0].max_xmin < boundary < seen[-1].max_xmin
    assert [counts(result) for result in seen[1:]] == [(1, 0, 1, 0)] * 7


def test_rows_of_both_sides_are_copied_once_and_freezing_does_not_copy_them_again(
    ledger: Ledger, traveller: Cluster, boundary: int
) -> None:
    ledger.insert(51, 60)
    ledger.sync()
    burn_to(traveller, boundary + 100)
    ledger.insert(61, 70)
    ledger.change(1, 10)
    ledger.source.execute("DELETE FROM ledger WHERE id = 60")
    assert counts(ledger.sync()) == (20, 10, 10, 1)

    vacuum_freeze(traveller)

    assert counts(ledger.sync()) == (0, 0, 0, 0)


@one_mode
def test_first_sync_past_the_boundary_knows_every_rows_transaction(
    ledger: Ledger, traveller: Cluster, boundary: int
) -> None:
    ledger.insert(51, 60)
    burn_to(traveller, boundary + 100)
    ledger.insert(61, 70)

    result = ledger.sync()

    assert counts(result) == (70, 70, 0, 0)
    assert result.max_xmin == next_xid(traveller) - 1
    assert result.watermark == next_xid(traveller)


def test_standby_past_the_first_epoch_gives_the_same_xid64s(
    ledger: Ledger, traveller: Cluster, workshop: Workshop, boundary: int
) -> None:
    burn_to(traveller, boundary - 10)
    ledger.insert(51, 60)
    ledger.sync()
    with ledger.open_transaction() as late:
        late.execute("INSERT INTO ledger (id, note) VALUES (100, 'open across the boundary')")
        burn_to(traveller, boundary + 10)
        ledger.change(1, 5)
        standby = standby_of(traveller, workshop, f"standby-{boundary}")
        there = ledger.read_from(standby)
        before_commit = there.sync()
    await_replay(standby, traveller)

    after_commit = there.sync(whole="a transaction that was open at the last syncs may have written before them")
    ledger.change(6, 6)
    await_replay(standby, traveller)
    later = there.sync()

    assert (before_commit.mode, counts(before_commit)) == ("xmin_incremental", (5, 0, 5, 0))
    assert (after_commit.mode, after_commit.rows_inserted) == ("xmin_incremental", 1)
    assert before_commit.watermark < boundary < after_commit.watermark
    assert counts(later) == (1, 0, 1, 0)
    there.source.disconnect()
    remove([standby])
