"""The table that a load by chunks fills: made once, loaded file by file by whoever goes on, and keyed at the end."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import Settings
from xmin_assets.postgres import catalog
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.transaction import TransactionMode, give_memory, transaction_on
from xmin_assets.replication.manifests.extract import CsvExtract, Part
from xmin_assets.replication.manifests.load import Load
from xmin_assets.replication.manifests.plan import BlockRange, SourceSnapshot
from xmin_assets.replication.runtime.sizing import workers_for
from xmin_assets.replication.schema.keys import ensure_index
from xmin_assets.replication.schema.table_definition import column_definitions, target_columns
from xmin_assets.replication.spool.spool import Spool
from xmin_assets.replication.staging.file_loading import FileLoader, LoadPool
from xmin_assets.replication.staging.key_proof import INDEX_MEMORY, prove_key
from xmin_assets.replication.staging.staged_table import lock_own, mark_as_staged, set_not_null
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
    set_not_null(cursor, name, planned)
    mark_as_staged(cursor, name, planned.sync_id)
    relation = catalog.find_relation(cursor, QualifiedName(SCHEMA, name))
    assert relation is not None
    return relation.oid


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
        self._action = f"{load.planned.table}: loading"
        self._files = FileLoader(target, load.planned, spool, self._action)
        self._loads = LoadPool(workers_for(settings), bounded=True)
        self._name = load_table_name(load.planned.config.target_name)

    def __enter__(self) -> ChunkLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self._loads.close()

    def take(self, part: Part) -> None:
        """Begin to load a file.

        Raises:
            XminAssetsError: one that was taken before could not be loaded.
        """
        self._loads.take(part, self._load_part)

    def complete(self, extract: CsvExtract, chunk: Sequence[BlockRange]) -> None:
        """Load what was not taken yet, and note that the whole chunk is loaded.

        Raises:
            XminAssetsError: a file could not be loaded, or the load is over.
        """
        for part in extract.parts:
            self.take(part)
        self._loads.rows(extract.parts)
        with transaction_on(self._target, TransactionMode.WRITE, self._action) as cursor:
            lock_own(cursor, self._name, self._load.planned, "ROW EXCLUSIVE")
            note_chunk(cursor, self._load, chunk, extract.max_xmin)

    def _load_part(self, part: Part) -> int:
        def note(cursor: ext.cursor) -> None:
            note_loaded(cursor, self._load, part.ranges, rows=part.rows, csv_bytes=part.bytes)

        rows = self._files.load(self._name, self._load.planned.target_selection.staged_columns, part, note)
        self._spool.remove_file(part.uri)
        return rows
