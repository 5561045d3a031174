"""The fourth station: one transaction in the target that changes the columns, deletes, upserts and moves the watermark.

The transaction first checks that the state is the one the plan started from: of two syncs planned from the same state,
one merges and the other is refused. Merging the same sync again does nothing and reports the same result.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import HISTORY_ROWS, Mode
from xmin_assets.errors import PlanOutdated, StaleExtract, TargetDrifted
from xmin_assets.postgres import catalog
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.key_equality import same_key
from xmin_assets.postgres.server import started
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.replication.manifests.merge import MergedTarget, StagedTable
from xmin_assets.replication.manifests.plan import SourceSnapshot
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.manifests.table import TypeMap
from xmin_assets.replication.merging import upsert
from xmin_assets.replication.merging.deletes import clear_source_xmin, delete_missing
from xmin_assets.replication.merging.keyless import replace_contents
from xmin_assets.replication.merging.mass_change import check_mass_change
from xmin_assets.replication.merging.promote import promote
from xmin_assets.replication.planning.source_identity import RESTARTED
from xmin_assets.replication.scan.checksum import landed, row_hash
from xmin_assets.replication.schema.alteration import alter
from xmin_assets.replication.schema.column_changes import column_operations_for, same_relation
from xmin_assets.replication.schema.column_operations import now_called
from xmin_assets.replication.schema.keys import add_key, ensure_index, key_changes
from xmin_assets.replication.schema.metadata_columns import not_deleted, target_columns
from xmin_assets.replication.schema.type_making import require_as_made
from xmin_assets.replication.staging.staged_table import drop_staged, lock_own, require_target
from xmin_assets.replication.state import history
from xmin_assets.replication.state.migrations import SCHEMA, ensure_schema
from xmin_assets.replication.state.resync import resync
from xmin_assets.replication.state.table_state import lock_table_state, read_result, read_state, write_state


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
        MassDelete: too large a share of the target would be deleted; nothing was merged.
        MassChange: another source answers, and too large a share of the target would change; no row was changed.
        TargetDrifted: the target's rows were changed by somebody else; the next sync reads and compares everything.
        XminAssetsError: the target failed; nothing was merged.
    """
    began = time.monotonic()
    snapshot = staged.extract.snapshot
    action = f"{snapshot.table}: merging"
    try:
        with transaction_on(target, TransactionMode.WRITE, action) as cursor:
            return _Merge(cursor, staged, allow_mass_delete, allow_mass_change, history_rows).run(began)
    except TargetDrifted as drift:
        resync(target, snapshot.config, drift.found)
        raise


@dataclass
class _Counts:
    inserted: int = 0
    updated: int = 0
    deleted: int = 0


