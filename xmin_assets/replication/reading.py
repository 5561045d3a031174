"""Reading one table under one snapshot: the passes over its ranges, and the files they write."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import IO

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.errors import SpoolError
from xmin_assets.postgres import xid
from xmin_assets.postgres.copy import copy_out
from xmin_assets.postgres.failure import one_line
from xmin_assets.replication import cursor_column
from xmin_assets.replication.crew import Crew
from xmin_assets.replication.manifest import Part, SourceSnapshot
from xmin_assets.replication.plan import SourceFacts
from xmin_assets.replication.progress import Progress, Report
from xmin_assets.replication.scan import WHOLE, Count, Query, Range, batches
from xmin_assets.replication.selection import VIEWS
from xmin_assets.replication.spool import Spool, rewind
from xmin_assets.replication.unencodable import CODES, Unencodable


class Writer:
    """One worker's CSV file of one kind, opened with its first batch."""

    def __init__(self, spool: Spool, sync_id: str, name: str, files: ExitStack) -> None:
        self._spool = spool
        self._path = spool.sync_folder(sync_id) / name
        self._files = files
        self._file: IO[bytes] | None = None
        self.rows = 0
        self.bytes = 0

    def append(self, cursor: ext.cursor, query: sql.Composable) -> int:
        """Copy the query's rows to the end of the file; their number.

        Raises:
            SpoolError: the file cannot be written.
        """
        if self._file is None:
            self._file = self._files.enter_context(self._spool.write(self._path))
        try:
            rows = copy_out(cursor, query, self._file)
            self.rows += rows
            self.bytes = self._file.tell()
        except OSError as error:
            raise SpoolError(f"The spool file {self._path} cannot be written: {error.strerror or error}.") from None
        return rows

    def abandon(self) -> None:
        """Drop what a failed batch has left."""
        if self._file is not None:
            with suppress(OSError):
                rewind(self._file, self.bytes)

    def flush(self) -> None:
        """Let other readers of the file see all of it."""
        if self._file is not None:
            self._file.flush()

    def part(self) -> Part | None:
        """The file, if it has rows."""
        return Part(str(self._path), self.rows, self.bytes) if self.rows else None


@dataclass
class Reader:
    """One worker: a transaction under the shared snapshot, and the files it writes."""

    cursor: ext.cursor
    query: Query
    rows: Writer
    changed_keys: Writer
    keys: Writer

    def abandon(self) -> None:
        """Forget a failed batch."""
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
    readers: list[Reader] = field(default_factory=list)
    _counts: list[Count] = field(default_factory=list)
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
        writers = (
            Writer(self.spool, self.snapshot.sync_id, f"{kind}-{number}.csv", self.files)
            for kind in ("rows", "changed-keys", "keys")
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
        return max((count.max_xmin for count in self._counts), default=0)

    @property
    def checksum(self) -> int:
        """Of all rows visible in the snapshot, if the plan asks for it."""
        return sum(count.checksum for count in self._counts)

    def nothing_written(self) -> bool:
        """Whether no transaction id was assigned since the watermark.

        All transactions below it were finished when the last sync took its snapshot, and visible to it. Whatever is
        inserted, updated, deleted or altered takes an id, and the next one to be assigned is still the watermark.
        """
        plan = self.snapshot.plan
        return (
            plan.watermark is not None
            and not plan.full_leaves
            and not plan.checksum
            and self.readers[0].query.now == plan.watermark
        )

    def take_over(self, rows: int) -> None:
        """Take the last sync's number of rows as this one's."""
        self._counts.append(Count(WHOLE, rows, 0, 0))

    def count(self, crew: Crew[Reader], spans: list[Range]) -> None:
        """Count rows and find out which ranges have changed ones."""

        def count_one(reader: Reader, span: Range) -> None:
            reader.cursor.execute(reader.query.count(span))
            rows, youngest, checksum = reader.cursor.fetchone() or (0, None, 0)
            changed = reader.query.changed(span, rows, youngest)
            max_xmin = _highest(reader, span, youngest) if changed != 0 else 0
            with self._guard:
                self._counts.append(Count(span, rows, changed, max_xmin, int(checksum)))

        self._say(0, "counting rows")
        crew.run(spans, count_one)

    def copy_rows(self, crew: Crew[Reader]) -> None:
        """Copy the changed rows, batch by batch."""
        cut = [batch for count in self._counts for batch in batches(count, self.batch_size)]
        known = sum(count.changed for count in self._counts if count.changed is not None)
        total = known if all(count.changed is not None for count in self._counts) else None
        batches_done = 0

        def copy_one(reader: Reader, batch: Range) -> None:
            nonlocal batches_done
            rows = _sendable(batch, lambda: reader.rows.append(reader.cursor, reader.query.rows(batch)))
            with self._guard:
                self._done += rows
                batches_done += 1
                # As many as in the batches so far, where the scan has not counted them.
                self._say(self._done * len(cut) // batches_done if total is None else total)

        crew.run(cut, copy_one)

    def copy_uncounted(self, crew: Crew[Reader]) -> None:
        """Copy the changed rows by one statement, of a table that is not cut into ranges."""

        def copy_all(reader: Reader, span: Range) -> None:
            max_xmin = 0
            if self.facts.identity.kind not in VIEWS:
                max_xmin = _highest(reader, span, None)
            rows = _sendable(span, lambda: reader.rows.append(reader.cursor, reader.query.rows(span)))
            self._counts.append(Count(span, rows, rows, max_xmin))
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
        return tuple(part for writer in writers if (part := writer.part()))

    def _say(self, total: int, note: str = "") -> None:
        self.report(Progress(self.snapshot.table, "extract", self._done, total, note))


def _highest(reader: Reader, span: Range, youngest: int | None) -> int:
    """The highest xid64 of the rows to be copied: by the youngest's age if it is known and tells, else by a scan."""
    if youngest is not None and (told := reader.query.highest_of(youngest)) is not None:
        return told
    reader.cursor.execute(reader.query.highest(span))
    (found,) = reader.cursor.fetchone() or (0,)
    return int(found)


def _sendable(span: Range, copy: Callable[[], int]) -> int:
    try:
        return copy()
    except psycopg2.DataError as error:
        if error.pgcode not in CODES:
            raise
        raise Unencodable(one_line(error), span) from None
