"""The table that a load by chunks fills: made once, loaded file by file by whoever goes on, and keyed at the end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import Settings
from xmin_assets.errors import DataInvalid
from xmin_assets.postgres import catalog
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.copy import copy_in
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.transaction import TransactionMode, give_memory, transaction_on
from xmin_assets.replication.manifests.extract import CsvExtract, Part
from xmin_assets.replication.manifests.load import Load
from xmin_assets.replication.manifests.plan import BlockRange, SourceSnapshot
from xmin_assets.replication.runtime.rate_limit import paced
from xmin_assets.replication.runtime.sizing import workers_for
from xmin_assets.replication.schema.keys import ensure_index
from xmin_assets.replication.schema.table_definition import column_definitions, target_columns
from xmin_assets.replication.spool.spool import Spool
from xmin_assets.replication.staging.key_proof import INDEX_MEMORY, prove_key
from xmin_assets.replication.staging.rejected_values import rejection
from xmin_assets.replication.staging.staged_table import COMMENT_PREFIX, lock_own
from xmin_assets.replication.state.loads import load_table_name, note_chunk, note_loaded
from xmin_assets.replication.state.migrations import SCHEMA


def create_load_table(cursor: ext.cursor, planned: SourceSnapshot) -> int:
    """Make the table for a load that begins, in place of any other, and return its oid.

    It is logged from the beginning: what is loaded outlasts a crash of the target.
    """
    name = load_table_name(planned.config.target_name)
    table, selection = sql.Identifier(SCHEMA, name), planned.target_selection
    cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
    definitions = column_definitions(target_columns(selection))
    cursor.execute(sql.SQL("CREATE TABLE {} ({})").format(table, sql.SQL(", ").join(definitions)))
    if planned.config.key is None and selection.key:
        # A key that was found is NOT NULL at the source, and a primary key over such columns costs no scan.
        changes = (sql.SQL("ALTER COLUMN {} SET NOT NULL").format(sql.Identifier(column)) for column in selection.key)
        cursor.execute(sql.SQL("ALTER TABLE {} {}").format(table, sql.SQL(", ").join(changes)))
    mark_as_staged(cursor, name, planned.sync_id)
    relation = catalog.find_relation(cursor, QualifiedName(SCHEMA, name))
    assert relation is not None
    return relation.oid


def mark_as_staged(cursor: ext.cursor, name: str, sync_id: str) -> None:
    """Say in its comment whose table this is; see `staged_table.lock_own`."""
    comment = sql.Literal(COMMENT_PREFIX + sync_id)
    cursor.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(sql.Identifier(SCHEMA, name), comment))


def add_load_key(target: Database, load: Load) -> None:
    """Give the load's table its key, if it has none yet, and its statistics: rows are merged into it next.

    Raises:
        XminAssetsError: the target failed, or the load is over.
    """
    selection = load.planned.target_selection
    name = load_table_name(load.planned.config.target_name)
    with transaction_on(target, TransactionMode.WRITE, f"{load.planned.table}: building the key") as cursor:
        lock_own(cursor, name, load.planned, "ACCESS EXCLUSIVE")
        relation = catalog.find_relation(cursor, QualifiedName(SCHEMA, name))
        assert relation is not None
        if selection.key not in catalog.keys_of(cursor, relation.oid):
            give_memory(cursor, "maintenance_work_mem", INDEX_MEMORY)
            prove_key(cursor, load.planned, sql.Identifier(SCHEMA, name), selection.key)
            if selection.block_column:
                ensure_index(cursor, QualifiedName(SCHEMA, name), selection.block_column)
            cursor.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(SCHEMA, name)))


class ChunkLoader:
    """Loads the files of one chunk while others are written, each in a transaction with the blocks that it has.

    Args:
        target: the target database.
        load: the load.
        spool: where the files are; they are removed when they are loaded.
        settings: as many files are loaded side by side as there are workers.
    """

    def __init__(self, target: Database, load: Load, spool: Spool, settings: Settings) -> None:
        self._target = target
        self._load = load
        self._spool = spool
        workers = workers_for(settings)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="xmin-load")
        self._room = threading.BoundedSemaphore(workers)
        self._loads: dict[str, Future[None]] = {}
        self._guard = threading.Lock()
        self._name = load_table_name(load.planned.config.target_name)
        self._columns = load.planned.target_selection.staged_columns

    def __enter__(self) -> ChunkLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self, part: Part) -> None:
        """Begin to load a file, when fewer than as many as there are workers wait to be loaded.

        Raises:
            XminAssetsError: one that was taken before could not be loaded.
        """
        self._room.acquire()
        with self._guard:
            done = [load for load in self._loads.values() if load.done()]
            future = self._pool.submit(self._load_part, part)
            self._loads[part.uri] = future
        future.add_done_callback(lambda _: self._room.release())
        for load in done:
            load.result()

    def complete(self, extract: CsvExtract, chunk: Sequence[BlockRange]) -> None:
        """Load what was not taken yet, and note that the whole chunk is loaded.

        Raises:
            XminAssetsError: a file could not be loaded, or the load is over.
        """
        for part in extract.parts:
            if part.uri not in self._loads:
                self.take(part)
        for load in list(self._loads.values()):
            load.result()
        with transaction_on(self._target, TransactionMode.WRITE, self._action) as cursor:
            lock_own(cursor, self._name, self._load.planned, "ROW EXCLUSIVE")
            note_chunk(cursor, self._load, chunk, extract.max_xmin)

    @property
    def _action(self) -> str:
        return f"{self._load.planned.table}: loading"

    def _load_part(self, part: Part) -> None:
        table = sql.Identifier(SCHEMA, self._name)
        with (
            self._spool.read(part.uri) as file,
            transaction_on(self._target, TransactionMode.WRITE, self._action) as cursor,
        ):
            lock_own(cursor, self._name, self._load.planned, "ROW EXCLUSIVE")
            try:
                rows = copy_in(cursor, table, self._columns, paced(file, self._target.budget))
            except psycopg2.Error as error:
                if problem := rejection(error, self._load.planned, self._columns, part, self._spool):
                    raise problem from error
                raise
            if rows != part.rows:
                raise DataInvalid(
                    f"{self._load.planned.table}: {part.uri} has {rows} rows, {part.rows} were extracted. "
                    "The file was changed or cut; run the sync again."
                )
            note_loaded(cursor, self._load, part.ranges, rows=rows, csv_bytes=part.bytes)
        self._spool.remove_file(part.uri)
