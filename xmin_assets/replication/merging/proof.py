"""The proof that a merged target has the rows of the source: their number, and where the plan asks for it their sum."""

from __future__ import annotations

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import Mode
from xmin_assets.errors import TargetDrifted
from xmin_assets.postgres.rows import fetch_value
from xmin_assets.replication.manifests.merge import StagedTable
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.merging.row_merge import Written
from xmin_assets.replication.scan.checksum import as_in_target, row_hash
from xmin_assets.replication.schema.metadata_columns import not_deleted


def prove_row_count(cursor: ext.cursor, staged: StagedTable, state: State | None, written: Written) -> int:
    """Return how many rows the target now shares with the source.

    They are counted when keys were compared, and reckoned from the last count otherwise.

    Args:
        cursor: in the merge transaction, after the rows were written.
        staged: what was merged.
        state: of before the merge.
        written: what the merge did.

    Raises:
        TargetDrifted: they are not as many as the snapshot had, so somebody else has been writing to the target.
    """
    extract, snapshot = staged.extract, staged.extract.snapshot
    plan, selection = snapshot.plan, snapshot.target_selection
    compared = staged.keys_name or plan.mode is Mode.FULL_SYNC or selection.deletes.marks
    if plan.create_target:
        rows = staged.rows
    elif state and not (compared and staged.name):
        rows = state.rows + written.inserted
    elif state and extract.block_map and selection.deletes.removes:
        rows = state.rows + written.inserted - written.deleted
    else:
        cursor.execute(
            sql.SQL("SELECT count(*) AS rows FROM {target} WHERE {not_deleted}").format(
                target=snapshot.config.target_name.sql, not_deleted=not_deleted(selection)
            )
        )
        rows = fetch_value(cursor, int)
    expected = extract.source_rows
    if expected is None or selection.deletes.keeps:
        return rows
    # Until deletes are looked for again, the target keeps rows that the source has lost.
    if rows != expected and (plan.find_deletes or rows < expected):
        found = f"the target had {rows} rows where the source had {expected}"
        raise TargetDrifted(snapshot.table, found=found, cursor=selection.cursor is not None, triggers=plan.triggers)
    return rows


def prove_checksum(cursor: ext.cursor, staged: StagedTable) -> None:
    """Make sure that source and target are equal as wholes, if the plan asks for it.

    Args:
        cursor: in the merge transaction, after the rows were written.
        staged: what was merged.

    Raises:
        TargetDrifted: they are not: the source is an older copy that was restored, or the target was written to.
    """
    extract, snapshot = staged.extract, staged.extract.snapshot
    if extract.checksum is None:
        return
    selection = snapshot.target_selection
    block = sql.Identifier("t", selection.block_column) if selection.block_column else None
    hashed = row_hash(as_in_target(selection.columns), "t", encodings_differ=snapshot.encodings_differ, block=block)
    cursor.execute(
        sql.SQL("""
            SELECT coalesce(sum({row_hash}), 0) AS checksum
              FROM {target} AS t
             WHERE {not_deleted}
        """).format(row_hash=hashed, target=snapshot.config.target_name.sql, not_deleted=not_deleted(selection))
    )
    if fetch_value(cursor, int) != extract.checksum:
        raise TargetDrifted(
            snapshot.table,
            found=f"{snapshot.plan.unproven}, and its rows are not those that the last sync has left",
            triggers=snapshot.plan.triggers,
        )
