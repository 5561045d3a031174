"""Enums and composites of the target that a column has there, though it is of another type at the source.

`type_overrides` may ask for one, and somebody may have altered the target's column. Such a column holds the
labels' names of the time when its rows were loaded. So no sync of any table renames a type that is borrowed, and what
its labels and attributes are is noted with the state.
"""

from __future__ import annotations

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.config import TableConfig
from xmin_assets.errors import SchemaChangeRefused
from xmin_assets.postgres.catalog import Attribute
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.transaction import TransactionMode, transaction_on
from xmin_assets.postgres.types import FIRST_OWN_OID, UserType, types_of
from xmin_assets.replication.manifests.table import Column, Selection
from xmin_assets.replication.schema.column_changes import altered_by_hand
from xmin_assets.replication.state.migrations import schema_version

# What type a sync has given to a column is in the state. That is looked into for tables that have such columns only.
_BORROWED_BY_TABLES = """
WITH own AS MATERIALIZED (
    SELECT s.target_schema, s.target_table, a.attname::text AS name, a.atttypid::int8 AS oid,
           pg_catalog.format_type(a.atttypid, a.atttypmod) AS type
      FROM xmin_assets.state s
      JOIN pg_catalog.pg_namespace n ON n.nspname = s.target_schema
      JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = s.target_table
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= %s
)
SELECT DISTINCT own.oid
  FROM own
  JOIN xmin_assets.state s ON s.target_schema = own.target_schema AND s.target_table = own.target_table
 CROSS JOIN LATERAL pg_catalog.jsonb_array_elements(s.facts -> 'selection' -> 'columns') AS k (facts)
 WHERE k.facts ->> 'name' = own.name AND (k.facts ->> 'override' IS NOT NULL OR k.facts ->> 'type' <> own.type)
"""

_NAMED = "SELECT pg_catalog.to_regtype(name)::oid::int8 FROM pg_catalog.unnest(%s::text[]) AS t (name)"


def observe_borrowed(
    target: Database,
    table: TableConfig,
    before: Selection | None,
    target_selection: Selection,
    target_columns: tuple[Attribute, ...],
) -> tuple[UserType, ...]:
    """Return the types that a table borrows, as they are in the target.

    Args:
        target: the target database.
        table: the table's configuration.
        before: what its last sync copied, of the same relation; None if there was none.
        target_selection: its columns, as they land in the target.
        target_columns: those of the target; empty if there is no table yet.

    Raises:
        SchemaChangeRefused: a column was altered by hand, and what the source has cannot be stored in it.
        XminAssetsError: the target failed.
    """
    wanted = _overrides(target_selection.columns)
    altered = altered_by_hand(before, target_selection, target_columns) if before else ()
    altered = tuple((column, found) for column, found in altered if found.type_oid >= FIRST_OWN_OID)
    if not wanted and not altered:
        return ()
    with transaction_on(target, TransactionMode.READ, f"{table.label}: looking at the target's types") as cursor:
        for column, found in altered:
            _require_storable(cursor, table, column, found)
        return _with_parts(cursor, [*(found.type_oid for _, found in altered), *_named(cursor, wanted)])


def borrowed_by_tables(cursor: ext.cursor, source_selection: Selection) -> frozenset[QualifiedName]:
    """Return those of a table's types that it borrows itself, or any table that is synced does.

    Args:
        cursor: in a transaction at the target.
        source_selection: the table's columns and their types, as the source has them.
    """
    if not any(made.has_parts for made in source_selection.types):
        return frozenset()
    oids = _named(cursor, _overrides(source_selection.columns))
    if schema_version(cursor):
        cursor.execute(_BORROWED_BY_TABLES, (FIRST_OWN_OID,))
        oids += [oid for (oid,) in cursor.fetchall()]
    return frozenset(made.qualified for made in _with_parts(cursor, oids))


def _require_storable(cursor: ext.cursor, table: TableConfig, column: Column, existing: Attribute) -> None:
    storing = sql.SQL("EXPLAIN UPDATE {} SET {} = NULL::{}").format(
        table.target_name.sql, sql.Identifier(existing.name), sql.SQL(column.type)
    )
    try:
        cursor.execute(storing)
    except psycopg2.errors.DatatypeMismatch as error:
        raise SchemaChangeRefused(
            f"{table.label}: somebody has given the target's column {existing.name} the type {existing.type}, and "
            f"PostgreSQL does not convert {column.type} to it by itself. Set type_overrides: "
            f"{{{column.name}: {existing.type}}} to have it filled, or alter or drop that column of the target."
        ) from error


def _overrides(columns: tuple[Column, ...]) -> list[str]:
    """Return types that may not be PostgreSQL's own: the names of those have no schema."""
    return [column.override for column in columns if column.override and "." in column.override]


def _named(cursor: ext.cursor, names: list[str]) -> list[int]:
    if not names:
        return []
    cursor.execute(_NAMED, (names,))
    return [oid for (oid,) in cursor.fetchall() if oid]


def _with_parts(cursor: ext.cursor, oids: list[int]) -> tuple[UserType, ...]:
    return tuple(made for made in types_of(cursor, oids) if made.has_parts) if oids else ()
