"""Rows that the source no longer has: found by their keys, deleted or marked, and stopped if they are too many."""

from __future__ import annotations

from psycopg2 import sql

from xmin_assets.config import TableConfig
from xmin_assets.config.deletes import Deletes
from xmin_assets.errors import MassDelete
from xmin_assets.postgres.rows import fetch_value
from xmin_assets.replication.manifests.extract import BlockMap
from xmin_assets.replication.merging.row_merge import RowMerge, staged_table
from xmin_assets.replication.scan.conditions import block_key
from xmin_assets.replication.schema.metadata_columns import not_deleted

BREAKER_FROM = 1000
"""Rows below which a target may be emptied without asking."""


def missing_rows(rows: RowMerge, keys: str, *, within: BlockMap | None) -> sql.Composable:
    """Build the condition that the source has lost a target row ``t``: its key is not among the staged keys.

    Args:
        rows: what is merged.
        keys: name of the staged table that has the keys of all source rows, or of those in the blocks.
        within: the blocks whose rows are looked at; None for all rows.
    """
    missing = _key_is_missing(rows, keys)
    if within is None:
        return missing
    return sql.SQL("t.{block} = ANY({blocks}) AND {missing}").format(
        block=sql.Identifier(rows.selection.block_column or ""), blocks=blocks_of(within), missing=missing
    )


def blocks_of(found: BlockMap) -> sql.Composed:
    """Build the array of all blocks of a map, as a target has them (see `block_key`). Ranges are sent.

    The target must find the rows of blocks by their index. Of a join with ranges the planner would know nothing; an
    array that is a subquery's result it takes for one of ten blocks.
    """
    firsts = ",".join(str(block_key(r.filenode, r.start)) for r in found.ranges)
    lasts = ",".join(str(block_key(r.filenode, r.end - 1)) for r in found.ranges)
    # As text and not as lists, of which the driver would quote every number.
    return sql.SQL("""ARRAY(
        SELECT b.block
          FROM unnest({firsts}::int8[], {lasts}::int8[]) AS r (first, last),
               LATERAL pg_catalog.generate_series(r.first, r.last) AS b (block))
    """).format(firsts=sql.Literal(f"{{{firsts}}}"), lasts=sql.Literal(f"{{{lasts}}}"))


def delete_missing(rows: RowMerge, missing: sql.Composable, *, allow_mass_delete: bool) -> int:
    """Delete the target's rows that the source has lost, or mark them; return their number.

    Args:
        rows: what is merged.
        missing: see `missing_rows`.
        allow_mass_delete: lift the limit.

    Raises:
        MassDelete: more than the allowed share of the target's rows would go.
    """
    cursor, table, selection = rows.cursor, rows.table, rows.selection
    cursor.execute(_delete_statement(rows, missing))
    deleted = cursor.rowcount
    # So few are few of any table that is large enough to be asked about.
    if deleted > BREAKER_FROM * table.max_delete_share and not allow_mass_delete:
        cursor.execute(
            sql.SQL("SELECT count(*) AS rows FROM {target} WHERE {not_deleted}").format(
                target=rows.target, not_deleted=not_deleted(selection)
            )
        )
        check_mass_delete(table, deleted, fetch_value(cursor, int) + deleted)
    return deleted


def count_kept(rows: RowMerge, missing: sql.Composable) -> int:
    """Count the target's rows that `delete_missing` should have deleted or marked, and has not.

    Args:
        rows: what is merged.
        missing: see `missing_rows`.
    """
    rows.cursor.execute(
        sql.SQL("SELECT count(*) AS rows FROM {target} AS t WHERE {not_deleted} AND {missing}").format(
            target=rows.target, not_deleted=not_deleted(rows.selection, "t"), missing=missing
        )
    )
    return fetch_value(rows.cursor, int)


def clear_source_xmin(rows: RowMerge, keys: str) -> None:
    """Empty `source_xmin` of rows that are kept though the source does not have them.

    They may be of another cluster, whose ids this one uses again: a row that gets such a key one day would pass for
    the one that is kept.

    Args:
        rows: what is merged.
        keys: name of the staged table that has the keys of all source rows.
    """
    rows.cursor.execute(
        sql.SQL("""
            UPDATE {target} AS t
               SET {xmin} = NULL
             WHERE t.{xmin} IS NOT NULL AND {missing}
        """).format(
            target=rows.target,
            xmin=sql.Identifier(rows.selection.xmin_column),
            missing=_key_is_missing(rows, keys),
        )
    )


def check_mass_delete(table: TableConfig, deleted: int, before: int) -> None:
    """Refuse to delete more than the allowed share of a target's rows.

    Args:
        table: the table's configuration.
        deleted: rows that would go.
        before: rows that the target has.

    Raises:
        MassDelete: more than that would go.
    """
    if before >= BREAKER_FROM and deleted > table.max_delete_share * before:
        raise MassDelete(
            f"{table.label}: the sync would delete {deleted} of the target's {before} rows, more than the allowed "
            f"share of {table.max_delete_share:g}. Nothing was merged. If the source is right, run "
            "xmin-assets sync --allow-mass-delete, or set allow_mass_delete in the run's config."
        )


def _key_is_missing(rows: RowMerge, keys: str) -> sql.Composed:
    return sql.SQL("NOT EXISTS (SELECT FROM {keys} AS s WHERE {matched})").format(
        keys=staged_table(keys), matched=rows.matched
    )


def _delete_statement(rows: RowMerge, missing: sql.Composable) -> sql.Composed:
    """Build what is done to the target rows that fulfil the condition."""
    selection = rows.selection
    match selection.deletes:
        case Deletes.HARD:
            return sql.SQL("DELETE FROM {target} AS t WHERE {missing}").format(target=rows.target, missing=missing)
        case Deletes.SOFT:
            return sql.SQL("""
                UPDATE {target} AS t
                   SET {deleted_at} = pg_catalog.now()
                 WHERE {not_deleted} AND {missing}
            """).format(
                target=rows.target,
                deleted_at=sql.Identifier(selection.deleted_at_column),
                not_deleted=not_deleted(selection, "t"),
                missing=missing,
            )
        case Deletes.IGNORE:
            raise AssertionError("rows that are kept as they are need no statement")
