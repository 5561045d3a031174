"""The metadata columns that this project adds to a target table."""

from __future__ import annotations

from psycopg2 import sql

from xmin_assets.replication.manifests.table import Selection


def metadata_columns(selection: Selection) -> list[tuple[str, str]]:
    """Return the names and types of the columns that a target table has beside those that are copied."""
    columns = [(selection.xmin_column, "bigint")]
    if selection.deletes.marks:
        columns.append((selection.deleted_at_column, "timestamp with time zone"))
    if selection.block_column:
        columns.append((selection.block_column, "bigint"))
    return columns


def not_deleted(selection: Selection, alias: str = "") -> sql.Composable:
    """Build the condition that a target row is not marked as deleted.

    Args:
        selection: what is copied.
        alias: of the target in the query.
    """
    if not selection.deletes.marks:
        return sql.SQL("true")
    column = selection.deleted_at_column
    return sql.SQL("{} IS NULL").format(sql.Identifier(alias, column) if alias else sql.Identifier(column))
