"""Which tables a source has, for a configuration that is still to be written."""

from __future__ import annotations

from dataclasses import dataclass

from xmin_assets.postgres import catalog
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.transaction import TransactionMode, transaction

# Partitions come with their table, and an extension makes its own tables wherever it is installed.
_TABLES = """
SELECT c.oid::int8, n.nspname::text, c.relname::text
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND NOT c.relispartition
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'xmin_assets')
   AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
 ORDER BY 2, 3
"""


@dataclass(frozen=True)
class Discovered:
    """A table that could be replicated."""

    name: QualifiedName
    key: tuple[str, ...] | None
    """What would identify its rows; None: the configuration must say."""


def discover_tables(source: Database) -> tuple[Discovered, ...]:
    """Return the ordinary and partitioned tables that the role may read.

    Raises:
        XminAssetsError: the source cannot be reached or refuses.
    """
    action = "Listing the source's tables"
    with source.connection() as connection, transaction(source, connection, TransactionMode.READ, action) as cursor:
        cursor.execute(_TABLES)
        found = cursor.fetchall()
        return tuple(
            Discovered(QualifiedName(schema, name), next(iter(catalog.keys_of(cursor, oid)), None))
            for oid, schema, name in found
        )
