"""A table whose rows know which transaction wrote them: the independent truth about every `source_xmin`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from psycopg2.extensions import cursor as Cursor

from xmin_assets.demo.cluster import Cluster
from xmin_assets.replication.manifest import TableResult
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.replica import Replica

TABLE = "public.ledger"

# The column is written by the transaction itself; `change` below writes it anew.
CREATE = """
CREATE TABLE ledger (
    id int PRIMARY KEY,
    note text NOT NULL,
    txid int8 NOT NULL DEFAULT pg_current_xact_id()::text::int8
)
"""

INSERT = "INSERT INTO ledger (id, note) SELECT i, %s FROM generate_series(%s, %s) i"
CHANGE = "UPDATE ledger SET note = %s, txid = DEFAULT WHERE id BETWEEN %s AND %s"


@dataclass
class Ledger:
    """`public.ledger` of a source, and its copy."""

    replica: Replica

    @classmethod
    def create(cls, replica: Replica) -> Ledger:
        """Make the table, without rows."""
        replica.source.execute(CREATE)
        return cls(replica)

    @property
    def source(self) -> Database:
        return self.replica.source

    def read_from(self, server: Cluster, name: str | None = None) -> Ledger:
        """The same copy, fed by a database of another server, or of another name."""
        return Ledger(replace(self.replica, source=Database(server, name or self.source.name)))

    def insert(self, first: int, last: int, note: str = "new") -> None:
        """Insert rows, in one transaction."""
        self.source.execute(INSERT, (note, first, last))

    def change(self, first: int, last: int, note: str = "changed") -> None:
        """Update rows, in one transaction."""
        self.source.execute(CHANGE, (note, first, last))

    @contextmanager
    def open_transaction(self) -> Iterator[Cursor]:
        """A transaction that has its id; committed when the block ends, rolled back when the test fails in it."""
        writer = self.source.connect()
        writer.autocommit = False
        with writer, writer.cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id()")
            yield cursor

    def sync(self, **table: Any) -> TableResult:
        """A sync that succeeds, does what `plan_tables` said, and leaves a true copy."""
        table = {"source": TABLE, **table}
        planned = self.replica.plan(table)
        assert planned.snapshot is not None, planned.error
        result = self.replica.sync(table)
        plan = planned.snapshot.plan
        assert (result.mode, result.reason) == (plan.mode.value, plan.reason)
        self.assert_true()
        return result

    def assert_true(self) -> None:
        """The target equals the source, and every source_xmin is the transaction that wrote the row."""
        self.replica.assert_equal(TABLE)
        wrong = "SELECT id, source_xmin, txid FROM ledger WHERE source_xmin IS DISTINCT FROM txid"
        assert self.replica.target.fetch(wrong) == []


def counts(result: TableResult) -> tuple[int, int, int, int]:
    """Rows extracted, inserted, updated, deleted."""
    return (result.rows_extracted, result.rows_inserted, result.rows_updated, result.rows_deleted)
