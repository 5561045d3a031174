"""A table whose rows know which transaction wrote them: the independent truth about every `source_xmin`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg2.extensions import cursor as Cursor

from xmin_assets.demo.cluster import Cluster
from xmin_assets.postgres.server import observe_server
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.manifests.report import TableResult
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.servers import wait_until

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
PLACES = """
SELECT id, pg_relation_filenode(tableoid)::int8 << 32 | (ctid::text::point)[0]::int8 FROM ledger ORDER BY id
"""


# Why every block is read of a table whose blocks are tracked, by what the reason of its plan says.
WHOLE = {
    "by a checksum": "the whole copy is checked by a checksum",
    "attached since": "the table has other files than at the last sync",
    "rewritten or truncated": "the table has other files than at the last sync",
}
NOT_ABOUT_CHANGES = "this sync is not about what changed"


@dataclass
class Ledger:
    """`public.ledger` of a source, and its copy."""

    replica: Replica
    options: dict[str, Any] = field(default_factory=dict)
    """Of the table's configuration."""

    @classmethod
    def create(cls, replica: Replica, options: dict[str, Any] | None = None, statement: str = CREATE) -> Ledger:
        """Make the table, without rows, and what its options need."""
        made = cls(replica, options or {})
        made.source.execute(statement)
        if made.by_blocks:
            made.source.execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
        return made

    @property
    def source(self) -> Database:
        return self.replica.source

    @property
    def config(self) -> dict[str, Any]:
        """How the table is configured."""
        return {"source": TABLE, **self.options}

    @property
    def by_blocks(self) -> bool:
        """Whether a sync reads only blocks that changed."""
        return bool(self.options.get("track_blocks"))

    def read_from(self, server: Cluster, name: str | None = None) -> Ledger:
        """The same copy, fed by a database of another server, or of another name."""
        return replace(self, replica=replace(self.replica, source=Database(server, name or self.source.name)))

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

    def plan(self, **table: Any) -> SourceSnapshot:
        """What the next sync would do; of a server whose WAL tells what has changed, if it is to do so."""

        def look() -> SourceSnapshot:
            planned = self.replica.plan({**self.config, **table})
            assert planned.snapshot is not None, planned.error
            return planned.snapshot

        found = [look()]
        # Right after its start, or its promotion, a server's summarizer may not have looked at any WAL yet.
        wait_until(
            lambda: "is summarized yet" not in found[0].plan.blocks_read or found.insert(0, look()), "WAL is summarized"
        )
        return found[0]

    def sync_once(self, whole: str | None = None, **table: Any) -> TableResult:
        """A sync that succeeds, and reads the blocks that it should; what it leaves is the test's to look at.

        Args:
            whole: why every block is read though blocks are tracked, if the plan's reason does not tell.
            table: of its configuration.
        """
        if self.by_blocks:
            self.plan(**table)
        return self._sync(whole, table)

    def sync(self, whole: str | None = None, **table: Any) -> TableResult:
        """As `sync_once`; it does what `plan_tables` said, and leaves a true copy."""
        plan = self.plan(**table).plan
        result = self._sync(whole, table)
        assert (result.mode, result.reason) == (plan.mode.value, plan.reason)
        self.assert_true()
        return result

    def source_start(self) -> str:
        """Which start of the source server a sync finds."""
        with (
            self.replica.stations(self.config) as stations,
            transaction_on(stations.source, TransactionMode.READ, "looking") as cursor,
        ):
            return observe_server(cursor).started

    def assert_true(self) -> None:
        """The target equals the source, and every source_xmin is the transaction that wrote the row."""
        self.assert_equal()
        wrong = "SELECT id, source_xmin, txid FROM ledger WHERE source_xmin IS DISTINCT FROM txid"
        assert self.replica.target.fetch(wrong) == []

    def assert_equal(self) -> None:
        """The target equals the source, and knows the block of every row where it is to know it."""
        self.replica.assert_equal(TABLE)
        if self.by_blocks:
            here = self.replica.target.fetch("SELECT id, source_block FROM ledger ORDER BY id")
            assert here == self.source.fetch(PLACES)

    def _sync(self, whole: str | None, table: dict[str, Any]) -> TableResult:
        result = self.replica.sync({**self.config, **table})
        path, reason = result.path or "", result.reason or ""
        if whole is None and result.mode != "xmin_incremental":
            whole = NOT_ABOUT_CHANGES
        whole = whole or next((why for said, why in WHOLE.items() if said in reason), None)
        if self.by_blocks and not whole:
            assert result.blocks_changed is not None or path.startswith("no block, "), path
        else:
            assert result.blocks_changed is None
            assert not self.by_blocks or (path.startswith("every block, because ") and str(whole) in path), path
        return result


def counts(result: TableResult) -> tuple[int, int, int, int]:
    """Rows extracted, inserted, updated, deleted."""
    return (result.rows_extracted, result.rows_inserted, result.rows_updated, result.rows_deleted)
