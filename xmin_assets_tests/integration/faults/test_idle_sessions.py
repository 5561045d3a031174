"""Connections that lie idle: servers, firewalls and proxies cut them, and no sync fails for it."""

from __future__ import annotations

import time

import pytest

from xmin_assets.postgres import connection
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.integration.ledger import counts
from xmin_assets_tests.replica import Replica

CUT = (
    "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
    " WHERE application_name = 'xmin_assets' AND state = 'idle' AND datname = current_database()"
)


@pytest.fixture
def items(replica: Replica) -> Replica:
    replica.source.execute(
        "CREATE TABLE items (id int PRIMARY KEY, v int); INSERT INTO items SELECT i, i FROM generate_series(1, 50) i"
    )
    replica.sync("public.items")
    replica.source.execute("UPDATE items SET v = 0 WHERE id = 1")
    return replica


def limit(database: Database, milliseconds: int) -> None:
    database.execute(f'ALTER DATABASE "{database.name}" SET idle_session_timeout = {milliseconds}')


def test_a_sync_takes_longer_than_a_session_may_be_idle(items: Replica) -> None:
    """While one side works, the other one's connections lie idle, and so does the one that holds the table's lock."""
    limit(items.source, 200)
    limit(items.target, 200)

    with items.stations("public.items") as stations:
        planned = stations.snapshot()
        time.sleep(0.5)
        extracted = stations.extract(planned)
        time.sleep(0.5)
        staged = stations.stage(extracted)
        time.sleep(0.5)
        merged = stations.merge(staged)

    assert merged.updated == 1
    items.assert_equal("public.items")


def test_a_connection_that_was_cut_while_it_lay_idle_is_replaced(
    items: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ASK_AFTER", 0.0)
    with items.stations("public.items") as stations:
        planned = stations.snapshot()
        for database in (items.source, items.target):
            ((cut,),) = database.fetch(CUT)
            assert cut >= 1
        staged = stations.stage(stations.extract(planned))
        for database in (items.source, items.target):
            database.fetch(CUT)
        stations.merge(staged)

    items.assert_equal("public.items")
    assert counts(items.sync("public.items")) == (0, 0, 0, 0)
