"""The keys and indexes of a target table, in its catalog."""

from __future__ import annotations

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import TableConfig
from xmin_assets.errors import KeyInvalid
from xmin_assets.postgres import catalog
from xmin_assets.postgres.error_translation import one_line
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.rows import fetch_as, fetch_value
from xmin_assets.replication.manifests.facts import PrimaryKey, TargetKeys
from xmin_assets.replication.manifests.operations import AddKey

_PRIMARY_KEY = """
SELECT c.conname::text AS constraint,
       ARRAY(SELECT a.attname::text
               FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = c.conrelid AND a.attnum = ANY(c.conkey)) AS columns
  FROM pg_catalog.pg_constraint c
 WHERE c.conrelid = %(table)s AND c.contype = 'p'
"""

_INDEXED = """
SELECT EXISTS (
           SELECT FROM pg_catalog.pg_index i
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
            WHERE i.indrelid = pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', %(schema)s, %(name)s))
              AND a.attname = %(column)s AND i.indisvalid AND i.indpred IS NULL) AS is_indexed
"""


def primary_key_of(cursor: ext.cursor, oid: int) -> PrimaryKey | None:
    """Return the primary key of a table; None if it has none."""
    cursor.execute(_PRIMARY_KEY, {"table": oid})
    return next(iter(fetch_as(cursor, PrimaryKey)), None)


def target_keys_of(cursor: ext.cursor, oid: int) -> TargetKeys:
    """Return what identifies the rows of a target table."""
    return TargetKeys(catalog.keys_of(cursor, oid), primary_key_of(cursor, oid))


def ensure_index(cursor: ext.cursor, table: QualifiedName, column: str) -> None:
    """Create an index by which rows are found by this column, if there is none."""
    cursor.execute(_INDEXED, {"schema": table.schema, "name": table.name, "column": column})
    if not fetch_value(cursor, bool):
        cursor.execute(
            sql.SQL("CREATE INDEX ON {table} ({column})").format(table=table.sql, column=sql.Identifier(column))
        )


def add_key(cursor: ext.cursor, table: TableConfig, operation: AddKey) -> None:
    """Give the target its key, once its rows are there.

    Raises:
        KeyInvalid: rows that the target keeps repeat it.
    """
    try:
        cursor.execute(operation.statement(table.target_name))
    except (psycopg2.errors.UniqueViolation, psycopg2.errors.NotNullViolation) as error:
        raise KeyInvalid(
            f"{table.label}: rows that the target {table.target_name} keeps, though the source has them no more, do "
            f"not fit the new key: {one_line(error)} Nothing was merged. Delete those rows from the target, or sync "
            "once with deletes: hard."
        ) from error
