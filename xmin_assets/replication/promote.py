"""A staged table becomes the target table, and a target table gets the key that it is merged by."""

from __future__ import annotations

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import TableConfig
from xmin_assets.postgres import catalog
from xmin_assets.postgres.identifiers import NAMEDATALEN, QualifiedName
from xmin_assets.replication.state import SCHEMA, lock_schemas

_PRIMARY_KEY = """
SELECT conname::text FROM pg_catalog.pg_constraint WHERE conrelid = %s AND contype = 'p'
"""

_FORMER_KEY = """
SELECT c.conname::text, ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
                               WHERE a.attrelid = c.conrelid AND a.attnum = ANY(c.conkey))
  FROM pg_catalog.pg_constraint c
 WHERE c.conrelid = %s AND c.contype = 'p'
"""


def promote(cursor: ext.cursor, staged: str, target: QualifiedName) -> None:
    """Give the staged table the target's schema and name. Only the catalog is changed; no row is touched."""
    relation = catalog.find_relation(cursor, QualifiedName(SCHEMA, staged))
    assert relation is not None
    _ensure_target_schema(cursor, target.schema)
    cursor.execute(
        sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(sql.Identifier(SCHEMA, staged), sql.Identifier(target.schema))
    )
    moved = sql.Identifier(target.schema, staged)
    cursor.execute(sql.SQL("COMMENT ON TABLE {} IS NULL").format(moved))
    cursor.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(moved, sql.Identifier(target.name)))
    key_name = _key_name(target)
    if catalog.find_relation(cursor, QualifiedName(target.schema, key_name)) is None:
        cursor.execute(_PRIMARY_KEY, (relation.oid,))
        for (constraint,) in cursor.fetchall():  # none, if the rows have no key
            cursor.execute(
                sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}").format(
                    target.sql, sql.Identifier(constraint), sql.Identifier(key_name)
                )
            )


def _ensure_target_schema(cursor: ext.cursor, schema: str) -> None:
    exists = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s)"
    cursor.execute(exists, (schema,))
    if cursor.fetchone() == (True,):
        return
    lock_schemas(cursor)
    cursor.execute(exists, (schema,))
    if cursor.fetchone() != (True,):
        cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))


def drop_old_key(cursor: ext.cursor, table: TableConfig, oid: int, key: tuple[str, ...]) -> None:
    """Drop the primary key of a target made by this project if the source has another key now.

    Rows may come that are the same by the old key, or have a NULL in it.
    """
    if key in catalog.keys_of(cursor, oid):
        return
    cursor.execute(_FORMER_KEY, (oid,))
    for constraint, columns in cursor.fetchall():
        changes = [sql.SQL("DROP CONSTRAINT {}").format(sql.Identifier(constraint))]
        # The NOT NULL of its columns outlives a primary key.
        changes += [
            sql.SQL("ALTER COLUMN {} DROP NOT NULL").format(sql.Identifier(name)) for name in columns if name not in key
        ]
        cursor.execute(sql.SQL("ALTER TABLE {} {}").format(table.target_name.sql, sql.SQL(", ").join(changes)))


def ensure_key(cursor: ext.cursor, table: TableConfig, oid: int, key: tuple[str, ...]) -> None:
    """Make sure that the target has a unique index over the key.

    Args:
        cursor: in the merge transaction.
        table: the table's configuration.
        oid: of the target table.
        key: the columns that identify a row.
    """
    if not key or key in catalog.keys_of(cursor, oid):
        return
    cursor.execute(_PRIMARY_KEY, (oid,))
    kind = sql.SQL("UNIQUE" if cursor.fetchone() else "PRIMARY KEY")
    columns = sql.SQL(", ").join(map(sql.Identifier, key))
    cursor.execute(sql.SQL("ALTER TABLE {} ADD {} ({})").format(table.target_name.sql, kind, columns))


def _key_name(target: QualifiedName) -> str:
    suffix = "_pkey"
    room = NAMEDATALEN - 1 - len(suffix)
    return target.name.encode()[:room].decode(errors="ignore") + suffix
