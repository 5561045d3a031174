"""Foreign keys of a table, from it and to it, and tables that stand for the other side where they are tried out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.postgres.rows import fetch_as

# Those of a partition that a parent's foreign key has made are the parent's.
_FIND = """
SELECT pg_catalog.format('%%I on table %%s', c.conname, c.conrelid::regclass) AS name,
       c.confrelid = %(table)s AS points_here, c.conrelid = c.confrelid AS points_at_itself,
       ARRAY(SELECT a.attname::text
               FROM pg_catalog.unnest(CASE WHEN c.confrelid = %(table)s THEN c.confkey ELSE c.conkey END)
                    WITH ORDINALITY AS k (attnum, position)
               JOIN pg_catalog.pg_attribute a ON a.attrelid = %(table)s AND a.attnum = k.attnum
              ORDER BY k.position) AS columns,
       ARRAY(SELECT a.attname::text
               FROM pg_catalog.unnest(CASE WHEN c.confrelid = %(table)s THEN c.conkey ELSE c.confkey END)
                    WITH ORDINALITY AS k (attnum, position)
               JOIN pg_catalog.pg_attribute a
                 ON a.attrelid = CASE WHEN c.confrelid = %(table)s THEN c.conrelid ELSE c.confrelid END
                    AND a.attnum = k.attnum
              ORDER BY k.position) AS others,
       ARRAY(SELECT pg_catalog.format_type(a.atttypid, a.atttypmod)
                    || coalesce((SELECT pg_catalog.format(' COLLATE %%I.%%I', n.nspname, o.collname)
                                   FROM pg_catalog.pg_collation o
                                   JOIN pg_catalog.pg_namespace n ON n.oid = o.collnamespace
                                  WHERE o.oid = a.attcollation), '')
               FROM pg_catalog.unnest(CASE WHEN c.confrelid = %(table)s THEN c.conkey ELSE c.confkey END)
                    WITH ORDINALITY AS k (attnum, position)
               JOIN pg_catalog.pg_attribute a
                 ON a.attrelid = CASE WHEN c.confrelid = %(table)s THEN c.conrelid ELSE c.confrelid END
                    AND a.attnum = k.attnum
              ORDER BY k.position) AS types
  FROM pg_catalog.pg_constraint c
 WHERE c.contype = 'f' AND %(table)s IN (c.conrelid, c.confrelid) AND c.conparentid = 0
 ORDER BY c.oid
"""


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key that a table has, or that points at it."""

    name: str
    """With its table, for people."""
    points_here: bool
    points_at_itself: bool
    columns: Sequence[str]
    """Of the table that was asked about."""
    others: Sequence[str]
    """Of the other side."""
    types: Sequence[str]
    """Of the other side's columns, with their collations, as SQL."""


def foreign_keys_of(cursor: ext.cursor, table: int) -> list[ForeignKey]:
    """Return the foreign keys that a table has, and those that point at it."""
    cursor.execute(_FIND, {"table": table})
    return fetch_as(cursor, ForeignKey)


def imitate(cursor: ext.cursor, key: ForeignKey, twin: sql.Composable, name: str) -> bool:
    """Give a temporary table that is like the table the same foreign key, with a table for the other side.

    Args:
        cursor: in a transaction that is rolled back afterwards.
        key: of the table.
        twin: the temporary table.
        name: of the new foreign key, and of the table for the other side.

    Returns:
        Whether there is one now. There is none where it needs more of the other side than its columns.
    """
    cursor.execute("SAVEPOINT imitate")
    try:
        other = twin if key.points_at_itself else _other_side(cursor, key, name)
        here, there = _listed(key.columns), _listed(key.others)
        cursor.execute(
            sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ({})").format(
                other if key.points_here else twin,
                sql.Identifier(name),
                there if key.points_here else here,
                twin if key.points_here else other,
                here if key.points_here else there,
            )
        )
    except psycopg2.Error:
        cursor.execute("ROLLBACK TO SAVEPOINT imitate")
        return False
    return True


def _other_side(cursor: ext.cursor, key: ForeignKey, name: str) -> sql.Composable:
    table = sql.Identifier("pg_temp", name)
    cursor.execute(
        sql.SQL("CREATE TEMPORARY TABLE {} ({}{})").format(
            sql.Identifier(name),
            sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(type_))
                for column, type_ in zip(key.others, key.types, strict=True)
            ),
            sql.SQL("") if key.points_here else sql.SQL(", UNIQUE ({})").format(_listed(key.others)),
        )
    )
    return table


def _listed(columns: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
