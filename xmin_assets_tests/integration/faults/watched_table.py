"""A table with its copy, and what must be true of the copy whatever happened to a sync."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xmin_assets.replication.manifests.report import TableResult
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.waiting import wait_until

TABLE = "public.items"
ROOT = Path(__file__).parents[3]

# Rows of 700 bytes: a few ranges of 1 MiB, so that both workers read.
CREATE = """
CREATE TABLE items (id int PRIMARY KEY, n int NOT NULL, filler text NOT NULL);
INSERT INTO items SELECT i, 0, repeat('x', 700) FROM generate_series(1, 4000) i;
"""
CHANGE = """
UPDATE items SET n = n + 1 WHERE id % 10 = 0;
DELETE FROM items WHERE id IN (SELECT id FROM items WHERE id % 10 = 5 LIMIT 40);
INSERT INTO items SELECT i, 0, repeat('y', 700) FROM generate_series(
    (SELECT max(id) + 1 FROM items), (SELECT max(id) + 50 FROM items)) i;
"""

_OURS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'xmin_assets'"
_LOCKS = """
SELECT count(*) FROM pg_locks
 WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_STAGED = """
SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('xmin_assets') AND relname LIKE 'staged%%'
"""


@dataclass
class WatchedTable:
    """`public.watched` of a source, its copy, and how the copy was when it was last looked at."""

    replica: Replica
    before: tuple[Any, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def create(cls, replica: Replica) -> WatchedTable:
        """Make the table; nothing is copied yet."""
        replica.source.execute(CREATE)
        watched = cls(replica)
        watched.look()
        config = replica.spool.parent / "config.json"
        settings = {"workers": 2, "spool": str(replica.spool)}
        config.write_text(json.dumps({"settings": settings, "tables": [TABLE]}))
        watched.environment = {
            **os.environ,
            "XMIN_CONFIG": str(config),
            "XMIN_SOURCE_URL": replica.source.url,
            "XMIN_TARGET_URL": replica.target.url,
        }
        return watched

    @classmethod
    def synced(cls, replica: Replica) -> WatchedTable:
        """Make the table, copy it, and change it at the source."""
        watched = cls.create(replica)
        replica.sync(TABLE)
        watched.change()
        return watched

    def change(self) -> None:
        """Insert, update and delete at the source; what the copy has now is what was before."""
        self.replica.source.execute(CHANGE)
        self.look()

    def look(self) -> None:
        """Remember how the copy is."""
        self.before = self.now()

    def now(self) -> tuple[Any, ...]:
        """The rows of the copy, and where its next sync resumes; nothing where there is none."""
        target = self.replica.target
        if target.fetch("SELECT to_regclass('public.items')") == [(None,)]:
            return ()
        rows = target.fetch("SELECT id, n, filler FROM items ORDER BY id")
        return rows, target.fetch("SELECT revision, watermark FROM xmin_assets.state")

    def start(self, *arguments: str, failpoint: str | None = None, **options: Any) -> subprocess.Popen[str]:
        """The command in a process of its own; it kills itself at the place."""
        module = (
            ["xmin_assets"]
            if failpoint is None
            else ["xmin_assets_tests.integration.faults.kill_at_failpoint", failpoint]
        )
        return subprocess.Popen(
            [sys.executable, "-m", *module, *(arguments or ("sync", "--json"))],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def sync(self) -> TableResult:
        """One plain sync, after which everything is well."""
        result = self.replica.sync(TABLE)
        self.assert_well()
        return result

    def assert_whole(self) -> None:
        """The copy is as it was, or as the source is, and its state says which of the two."""
        now = self.now()
        if now == self.before:
            return
        rows, ((revision, watermark),) = now
        assert rows == self.replica.source.fetch("SELECT id, n, filler FROM items ORDER BY id")
        if self.before:
            ((old_revision, old_watermark),) = self.before[1]
            assert revision > old_revision
            assert watermark >= old_watermark

    def assert_well(self) -> None:
        """The copy equals the source, and no sync has left anything anywhere."""
        self.replica.assert_equal(TABLE)
        self.assert_nothing_left()

    def assert_nothing_left(self) -> None:
        """No staged table, no file, no connection, no lock."""
        assert self.replica.target.fetch(_STAGED) == []
        assert files_in(self.replica.spool) == []
        for database in (self.replica.source, self.replica.target):
            wait_until(lambda database=database: count(database, _OURS) == 0)  # type: ignore[misc]
            assert count(database, _LOCKS) == 0


def files_in(spool: Path) -> list[Path]:
    """What syncs have left there. Dagster's manifests stay, for the next step or for a person."""
    return list((spool / "syncs").rglob("*"))


def count(database: Database, query: str) -> int:
    """The number that a query gives."""
    ((found,),) = database.fetch(query)
    return int(found)


def backends(database: Database) -> int:
    """How many connections of ours there are to a database."""
    return count(database, _OURS)


def terminate(database: Database) -> int:
    """End all connections of ours to a database, from the server's side."""
    return len(
        database.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'xmin_assets'"
        )
    )
