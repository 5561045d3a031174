"""Sessions that insert, update, delete and move keys at full speed, syncs back to back, and never an alarm."""

from __future__ import annotations

import random
from contextlib import suppress
from threading import Event

import psycopg2
import pytest

from xmin_assets_tests.clusters import Database
from xmin_assets_tests.integration.interleaving.sessions import Running
from xmin_assets_tests.integration.verify.conftest import counts
from xmin_assets_tests.replica import Replica

SECONDS = 8
SESSIONS = 3
ROWS = 5000
TABLE = f"""
CREATE SEQUENCE numbers START {ROWS + 1};
CREATE TABLE busy (id bigint PRIMARY KEY DEFAULT nextval('numbers'), v int, filler text);
INSERT INTO busy SELECT i, 0, repeat('x', 100) FROM generate_series(1, {ROWS}) i;
"""
CHANGES = (
    "INSERT INTO busy (v) SELECT 1 FROM generate_series(1, 5)",
    "UPDATE busy SET v = v + 1 WHERE id % 97 = {n}",
    "DELETE FROM busy WHERE id % 499 = {n}",
    "UPDATE busy SET id = nextval('numbers') WHERE id % 997 = {n}",
    "SAVEPOINT s; UPDATE busy SET v = -v WHERE id % 101 = {n}; ROLLBACK TO s",
    "SAVEPOINT s; INSERT INTO busy (v) VALUES (2); RELEASE s",
    "DELETE FROM busy WHERE id % 997 = {n}; INSERT INTO busy SELECT {n} ON CONFLICT DO NOTHING",
)


def churn(database: Database, seed: int, over: Event) -> int:
    """Change rows until it is over; how many transactions."""
    choice, done = random.Random(seed), 0
    connection = psycopg2.connect(database.url)
    try:
        while not over.is_set():
            # Two sessions may wait for one another, or insert one key at the same time.
            with suppress(psycopg2.errors.DeadlockDetected, psycopg2.errors.UniqueViolation):
                with connection, connection.cursor() as cursor:
                    for _ in range(choice.randint(1, 3)):
                        cursor.execute(choice.choice(CHANGES).format(n=choice.randrange(97)))
                        over.wait(choice.choice((0, 0, 0.02)))
                done += 1
    finally:
        connection.close()
    return done


@pytest.mark.parametrize("deletes", ["hard", "soft"])
def test_under_load_all_that_differs_is_pending(replica: Replica, deletes: str) -> None:
    table = {"source": "public.busy", "deletes": deletes}
    replica.source.execute(TABLE)
    replica.sync(table)
    over = Event()

    def sync_on() -> int:
        done = 0
        while not over.is_set():
            replica.sync(table)
            done += 1
        return done

    sessions = [Running(lambda seed=seed: churn(replica.source, seed, over)) for seed in range(SESSIONS)]
    syncing = Running(sync_on)
    timer = Running(lambda: over.wait(SECONDS / 2) or over.set())
    found = []
    try:
        while not over.is_set():
            found.append(replica.verify(table))
    finally:
        over.set()
        timer.result()
    assert sum(session.result() for session in sessions) > 20
    assert syncing.result() > 2
    assert [result for result in found if result.status != "match"] == []
    assert len(found) > 5 and sum(result.pending > 0 for result in found) > 2
    replica.sync(table)
    assert counts(replica.verify(table)) == (0, 0, 0, 0)
