"""The second station: the changed rows, and the keys of all rows where they are needed, as CSV files in the spool.

Three passes under one snapshot. The first counts, range by range: rows, changed rows, highest xid64. The second
copies the changed rows of ranges that have any. The third copies all keys, unless the counts already prove that nothing
was deleted: a row version older than the watermark was visible to the last sync as well, so without changed rows the
keys here are a subset of the keys there, and a subset of the same size is the whole.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, suppress
from typing import IO

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import Mode, Settings
from xmin_assets.errors import PlanOutdated, SpoolError
from xmin_assets.postgres import xid
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.copy import copy_out
from xmin_assets.postgres.server import observe_server, wal_position
from xmin_assets.postgres.transaction import Isolation, statement, transaction
from xmin_assets.replication.crew import Crew
from xmin_assets.replication.manifest import CsvExtract, Part, SourceSnapshot
from xmin_assets.replication.plan import SourceFacts
from xmin_assets.replication.progress import Progress, Report, silent
from xmin_assets.replication.scan import Count, Query, Range, batches, spans
from xmin_assets.replication.sizing import workers_for
from xmin_assets.replication.snapshot import read_source
from xmin_assets.replication.spool import Spool, rewind


def extract(
    source: Database,
    snapshot: SourceSnapshot,
    spool: Spool,
    settings: Settings,
    *,
    report: Report = silent,
) -> CsvExtract:
    """Read what the plan says, under a snapshot of its own.

    Raises:
        PlanOutdated: the table is no longer what was planned for.
        XminAssetsError: the source or the spool failed. The files of this sync are removed.
    """
    began = time.monotonic()
    doing = f"{snapshot.table}: extracting"
    table = snapshot.config.source_name
    workers = workers_for(settings)
    spool.remove(snapshot.sync_id)
    spool.make_folder(spool.sync_folder(snapshot.sync_id))
    try:
        with source.connection() as connection, ExitStack() as files:
            with statement(source, connection, doing) as cursor:
                server = observe_server(cursor)
            lock = sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(table.sql)
            with transaction(source, connection, Isolation.READ_SNAPSHOT, doing, lock) as cursor:
                facts, storage = read_source(cursor, server, snapshot.config)
                _require_as_planned(snapshot, facts)
                passage = _Passage(snapshot, facts, spool, files, settings.batch_size, report)
                deadline = began + settings.max_snapshot_age
                with Crew(source, cursor, table, workers, passage.hire, deadline, doing) as crew:
                    passage.count(crew, spans(storage, workers))
                    passage.copy_rows(crew)
                    if passage.keys_needed:
                        passage.copy_keys(crew)
                lsn = wal_position(cursor)
    except BaseException:
        spool.remove(snapshot.sync_id)
        raise
    return CsvExtract(
        snapshot=snapshot,
        parts=tuple(part for worker in passage.workers if (part := worker.rows.part())),
        key_parts=(
            tuple(part for worker in passage.workers if (part := worker.keys.part())) if passage.keys_needed else None
        ),
        rows=sum(worker.rows.rows for worker in passage.workers),
        bytes=sum(worker.rows.bytes for worker in passage.workers),
        source_rows=passage.source_rows,
        max_xmin=passage.max_xmin,
        horizon=facts.horizon,
        source_lsn=lsn,
        workers=len(passage.workers),
        seconds=time.monotonic() - began,
        key_bytes=sum(worker.keys.bytes for worker in passage.workers),
    )


def _require_as_planned(snapshot: SourceSnapshot, facts: SourceFacts) -> None:
    if facts.identity != snapshot.identity or facts.selection != snapshot.selection:
        raise PlanOutdated(
            f"{snapshot.table} changed after the sync was planned (another relation, columns or storage). "
            "Plan it again: run the sync, or materialize source_snapshot, once more."
        )


class _Writer:
    """One worker's CSV file, opened with its first batch."""

    def __init__(self, spool: Spool, folder: str, name: str, files: ExitStack) -> None:
        self._spool = spool
        self._path = spool.sync_folder(folder) / name
        self._files = files
        self._file: IO[bytes] | None = None
        self.rows = 0
        self.bytes = 0

    def append(self, cursor: ext.cursor, query: sql.Composable) -> int:
        """Copy the query's rows to the end of the file; their number."""
        if self._file is None:
            self._file = self._files.enter_context(self._spool.write(self._path))
        try:
            rows = copy_out(cursor, query, self._file)
        except OSError as error:
            raise SpoolError(f"The spool file {self._path} cannot be written: {error.strerror or error}.") from None
        self.rows += rows
        self.bytes = self._file.tell()
        return rows

    def abandon(self) -> None:
        """Drop what a failed batch has left."""
        if self._file is not None:
            with suppress(OSError):
                rewind(self._file, self.bytes)

    def part(self) -> Part | None:
        """The file, if it has rows."""
        return Part(str(self._path), self.rows, self.bytes) if self.rows else None


