"""Staged rows into the target: inserted where the key is new, updated where the version differs, else left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.replication.manifests.table import Column, Selection
from xmin_assets.replication.state.migrations import SCHEMA

MERGE_RETURNING = 170000
"""server_version_num from which MERGE can say what it did to each row."""


def run(
    cursor: ext.cursor,
    target: QualifiedName,
    staged: str,
    selection: Selection,
    same: sql.Composable,
    compare_values: bool,
    types: Mapping[str, str],
) -> tuple[int, int]:
    """Merge the staged rows; how many were inserted and how many updated, as the server counted them.

    Args:
        cursor: in the merge transaction; the target is locked against other writers.
        target: the target table.
        staged: name of the staged table.
        selection: what is copied.
        same: the condition that a target row ``t`` and a staged row ``s`` have the same key.
        compare_values: update also where values differ under the same source_xmin.
        types: of the target's columns, by their names, where values are compared: somebody may have altered one.
    """
    differ = image_differs(selection.columns, types) if compare_values else None
    statement = _merge(target, staged, selection, same, differ)
    if cursor.connection.server_version >= MERGE_RETURNING:
        cursor.execute(
            sql.SQL(
                "WITH done AS ({} RETURNING merge_action() AS action)"
                " SELECT count(*) FILTER (WHERE action = 'INSERT'), count(*) FILTER (WHERE action = 'UPDATE') FROM done"
            ).format(statement)
        )
        inserted, updated = cursor.fetchone() or (0, 0)
        return inserted, updated
    cursor.execute(
        sql.SQL("SELECT count(*) FROM {} AS s WHERE NOT EXISTS (SELECT FROM {} AS t WHERE {})").format(
            sql.Identifier(SCHEMA, staged), target.sql, same
        )
    )
    (inserted,) = cursor.fetchone() or (0,)
    cursor.execute(statement)
    return inserted, cursor.rowcount - inserted


def _merge(
    target: QualifiedName,
    staged: str,
    selection: Selection,
    same: sql.Composable,
    values_differ: sql.Composable | None,
) -> sql.Composed:
    own, marked = sql.Identifier(selection.xmin_column), sql.Identifier(selection.deleted_at_column)
    names = selection.staged_columns
    # The key is set, too: a key may be equal and written otherwise, as 1.0 and 1.00 are.
    sets = [sql.SQL("{0} = s.{0}").format(sql.Identifier(name)) for name in names]
    differs: list[sql.Composable] = [sql.SQL("t.{0} IS DISTINCT FROM s.{0}").format(own)]
    if selection.block_column:  # VACUUM FULL and CLUSTER move rows and keep their xmin
        differs.append(sql.SQL("t.{0} IS DISTINCT FROM s.{0}").format(sql.Identifier(selection.block_column)))
    if selection.deletes.marks:
        sets.append(sql.SQL("{} = NULL").format(marked))
        differs.append(sql.SQL("t.{} IS NOT NULL").format(marked))
    if values_differ is not None:
        differs.append(values_differ)
    return sql.SQL(
        "MERGE INTO {target} AS t USING {staged} AS s ON {same}"
        " WHEN MATCHED AND ({differs}) THEN UPDATE SET {sets}"
        " WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})"
    ).format(
        target=target.sql,
        staged=sql.Identifier(SCHEMA, staged),
        same=same,
        differs=sql.SQL(" OR ").join(differs),
        sets=sql.SQL(", ").join(sets),
        names=sql.SQL(", ").join(map(sql.Identifier, names)),
        values=sql.SQL(", ").join(sql.SQL("s.{}").format(sql.Identifier(name)) for name in names),
    )


def image_differs(columns: Sequence[Column], types: Mapping[str, str]) -> sql.Composable:
    """Build the condition that these columns of a target row ``t`` and a staged row ``s`` have other values.

    Args:
        columns: of the staged table.
        types: of the target's columns, by their names: somebody may have altered one.
    """
    # Not "IS DISTINCT FROM": 1.0 equals 1.00, and json has no equality at all. Record images compare the stored bytes
    # (https://www.postgresql.org/docs/current/functions-comparisons.html#COMPOSITE-TYPE-COMPARISON). The casts keep the
    # parser from comparing column by column. Images of two types cannot be compared, so what is staged is converted.
    here = [sql.Identifier("t", column.name) for column in columns]
    there = [
        sql.Identifier("s", column.name)
        if types[column.name] == column.type
        else sql.SQL("{}::{}").format(sql.Identifier("s", column.name), sql.SQL(types[column.name]))
        for column in columns
    ]
    rows = (sql.SQL("ROW({})::record").format(sql.SQL(", ").join(values)) for values in (here, there))
    return sql.SQL("{} OPERATOR(pg_catalog.*<>) {}").format(*rows)
