"""Reading one table under one snapshot: the passes over its ranges, and the files they write."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.postgres import xid
from xmin_assets.postgres.catalog import Storage
from xmin_assets.postgres.rows import fetch_as, fetch_one_as, fetch_value
from xmin_assets.replication.extraction.part_writer import PartWriter
from xmin_assets.replication.extraction.unsendable import Unsendable, is_unsendable
from xmin_assets.replication.manifests.extract import Part
from xmin_assets.replication.manifests.facts import SourceFacts
from xmin_assets.replication.manifests.plan import BlockRange, SourceSnapshot
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.runtime.progress import Progress, ProgressCallback
from xmin_assets.replication.runtime.snapshot_workers import SnapshotWorkers
from xmin_assets.replication.scan import cursor_column, where_clause
from xmin_assets.replication.scan.queries import CommonXid, Query, RangeCount
from xmin_assets.replication.scan.ranges import (
    RANGE_BYTES,
    WHOLE,
    Count,
    CtidRange,
    batches,
    bytes_with_toast,
    heap_bytes,
    pieces_of,
    rows_estimate,
)
from xmin_assets.replication.scan.session_flags import SessionFlags
from xmin_assets.replication.schema.selection import VIEWS
from xmin_assets.replication.spool.spool import Spool

RANGES_PER_STATEMENT = 256
"""Ranges of changed blocks that one statement reads."""

ANY_BYTES = 1 << 62
"""More than any table has."""


@dataclass
class ReadWorker:
    """One worker: a transaction under the shared snapshot, and the files it writes."""

    cursor: ext.cursor
    query: Query
    rows: PartWriter
    changed_keys: PartWriter
    keys: PartWriter

    def keep(self) -> None:
        """Let what a task has written count."""
        for writer in (self.rows, self.changed_keys, self.keys):
            writer.keep()

    def discard(self) -> None:
        """Forget a failed task."""
        for writer in (self.rows, self.changed_keys, self.keys):
            writer.discard()


@dataclass
class TableReader:
    """Reads one table under one snapshot, and counts what it has found so far."""

    snapshot: SourceSnapshot
    facts: SourceFacts
    spool: Spool
    files: ExitStack
    batch_size: int
    on_progress: ProgressCallback
    on_part_complete: Callable[[Part], None] | None = None
    workers: list[ReadWorker] = field(default_factory=list)
    _counts: list[Count] = field(default_factory=list)
    _max_xids: list[int] = field(default_factory=list)
    _copied: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def make_worker(self, cursor: ext.cursor, number: int) -> ReadWorker:
        """Make a worker that reads under the shared snapshot."""
        plan, read = self.snapshot.plan, self.facts.selection
        has_xmin = self.facts.identity.kind not in VIEWS
        next_xid = xid.read_next_xid(cursor, self.facts.horizon) if has_xmin else None
        since = cursor_column.condition(cursor, self.snapshot.config, plan, read)
        table = self.snapshot.config.source_name
        query = Query(table, plan, read, next_xid, since, encodings_differ=self.snapshot.encodings_differ)
        where_clause.use_search_path(cursor, read.terms.path)
        writers = (
            PartWriter(self.spool, self.snapshot.sync_id, f"{kind}-{number}", self.files, on_part_complete)
            for kind, on_part_complete in (("rows", self.on_part_complete), ("changed-keys", None), ("keys", None))
        )
        worker = ReadWorker(cursor, query, *writers)
        with self._guard:
            self.workers.append(worker)
        return worker

    @property
    def source_rows(self) -> int:
        """Rows visible in the snapshot."""
        return sum(count.rows for count in self._counts)

    @property
    def changed_rows(self) -> int:
        """Rows that were copied."""
        return self._copied

    @property
    def max_xmin(self) -> int:
        """Highest xid64 among the rows to be copied; 0 for none."""
        return max(self._max_xids, default=0)

    @property
    def checksum(self) -> int:
        """Of all rows visible in the snapshot, if the plan asks for it."""
        return sum(count.checksum for count in self._counts)

    def nothing_written(self, state: State, storage: Sequence[Storage]) -> bool:
        """Return whether nothing can have changed, because no transaction id was assigned since the watermark.

        All transactions below it were finished when the last sync took its snapshot, and visible to it. Whatever is
        inserted, updated, deleted or altered takes an id, and the next one to be assigned is still the watermark. But
        what the last sync did not look for is still to be found, and the rows of an UNLOGGED table can go without a
        transaction: a crash empties it.
        """
        plan = self.snapshot.plan
        return (
            plan.watermark is not None
            and not plan.full_leaves
            and not plan.checksum
            and not (plan.find_deletes and state.deletes_left)
            and not any(leaf.unlogged for leaf in storage)
            and self.workers[0].query.next_xid == plan.watermark
        )

    def reuse_row_count(self, rows: int) -> None:
        """Take the last sync's number of rows as this one's."""
        self._report_progress(0, "no transaction has written since the last sync")
        self._counts.append(Count(WHOLE, rows, 0))

    def begin(self) -> None:
        """Say that the snapshot is taken, and nothing is read yet."""
        self._report_progress(0, "looking for changes")

    def read(self, pool: SnapshotWorkers[ReadWorker], ranges: list[CtidRange]) -> None:
        """Copy the changed rows of all ranges, and count all rows.

        Where all rows are copied, they are counted by that. Elsewhere it is counted first, which finds out what there
        is to copy.
        """
        copies_all, counts_all = self.workers[0].query.copies_all, self.snapshot.plan.checksum
        self._count(pool, [ctid_range for ctid_range in ranges if counts_all or not copies_all(ctid_range)])
        some = [
            count.ctid_range for count in self._counts if count.changed is None and not copies_all(count.ctid_range)
        ]
        whole = [ctid_range for ctid_range in ranges if copies_all(ctid_range)]
        most = pool.most_at_once(RANGE_BYTES)
        self._copy_rows(
            pool,
            [batch for ctid_range in some for batch in batches(ctid_range, None, self.batch_size, most)],
            [
                batch
                for ctid_range in whole
                for batch in batches(ctid_range, rows_estimate(ctid_range), self.batch_size, most)
            ],
        )

    def _count(self, pool: SnapshotWorkers[ReadWorker], ranges: list[CtidRange]) -> None:
        def count_one(worker: ReadWorker, ctid_range: CtidRange) -> None:
            worker.cursor.execute(worker.query.count(ctid_range))
            found = fetch_one_as(worker.cursor, RangeCount)
            with self._guard:
                changed = None if found.has_changed else 0
                self._counts.append(Count(ctid_range, found.rows, changed, int(found.checksum)))

        # A checksum is one of values, a count alone is not.
        pool.run(ranges, count_one, bytes_with_toast if self.snapshot.plan.checksum else heap_bytes)

    def _copy_rows(self, pool: SnapshotWorkers[ReadWorker], changed: list[CtidRange], whole: list[CtidRange]) -> None:
        tasks = [*((batch, False) for batch in changed), *((batch, True) for batch in whole)]
        batches_done = 0

        def copy_one(worker: ReadWorker, task: tuple[CtidRange, bool]) -> None:
            nonlocal batches_done
            batch, all_rows = task
            # Before the batch and not after it: should the loading have failed, this batch is as if never begun.
            worker.rows.rotate()
            common_xid = _common_xid(worker, batch) if all_rows else None
            rows = _raise_if_unsendable(
                batch, lambda: worker.rows.append(worker.cursor, worker.query.rows(batch, common_xid))
            )
            if self.snapshot.plan.chunk and batch.leaf and batch.end is not None:
                worker.rows.note(BlockRange(batch.leaf.relfilenode, batch.start, batch.end))
            if not rows:
                max_xid = 0
            elif not all_rows:
                max_xid = _max_xid_seen(worker)
            elif common_xid is None or _is_flagged(worker, batch):
                pool.pay(heap_bytes(batch))
                max_xid = _max_xid(worker, batch)
            else:
                max_xid = common_xid.xid64
            with self._guard:
                self._copied += rows
                batches_done += 1
                if all_rows and not self.snapshot.plan.checksum:
                    self._counts.append(Count(batch, rows, rows))
                self._max_xids.append(max_xid)
                # How many there are to come shows by those in the batches so far.
                self._report_progress(self._copied * len(tasks) // batches_done)

        pool.run(tasks, copy_one, lambda task: bytes_with_toast(task[0]))

    def copy_blocks(self, pool: SnapshotWorkers[ReadWorker], ranges: list[CtidRange], keys: bool) -> None:
        """Copy the changed rows of these ranges, and the keys of all rows in them where they are wanted."""
        groups = _groups(ranges, pool.most_at_once(ANY_BYTES))

        def copy_rows(worker: ReadWorker, group: list[CtidRange]) -> None:
            rows = _raise_if_unsendable(
                group[0], lambda: worker.rows.append(worker.cursor, worker.query.rows_in(group))
            )
            max_xid = _max_xid_seen(worker)
            with self._guard:
                self._max_xids.append(max_xid)
                self._copied += rows
                self._report_progress(self._copied)

        def copy_keys(worker: ReadWorker, group: list[CtidRange]) -> None:
            _raise_if_unsendable(group[0], lambda: worker.keys.append(worker.cursor, worker.query.keys_in(group)))

        pool.run(groups, copy_rows, lambda group: sum(map(bytes_with_toast, group)))
        self._counts.append(Count(WHOLE, 0, self._copied))
        if keys:
            self._report_progress(self._copied, "reading keys, to find deleted rows")
            pool.run(groups, copy_keys, lambda group: sum(map(heap_bytes, group)))

    def copy_whole(self, pool: SnapshotWorkers[ReadWorker]) -> None:
        """Copy the changed rows by one statement, of a table that is not cut into ranges."""

        def copy_all(worker: ReadWorker, ctid_range: CtidRange) -> None:
            rows = _raise_if_unsendable(
                ctid_range, lambda: worker.rows.append(worker.cursor, worker.query.rows(ctid_range))
            )
            self._max_xids.append(_max_xid_seen(worker))
            self._counts.append(Count(ctid_range, rows, rows))
            self._copied += rows
            self._report_progress(rows)

        self._report_progress(0, "reading rows")
        pool.run([WHOLE], copy_all)

    def copy_changed_keys(self, pool: SnapshotWorkers[ReadWorker]) -> tuple[Part, ...]:
        """Copy the keys of the changed rows; the files are complete while the snapshot is still held."""

        def copy_one(worker: ReadWorker, ctid_range: CtidRange) -> None:
            _raise_if_unsendable(
                ctid_range, lambda: worker.changed_keys.append(worker.cursor, worker.query.changed_keys(ctid_range))
            )

        pool.run([count.ctid_range for count in self._counts if count.changed != 0], copy_one, heap_bytes)
        for worker in self.workers:
            worker.changed_keys.flush()
        return self.parts("changed_keys")

    def copy_keys(self, pool: SnapshotWorkers[ReadWorker], ranges: list[CtidRange]) -> None:
        """Copy the keys of all rows in these ranges."""

        def copy_one(worker: ReadWorker, ctid_range: CtidRange) -> None:
            _raise_if_unsendable(ctid_range, lambda: worker.keys.append(worker.cursor, worker.query.keys(ctid_range)))

        self._report_progress(self.changed_rows, "reading keys, to find deleted rows")
        pool.run(ranges, copy_one, heap_bytes)

    @property
    def filled(self) -> list[CtidRange]:
        """The ranges that have rows."""
        return [count.ctid_range for count in self._counts if count.rows]

    @property
    def keys_copied(self) -> int:
        """How many keys were copied."""
        return sum(worker.keys.rows for worker in self.workers)

    def parts(self, kind: str) -> tuple[Part, ...]:
        """Return the files of one kind that have rows."""
        writers: list[PartWriter] = [getattr(worker, kind) for worker in self.workers]
        return tuple(part for writer in writers for part in writer.parts())

    def _report_progress(self, total: int, note: str = "") -> None:
        self.on_progress(Progress(self.snapshot.table, "extract", self._copied, total, note))


def _groups(ranges: list[CtidRange], most: int) -> list[list[CtidRange]]:
    """Return the ranges as they are read together: of one leaf, not too many, and `most` bytes or one piece of them."""
    groups: list[list[CtidRange]] = []
    size = 0
    for piece in (piece for ctid_range in ranges for piece in pieces_of(ctid_range, most)):
        last = groups[-1] if groups else None
        size += bytes_with_toast(piece)
        if last and last[0].leaf == piece.leaf and len(last) < RANGES_PER_STATEMENT and size <= most:
            last.append(piece)
        else:
            groups.append([piece])
            size = bytes_with_toast(piece)
    return groups


def _common_xid(worker: ReadWorker, ctid_range: CtidRange) -> CommonXid | None:
    worker.cursor.execute(worker.query.common_xid(ctid_range))
    return next(iter(fetch_as(worker.cursor, CommonXid)), None)


def _is_flagged(worker: ReadWorker, ctid_range: CtidRange) -> bool:
    worker.cursor.execute(sql.SQL("SELECT {} AS is_flagged").format(SessionFlags.is_flagged(ctid_range)))
    return fetch_value(worker.cursor, bool)


def _max_xid_seen(worker: ReadWorker) -> int:
    worker.cursor.execute(sql.SQL("SELECT {} AS max_xid_seen").format(SessionFlags.max_xid_seen()))
    return fetch_value(worker.cursor, int)


def _max_xid(worker: ReadWorker, ctid_range: CtidRange) -> int:
    worker.cursor.execute(worker.query.max_xid(ctid_range))
    return fetch_value(worker.cursor, int)


def _raise_if_unsendable(ctid_range: CtidRange, copy: Callable[[], int]) -> int:
    try:
        return copy()
    except psycopg2.Error as error:
        if not is_unsendable(error):
            raise
        raise Unsendable(error, ctid_range) from error
