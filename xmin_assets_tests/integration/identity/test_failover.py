"""A standby that is promoted after its primary has lost, with itself, transactions that the copy has."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.clusters import Workshop
from xmin_assets_tests.integration.ledger import Ledger, counts
from xmin_assets_tests.servers import ask, await_replay, burn_to, command, next_xid, standby_of, wait_until

REASON = (
    "the source is on timeline 2, not 1: after a failover or a restore, transactions may be missing and their ids "
    "used again"
)


def promote(standby: Cluster) -> None:
    assert ask(standby, "SELECT pg_promote(wait => true)")


def receive_from(standby: Cluster, url: str) -> None:
    """Let the standby stream from another server."""
    command(standby, f"ALTER SYSTEM SET primary_conninfo = '{url}'")
    command(standby, "SELECT pg_reload_conf()")


def cut_off(standby: Cluster) -> None:
    """Let the standby receive nothing more."""
    receive_from(standby, "")
    wait_until(lambda: ask(standby, "SELECT count(*) = 0 FROM pg_stat_wal_receiver"), "the standby is cut off")


@pytest.fixture
def ledger(server: Cluster, make_ledger: Callable[[Cluster], Ledger]) -> Ledger:
    """Twenty rows on a primary, not synced."""
    made = make_ledger(server)
    made.insert(1, 20, "before the failover")
    return made


@pytest.fixture
def standby(ledger: Ledger, server: Cluster, workshop: Workshop, servers: list[Cluster]) -> Cluster:
    made = standby_of(server, workshop, f"{server.name}-standby")
    servers.append(made)
    return made


def test_promoted_standby_is_read_in_full_and_what_was_lost_is_undone(
    ledger: Ledger, server: Cluster, standby: Cluster
) -> None:
    await_replay(standby, server)
    ledger.sync()
    cut_off(standby)
    lost = next_xid(server)
    ledger.change(1, 5, "lost")
    ledger.insert(101, 105, "lost")
    ledger.source.execute("DELETE FROM ledger WHERE id = 20")
    ledger.sync()
    server.stop(immediate=True)
    promote(standby)
    there = ledger.read_from(standby)
    burn_to(standby, lost)
    there.change(4, 5, "written under the ids of lost transactions")
    there.insert(201, 202, "after the failover")

    switched = there.sync()
    there.change(6, 6)
    later = there.sync()

    assert (switched.mode, switched.reason) == ("full_sync", REASON)
    assert switched.rows_deleted == 5
    assert switched.rows_inserted == 3
    assert (later.mode, counts(later)) == ("xmin_incremental", (1, 0, 1, 0))


def test_standby_that_was_the_source_itself_is_read_in_full_after_its_promotion(
    ledger: Ledger, server: Cluster, standby: Cluster
) -> None:
    await_replay(standby, server)
    there = ledger.read_from(standby)
    there.sync()
    promote(standby)

    result = there.sync()

    assert (result.mode, result.reason) == ("full_sync", REASON)
    assert counts(result) == (20, 0, 0, 0)


def test_standby_of_a_promoted_standby_is_on_the_new_timeline_at_once(
    ledger: Ledger, server: Cluster, standby: Cluster, workshop: Workshop, servers: list[Cluster]
) -> None:
    follower = standby_of(server, workshop, f"{server.name}-follower")
    servers.append(follower)
    receive_from(follower, standby.url())
    await_replay(standby, server)
    cut_off(standby)
    ledger.change(1, 5, "lost")
    lost = ask(server, "SELECT pg_current_wal_insert_lsn()")
    ledger.sync()
    server.stop(immediate=True)
    promote(standby)
    ledger.read_from(standby).insert(201, 900, "after the failover")
    assert ask(standby, f"SELECT pg_current_wal_insert_lsn() > '{lost}'")
    await_replay(follower, standby)

    result = ledger.read_from(follower).sync()

    assert (result.mode, result.reason) == ("full_sync", REASON)
    assert result.rows_updated == 5
