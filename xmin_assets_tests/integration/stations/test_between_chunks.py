"""Whatever several sessions do between the chunks of a load, the copy is the source as of the closing sync's snapshot.

The histories are random, and the same in every run but for one, which is another one each time.
"""

from __future__ import annotations

import random
from contextlib import suppress

import psycopg2
import pytest

from xmin_assets.replication.runtime.progress import Progress
from xmin_assets.replication.sync import resync_tables
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.replica import Replica

PLAIN = "CREATE TABLE t (id int PRIMARY KEY, n int, filler text)"
PARTITIONED = """
CREATE TABLE t (id int PRIMARY KEY, n int, filler text) PARTITION BY RANGE (id);
CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (MINVALUE) TO (500);
CREATE TABLE t_high PARTITION OF t FOR VALUES FROM (500) TO (MAXVALUE);
"""
FILL = "INSERT INTO t SELECT i, 0, repeat('x', 200) FROM generate_series(1, 1000) i"
SESSIONS = 3


class Cut(Exception):
    """The end of a process, as far as this test needs it."""


class Changes:
    """Does a few random things before each chunk, in sessions of which some have a transaction open."""

    def __init__(self, source: Database, seed: int) -> None:
        self.chance = random.Random(seed)
        self.source = source
        self.sessions = [source.connect().cursor() for _ in range(SESSIONS)]
        for session in self.sessions:
            session.execute("SET lock_timeout = '5ms'")
        self.chunks = 0

    def __call__(self, step: Progress) -> None:
        if not step.note.startswith("loading by chunks"):
            return
        self.chunks += 1
        for _ in range(self.chance.randint(1, 5)):
            self.change()
        if self.chance.random() < 0.06:
            raise Cut

    def change(self) -> None:
        session, key = self.chance.choice(self.sessions), self.chance.randint(1, 1000)
        statement = self.chance.choice(
            [
                f"INSERT INTO t VALUES ({key + 1000}, 1, repeat('new', 60)) ON CONFLICT DO NOTHING",
                f"UPDATE t SET n = n + 1 WHERE id BETWEEN {key} AND {key + 30}",
                f"DELETE FROM t WHERE id BETWEEN {key} AND {key + 10}",
                f"UPDATE t SET id = -id WHERE id BETWEEN {key} AND {key + 5}",
                f"INSERT INTO t VALUES ({key}, 2, 'again') ON CONFLICT (id) DO UPDATE SET n = t.n + 10",
                f"UPDATE t SET id = CASE id WHEN {key} THEN -9999 ELSE id END WHERE id = {key}",
                "BEGIN",
                "BEGIN",
                "SAVEPOINT a",
                "COMMIT",
                "COMMIT",
                "ROLLBACK",
                "VACUUM t",
                "ANALYZE t",
            ]
        )
        # It may wait for another session, come at a time when there is no transaction, or repeat a key.
        try:
            session.execute(statement)
        except psycopg2.Error:
            with suppress(psycopg2.Error):
                session.execute("ROLLBACK")

    def end(self) -> None:
        for session in self.sessions:
            session.execute("COMMIT")


@pytest.mark.parametrize("create", [PLAIN, PARTITIONED], ids=["plain", "partitioned"])
@pytest.mark.parametrize("seed", [1, None])
@pytest.mark.parametrize("again", [False, True], ids=["first load", "resync"])
def test_what_sessions_do_between_chunks_is_in_the_copy_or_in_the_next(
    replica: Replica, source_db: Database, create: str, seed: int | None, again: bool
) -> None:
    seed = seed or random.randrange(1 << 30)
    source_db.execute(f"{create}; {FILL}")
    table = {"source": "public.t", "load_chunk": "16 KiB"}
    if again:
        replica.sync("public.t")
        replica.target.execute("UPDATE t SET n = -1 WHERE id % 9 = 0; DELETE FROM t WHERE id % 8 = 0")
        resync_tables(replica.config(table))
    changes = Changes(source_db, seed)
    for _ in range(50):
        if (result := replica.try_sync(table, on_progress=changes)).status == "success":
            break
        assert "Cut" in (result.error or ""), (seed, result.error)

    assert changes.chunks > 10, seed
    replica.assert_equal("public.t")
    assert replica.verify("public.t").status == "match", seed
    changes.end()
    replica.sync(table)
    replica.assert_equal("public.t")
