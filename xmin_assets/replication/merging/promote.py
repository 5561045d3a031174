"""A staged table becomes the target table, and a target table gets the key that it is merged by."""

from __future__ import annotations

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.postgres import catalog
from xmin_assets.postgres.identifiers import NAMEDATALEN, QualifiedName
from xmin_assets.replication.schema.keys import _PRIMARY_KEY
from xmin_assets.replication.state.migrations import SCHEMA, lock_schemas


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
    # Long names of tables may have their first bytes in common, so another index may have this one.
    cursor.execute(
        "SELECT pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', %s, %s)) IS NULL", (target.schema, key_name)
    )
    if cursor.fetchone() == (True,):
        cursor.execute(_PRIMARY_KEY, (relation.oid,))
        for constraint, _ in cursor.fetchall():  # none, if the rows have no key
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


def _key_name(target: QualifiedName) -> str:
    suffix = "_pkey"
    room = NAMEDATALEN - 1 - len(suffix)
    return target.name.encode()[:room].decode(errors="ignore") + suffix
