"""Connections are ended from the server's side, and servers crash: a sync begins again, or the next one mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.clusters import Database, Workshop
from xmin_assets_tests.integration.faults.failpoints import OF_A_FIRST_SYNC, OF_A_LATER_SYNC, at_failpoint
from xmin_assets_tests.integration.faults.watched_table import TABLE, WatchedTable, terminate
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.servers import restart

CRASH_PLACES = [
    "after the snapshot",
    "after the rows were copied",
    "after a file was loaded",
    "after the stage",
    "after the rows were written",
    "before the commit",
    "after the commit",
]


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("failpoint", OF_A_LATER_SYNC)
def test_a_sync_whose_connections_are_ended_begins_again(watched: WatchedTable, failpoint: str, side: str) -> None:
    with at_failpoint(failpoint, lambda: terminate(getattr(watched.replica, side))) as happened:
        result = watched.replica.sync(TABLE)

    assert happened.is_set()
    assert result.status == "success"
    watched.assert_well()


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("failpoint", OF_A_FIRST_SYNC)
def test_a_first_sync_whose_connections_are_ended_begins_again(fresh: WatchedTable, failpoint: str, side: str) -> None:
    with at_failpoint(failpoint, lambda: terminate(getattr(fresh.replica, side))) as happened:
        fresh.replica.sync(TABLE)

    assert happened.is_set()
    fresh.assert_well()


@pytest.fixture(scope="module")
def crashing(workshop: Workshop) -> Iterator[tuple[Cluster, Cluster]]:
    """Two servers that no other test needs."""
    servers = workshop.start("crashing-source"), workshop.start_target("crashing-target")
    yield servers
    for server in servers:
        server.stop(immediate=True)


@pytest.fixture
def fragile(crashing: tuple[Cluster, Cluster], tmp_path: Path) -> Iterator[Replica]:
    """A replica on servers that may crash."""
    source, target = (Database.create(server) for server in crashing)
    yield Replica(source, target, tmp_path / "spool", {"workers": 2})
    for database in (source, target):
        database.drop()


def crash(replica: Replica, side: str) -> Callable[[], None]:
    def act() -> None:
        restart(getattr(replica, side).cluster, crash=True)
        for database in (replica.source, replica.target):
            database.disconnect()

    return act


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("failpoint", CRASH_PLACES)
def test_a_server_that_crashes_and_comes_back_is_waited_for(fragile: Replica, failpoint: str, side: str) -> None:
    watched = WatchedTable.synced(fragile)

    with at_failpoint(failpoint, crash(fragile, side)) as happened:
        result = fragile.try_sync(TABLE)

    assert happened.is_set()
    assert result.status == "success", result.error
    watched.sync()


@pytest.mark.parametrize("failpoint", ["after a file was loaded", "after the stage", "before the commit"])
def test_a_target_that_crashes_during_a_first_sync_has_no_half_copy(fragile: Replica, failpoint: str) -> None:
    watched = WatchedTable.create(fragile)

    with at_failpoint(failpoint, crash(fragile, "target")) as happened:
        fragile.try_sync(TABLE)

    assert happened.is_set()
    watched.assert_whole()
    watched.sync()


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_server_that_stays_down_is_an_error_and_not_the_end_of_the_copy(fragile: Replica, side: str) -> None:
    watched = WatchedTable.synced(fragile)
    server = getattr(fragile, side).cluster
    port = server.port

    def stop() -> None:
        server.stop(immediate=True)

    with at_failpoint("after the rows were copied", stop):
        result = fragile.try_sync(TABLE)

    assert result.status == "failed"
    assert f"No connection to the {side}" in str(result.error)
    server.start(port)
    fragile.source.disconnect()
    fragile.target.disconnect()
    watched.assert_whole()
    watched.sync()