class _Reader:
    """One worker: a transaction under the shared snapshot, and the files it writes."""

    def __init__(self, cursor: ext.cursor, query: Query, rows: _Writer, keys: _Writer) -> None:
        self.cursor = cursor
        self.query = query
        self.rows = rows
        self.keys = keys

    def abandon(self) -> None:
        self.rows.abandon()
        self.keys.abandon()


class _Passage:
    """One table's way through the three passes, and what they find."""

    def __init__(
        self,
        snapshot: SourceSnapshot,
        facts: SourceFacts,
        spool: Spool,
        files: ExitStack,
        batch_size: int,
        report: Report,
    ) -> None:
        self._snapshot = snapshot
        self._facts = facts
        self._spool = spool
        self._files = files
        self._batch_size = batch_size
        self._report = report
        self._guard = threading.Lock()
        self._counts: list[Count] = []
        self._done = 0
        self.workers: list[_Reader] = []

    def hire(self, cursor: ext.cursor, number: int) -> _Reader:
        """A worker for the crew."""
        query = Query(self._snapshot.plan, self._facts.selection, xid.present(cursor, self._facts.horizon))
        with self._guard:
            rows, keys = (
                _Writer(self._spool, self._snapshot.sync_id, f"{kind}-{number}.csv", self._files)
                for kind in ("rows", "keys")
            )
            reader = _Reader(cursor, query, rows, keys)
            self.workers.append(reader)
        return reader

    @property
    def source_rows(self) -> int:
        """Rows visible in the snapshot."""
        return sum(count.rows for count in self._counts)

    @property
    def changed_rows(self) -> int:
        """Rows to be copied."""
        return sum(count.changed for count in self._counts)

    @property
    def max_xmin(self) -> int:
        """Highest xid64 among the rows to be copied; 0 for none."""
        return max((count.max_xmin for count in self._counts), default=0)

    @property
    def keys_needed(self) -> bool:
        """Whether rows may have been deleted that the target still has."""
        plan, state = self._snapshot.plan, self._snapshot.state
        if plan.mode is Mode.FULL_SYNC or self._facts.selection.deletes == "ignore" or state is None:
            return False  # a full extract brings all keys with its rows
        return self.changed_rows > 0 or self.source_rows != state.rows

    def count(self, crew: Crew[_Reader], ranges: list[Range]) -> None:
        """The first pass."""

        def count_one(reader: _Reader, span: Range) -> None:
            reader.cursor.execute(reader.query.count(span))
            rows, changed, max_xmin = reader.cursor.fetchone() or (0, 0, 0)
            with self._guard:
                self._counts.append(Count(span, rows, changed, max_xmin))

        self._say(0, "counting rows")
        crew.run(ranges, count_one)

    def copy_rows(self, crew: Crew[_Reader]) -> None:
        """The second pass."""

        def copy_one(reader: _Reader, batch: Range) -> None:
            rows = reader.rows.append(reader.cursor, reader.query.rows(batch))
            with self._guard:
                self._done += rows
                self._say(self.changed_rows)

        crew.run([batch for count in self._counts for batch in batches(count, self._batch_size)], copy_one)

    def copy_keys(self, crew: Crew[_Reader]) -> None:
        """The third pass."""

        def copy_one(reader: _Reader, span: Range) -> None:
            reader.keys.append(reader.cursor, reader.query.keys(span))

        self._say(self.changed_rows, "reading keys, to find deleted rows")
        crew.run([count.span for count in self._counts if count.rows], copy_one)

    def _say(self, total: int, note: str = "") -> None:
        self._report(Progress(self._snapshot.table, "extract", self._done, total, note))
