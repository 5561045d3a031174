"""The files of an extract, loaded into the staged table as they come."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import Settings
from xmin_assets.errors import StaleExtract
from xmin_assets.postgres import catalog
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.server import started
from xmin_assets.postgres.transaction import TransactionMode, give_memory, transaction_on
from xmin_assets.replication.manifests.extract import CsvExtract, Part
from xmin_assets.replication.manifests.merge import MadeTypes
from xmin_assets.replication.manifests.operations import names_before
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.manifests.table import Column
from xmin_assets.replication.runtime.progress import Progress, ProgressCallback
from xmin_assets.replication.runtime.sizing import workers_for
from xmin_assets.replication.schema.keys import ensure_index
from xmin_assets.replication.schema.table_definition import column_definitions, target_columns
from xmin_assets.replication.schema.type_making import ensure_types
from xmin_assets.replication.spool.spool import Spool
from xmin_assets.replication.staging.file_loading import FileLoader, LoadPool
from xmin_assets.replication.staging.key_proof import INDEX_MEMORY, prove_key
from xmin_assets.replication.staging.staged_table import (
    count_staged,
    drop_staged,
    lock_own,
    mark_as_staged,
    require_target,
    set_not_null,
    staged_names,
)
from xmin_assets.replication.state.migrations import SCHEMA, ensure_schema
from xmin_assets.replication.state.table_state import lock_table_state


class StagedTableLoader:
    """The staged table of one sync, and its table of keys, which take the files of an extract as they come.

    Args:
        target: the target database.
        snapshot: of the sync.
        spool: where the files are.
        settings: as many files are loaded side by side as there are workers.
        on_progress: called with every file once all are known, from several threads.
        types: by which the files are read.
        removes_files: whether a file is removed when it is loaded, and no more wait than are loaded side by side: the
            spool then holds a few files, however large the table is.
    """

    def __init__(
        self,
        target: Database,
        snapshot: SourceSnapshot,
        spool: Spool,
        settings: Settings,
        on_progress: ProgressCallback,
        *,
        types: MadeTypes | None,
        removes_files: bool = False,
    ) -> None:
        self.types = types
        self._target = target
        self._snapshot = snapshot
        self._spool = spool
        self._on_progress = on_progress
        self._action = f"{self._snapshot.table}: staging"
        self._removes_files = removes_files
        self._loads = LoadPool(workers_for(settings), bounded=removes_files)
        self._guard = threading.Lock()
        self._loaded = 0
        self._total: int | None = None
        self.target_started: str | None = None
        self.name, self.keys_name = staged_names(self._snapshot.config.target_name)
        self.columns = self._snapshot.target_selection.staged_columns

    def __enter__(self) -> StagedTableLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self._loads.close()

    @classmethod
    @contextmanager
    def during_extract(
        cls, target: Database, snapshot: SourceSnapshot, spool: Spool, settings: Settings, on_progress: ProgressCallback
    ) -> Iterator[StagedTableLoader]:
        """Create the staged table before the extract begins.

        Raises:
            XminAssetsError: the target failed.
        """
        types = ensure_types(target, snapshot)
        with cls(target, snapshot, spool, settings, on_progress, types=types, removes_files=True) as loader:
            loader.create()
            yield loader

    def create(self) -> None:
        """Replace whatever an earlier sync has left by an empty table."""
        selection = self._snapshot.target_selection
        # A staged table that is to become the target must survive a crash of the server; others need not.
        persistence = sql.SQL("" if self._snapshot.plan.create_target else "UNLOGGED")
        with transaction_on(self._target, TransactionMode.WRITE, self._action) as cursor:
            require_target(cursor, self._snapshot)
            self.target_started = started(cursor)
            ensure_schema(cursor)
            lock_table_state(cursor, self._snapshot.config.target_name)
            drop_staged(cursor, self._snapshot.config.target_name)
            self._create(cursor, self.name, persistence, target_columns(selection))
            set_not_null(cursor, self.name, self._snapshot)

    def _create_keys(self) -> None:
        with transaction_on(self._target, TransactionMode.WRITE, self._action) as cursor:
            lock_own(cursor, self.name, self._snapshot, "ROW EXCLUSIVE")
            self._create(cursor, self.keys_name, sql.SQL("UNLOGGED"), self._snapshot.target_selection.key_columns)

    def _create(self, cursor: ext.cursor, name: str, persistence: sql.Composable, columns: tuple[Column, ...]) -> None:
        table = sql.Identifier(SCHEMA, name)
        definitions = column_definitions(self._as_in_target(cursor, columns))
        cursor.execute(sql.SQL("CREATE {} TABLE {} ({})").format(persistence, table, sql.SQL(", ").join(definitions)))
        mark_as_staged(cursor, name, self._snapshot.sync_id)

    def _as_in_target(self, cursor: ext.cursor, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        """Return the columns; those of a key to be proven have the collations by which the target compares keys."""
        selection, target = self._snapshot.target_selection, self._snapshot.target_oid
        if selection.unique_key or target is None:
            return columns
        present = {found.name: found for found in catalog.columns_of(cursor, target)}
        former = names_before(selection.key, self._snapshot.plan.column_operations)
        keys = {name: present.get(now) for name, now in zip(selection.key, former, strict=True)}
        return tuple(
            replace(column, collation=found.collation)
            if (found := keys.get(column.name)) and found.type == column.type
            else column
            for column in columns
        )

    def take(self, part: Part) -> None:
        """Begin to load a file of rows.

        Raises:
            XminAssetsError: one that was taken before could not be loaded.
        """
        self._loads.take(part, self._load_rows)

    def complete(self, extract: CsvExtract) -> tuple[int, int]:
        """Load what was not taken yet, and finish; how many rows and how many keys there are.

        Raises:
            DataInvalid: a file had other rows than its manifest says, or the key does not identify them.
        """
        self._total = extract.rows
        for part in extract.parts:
            self.take(part)
        keys = extract.key_parts or ()
        if extract.key_parts is not None:
            self._create_keys()
        for part in keys:
            self._loads.take(part, self._load_keys)
        found = self._loads.rows(extract.parts), self._loads.rows(keys)
        self._finish(extract)
        return found

    def _load_rows(self, part: Part) -> int:
        rows = self._load_part(self.name, self.columns, part)
        if self._removes_files:
            self._spool.remove_file(part.uri)
        with self._guard:
            self._loaded += rows
        if self._total is not None:
            self._on_progress(Progress(self._snapshot.table, "stage", self._loaded, self._total))
        return rows

    def _load_keys(self, part: Part) -> int:
        return self._load_part(self.keys_name, self._snapshot.target_selection.key, part)

    def _load_part(self, name: str, columns: Sequence[str], part: Part) -> int:
        return FileLoader(self._target, self._snapshot, self._spool, self._action).load(name, columns, part)

    def _require_count(self, cursor: ext.cursor, name: str, rows: int) -> None:
        # A crash of the server empties UNLOGGED tables, even between two parts of one load.
        found = count_staged(cursor, name)
        if found != rows:
            raise StaleExtract(
                f"{self._snapshot.table}: {found} of {rows} rows are in the staged table; the target server was "
                "restarted while they were loaded. Run the sync again."
            )

    def _finish(self, extract: CsvExtract) -> None:
        """Build the key, which proves that it is unique and not NULL, and gather the statistics that a merge needs.

        Raises:
            KeyInvalid: the key repeats or is NULL.
        """
        table = sql.Identifier(SCHEMA, self.name)
        key = self._snapshot.target_selection.key
        with transaction_on(self._target, TransactionMode.WRITE, self._action) as cursor:
            lock_own(cursor, self.name, self._snapshot, "ACCESS EXCLUSIVE")
            if not self._snapshot.plan.create_target:
                self._require_count(cursor, self.name, extract.rows)
            if extract.key_parts is not None:
                mode = "SHARE UPDATE EXCLUSIVE" if self._snapshot.target_selection.unique_key else "ACCESS EXCLUSIVE"
                lock_own(cursor, self.keys_name, self._snapshot, mode)
                self._require_count(cursor, self.keys_name, sum(part.rows for part in extract.key_parts))
            if key:
                give_memory(cursor, "maintenance_work_mem", INDEX_MEMORY)
                prove_key(cursor, self._snapshot, table, key)
                if extract.key_parts is not None and not self._snapshot.target_selection.unique_key:
                    prove_key(cursor, self._snapshot, sql.Identifier(SCHEMA, self.keys_name), key, with_others=False)
            if self._snapshot.plan.create_target and self._snapshot.target_selection.block_column:
                self._index_blocks(cursor, table, self._snapshot.target_selection.block_column)
            if not self._snapshot.plan.create_target:  # else nothing is joined with it, and autovacuum analyzes it
                cursor.execute(sql.SQL("ANALYZE {}").format(table))
            if extract.key_parts is not None:
                cursor.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(SCHEMA, self.keys_name)))

    def _index_blocks(self, cursor: ext.cursor, table: sql.Composable, column: str) -> None:
        ensure_index(cursor, QualifiedName(SCHEMA, self.name), column)
        # Without statistics the first syncs would rather read the whole target than look blocks up.
        cursor.execute(sql.SQL("ANALYZE {} ({})").format(table, sql.Identifier(column)))
