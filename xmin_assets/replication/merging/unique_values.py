"""Unique indexes of the target beside the key: rows that take each other's values in one merge.

Two rows that have swapped a unique value at the source would violate the index, whichever is written first. So rows
whose value another row takes, and which are written themselves, give theirs up before: it is NULL until then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg2 import sql

from xmin_assets.postgres.rows import fetch_as
from xmin_assets.replication.merging.row_merge import RowMerge

# A deferrable one is checked when the statement has ended. What an expression says is not looked into, and a row that a
# condition leaves out is treated as any other.
_INDEXES = """
SELECT ARRAY(SELECT a.attname::text
               FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = i.indrelid AND a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1])
              ORDER BY a.attnotnull, a.attnum) AS columns,
       (SELECT pg_catalog.bool_and(a.attnotnull)
          FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = i.indrelid AND a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1])) AS is_not_null
  FROM pg_catalog.pg_index i
 WHERE i.indrelid = %(table)s AND i.indisunique AND i.indimmediate AND i.indisvalid AND NOT i.indisprimary
   AND NOT i.indnullsnotdistinct AND i.indexprs IS NULL
"""


@dataclass(frozen=True)
class _UniqueIndex:
    """A unique index over plain columns."""

    columns: Sequence[str]
    """Those that may be NULL first."""
    is_not_null: bool
    """Whether none may."""


@contextmanager
def unique_values_free(rows: RowMerge) -> Iterator[None]:
    """Let rows take each other's unique values in what is written meanwhile.

    Args:
        rows: what is merged.
    """
    rows.cursor.execute(_INDEXES, {"table": rows.target_oid})
    copied = {column.name for column in rows.selection.columns}
    again: list[str] = []
    for index in fetch_as(rows.cursor, _UniqueIndex):
        # By its key a row is still to be found.
        emptied = next((column for column in index.columns if column not in rows.selection.key), None)
        if emptied is None or not copied.issuperset(index.columns) or not _are_taken(rows, index):
            continue
        if index.is_not_null:
            _alter(rows, emptied, "DROP NOT NULL")
            again.append(emptied)
        _give_up(rows, index, emptied)
    yield
    for column in again:
        _alter(rows, column, "SET NOT NULL")


def _taken(rows: RowMerge, index: _UniqueIndex) -> sql.Composed:
    """Build the condition that another staged row has a target row's value, which itself is written."""
    return sql.SQL("""
        EXISTS (SELECT FROM {staged} AS s WHERE ({same}) AND NOT ({matched}))
        AND EXISTS (SELECT FROM {staged} AS s WHERE {matched})
    """).format(
        staged=rows.staged,
        same=sql.SQL(" AND ").join(
            sql.SQL("s.{column} = t.{column}").format(column=sql.Identifier(name)) for name in index.columns
        ),
        matched=rows.matched,
    )


def _are_taken(rows: RowMerge, index: _UniqueIndex) -> bool:
    rows.cursor.execute(
        sql.SQL("SELECT EXISTS (SELECT FROM {target} AS t WHERE {taken})").format(
            target=rows.target, taken=_taken(rows, index)
        )
    )
    ((found,),) = rows.cursor.fetchall()
    return bool(found)


def _give_up(rows: RowMerge, index: _UniqueIndex, column: str) -> None:
    # Without its source_xmin the row is written whatever else it has.
    rows.cursor.execute(
        sql.SQL("UPDATE {target} AS t SET {column} = NULL, {xmin} = NULL WHERE {taken}").format(
            target=rows.target,
            column=sql.Identifier(column),
            xmin=sql.Identifier(rows.selection.xmin_column),
            taken=_taken(rows, index),
        )
    )


def _alter(rows: RowMerge, column: str, what: str) -> None:
    rows.cursor.execute(
        sql.SQL("ALTER TABLE {target} ALTER COLUMN {column} {what}").format(
            target=rows.target, column=sql.Identifier(column), what=sql.SQL(what)
        )
    )
