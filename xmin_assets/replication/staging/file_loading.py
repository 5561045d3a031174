"""CSV files, loaded into tables of the schema xmin_assets side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.errors import DataInvalid
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.copy import copy_in
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.replication.manifests.extract import Part
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.runtime.rate_limit import paced
from xmin_assets.replication.spool.spool import Spool
from xmin_assets.replication.staging.rejected_values import rejection
from xmin_assets.replication.staging.staged_table import lock_own
from xmin_assets.replication.state.migrations import SCHEMA


@dataclass(frozen=True)
class FileLoader:
    """Loads files of one sync, each in a transaction of its own."""

    target: Database
    snapshot: SourceSnapshot
    """Of the sync that the tables are of."""
    spool: Spool
    action: str
    """The beginning of an error's sentence."""

    def load(
        self, name: str, columns: Sequence[str], part: Part, finish: Callable[[ext.cursor], None] | None = None
    ) -> int:
        """Load a file into a table and return the number of its rows.

        Args:
            name: of the table, in the schema xmin_assets.
            columns: of the file, in order.
            part: the file.
            finish: what else belongs to the transaction, once the rows are there.

        Raises:
            DataInvalid: the target refuses a value, or the file has other rows than its manifest says.
            StaleExtract: the table is gone or another sync's.
            XminAssetsError: the target or the spool failed.
        """
        with (
            self.spool.read(part.uri) as file,
            transaction_on(self.target, TransactionMode.WRITE, self.action) as cursor,
        ):
            lock_own(cursor, name, self.snapshot, "ROW EXCLUSIVE")
            try:
                rows = copy_in(cursor, sql.Identifier(SCHEMA, name), columns, paced(file, self.target.budget))
            except psycopg2.Error as error:
                if problem := rejection(error, self.snapshot, columns, part, self.spool):
                    raise problem from error
                raise
            if rows != part.rows:
                raise DataInvalid(
                    f"{self.snapshot.table}: {part.uri} has {rows} rows, {part.rows} were extracted. "
                    "The file was changed or cut; extract the table again."
                )
            if finish:
                finish(cursor)
        return rows


class LoadPool:
    """Files that are being loaded, known by their URIs.

    Args:
        workers: how many are loaded side by side.
        bounded: whether a file is taken only when fewer than so many wait to be loaded.
    """

    def __init__(self, workers: int, *, bounded: bool) -> None:
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="xmin-stage")
        self._room = threading.BoundedSemaphore(workers) if bounded else None
        self._loads: dict[str, Future[int]] = {}
        self._guard = threading.Lock()

    def close(self) -> None:
        """Wait for the files that are being loaded, and let the others be."""
        self._threads.shutdown(cancel_futures=True)

    def take(self, part: Part, load: Callable[[Part], int]) -> None:
        """Begin to load a file, unless it was taken before.

        Raises:
            XminAssetsError: one that was taken before could not be loaded.
        """
        with self._guard:
            if part.uri in self._loads:
                return
            done = [taken for taken in self._loads.values() if taken.done()]
        for taken in done:
            taken.result()
        if self._room:
            self._room.acquire()
        future = self._threads.submit(load, part)
        if room := self._room:
            future.add_done_callback(lambda _: room.release())
        with self._guard:
            self._loads[part.uri] = future

    def rows(self, parts: Sequence[Part]) -> int:
        """Wait until these files are loaded, and return how many rows they have together.

        Raises:
            XminAssetsError: one could not be loaded.
        """
        return sum(self._loads[part.uri].result() for part in parts)
