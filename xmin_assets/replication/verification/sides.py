"""The two sides of a comparison: one table each, read by workers under one snapshot, both at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.errors import Cancelled, TerminalError
from xmin_assets.postgres.catalog import Storage
from xmin_assets.postgres.connection import Database, cancelled
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.transaction import HEARTBEAT, translate_errors
from xmin_assets.replication.manifests.table import Column
from xmin_assets.replication.runtime.snapshot_workers import SnapshotWorkers
from xmin_assets.replication.scan import where_clause
from xmin_assets.replication.scan.checksum import printed, row_hash, row_text, text_of, value_of

Result = TypeVar("Result")

T = TypeVar("T")

# The planner takes an expression for as many groups as the table has rows, and would sort them. Our workers are all
# that work on a table; a view's query may be any, and has one of them.
_GROUP_BY_HASH = "SET LOCAL enable_sort = off"

_ALONE = "SET LOCAL max_parallel_workers_per_gather = 0"

MOST_LOCKED = 2000
"""Relations that all workers of a side may lock together, indexes aside: each locks all that the table has rows in, and
a server with its default settings has room for a little more than 6000 locks."""


@dataclass(frozen=True)
class RowFormat:
    """How one side's rows are recognised and printed. Columns stand in the same order on both sides."""

    columns: tuple[Column, ...]
    """What is compared, by the names of this side."""
    key: tuple[Column, ...]
    """Empty where rows have no key: then a row's whole text is its key."""
    rows: sql.Composable | None
    """The condition on the rows that are compared; None for all."""
    encodings_differ: bool
    """Whether the databases may have different encodings."""
    has_number: bool = False
    """Whether the key is an integer, on both sides."""
    path: tuple[str, ...] = ()
    """Where a where clause among the conditions finds what it names; see `where_clause.search_path`."""

    def hash(self) -> sql.Composable:
        """Build 64 bits of a row."""
        return row_hash(self.columns, encodings_differ=self.encodings_differ)

    def key_texts(self) -> list[sql.Composable]:
        """Build the key's columns as texts, which sort in the order of their bytes."""
        if not self.key:
            return [
                sql.SQL('({} COLLATE pg_catalog."C")').format(
                    row_text(self.columns, encodings_differ=self.encodings_differ)
                )
            ]
        return [
            sql.SQL('({} COLLATE pg_catalog."C")').format(text_of(printed(value_of(column)), self.encodings_differ))
            for column in self.key
        ]

    def bucket(self, buckets: int) -> sql.Composable:
        """Build the number of a row's bucket, from its key: the same on both sides.

        A type's own hash function would not do: that of an enum hashes the oid of the label.
        """
        if self.has_number:
            number: sql.Composable = sql.SQL("{}::int8").format(value_of(self.key[0]))
        else:
            number = row_hash(self.key or self.columns, encodings_differ=self.encodings_differ)
        return sql.SQL("(pg_catalog.abs({} OPERATOR(pg_catalog.%) {})::int4)").format(number, sql.Literal(buckets))


@dataclass
class ComparisonWorker:
    """One worker's cursor. What it finds counts only when it is complete, so there is nothing to discard."""

    cursor: ext.cursor

    def keep(self) -> None:
        """Return nothing is left to be done."""

    def discard(self) -> None:
        """Return nothing is left behind."""


@dataclass
class ComparedTable:
    """One table under one snapshot."""

    database: Database
    cursor: ext.cursor
    """The coordinator's, whose transaction holds snapshot and lock."""
    table: QualifiedName
    leaves: tuple[Storage, ...]
    """What it has rows in, for the sizes. It is read by its own name."""
    row_format: RowFormat
    action: str
    workers: int
    deadline: float
    """Monotonic time in seconds at which the snapshot has been held for too long."""

    def __post_init__(self) -> None:
        self._used = time.monotonic()

    def run(self, tasks: Sequence[T], work: Callable[[ext.cursor, T], None], stopped: Event) -> None:
        """Do the tasks with as many workers as there are, until somebody says to stop.

        Raises:
            XminAssetsError: see `SnapshotWorkers.run`.
        """

        def one(worker: ComparisonWorker, task: T) -> None:
            self.check(stopped)
            work(worker.cursor, task)

        make_worker, workers = self._make_worker, max(1, min(self.workers, MOST_LOCKED // max(1, len(self.leaves))))
        with SnapshotWorkers(
            self.database, self.cursor, self.table, workers, make_worker, self.deadline, self.action
        ) as pool:
            pool.run(tasks, one)

    def check(self, stopped: Event | None = None) -> None:
        """Raise `Cancelled` or `TerminalError` where going on is of no use."""
        if cancelled() or (stopped and stopped.is_set()):
            raise Cancelled(f"{self.action}: stopped.")
        if time.monotonic() > self.deadline:
            raise TerminalError(
                f"{self.action}: the snapshot was held for longer than max_snapshot_age. Raise it, or use more workers."
            )

    def keep_alive(self) -> None:
        """Send a statement if the other side has been busy for a while, so that this one is not cut for being idle."""
        if time.monotonic() - self._used > HEARTBEAT:
            self.cursor.execute("SELECT 1")
            self.touch()

    def touch(self) -> None:
        """Remember that the coordinator's cursor was used just now."""
        self._used = time.monotonic()

    def _make_worker(self, cursor: ext.cursor, _: int) -> ComparisonWorker:
        cursor.execute(_GROUP_BY_HASH)
        if self.leaves:
            cursor.execute(_ALONE)
        where_clause.use_search_path(cursor, self.row_format.path)
        return ComparisonWorker(cursor)


def on_both(
    source: ComparedTable, target: ComparedTable, work: Callable[[ComparedTable, Event], Result]
) -> tuple[Result, Result]:
    """Do the work on both sides at the same time, each in a thread; if one fails, the other one stops soon.

    Args:
        source: the source table.
        target: the target table.
        work: called with the side, and with the event at which it must stop.

    Raises:
        XminAssetsError: what the work raised.
    """
    stopped = Event()

    def run(side: ComparedTable) -> Result:
        try:
            with translate_errors(side.database, side.action):
                return work(side, stopped)
        except BaseException:
            stopped.set()
            raise

    with ThreadPoolExecutor(2, thread_name_prefix="xmin-verify") as pool:
        futures = {pool.submit(run, side): side for side in (source, target)}
        with _stopping(stopped):
            while wait(futures, timeout=HEARTBEAT).not_done:
                _keep_alive(futures, stopped)
    errors = [error for future in futures if (error := future.exception())]
    for error in sorted(errors, key=lambda error: isinstance(error, Cancelled)):
        raise error
    one, other = (future.result() for future in futures)
    return one, other


@contextmanager
def _stopping(stopped: Event) -> Iterator[None]:
    try:
        yield
    except BaseException:
        stopped.set()
        raise


def _keep_alive(futures: dict[Future[Result], ComparedTable], stopped: Event) -> None:
    for future, side in futures.items():
        if future.done() and not stopped.is_set():
            with translate_errors(side.database, side.action):
                side.keep_alive()
