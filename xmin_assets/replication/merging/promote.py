"""A staged table becomes the target table."""

from __future__ import annotations

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.postgres import catalog
from xmin_assets.postgres.identifiers import NAMEDATALEN, QualifiedName
from xmin_assets.postgres.rows import fetch_value
from xmin_assets.replication.schema.keys import primary_key_of
from xmin_assets.replication.state.migrations import SCHEMA, lock_schemas

_IS_FREE = """
SELECT pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', %(schema)s, %(name)s)) IS NULL AS is_free
"""

_SCHEMA_EXISTS = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = %(schema)s) AS exists
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
    # Long names of tables may have their first bytes in common, so another index may have this one.
    cursor.execute(_IS_FREE, {"schema": target.schema, "name": key_name})
    is_free = fetch_value(cursor, bool)
    primary = primary_key_of(cursor, relation.oid)  # none, if the rows have no key
    if is_free and primary:
        cursor.execute(
            sql.SQL("ALTER TABLE {target} RENAME CONSTRAINT {constraint} TO {name}").format(
                target=target.sql, constraint=sql.Identifier(primary.constraint), name=sql.Identifier(key_name)
            )
        )


def _ensure_target_schema(cursor: ext.cursor, schema: str) -> None:
    if _schema_exists(cursor, schema):
        return
    lock_schemas(cursor)
    if not _schema_exists(cursor, schema):
        cursor.execute(sql.SQL("CREATE SCHEMA {schema}").format(schema=sql.Identifier(schema)))


def _schema_exists(cursor: ext.cursor, schema: str) -> bool:
    cursor.execute(_SCHEMA_EXISTS, {"schema": schema})
    return fetch_value(cursor, bool)


def _key_name(target: QualifiedName) -> str:
    suffix = "_pkey"
    room = NAMEDATALEN - 1 - len(suffix)
    return target.name.encode()[:room].decode(errors="ignore") + suffix
