"""A staged table becomes the target table, and a target table gets the key that it is merged by."""

from __future__ import annotations

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import TableConfig
from xmin_assets.postgres import catalog
from xmin_assets.postgres.identifiers import NAMEDATALEN, QualifiedName
from xmin_assets.replication.state import SCHEMA

_PRIMARY_KEY = """
SELECT conname::text FROM pg_catalog.pg_constraint WHERE conrelid = %s AND contype = 'p'
"""


def promote(cursor: ext.cursor, staged: str, target: QualifiedName) -> None:
    """Give the staged table the target's schema and name. Only the catalog is changed; no row is touched."""
    relation = catalog.find_relation(cursor, QualifiedName(SCHEMA, staged))
    assert relation is not None
    cursor.execute("SELECT pg_catalog.to_regnamespace(pg_catalog.quote_ident(%s)) IS NULL", (target.schema,))
    if (cursor.fetchone() or (False,))[0]:
        cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(target.schema)))
    cursor.execute(
        sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(sql.Identifier(SCHEMA, staged), sql.Identifier(target.schema))
    )
    moved = sql.Identifier(target.schema, staged)
    cursor.execute(sql.SQL("COMMENT ON TABLE {} IS NULL").format(moved))
    cursor.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(moved, sql.Identifier(target.name)))
    key_name = _key_name(target)
    if catalog.find_relation(cursor, QualifiedName(target.schema, key_name)) is None:
        cursor.execute(_PRIMARY_KEY, (relation.oid,))
        (constraint,) = cursor.fetchone() or ("",)
        cursor.execute(
            sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}").format(
                target.sql, sql.Identifier(constraint), sql.Identifier(key_name)
            )
        )


def ensure_key(cursor: ext.cursor, table: TableConfig, oid: int, key: tuple[str, ...], ours: bool) -> None:
    """Make sure that the target has a unique index over the key.

    Args:
        cursor: in the merge transaction.
        table: the table's configuration.
        oid: of the target table.
        key: the columns that identify a row.
        ours: whether this project made the table: then an old primary key gives way to the new one.
    """
    if key in catalog.keys_of(cursor, oid):
        return
    target = table.target_name.sql
    columns = sql.SQL(", ").join(map(sql.Identifier, key))
    cursor.execute(_PRIMARY_KEY, (oid,))
    existing = cursor.fetchone()
    if existing and ours:
        cursor.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(target, sql.Identifier(existing[0])))
        existing = None
    kind = sql.SQL("UNIQUE" if existing else "PRIMARY KEY")
    cursor.execute(sql.SQL("ALTER TABLE {} ADD {} ({})").format(target, kind, columns))


def _key_name(target: QualifiedName) -> str:
    suffix = "_pkey"
    room = NAMEDATALEN - 1 - len(suffix)
    return target.name.encode()[:room].decode(errors="ignore") + suffix
