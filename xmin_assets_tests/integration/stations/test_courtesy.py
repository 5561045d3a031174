"""Reading that makes way while the source has much to do."""

from __future__ import annotations

import threading
import time
from contextlib import closing, suppress

import psycopg2
import pytest

from xmin_assets.postgres.connection import Database as Endpoint
from xmin_assets.replication.runtime.courtesy import LONGEST_STOP, Courtesy, Signs
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.replica import Replica


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("signs", "pace"),
    [
        (Signs(0.1, 10, 0), 1.0),
        (Signs(0.5, 10, 0), 0.5),
        (Signs(0.9, 10, 0), 0.0),
        (Signs(0.1, 2100, 0), 0.5),
        (Signs(0.1, 10, 90), 0.0),
    ],
)
def test_each_sign_slows_reading_down(signs: Signs, pace: float) -> None:
    assert signs.pace()[0] == pytest.approx(pace)


@pytest.mark.parametrize(
    ("pace", "waited"),
    [(1.0, 0.0), (0.5, 2.0), (0.25, 6.0), (0.0, LONGEST_STOP)],
)
def test_a_batch_is_followed_by_a_rest_and_no_stop_lasts_for_ever(
    source_db: Database, monkeypatch: pytest.MonkeyPatch, pace: float, waited: float
) -> None:
    clock = Clock()
    courtesy = Courtesy(Endpoint(source_db.url, "source"), now=lambda: clock.now, wait=clock.wait)
    monkeypatch.setattr(courtesy, "_ask", lambda: (pace, ""))
    courtesy.make_way(2.0, until=1e9)
    assert clock.now - 100 == pytest.approx(waited)

    before = clock.now
    courtesy.make_way(2.0, until=before + 1)
    assert clock.now - before <= 1.0 + 1e-6


def test_active_sessions_of_others_are_seen_and_ours_are_not(source_db: Database) -> None:
    with Endpoint(source_db.url, "source") as endpoint:
        courtesy = Courtesy(endpoint)
        assert courtesy.pace() == 1.0
        ((most,),) = source_db.fetch("SELECT current_setting('max_connections')::int")
        sessions = [source_db.connect() for _ in range(most // 2 + 2)]

        def sleep(session: psycopg2.extensions.connection) -> None:
            with suppress(psycopg2.Error), session.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(30)")

        threads = [threading.Thread(target=sleep, args=(session,)) for session in sessions]
        for thread in threads:
            thread.start()
        try:
            time.sleep(1.1)
            slow = courtesy.pace()
        finally:
            source_db.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)'")
            for thread in threads:
                thread.join()
            for session in sessions:
                session.close()
        time.sleep(1.1)
        assert 0.0 < slow < 0.7
        assert courtesy.pace() == 1.0
        courtesy.close()


def test_a_role_that_may_see_nothing_reads_at_full_speed(source_db: Database) -> None:
    source_db.execute("CREATE ROLE blind LOGIN PASSWORD 'x'")
    try:
        with Endpoint(source_db.url_as("blind", "x"), "source") as endpoint:
            courtesy = Courtesy(endpoint)
            assert courtesy.pace() == 1.0
            courtesy.close()
    finally:
        source_db.execute("DROP ROLE blind")


def test_a_sync_asks_between_its_batches(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    replica.source.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)")
    asked: list[float] = []
    make_way = Courtesy.make_way
    monkeypatch.setattr(
        Courtesy, "make_way", lambda self, seconds, until: (asked.append(seconds), make_way(self, seconds, until))
    )
    replica.settings["courtesy"] = True
    replica.sync("public.t")

    assert asked
    replica.assert_equal("public.t")
    with closing(replica.source.connect()) as session, session.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'xmin_assets'")
        assert cursor.fetchone() == (0,)
