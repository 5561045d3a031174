"""What of a database's users hangs on columns and keys of a table, so that PostgreSQL refuses to change these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg2.extensions as ext

from xmin_assets.postgres.rows import fetch_as

FAMILY = """tree AS (
    SELECT %(table)s::oid AS oid
     UNION
    SELECT i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid
)"""
"""The table of a query and all that inherit from it, partitions among them: these are altered along with it."""

# A partition's key goes with its parent's.
_KEYS = """keys AS (
    SELECT c.oid, c.conindid FROM pg_catalog.pg_constraint c
     WHERE c.conrelid = %(table)s AND c.conname = %(constraint)s
     UNION
    SELECT c.oid, c.conindid FROM keys k JOIN pg_catalog.pg_constraint c ON c.conparentid = k.oid
)"""

# What PostgreSQL looks for is in RememberAllDependentForRebuilding() of src/backend/commands/tablecmds.c; the rest it
# alters or drops by itself.
_OF_COLUMNS = f"""
WITH RECURSIVE {FAMILY}
SELECT a.attname::text AS column,
       CASE WHEN v.relkind = 'm' THEN 'the materialized view ' || pg_catalog.format('%%I.%%I', n.nspname, v.relname)
            WHEN v.oid IS NOT NULL AND v.relkind <> 'v' THEN pg_catalog.pg_describe_object(d.classid, d.objid, 0)
            WHEN v.oid IS NOT NULL THEN pg_catalog.format('%%I.%%I', n.nspname, v.relname)
            WHEN g.attname IS NOT NULL THEN pg_catalog.format('the generated column %%I', g.attname)
            ELSE pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) END AS object,
       CASE WHEN v.relkind = 'v' THEN 'view'
            WHEN d.classid = 'pg_catalog.pg_publication_rel'::regclass THEN 'publication'
            ELSE 'other' END AS kind
  FROM tree t
  JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attname = ANY(%(columns)s)
  JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = a.attrelid
       AND d.refobjsubid = a.attnum
  LEFT JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND r.oid = d.objid
  LEFT JOIN pg_catalog.pg_class v ON v.oid = r.ev_class
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
  LEFT JOIN pg_catalog.pg_attrdef e ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND e.oid = d.objid
  LEFT JOIN pg_catalog.pg_attribute g ON g.attrelid = e.adrelid AND g.attnum = e.adnum AND g.attnum <> a.attnum
       AND g.attgenerated <> ''
  LEFT JOIN pg_catalog.pg_publication_rel p ON d.classid = 'pg_catalog.pg_publication_rel'::regclass AND p.oid = d.objid
 WHERE r.oid IS NOT NULL OR g.attname IS NOT NULL OR p.oid IS NOT NULL
    OR d.classid IN ('pg_catalog.pg_policy'::regclass, 'pg_catalog.pg_trigger'::regclass,
                     'pg_catalog.pg_proc'::regclass)
 GROUP BY 1, 2, 3
 ORDER BY 1, 2
"""

_OF_A_KEY = f"""
WITH RECURSIVE {_KEYS}
SELECT '' AS column, 'other' AS kind,
       pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) AS object
  FROM keys k
  JOIN pg_catalog.pg_depend d
    ON (d.refclassid, d.refobjid) IN (('pg_catalog.pg_constraint'::regclass, k.oid),
                                      ('pg_catalog.pg_class'::regclass, k.conindid))
   AND d.deptype = 'n'
 GROUP BY 3
 ORDER BY 3
"""

# What makes a table one that is published is in GetRelationPublications() and its like, of
# src/backend/catalog/pg_publication.c: a partition is published with the tables that it is a partition of.
_UNIDENTIFIED = f"""
WITH RECURSIVE {FAMILY}, {_KEYS}, above AS (
    SELECT c.oid, c.oid AS parent
      FROM tree t
      JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relkind = 'r'
      JOIN pg_catalog.pg_index i ON i.indrelid = c.oid
           AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END
     WHERE i.indexrelid IN (SELECT conindid FROM keys)
        OR EXISTS (SELECT FROM pg_catalog.pg_attribute a
                    WHERE a.attrelid = c.oid AND a.attnum = ANY(i.indkey::int2[]) AND a.attname = ANY(%(columns)s))
     UNION
    SELECT a.oid, i.inhparent
      FROM above a
      JOIN pg_catalog.pg_class c ON c.oid = a.parent AND c.relispartition
      JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.parent
)
SELECT DISTINCT a.oid::regclass::text AS table
  FROM above a
  JOIN pg_catalog.pg_class c ON c.oid = a.parent
  JOIN pg_catalog.pg_publication p ON p.pubupdate OR p.pubdelete
 WHERE p.puballtables
    OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid)
    OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace n
                WHERE n.pnpubid = p.oid AND n.pnnspid = c.relnamespace)
 ORDER BY 1
"""

# What is dropped along with a column is not in the way: indexes, constraints, sequences. What uses one of these is.
_OF_DROPPED_COLUMNS = f"""
WITH RECURSIVE {FAMILY}, going AS (
    SELECT 'pg_catalog.pg_class'::regclass::oid AS classid, a.attrelid AS objid, a.attnum::int AS objsubid,
           a.attname::text AS column
      FROM tree t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attname = ANY(%(columns)s)
     UNION
    SELECT d.classid, d.objid, d.objsubid, g.column
      FROM going g
      JOIN pg_catalog.pg_depend d ON (d.refclassid, d.refobjid, d.refobjsubid) = (g.classid, g.objid, g.objsubid)
           AND d.deptype <> 'n'
)
SELECT g.column, 'other' AS kind, pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) AS object
  FROM going g
  JOIN pg_catalog.pg_depend d ON (d.refclassid, d.refobjid, d.refobjsubid) = (g.classid, g.objid, g.objsubid)
       AND d.deptype = 'n'
 WHERE NOT EXISTS (SELECT FROM going o WHERE (o.classid, o.objid, o.objsubid) = (d.classid, d.objid, d.objsubid))
 GROUP BY 1, 3
 ORDER BY 1, 3
