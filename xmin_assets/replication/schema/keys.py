"""The key of a target table: what gives it the one that it is merged by."""

from __future__ import annotations

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import TableConfig
from xmin_assets.errors import KeyInvalid
from xmin_assets.postgres import catalog
from xmin_assets.postgres.error_translation import one_line
from xmin_assets.postgres.identifiers import QualifiedName

_PRIMARY_KEY = """
SELECT c.conname::text, ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
                               WHERE a.attrelid = c.conrelid AND a.attnum = ANY(c.conkey))
  FROM pg_catalog.pg_constraint c
 WHERE c.conrelid = %s AND c.contype = 'p'
"""


_INDEXED = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_index i
      JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
     WHERE i.indrelid = pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', %s, %s)) AND a.attname = %s
       AND i.indisvalid AND i.indpred IS NULL)
"""


def key_changes(
    cursor: ext.cursor, target: QualifiedName, oid: int, former: tuple[str, ...] | None, key: tuple[str, ...]
) -> tuple[list[sql.Composed], list[sql.Composed]]:
    """What gives a target table the key that it is merged by: before its rows are written, and after.

    Args:
        cursor: in a transaction.
        target: the target table.
        oid: of the target table.
        former: the key that the last sync left, by the names that its columns have now; None if it was not ours. Its
            index goes, because rows may come that are the same by it, or have a NULL in it. An index that somebody
            else has made stays.
        key: the columns that identify a row now; none for a table whose rows have no key.
    """
    if key in catalog.keys_of(cursor, oid) or (not key and not former):
        return [], []
    cursor.execute(_PRIMARY_KEY, (oid,))
    primary = cursor.fetchone()
    before, after = [], []
    if primary and former and set(primary[1]) == set(former):
        changes = [sql.SQL("DROP CONSTRAINT {}").format(sql.Identifier(primary[0]))]
        # The NOT NULL of its columns outlives a primary key.
        changes += [
            sql.SQL("ALTER COLUMN {} DROP NOT NULL").format(sql.Identifier(name))
            for name in primary[1]
            if name not in key
        ]
        before.append(sql.SQL("ALTER TABLE {} {}").format(target.sql, sql.SQL(", ").join(changes)))
        primary = None
    if key:
        kind = sql.SQL("UNIQUE" if primary else "PRIMARY KEY")
        added = [sql.SQL("ADD {} ({})").format(kind, sql.SQL(", ").join(map(sql.Identifier, key)))]
        if primary:  # which alone brings NOT NULL along
            added += [sql.SQL("ALTER COLUMN {} SET NOT NULL").format(sql.Identifier(name)) for name in key]
        after.append(sql.SQL("ALTER TABLE {} {}").format(target.sql, sql.SQL(", ").join(added)))
    return before, after


def ensure_index(cursor: ext.cursor, table: QualifiedName, column: str) -> None:
    """Make sure that rows are found by this column."""
    cursor.execute(_INDEXED, (table.schema, table.name, column))
    if cursor.fetchone() != (True,):
        cursor.execute(sql.SQL("CREATE INDEX ON {} ({})").format(table.sql, sql.Identifier(column)))


def add_key(cursor: ext.cursor, table: TableConfig, statements: list[sql.Composed]) -> None:
    """Give the target its key, once its rows are there.

    Raises:
        KeyInvalid: rows that the target keeps repeat it.
    """
    for statement in statements:
        _add_key(cursor, table, statement)


def _add_key(cursor: ext.cursor, table: TableConfig, statement: sql.Composed) -> None:
    try:
        cursor.execute(statement)
    except (psycopg2.errors.UniqueViolation, psycopg2.errors.NotNullViolation) as error:
        raise KeyInvalid(
            f"{table.label}: rows that the target {table.target_name} keeps, though the source has them no more, do "
            f"not fit the new key: {one_line(error)} Nothing was merged. Delete those rows from the target, or sync "
            "once with deletes: hard."
        ) from None
