"""Reading one table under one snapshot: the passes over its ranges, and the files they write."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.postgres import xid
from xmin_assets.postgres.catalog import Storage
from xmin_assets.postgres.failure import one_line
from xmin_assets.replication.extraction.part_writer import Writer
from xmin_assets.replication.extraction.unencodable import CODES, Unencodable
from xmin_assets.replication.manifests.extract import Part
from xmin_assets.replication.manifests.facts import SourceFacts
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.runtime.progress import Progress, Report
from xmin_assets.replication.runtime.snapshot_workers import Crew
from xmin_assets.replication.scan import cursor_column, where_clause
from xmin_assets.replication.scan.queries import Query
from xmin_assets.replication.scan.ranges import WHOLE, Count, Range, batches, rows_estimate
from xmin_assets.replication.schema.selection import VIEWS
from xmin_assets.replication.spool.spool import Spool

GROUP = 256
"""Ranges of changed blocks that one statement reads."""


@dataclass
class Reader:
    """One worker: a transaction under the shared snapshot, and the files it writes."""

    cursor: ext.cursor
    query: Query
    rows: Writer
    changed_keys: Writer
    keys: Writer

    def keep(self) -> None:
        """Let what a task has written count."""
        for writer in (self.rows, self.changed_keys, self.keys):
            writer.keep()

    def abandon(self) -> None:
        """Forget a failed task."""
        for writer in (self.rows, self.changed_keys, self.keys):
            writer.abandon()


@dataclass
class Passes:
    """The passes over one table, and what they have found so far."""

    snapshot: SourceSnapshot
    facts: SourceFacts
    spool: Spool
    files: ExitStack
    batch_size: int
    report: Report
    hand_on: Callable[[Part], None] | None = None
    readers: list[Reader] = field(default_factory=list)
    _counts: list[Count] = field(default_factory=list)
    _highest: list[int] = field(default_factory=list)
    _done: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def hire(self, cursor: ext.cursor, number: int) -> Reader:
        """A worker for the crew."""
        plan, read = self.snapshot.plan, self.facts.selection
        has_xmin = self.facts.identity.kind not in VIEWS
        now = xid.present(cursor, self.facts.horizon) if has_xmin else None
        since = cursor_column.condition(cursor, self.snapshot.config, plan, read)
        table = self.snapshot.config.source_name
        query = Query(table, plan, read, now, since, portable=self.snapshot.portable)
        where_clause.enter(cursor, read.terms.path)
        writers = (
            Writer(self.spool, self.snapshot.sync_id, f"{kind}-{number}", self.files, hand_on)
            for kind, hand_on in (("rows", self.hand_on), ("changed-keys", None), ("keys", None))
        )
        reader = Reader(cursor, query, *writers)
        with self._guard:
            self.readers.append(reader)
        return reader

    @property
    def source_rows(self) -> int:
        """Rows visible in the snapshot."""
        return sum(count.rows for count in self._counts)

    @property
    def changed_rows(self) -> int:
        """Rows that were copied."""
        return self._done

    @property
    def max_xmin(self) -> int:
        """Highest xid64 among the rows to be copied; 0 for none."""
        return max(self._highest, default=0)

    @property
    def checksum(self) -> int:
        """Of all rows visible in the snapshot, if the plan asks for it."""
        return sum(count.checksum for count in self._counts)

    def nothing_written(self, state: State, storage: Sequence[Storage]) -> bool:
        """Whether the table is what the last sync left, because no transaction id was assigned since the watermark.

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
            and self.readers[0].query.now == plan.watermark
        )

    def take_over(self, rows: int) -> None:
        """Take the last sync's number of rows as this one's."""
        self._say(0, "no transaction has written since the last sync")
        self._counts.append(Count(WHOLE, rows, 0))

    def begin(self) -> None:
        """Say that the snapshot is taken, and nothing is read yet."""
        self._say(0, "looking for changes")

    def read(self, crew: Crew[Reader], spans: list[Range]) -> None:
        """Copy the changed rows of all ranges, and count all rows.

        Where all rows are copied, they are counted by that. Elsewhere it is counted first, which finds out what there
        is to copy.
        """
        copies_all, counts_all = self.readers[0].query.copies_all, self.snapshot.plan.checksum
        self._count(crew, [span for span in spans if counts_all or not copies_all(span)])
        some = [count.span for count in self._counts if count.changed is None and not copies_all(count.span)]
        whole = [span for span in spans if copies_all(span)]
        self._copy_rows(
            crew,
            [batch for span in some for batch in batches(span, None, self.batch_size)],
            [batch for span in whole for batch in batches(span, rows_estimate(span), self.batch_size)],
        )

    def _count(self, crew: Crew[Reader], spans: list[Range]) -> None:
        def count_one(reader: Reader, span: Range) -> None:
            reader.cursor.execute(reader.query.count(span))
            (row,) = reader.cursor.fetchall()
            with self._guard:
                self._counts.append(reader.query.counted(span, row))

        crew.run(spans, count_one)

    def _copy_rows(self, crew: Crew[Reader], changed: list[Range], whole: list[Range]) -> None:
        tasks = [*((batch, False) for batch in changed), *((batch, True) for batch in whole)]
        batches_done = 0

        def copy_one(reader: Reader, task: tuple[Range, bool]) -> None:
            nonlocal batches_done
            batch, all_rows = task
            # Before the batch and not after it: should the loading have failed, this batch is as if never begun.
            reader.rows.rotate()
            usual = _usual(reader, batch) if all_rows else None
            rows = _sendable(batch, lambda: reader.rows.append(reader.cursor, reader.query.rows(batch, usual)))
            if not rows:
                highest = 0
            elif all_rows:
                highest = _highest(reader, batch) if usual is None or _is_marked(reader, batch) else usual[1]
            else:
                highest = _noted(reader)
            with self._guard:
                self._done += rows
                batches_done += 1
                if all_rows and not self.snapshot.plan.checksum:
                    self._counts.append(Count(batch, rows, rows))
                self._highest.append(highest)
                # How many there are to come shows by those in the batches so far.
                self._say(self._done * len(tasks) // batches_done)

        crew.run(tasks, copy_one)

    def copy_blocks(self, crew: Crew[Reader], ranges: list[Range], keys: bool) -> None:
        """Copy the changed rows of these ranges, and the keys of all rows in them where they are wanted."""
        by_leaf = [list(of_leaf) for _, of_leaf in groupby(ranges, key=lambda span: span.leaf)]
        groups = [spans[first : first + GROUP] for spans in by_leaf for first in range(0, len(spans), GROUP)]

        def copy_rows(reader: Reader, group: list[Range]) -> None:
            rows = _sendable(group[0], lambda: reader.rows.append(reader.cursor, reader.query.rows_of(group)))
            highest = _noted(reader)
            with self._guard:
                self._highest.append(highest)
                self._done += rows
                self._say(self._done)

        def copy_keys(reader: Reader, group: list[Range]) -> None:
            _sendable(group[0], lambda: reader.keys.append(reader.cursor, reader.query.keys_of(group)))

        crew.run(groups, copy_rows)
        self._counts.append(Count(WHOLE, 0, self._done))
        if keys:
            self._say(self._done, "reading keys, to find deleted rows")
            crew.run(groups, copy_keys)

    def copy_uncounted(self, crew: Crew[Reader]) -> None:
        """Copy the changed rows by one statement, of a table that is not cut into ranges."""

        def copy_all(reader: Reader, span: Range) -> None:
            rows = _sendable(span, lambda: reader.rows.append(reader.cursor, reader.query.rows(span)))
            self._highest.append(_noted(reader))
            self._counts.append(Count(span, rows, rows))
            self._done += rows
            self._say(rows)

        self._say(0, "reading rows")
        crew.run([WHOLE], copy_all)

    def copy_changed_keys(self, crew: Crew[Reader]) -> tuple[Part, ...]:
        """Copy the keys of the changed rows; the files are complete while the snapshot is still held."""

        def copy_one(reader: Reader, span: Range) -> None:
            _sendable(span, lambda: reader.changed_keys.append(reader.cursor, reader.query.changed_keys(span)))

        crew.run([count.span for count in self._counts if count.changed != 0], copy_one)
        for reader in self.readers:
            reader.changed_keys.flush()
        return self.parts("changed_keys")

    def copy_keys(self, crew: Crew[Reader], ranges: list[Range]) -> None:
        """Copy the keys of all rows in these ranges."""

        def copy_one(reader: Reader, span: Range) -> None:
            _sendable(span, lambda: reader.keys.append(reader.cursor, reader.query.keys(span)))

        self._say(self.changed_rows, "reading keys, to find deleted rows")
        crew.run(ranges, copy_one)

    @property
    def filled(self) -> list[Range]:
        """The ranges that have rows."""
        return [count.span for count in self._counts if count.rows]

    @property
    def keys_copied(self) -> int:
        """How many keys were copied."""
        return sum(reader.keys.rows for reader in self.readers)

    def parts(self, kind: str) -> tuple[Part, ...]:
        """The files of one kind that have rows."""
        writers: list[Writer] = [getattr(reader, kind) for reader in self.readers]
        return tuple(part for writer in writers for part in writer.parts())

    def _say(self, total: int, note: str = "") -> None:
        self.report(Progress(self.snapshot.table, "extract", self._done, total, note))


def _usual(reader: Reader, span: Range) -> tuple[str, int] | None:
    reader.cursor.execute(reader.query.usual(span))
    row: tuple[str, int] | None = reader.cursor.fetchone()
    return row


def _is_marked(reader: Reader, span: Range) -> bool:
    reader.cursor.execute(sql.SQL("SELECT {}").format(reader.query.marked(span)))
    return reader.cursor.fetchone() == (True,)


def _noted(reader: Reader) -> int:
    return _number(reader, sql.SQL("SELECT {}").format(reader.query.noted()))


def _highest(reader: Reader, span: Range) -> int:
    return _number(reader, reader.query.highest(span))


def _number(reader: Reader, statement: sql.Composable) -> int:
    reader.cursor.execute(statement)
    (found,) = reader.cursor.fetchone() or (0,)
    return int(found)


def _sendable(span: Range, copy: Callable[[], int]) -> int:
    try:
        return copy()
    except psycopg2.DataError as error:
        if error.pgcode not in CODES:
            raise
        raise Unencodable(one_line(error), span) from None