"""

# As PostgreSQL looks for them (find_composite_type_dependencies() in src/backend/commands/tablecmds.c): columns that
# are stored, of a type that has rows of the table in it.
_OF_ROWS = f"""
WITH RECURSIVE {FAMILY}, types AS (
    SELECT c.reltype AS oid FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid WHERE c.reltype <> 0
     UNION
    SELECT coalesce(c.reltype, d.objid)
      FROM types t
      JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_type'::regclass AND d.refobjid = t.oid
      LEFT JOIN pg_catalog.pg_class c ON d.classid = 'pg_catalog.pg_class'::regclass AND c.oid = d.objid
     WHERE d.classid = 'pg_catalog.pg_type'::regclass OR (c.relkind IN ('v', 'c') AND c.reltype <> 0)
)
SELECT DISTINCT pg_catalog.format('%%s.%%I', c.oid::regclass, a.attname) AS column
  FROM types t
  JOIN pg_catalog.pg_attribute a ON a.atttypid = t.oid AND NOT a.attisdropped
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
 WHERE c.relkind IN ('r', 'm', 'p')
 ORDER BY 1
"""

# What a column takes along when it is dropped.
_ALONG = """
SELECT DISTINCT pg_catalog.pg_describe_object(d.classid, d.objid, 0) AS object
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = a.attrelid
       AND d.refobjsubid = a.attnum AND d.deptype = 'a'
 WHERE a.attrelid = %(table)s AND a.attname = ANY(%(columns)s)
   AND d.classid IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_constraint'::regclass,
                     'pg_catalog.pg_statistic_ext'::regclass)
 ORDER BY 1
"""

_SHAPE = """
SELECT c.relispartition AS is_partition, c.reloftype <> 0 AS is_typed,
       (SELECT pg_catalog.array_agg(a.attname::text)
          FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = c.oid AND a.attinhcount > 0) AS inherited,
       (SELECT pg_catalog.array_agg(a.attname::text)
          FROM pg_catalog.pg_partitioned_table p
          JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = ANY(p.partattrs::int2[])
         WHERE p.partrelid = c.oid) AS partition_key,
       (SELECT pg_catalog.array_agg(a.attname::text)
          FROM pg_catalog.pg_index i
          JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey::int2[])
         WHERE i.indrelid = c.oid AND i.indisreplident) AS replica_identity
  FROM pg_catalog.pg_class c
 WHERE c.oid = %(table)s
"""


@dataclass(frozen=True)
class Dependent:
    """Something that uses a column or a key."""

    column: str
    """The column that it uses; empty where it uses a key."""
    object: str
    """What it is, for people."""
    kind: str
    """view, publication or other."""


@dataclass(frozen=True)
class Shape:
    """What a table is besides a list of columns of its own."""

    is_partition: bool
    is_typed: bool
    """Whether it is of a composite type (CREATE TABLE ... OF)."""
    inherited: Sequence[str] | None
    """Columns that it has from a table that it inherits from."""
    partition_key: Sequence[str] | None
    replica_identity: Sequence[str] | None
    """Columns of the index that somebody has chosen for it."""


def dependents_of_columns(cursor: ext.cursor, table: int, columns: Sequence[str]) -> list[Dependent]:
    """Return what uses these columns of a table, of those that PostgreSQL neither alters nor drops by itself."""
    cursor.execute(_OF_COLUMNS, {"table": table, "columns": list(columns)})
    return fetch_as(cursor, Dependent)


def dependents_of_dropped(cursor: ext.cursor, table: int, columns: Sequence[str]) -> list[Dependent]:
    """Return what keeps these columns of a table from being dropped."""
    cursor.execute(_OF_DROPPED_COLUMNS, {"table": table, "columns": list(columns)})
    return fetch_as(cursor, Dependent)


def columns_of_rows(cursor: ext.cursor, table: int) -> list[str]:
    """Return the columns of a database that have rows of a table in them, with their tables."""
    cursor.execute(_OF_ROWS, {"table": table})
    return [column for (column,) in cursor.fetchall()]


def dependents_of_key(cursor: ext.cursor, table: int, constraint: str) -> list[Dependent]:
    """Return what uses a primary key: foreign keys, and views that group by it."""
    cursor.execute(_OF_A_KEY, {"table": table, "constraint": constraint})
    return fetch_as(cursor, Dependent)


def unidentified_without(
    cursor: ext.cursor, table: int, constraint: str | None, columns: Sequence[str]
) -> tuple[str, ...]:
    """Return what of a table and its partitions is published, and loses its replica identity with a key or a column.

    Args:
        cursor: in a transaction.
        table: its oid.
        constraint: the primary key that is dropped, if one is.
        columns: that are dropped.
    """
    cursor.execute(_UNIDENTIFIED, {"table": table, "constraint": constraint, "columns": list(columns)})
    return tuple(found for (found,) in cursor.fetchall())


def dropped_along(cursor: ext.cursor, table: int, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the indexes, constraints and statistics that go with these columns when they are dropped."""
    cursor.execute(_ALONG, {"table": table, "columns": list(columns)})
    return tuple(found for (found,) in cursor.fetchall())


def shape_of(cursor: ext.cursor, table: int) -> Shape:
    """Return what a table is besides its columns."""
    cursor.execute(_SHAPE, {"table": table})
    (shape,) = fetch_as(cursor, Shape)
    return shape
