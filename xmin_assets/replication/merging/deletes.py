"""Rows that the source no longer has: found by their keys, deleted or marked, and stopped if they are too many."""

from __future__ import annotations

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import TableConfig
from xmin_assets.config.deletes import Deletes
from xmin_assets.errors import MassDelete
from xmin_assets.replication.manifests.extract import BlockMap
from xmin_assets.replication.manifests.table import Selection
from xmin_assets.replication.scan.conditions import block_key
from xmin_assets.replication.schema.metadata_columns import not_deleted
from xmin_assets.replication.state.migrations import SCHEMA

BREAKER_FROM = 1000
"""Rows below which a target may be emptied without asking."""


def delete_missing(
    cursor: ext.cursor,
    table: TableConfig,
    selection: Selection,
    keys: str,
    same: sql.Composable,
    allow_mass_delete: bool,
    within: BlockMap | None = None,
) -> int:
    """Delete the target's rows whose key is not among the staged keys, or mark them; their number.

    Args:
        cursor: in the merge transaction.
        table: the table's configuration.
        selection: what is copied.
        keys: name of the staged table that has the keys of all source rows, or of those in the blocks.
        same: the condition that a target row ``t`` and a staged row ``s`` have the same key.
        allow_mass_delete: lift the limit.
        within: the blocks whose rows are looked at; None for all rows.

    Raises:
        MassDelete: more than the allowed share of the target's rows would go.
    """
    target = table.target_name.sql
    missing = sql.SQL("NOT EXISTS (SELECT FROM {} AS s WHERE {})").format(sql.Identifier(SCHEMA, keys), same)
    if within is not None:
        # An array and not ranges, of whose size the planner would know nothing: it must find the rows by their index.
        blocks = [block_key(r.filenode, block) for r in within.ranges for block in range(r.start, r.end)]
        missing = sql.SQL("t.{} = ANY({}::int8[]) AND {}").format(
            sql.Identifier(selection.block_column or ""), sql.Literal(blocks), missing
        )
    statement = _statement(target, selection, missing)
    cursor.execute(statement)
    deleted = cursor.rowcount
    # So few are few of any table that is large enough to be asked about.
    if deleted > BREAKER_FROM * table.max_delete_share and not allow_mass_delete:
        cursor.execute(sql.SQL("SELECT count(*) FROM {} WHERE {}").format(target, not_deleted(selection)))
        (left,) = cursor.fetchone() or (0,)
        check_mass_delete(table, deleted, left + deleted)
    return deleted


def _statement(target: sql.Composable, selection: Selection, missing: sql.Composable) -> sql.Composable:
    """Build what is done to the rows ``t`` of the target that fulfil the condition."""
    match selection.deletes:
        case Deletes.HARD:
            return sql.SQL("DELETE FROM {target} AS t WHERE {missing}").format(target=target, missing=missing)
        case Deletes.SOFT:
            return sql.SQL(
                "UPDATE {target} AS t SET {deleted_at} = pg_catalog.now() WHERE {not_deleted} AND {missing}"
            ).format(
                target=target,
                deleted_at=sql.Identifier(selection.deleted_at_column),
                not_deleted=not_deleted(selection, "t"),
                missing=missing,
            )
        case Deletes.IGNORE:
            raise AssertionError("rows that are kept as they are need no statement")


def check_mass_delete(table: TableConfig, deleted: int, before: int) -> None:
    """The breaker.

    Args:
        table: the table's configuration.
        deleted: rows that would go.
        before: rows that the target has.

    Raises:
        MassDelete: more than the allowed share would go.
    """
    if before >= BREAKER_FROM and deleted > table.max_delete_share * before:
        raise MassDelete(
            f"{table.label}: the sync would delete {deleted} of the target's {before} rows, more than the allowed "
            f"share of {table.max_delete_share:g}. Nothing was merged. If the source is right, run "
            "xmin-assets sync --allow-mass-delete, or set allow_mass_delete in the run's config."
        )


def clear_source_xmin(cursor: ext.cursor, table: TableConfig, keys: str, same: sql.Composable) -> None:
    """Empty `source_xmin` of rows that are kept though the source does not have them.

    They may be of another cluster, whose ids this one uses again: a row that gets such a key one day would pass for
    the one that is kept.

    Args:
        cursor: in the merge transaction.
        table: the table's configuration.
        keys: name of the staged table that has the keys of all source rows.
        same: the condition that a target row ``t`` and a staged row ``s`` have the same key.
    """
    cursor.execute(
        sql.SQL(
            "UPDATE {} AS t SET {own} = NULL WHERE t.{own} IS NOT NULL AND NOT EXISTS (SELECT FROM {} AS s WHERE {})"
        ).format(
            table.target_name.sql,
            sql.Identifier(SCHEMA, keys),
            same,
            own=sql.Identifier(table.xmin_column),
        )
    )
