"""The metadata columns that this project adds to a target table."""

from __future__ import annotations

from psycopg2 import sql

from xmin_assets.replication.manifests.table import Column, Selection


def metadata_columns(selection: Selection) -> list[tuple[str, str]]:
    """The columns that this project adds to a target table, with their types."""
    columns = [(selection.xmin_column, "bigint")]
    if selection.deletes.marks:
        columns.append((selection.deleted_at_column, "timestamp with time zone"))
    if selection.block_column:
        columns.append((selection.block_column, "bigint"))
    return columns


def target_columns(selection: Selection) -> tuple[Column, ...]:
    """All columns of a target table: those that are copied, and ours."""
    return (*selection.columns, *(Column(0, name, kind) for name, kind in metadata_columns(selection)))


def not_deleted(selection: Selection, alias: str = "") -> sql.Composable:
    """The condition that a target row is not marked as deleted.

    Args:
        selection: what is copied.
        alias: of the target in the query.
    """
    if not selection.deletes.marks:
        return sql.SQL("true")
    column = selection.deleted_at_column
    return sql.SQL("{} IS NULL").format(sql.Identifier(alias, column) if alias else sql.Identifier(column))
