"""Staged rows into the target: inserted where the key is new, updated where the version differs, else left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg2 import sql

from xmin_assets.postgres.rows import fetch_one_as
from xmin_assets.replication.manifests.table import Column
from xmin_assets.replication.merging.row_merge import RowMerge, Written

MERGE_RETURNING = 170000
"""server_version_num from which MERGE can say what it did to each row."""


def upsert_rows(rows: RowMerge, *, compare_values: bool) -> Written:
    """Merge the staged rows; return how many were inserted and updated, as the server counted them.

    Args:
        rows: what is merged.
        compare_values: update also where values differ under the same source_xmin.
    """
    cursor = rows.cursor
    if cursor.connection.server_version < MERGE_RETURNING:
        # Nobody else writes between the two, and both count. Nor does MERGE take a table there that has rules, which
        # may be skipped.
        cursor.execute(_update_statement(rows, compare_values))
        updated = cursor.rowcount
        cursor.execute(_insert_statement(rows))
        return Written(inserted=cursor.rowcount, updated=updated)
    cursor.execute(
        sql.SQL("""
            WITH done AS ({merge} RETURNING merge_action() AS action)
            SELECT count(*) FILTER (WHERE action = 'INSERT') AS inserted,
                   count(*) FILTER (WHERE action = 'UPDATE') AS updated
              FROM done
        """).format(merge=_merge_statement(rows, compare_values))
    )
    return fetch_one_as(cursor, Written)


def _merge_statement(rows: RowMerge, compare_values: bool) -> sql.Composed:
    names = rows.selection.staged_columns
    return sql.SQL("""
        MERGE INTO {target} AS t
        USING {staged} AS s ON {matched}
         WHEN MATCHED AND ({differs}) THEN UPDATE SET {sets}
         WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({values})
    """).format(
        target=rows.target,
        staged=rows.staged,
        matched=rows.matched,
        differs=_differs(rows, compare_values),
        sets=_sets(rows),
        columns=sql.SQL(", ").join(map(sql.Identifier, names)),
        values=sql.SQL(", ").join(sql.Identifier("s", name) for name in names),
    )


def _update_statement(rows: RowMerge, compare_values: bool) -> sql.Composed:
    return sql.SQL("UPDATE {target} AS t SET {sets} FROM {staged} AS s WHERE {matched} AND ({differs})").format(
        target=rows.target,
        sets=_sets(rows),
        staged=rows.staged,
        matched=rows.matched,
        differs=_differs(rows, compare_values),
    )


def _insert_statement(rows: RowMerge) -> sql.Composed:
    names = rows.selection.staged_columns
    return sql.SQL("""
        INSERT INTO {target} ({columns})
        SELECT {values}
          FROM {staged} AS s
         WHERE NOT EXISTS (SELECT FROM {target} AS t WHERE {matched})
    """).format(
        target=rows.target,
        columns=sql.SQL(", ").join(map(sql.Identifier, names)),
        values=sql.SQL(", ").join(sql.Identifier("s", name) for name in names),
        staged=rows.staged,
        matched=rows.matched,
    )


def _sets(rows: RowMerge) -> sql.Composed:
    selection = rows.selection
    # The key is set, too: a key may be equal and written otherwise, as 1.0 and 1.00 are.
    sets = [sql.SQL("{column} = s.{column}").format(column=sql.Identifier(name)) for name in selection.staged_columns]
    if selection.deletes.marks:
        sets.append(sql.SQL("{} = NULL").format(sql.Identifier(selection.deleted_at_column)))
    return sql.SQL(", ").join(sets)


def _differs(rows: RowMerge, compare_values: bool) -> sql.Composed:
    """Build the condition that a target row is not the staged one."""
    selection = rows.selection
    differs: list[sql.Composable] = [is_distinct(selection.xmin_column)]
    if selection.block_column:  # VACUUM FULL and CLUSTER move rows and keep their xmin
        differs.append(is_distinct(selection.block_column))
    if selection.deletes.marks:
        differs.append(sql.SQL("t.{} IS NOT NULL").format(sql.Identifier(selection.deleted_at_column)))
    if compare_values:
        differs.append(image_differs(selection.columns, rows.types))
    return sql.SQL(" OR ").join(differs)


def is_distinct(name: str) -> sql.Composed:
    """Build the condition that a target row ``t`` and a staged row ``s`` differ in this metadata column."""
    return sql.SQL("t.{column} IS DISTINCT FROM s.{column}").format(column=sql.Identifier(name))


def image_differs(columns: Sequence[Column], types: Mapping[str, str]) -> sql.Composed:
    """Build the condition that these columns of a target row ``t`` and a staged row ``s`` have other values.

    Args:
        columns: of the staged table.
        types: of the target's columns, by their names: somebody may have altered one.
    """
    # Not "IS DISTINCT FROM": 1.0 equals 1.00, and json has no equality at all. Record images compare the stored bytes
    # (https://www.postgresql.org/docs/current/functions-comparisons.html#COMPOSITE-TYPE-COMPARISON). The casts keep the
    # parser from comparing column by column. Images of two types cannot be compared, so what is staged is converted.
    target_values = [sql.Identifier("t", column.name) for column in columns]
    staged_values = [
        sql.Identifier("s", column.name)
        if types[column.name] == column.type
        else sql.SQL("{value}::{type}").format(value=sql.Identifier("s", column.name), type=sql.SQL(types[column.name]))
        for column in columns
    ]
    return sql.SQL("ROW({target_values})::record OPERATOR(pg_catalog.*<>) ROW({staged_values})::record").format(
        target_values=sql.SQL(", ").join(target_values), staged_values=sql.SQL(", ").join(staged_values)
    )