class _Merge:
    """One merge, in one transaction."""

    def __init__(
        self,
        cursor: ext.cursor,
        staged: StagedTable,
        allow_mass_delete: bool,
        allow_mass_change: bool,
        history_rows: int,
    ) -> None:
        self._cursor = cursor
        self._staged = staged
        self._extract = staged.extract
        self._snapshot: SourceSnapshot = staged.extract.snapshot
        self._plan = self._snapshot.plan
        self._table = self._snapshot.config
        self._name = self._table.target_name
        self._allow_mass_delete = allow_mass_delete
        self._allow_mass_change = allow_mass_change
        self._history_rows = history_rows

    def run(self, began: float) -> MergedTarget:
        """Merge, and commit nothing: that is the caller's."""
        cursor = self._cursor
        require_target(cursor, self._snapshot)
        ensure_schema(cursor)
        lock_table_state(cursor, self._name)
        state = read_state(cursor, self._name)
        if state and state.sync_id == self._snapshot.sync_id:
            return self._repeated()
        if ((state.revision, state.sync_id) if state else None) != self._snapshot.base:
            raise StaleExtract(
                f"{self._table.label}: another sync merged after this one was planned. Nothing was merged; the next "
                "sync starts from there."
            )
        self._require_staged()
        require_as_made(cursor, self._staged)
        counts = self._promote() if self._plan.create_target else self._apply(state)
        relation = catalog.find_relation(cursor, self._name)
        if relation is None or self._plan.create_target is (relation.oid == self._snapshot.target_oid):
            # ALTER SCHEMA ... RENAME takes no lock on the tables in it.
            raise PlanOutdated(f"{self._table.label}: another table got the name {self._name} just now. Run it again.")
        self._require_checksum()
        rows = self._tally(state, counts)
        result = self._result(counts, rows, time.monotonic() - began)
        new_state = self._state(result, relation.oid)
        write_state(cursor, self._name, new_state, result)
        history.append(cursor, self._name, self._staged, new_state, result, self._history_rows)
        # What a sync that crashed has left, too: whatever was staged before this merge can no longer be merged.
        drop_staged(cursor, self._name)
        return result

    def _repeated(self) -> MergedTarget:
        result = read_result(self._cursor, self._name)
        assert result is not None
        return replace(result, repeated=True)

    def _require_staged(self) -> None:
        """Make sure that what was staged is still there.

        A crash of the server empties UNLOGGED tables. And where commits are asynchronous, or a standby has taken the
        server's place, rows and the key of any other may be gone, too: then all is counted.
        """
        if not self._staged.name:
            return
        restarted = started(self._cursor) != self._staged.target_started
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
        self._cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(SCHEMA, name)))
        if self._cursor.fetchone() != (rows,):
            return False
        key = self._snapshot.target_selection.key
        if not key or name != self._staged.name:
            return True
        relation = catalog.find_relation(self._cursor, QualifiedName(SCHEMA, name))
        return relation is not None and key in catalog.keys_of(self._cursor, relation.oid)

    def _promote(self) -> _Counts:
        if catalog.find_relation(self._cursor, self._name):
            raise PlanOutdated(
                f"{self._table.label}: a table {self._name} appeared in the target after the sync was planned. "
                "Run the sync again."
            )
        assert self._staged.name
        promote(self._cursor, self._staged.name, self._name)
        return _Counts(inserted=self._staged.rows)

    def _apply(self, state: State | None) -> _Counts:
        cursor, selection = self._cursor, self._snapshot.target_selection
        relation = catalog.find_relation(cursor, self._name)
        if relation is None:
            raise PlanOutdated(f"{self._table.label}: the target {self._name} is gone. Run the sync again.")
        if relation.oid != self._snapshot.target_oid:
            raise PlanOutdated(
                f"{self._table.label}: the target {self._name} was replaced by another table after the sync was "
                "planned. Run the sync again."
            )
        if not (self._staged.name or self._staged.keys_name or self._plan.statements):
            return _Counts()  # nothing to write but the state
        # Readers go on reading; other writers would make the counts untrue.
        cursor.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(self._name.sql))
        known = state if state and state.target_oid == relation.oid else None
        columns = catalog.columns_of(cursor, relation.oid)
        changes = column_operations_for(
            self._table.label,
            known.selection if known else None,
            selection,
            bool(known and same_relation(known.identity, self._snapshot.identity)),
            columns,
            self._table.schema_changes == "apply",
            self._table.dropped_columns == "drop",
        )
        alter(cursor, self._table, changes)
        altered = catalog.columns_of(cursor, relation.oid) if changes else columns
        types = {attribute.name: attribute.type for attribute in altered}
        same = None if self._by_contents(known) else self._same_key(relation.oid)
        if self._plan.another_source and self._staged.name and not self._allow_mass_change:
            check_mass_change(
                cursor,
                self._table,
                selection,
                self._staged.name,
                self._staged.rows,
                same,
                {*now_called(tuple(column.name for column in columns), changes)},
                types,
                self._plan.another_source,
            )
        before, after = key_changes(
            cursor, self._name, relation.oid, now_called(known.selection.key, changes) if known else None, selection.key
        )
        for statement in before:
            cursor.execute(statement)
        counts = _Counts()
        if same is None:
            assert self._staged.name
            counts.inserted, counts.deleted = replace_contents(
                cursor, self._table, self._staged.name, selection, self._allow_mass_delete
            )
            add_key(cursor, self._table, after)
            return counts
        keys = self._staged.keys_name or (self._staged.name if self._plan.mode is Mode.FULL_SYNC else None)
        if keys and selection.deletes.detects and self._plan.find_deletes:
            counts.deleted = delete_missing(
                cursor, self._table, selection, keys, same, self._allow_mass_delete, self._extract.block_map
            )
        elif keys and self._plan.mode is Mode.FULL_SYNC:
            clear_source_xmin(cursor, self._table, keys, same)
        if self._staged.name and self._staged.rows:
            counts.inserted, counts.updated = upsert.run(
                cursor, self._name, self._staged.name, selection, same, self._plan.compare_values, types
            )
        add_key(cursor, self._table, after)
        if selection.block_column:
            ensure_index(cursor, self._name, selection.block_column)
        return counts

    def _by_contents(self, known: State | None) -> bool:
        """Whether rows cannot be matched by a key: there is none, or the rows that the target has had another one."""
        key = self._snapshot.target_selection.key
        another = known is not None and known.selection.key != key and self._snapshot.target_selection.deletes.removes
        return not key or (another and self._plan.mode is Mode.FULL_SYNC)

    def _same_key(self, target_oid: int) -> sql.Composable:
        staged = catalog.find_relation(self._cursor, QualifiedName(SCHEMA, self._staged.name or ""))
        if staged is None:
            return sql.SQL("false")
        return same_key(self._cursor, staged.oid, self._snapshot.target_selection.key, target_oid)

    def _tally(self, state: State | None, counts: _Counts) -> int:
        """Rows that the target now shares with the source.

        They are counted when keys were compared, and reckoned from the last count otherwise.

        Raises:
            TargetDrifted: they are not as many as the snapshot had, so somebody else has been writing to the target.
        """
        selection = self._snapshot.target_selection
        compared = self._staged.keys_name or self._plan.mode is Mode.FULL_SYNC or selection.deletes.marks
        if self._plan.create_target:
            rows = self._staged.rows
        elif state and not (compared and self._staged.name):
            rows = state.rows + counts.inserted
        elif state and self._extract.block_map and selection.deletes.removes:
            rows = state.rows + counts.inserted - counts.deleted
        else:
            live = not_deleted(selection)
            self._cursor.execute(sql.SQL("SELECT count(*) FROM {} WHERE {}").format(self._name.sql, live))
            (rows,) = self._cursor.fetchone() or (0,)
        expected = self._extract.source_rows
        if expected is None or selection.deletes.keeps:
            return int(rows)
        # Until deletes are looked for again, the target keeps rows that the source has lost.
        if rows != expected and (self._plan.find_deletes or rows < expected):
            found = f"the target had {rows} rows where the source had {expected}"
            raise TargetDrifted(self._table.label, found=found, cursor=selection.cursor is not None)
        return int(rows)

    def _require_checksum(self) -> None:
        """Prove that source and target are equal as wholes, if the plan asks for it.

        Raises:
            TargetDrifted: they are not: the source is an older copy that was restored, or the target was written to.
        """
        if self._extract.checksum is None:
            return
        selection = self._snapshot.target_selection
        place = sql.Identifier("t", selection.block_column) if selection.block_column else None
        self._cursor.execute(
            sql.SQL("SELECT coalesce(sum({}), 0) FROM {} AS t WHERE {}").format(
                row_hash(landed(selection.columns), "t", encodings_differ=self._snapshot.encodings_differ, place=place),
                self._name.sql,
                not_deleted(selection),
            )
        )
        (found,) = self._cursor.fetchone() or (0,)
        if int(found) != self._extract.checksum:
            raise TargetDrifted(
                self._table.label,
                found=f"{RESTARTED}, and its rows are not those that the last sync has left",
            )

    def _result(self, counts: _Counts, rows: int, seconds: float) -> MergedTarget:
        extract, state = self._extract, self._snapshot.state
        max_xmin = extract.max_xmin
        if self._plan.mode is not Mode.FULL_SYNC and state:
            max_xmin = max(max_xmin, state.max_xmin)
        return MergedTarget(
            sync_id=self._snapshot.sync_id,
            table=self._table.label,
            target=str(self._name),
            mode=self._plan.mode,
            reason=self._reason(),
            inserted=counts.inserted,
            updated=counts.updated,
            deleted=counts.deleted,
            unchanged=self._staged.rows - counts.inserted - counts.updated,
            rows=rows,
            watermark=extract.horizon,
            watermark_before=state.watermark if state else None,
            max_xmin=max_xmin,
            rows_extracted=extract.rows,
            bytes_extracted=extract.bytes,
            columns=self._snapshot.target_selection.columns,
            key=self._snapshot.target_selection.key,
            seconds=seconds,
        )

    def _reason(self) -> str:
        said = [self._plan.reason]
        if nulls := self._extract.null_cursors:
            said.append(f"{nulls} rows have no {self._snapshot.target_selection.cursor} and are read by every sync")
        if self._extract.unflushed and self._plan.watermark is not None:
            said.append("the source had not written all that was read to its disk yet, so the watermark stays")
        return "; ".join(said)

    def _deletes_compared_at(self) -> datetime | None:
        state = self._snapshot.state
        return datetime.now(timezone.utc) if self._plan.find_deletes or state is None else state.deletes_compared_at

    def _reused_below(self) -> int:
        """The highest id that another history of the source may have given out, too."""
        state, plan = self._snapshot.state, self._plan
        if state is None or plan.mode is Mode.FULL_SYNC:  # which has replaced the ids of all rows
            return 0
        return max(state.reused_below, state.max_xmin if plan.checksum else 0)

    def _state(self, result: MergedTarget, target_oid: int) -> State:
        before = self._snapshot.state
        types = self._staged.types.maps if self._staged.types else None
        return State(
            revision=(before.revision if before else 0) + 1,
            sync_id=result.sync_id,
            watermark=result.watermark,
            resync=None,
            max_xmin=result.max_xmin,
            rows=result.rows,
            source_lsn=self._extract.source_lsn,
            target_oid=target_oid,
            source_table=self._table.label,
            identity=self._snapshot.identity,
            selection=self._snapshot.target_selection,
            merged_at=datetime.now(timezone.utc),
            source_started=self._extract.source_started,
            unflushed=self._extract.unflushed,
            reused_below=self._reused_below(),
            cursor=self._extract.cursor,
            deletes_compared_at=self._deletes_compared_at(),
            deletes_left=not self._plan.find_deletes,
            wal_positions=self._extract.wal_positions,
            scan_seconds=self._extract.scan_seconds or (before.scan_seconds if before else 0.0),
            types=self._held(types, before.types if before else None, target_oid),
            borrowed=self._snapshot.borrowed,
        )

    def _held(
        self, now: tuple[TypeMap, ...] | None, before: tuple[TypeMap, ...] | None, target_oid: int
    ) -> tuple[TypeMap, ...] | None:
        """What the stored values are of, those of columns that are only kept included."""
        if now is None:
            return before  # nothing was loaded
        names = {(made.schema, made.name) for made in now}
        if not (left := tuple(was for was in before or () if (was.schema, was.name) not in names)):
            return now
        copied = {column.name for column in target_columns(self._snapshot.target_selection)}
        kept = any(column.name not in copied for column in catalog.columns_of(self._cursor, target_oid))
        return (*now, *left) if kept else now
