"""The fourth station: one transaction in the target that changes the columns, deletes, upserts and moves the watermark.

The transaction first checks that the state is the one the plan started from: of two syncs planned from the same state,
one merges and the other is refused. Merging the same sync again does nothing and reports the same result. What is done
to the target's columns and key is what the plan says; it is decided again under the lock, and where that differs, the
plan is outdated.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import HISTORY_ROWS, Mode, Triggers
from xmin_assets.errors import PlanOutdated, StaleExtract, TargetDrifted
from xmin_assets.postgres import catalog, user_triggers
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.key_equality import same_key
from xmin_assets.postgres.server import started
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.postgres.user_triggers import UserCode
from xmin_assets.replication.manifests.merge import MergedTarget, StagedTable
from xmin_assets.replication.manifests.operations import AddColumn, AlterColumnType, names_after
from xmin_assets.replication.manifests.plan import ClosedLoad
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.merging.deletes import clear_source_xmin, delete_missing, missing_rows
from xmin_assets.replication.merging.keyless import replace_contents
from xmin_assets.replication.merging.mass_change import check_mass_change
from xmin_assets.replication.merging.outcome import merged_target, state_after
from xmin_assets.replication.merging.promote import promote
from xmin_assets.replication.merging.proof import prove_checksum, prove_row_count
from xmin_assets.replication.merging.row_merge import RowMerge, Written
from xmin_assets.replication.merging.unique_values import unique_values_free
from xmin_assets.replication.merging.upsert import upsert_rows
from xmin_assets.replication.merging.user_code import write_watched
from xmin_assets.replication.schema.alteration import alter
from xmin_assets.replication.schema.column_changes import changed_columns
from xmin_assets.replication.schema.key_changes import changed_key
from xmin_assets.replication.schema.keys import add_key, ensure_index, target_keys_of
from xmin_assets.replication.schema.table_definition import target_columns
from xmin_assets.replication.schema.type_making import require_as_made
from xmin_assets.replication.staging.staged_table import (
    count_staged,
    drop_staged,
    lock_own,
    mark_as_staged,
    require_target,
)
from xmin_assets.replication.state.history import append
from xmin_assets.replication.state.loads import forget_load
from xmin_assets.replication.state.migrations import SCHEMA, ensure_schema
from xmin_assets.replication.state.resync import resync
from xmin_assets.replication.state.table_state import (
    forget_state,
    lock_table_state,
    read_result,
    read_state,
    write_state,
)


def merge(
    target: Database,
    staged: StagedTable,
    *,
    allow_mass_delete: bool = False,
    allow_mass_change: bool = False,
    history_rows: int = HISTORY_ROWS,
) -> MergedTarget:
    """Make the target table equal to the source as of the extract's snapshot, and remember that it is.

    Args:
        target: the target database.
        staged: what to merge.
        allow_mass_delete: lift the limit on deleted rows, this once.
        allow_mass_change: let another source replace the rows, this once.
        history_rows: how many merges of this table the target remembers, this one included.

    Raises:
        StaleExtract: another sync merged after this one was planned; nothing was merged.
        PlanOutdated: the target table is no longer what was planned for; nothing was merged.
        MassDelete: too large a share of the target would be deleted; nothing was merged.
        MassChange: another source answers, and too large a share of the target would change; no row was changed.
        TargetDrifted: the target's rows were changed by somebody else; the next sync reads and compares everything.
        AlteredByTrigger: the target's own code made other rows of those that were written; nothing was merged.
        XminAssetsError: the target failed; nothing was merged.
    """
    limits = _Limits(allow_mass_delete, allow_mass_change, history_rows)
    snapshot = staged.extract.snapshot
    try:
        with transaction_on(target, TransactionMode.WRITE, f"{snapshot.table}: merging") as cursor:
            if snapshot.closes:
                return _close_load(cursor, staged, snapshot.closes, limits)
            return _Merge(cursor, staged, limits).run()
    except TargetDrifted as drift:
        resync(target, snapshot.config, drift.found)
        raise


def _repeated(cursor: ext.cursor, target: QualifiedName) -> MergedTarget:
    """Return what the merge of this sync reported when it was merged."""
    result = read_result(cursor, target)
    assert result is not None
    return replace(result, repeated=True)


def _close_load(cursor: ext.cursor, staged: StagedTable, closes: ClosedLoad, limits: _Limits) -> MergedTarget:
    """Merge the closing sync of a load into the load's table, and that into the target.

    After the first merge the load's table has the rows of the source as of the closing sync's snapshot. So it is what a
    full sync under that snapshot would have staged, and the second merge is that full sync's.
    """
    extract, planned = staged.extract, closes.planned
    name = extract.snapshot.config.target_name
    lock_table_state(cursor, planned.config.target_name)
    before = read_state(cursor, planned.config.target_name)
    if before and before.sync_id == planned.sync_id:
        return _repeated(cursor, planned.config.target_name)
    closed = _Merge(cursor, staged, limits).run()
    loaded = read_state(cursor, name)
    assert loaded is not None  # it was written just now
    forget_state(cursor, name)
    forget_load(cursor, planned.config.target_name)
    mark_as_staged(cursor, name.name, planned.sync_id)
    whole = StagedTable(
        extract=replace(
            extract,
            snapshot=planned,
            parts=(),
            key_parts=None,
            rows=closes.rows + extract.rows,
            bytes=closes.csv_bytes + extract.bytes,
            source_rows=closed.rows,
            max_xmin=max(closed.max_xmin, extract.max_xmin),
            checksum=None,
            block_map=None,
        ),
        name=name.name,
        keys_name=None,
        rows=closed.rows,
        keys=0,
        seconds=staged.seconds,
        types=staged.types,
        target_started=started(cursor),
    )
    result = _Merge(cursor, whole, limits).run()
    state = read_state(cursor, planned.config.target_name)
    if state and loaded.reused_below > state.reused_below:
        # Its rows were not all read under one start of the source, as those of any other full sync are.
        write_state(cursor, planned.config.target_name, replace(state, reused_below=loaded.reused_below), result)
    return result


@dataclass(frozen=True)
class _Limits:
    """What a merge may do, and how many the target remembers."""

    allow_mass_delete: bool
    allow_mass_change: bool
    history_rows: int


class _Merge:
    """One merge, in one transaction."""

    def __init__(self, cursor: ext.cursor, staged: StagedTable, limits: _Limits) -> None:
        self._cursor = cursor
        self._staged = staged
        self._limits = limits
        self._began = time.monotonic()
        self._extract = staged.extract
        self._snapshot = staged.extract.snapshot
        self._plan = self._snapshot.plan
        self._selection = self._snapshot.target_selection
        self._table = self._snapshot.config
        self._name = self._table.target_name

    def run(self) -> MergedTarget:
        """Merge, and commit nothing: that is the caller's."""
        cursor = self._cursor
        require_target(cursor, self._snapshot)
        ensure_schema(cursor)
        lock_table_state(cursor, self._name)
        state = read_state(cursor, self._name)
        if state and state.sync_id == self._snapshot.sync_id:
            return _repeated(cursor, self._name)
        if (state.base if state else None) != self._snapshot.base:
            raise StaleExtract(
                f"{self._table.label}: another sync merged after this one was planned. Nothing was merged; the next "
                "sync starts from there."
            )
        self._require_staged()
        require_as_made(cursor, self._staged)
        written = self._promote() if self._plan.create_target else self._apply(state)
        relation = catalog.find_relation(cursor, self._name)
        if relation is None or self._plan.create_target is (relation.oid == self._snapshot.target_oid):
            # ALTER SCHEMA ... RENAME takes no lock on the tables in it.
            raise PlanOutdated(f"{self._table.label}: another table got the name {self._name} just now. Run it again.")
        prove_checksum(cursor, self._staged)
        rows = prove_row_count(cursor, self._staged, state, written)
        result = merged_target(self._staged, written, rows=rows, seconds=time.monotonic() - self._began)
        new_state = state_after(
            self._staged,
            result,
            target_oid=relation.oid,
            keeps_columns=self._keeps_columns(relation.oid),
            now=datetime.now(timezone.utc),
        )
        write_state(cursor, self._name, new_state, result)
        append(cursor, self._name, self._staged, new_state, result, self._limits.history_rows)
        # What a sync that crashed has left, too: whatever was staged before this merge can no longer be merged.
        drop_staged(cursor, self._name)
        return result

    def _require_staged(self) -> None:
        """Make sure that what was staged is still there.

        A crash of the server empties UNLOGGED tables. And where commits are asynchronous, or a standby has taken the
        server's place, rows and the key of any other may be gone, too: then all is counted.
        """
        if not self._staged.name:
            return
        start = self._staged.target_started
        restarted = start is None or started(self._cursor) != start
        expected = ((self._staged.name, self._staged.rows), (self._staged.keys_name, self._staged.keys))
        for name, rows in expected:
            if not name:
                continue
            lock_own(self._cursor, name, self._snapshot, "ACCESS EXCLUSIVE")
            if restarted and not self._is_whole(name, rows):
                raise StaleExtract(
                    f"{self._table.label}: the target server crashed after the rows were staged, and has lost some of "
                    "them. Run the sync again."
                )

    def _is_whole(self, name: str, rows: int) -> bool:
        if count_staged(self._cursor, name) != rows:
            return False
        key = self._selection.key
        if not key or name != self._staged.name:
            return True
        relation = catalog.find_relation(self._cursor, QualifiedName(SCHEMA, name))
        return relation is not None and key in catalog.keys_of(self._cursor, relation.oid)

    def _promote(self) -> Written:
        if catalog.find_relation(self._cursor, self._name):
            raise PlanOutdated(
                f"{self._table.label}: a table {self._name} appeared in the target after the sync was planned. "
                "Run the sync again."
            )
        assert self._staged.name
        promote(self._cursor, self._staged.name, self._name)
        return Written(inserted=self._staged.rows)

    def _apply(self, state: State | None) -> Written:
        """Alter the target and write its rows, if there is anything to be done."""
        cursor, table = self._cursor, self._table
        relation = catalog.find_relation(cursor, self._name)
        if relation is None:
            raise PlanOutdated(f"{table.label}: the target {self._name} is gone. Run the sync again.")
        if relation.oid != self._snapshot.target_oid:
            raise PlanOutdated(
                f"{table.label}: the target {self._name} was replaced by another table after the sync was planned. "
                "Run the sync again."
            )
        if not (self._staged.name or self._plan.statements):
            return Written()  # nothing to write but the state
        # Readers go on reading; other writers would make the counts untrue.
        cursor.execute(sql.SQL("LOCK TABLE {target} IN SHARE ROW EXCLUSIVE MODE").format(target=self._name.sql))
        skipped = table.triggers is Triggers.SKIP
        if skipped:
            cursor.execute(user_triggers.SKIP)
        known = state if state and state.target_oid == relation.oid else None
        before = catalog.columns_of(cursor, relation.oid)
        self._require_as_planned(relation.oid, before, known)
        operations = self._plan.column_operations
        if self._plan.drop_key:
            cursor.execute(self._plan.drop_key.statement(self._name))
        alter(cursor, table, [operation for operation in operations if not operation.follows_rows])
        after = catalog.columns_of(cursor, relation.oid) if operations else before
        rows = self._rows(relation.oid, after, known) if self._staged.name else None
        if rows and self._plan.another_source and not self._limits.allow_mass_change:
            names = tuple(column.name for column in before)
            check_mass_change(
                rows,
                staged_rows=self._staged.rows,
                columns_before={*names_after(names, operations)},
                another_source=self._plan.another_source,
            )
        has_code = relation.has_triggers or relation.kind == "p"
        code = user_triggers.firing(cursor, relation.oid, skipped=skipped) if rows and has_code else ()
        written = self._write(rows, code) if rows else Written()
        alter(cursor, table, [operation for operation in operations if operation.follows_rows])
        if self._plan.add_key:
            add_key(cursor, table, self._plan.add_key)
        if self._selection.block_column:
            ensure_index(cursor, self._name, self._selection.block_column)
        return written

    def _require_as_planned(self, target_oid: int, columns: tuple[catalog.Attribute, ...], known: State | None) -> None:
        """Decide again, under the lock, what is done to the target, and compare it with the plan.

        Raises:
            PlanOutdated: somebody has altered the target since.
        """
        refilled = frozenset(
            operation.name
            for operation in self._plan.column_operations
            if isinstance(operation, AlterColumnType) and operation.is_refilled
        )
        operations = changed_columns(self._table, self._snapshot.identity, self._selection, columns, known, refilled)
        former = known.selection.key if known else None
        keys = changed_key(target_keys_of(self._cursor, target_oid), former, self._selection.key, operations)
        if (operations, *keys) != (self._plan.column_operations, self._plan.drop_key, self._plan.add_key):
            raise PlanOutdated(
                f"{self._table.label}: the columns or keys of the target {self._name} were changed after the sync was "
                "planned. Nothing was merged. Run the sync again."
            )

    def _rows(self, target_oid: int, columns: tuple[catalog.Attribute, ...], known: State | None) -> RowMerge:
        assert self._staged.name
        return RowMerge(
            cursor=self._cursor,
            table=self._table,
            selection=self._selection,
            staged_name=self._staged.name,
            same_key=self._same_key(target_oid, known),
            types={attribute.name: attribute.type for attribute in columns},
            target_oid=target_oid,
        )

    def _same_key(self, target_oid: int, known: State | None) -> sql.Composable | None:
        """Build the condition by which rows are matched.

        None where they cannot be: there is no key, or the rows that the target has had another one.
        """
        key = self._selection.key
        had_another = known is not None and self._is_another_key(known) and self._selection.deletes.removes
        if not key or (had_another and self._plan.mode is Mode.FULL_SYNC):
            return None
        staged = catalog.find_relation(self._cursor, QualifiedName(SCHEMA, self._staged.name or ""))
        assert staged is not None  # it is locked
        return same_key(self._cursor, staged.oid, key, target_oid)

    def _is_another_key(self, known: State) -> bool:
        """Return whether the key has other columns than the one that the target's rows are known by."""
        key, operations = self._selection.key, self._plan.column_operations
        is_new = any(isinstance(operation, AddColumn) and operation.name in key for operation in operations)
        return is_new or names_after(known.selection.key, operations) != key

    def _write(self, rows: RowMerge, code: tuple[UserCode, ...]) -> Written:
        """Make the target's rows the source's, whatever code of its users fires."""
        missing = None
        finds = self._selection.deletes.detects and self._plan.find_deletes and rows.same_key is not None
        if finds and (keys := self._all_keys):
            missing = missing_rows(rows, keys, within=self._extract.block_map)
        if not code:
            return self._write_rows(rows, missing, compare_values=self._plan.compare_values)
        # A row with the right source_xmin and another value would be taken for one that the code has changed.
        return write_watched(rows, code, missing, lambda: self._write_rows(rows, missing, compare_values=True))

    @property
    def _all_keys(self) -> str | None:
        """The staged table that has the keys of all rows, or of all in the blocks read; None if there is none."""
        return self._staged.keys_name or (self._staged.name if self._plan.mode is Mode.FULL_SYNC else None)

    def _write_rows(self, rows: RowMerge, missing: sql.Composable | None, *, compare_values: bool) -> Written:
        if rows.same_key is None:
            return replace_contents(rows, allow_mass_delete=self._limits.allow_mass_delete)
        deleted = 0
        if missing is not None:
            deleted = delete_missing(rows, missing, allow_mass_delete=self._limits.allow_mass_delete)
        elif (keys := self._all_keys) and self._plan.mode is Mode.FULL_SYNC:
            clear_source_xmin(rows, keys)
        if not self._staged.rows:
            return Written(deleted=deleted)
        with unique_values_free(rows):
            written = upsert_rows(rows, compare_values=compare_values)
        return replace(written, deleted=deleted)

    def _keeps_columns(self, target_oid: int) -> bool:
        """Return whether the target has columns that are no longer copied, as far as that matters for its types."""
        if self._staged.types is None or not self._snapshot.state or not self._snapshot.state.types:
            return False
        copied = {column.name for column in target_columns(self._selection)}
        return any(column.name not in copied for column in catalog.columns_of(self._cursor, target_oid))
