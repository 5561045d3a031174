"""What the catalog says of a relation: what it is, where its rows are, its columns and what identifies a row.

Read under a REPEATABLE READ snapshot these queries answer as of that snapshot; functions such as
pg_relation_filenode() answer as of now, which `Storage.rewritten` uses to notice a table that changed in between.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import psycopg2
import psycopg2.extensions as ext

from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.rows import fetch_value, fetch_value_if_any, fetch_value_or_none
from xmin_assets.postgres.types import FIRST_OWN_OID

# A view's query, and those of the views that it reads: one of these may be replaced without a word in the view's own.
_FIND = """
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, c.relnatts::int,
       c.relhastriggers OR c.relhasrules,
       CASE WHEN c.relkind IN ('v', 'm') THEN (
           WITH RECURSIVE used AS (
               SELECT c.oid
                UNION
               SELECT d.refobjid
                 FROM used u
                 JOIN pg_catalog.pg_rewrite r ON r.ev_class = u.oid
                 JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
                      AND d.refclassid = 'pg_catalog.pg_class'::regclass
           )
           SELECT pg_catalog.string_agg(pg_catalog.pg_get_viewdef(v.oid), ' ' ORDER BY v.oid)
             FROM used u JOIN pg_catalog.pg_class v ON v.oid = u.oid
            WHERE v.relkind IN ('v', 'm')) END,
       (SELECT e.extname::text
          FROM pg_catalog.pg_depend d
          JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
         WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
           AND d.refclassid = 'pg_catalog.pg_extension'::regclass),
       (SELECT pg_catalog.json_object_agg(d.objsubid, d.description)
          FROM pg_catalog.pg_description d
         WHERE d.objoid = c.oid AND d.classoid = 'pg_catalog.pg_class'::regclass)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %(schema)s AND c.relname = %(name)s AND c.relkind NOT IN ('i', 'I', 't', 'c')
"""

# pg_inherits is read by this query, not by pg_partition_tree(): the function would answer as of now. UNION, for a table
# may inherit from another along several ways, and has its rows once.
_STORAGE = """
WITH RECURSIVE tree AS (
    SELECT %(oid)s::oid AS oid
    UNION
    SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree t ON i.inhparent = t.oid WHERE NOT i.inhdetachpending
)
SELECT c.oid::int8, c.relfilenode::int8, n.nspname::text, c.relname::text, c.relkind::text,
       coalesce(pg_catalog.pg_relation_size(c.oid), 0),
       coalesce(pg_catalog.pg_table_size(c.oid), 0),
       greatest(c.reltuples, 0)::int8,
       c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid),
       pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'),
       c.relpersistence = 'u',
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.atthasmissing AND NOT a.attisdropped),
       CASE WHEN c.oid <> %(oid)s THEN (
           SELECT pg_catalog.array_agg(ARRAY[p.attnum::int, a.attnum::int] ORDER BY p.attnum)
             FROM pg_catalog.pg_attribute p
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = p.attname AND a.attnum <> p.attnum
            WHERE p.attrelid = %(oid)s AND p.attnum > 0 AND NOT p.attisdropped AND a.attnum > 0) END
  FROM tree t
  JOIN pg_catalog.pg_class c ON c.oid = t.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind <> 'p'
 ORDER BY c.oid
"""

_COLUMNS = """
SELECT a.attnum::int, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,
       CASE WHEN a.attgenerated = 'v' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END,
       (SELECT pg_catalog.format('%%I.%%I', n.nspname, o.collname)
          FROM pg_catalog.pg_collation o JOIN pg_catalog.pg_namespace n ON n.oid = o.collnamespace
         WHERE o.oid = a.attcollation AND o.oid <> t.typcollation),
       t.oid::int8, t.typcategory::text, a.atthasdef, a.attidentity::text, a.attgenerated::text,
       t.typtype::text, a.attcollation::int8
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
"""

_OTHER_EXPRESSIONS = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_attribute a
      JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      JOIN pg_catalog.pg_attribute o ON o.attrelid = ANY (%(leaves)s::oid[]) AND o.attname = a.attname
      LEFT JOIN pg_catalog.pg_attrdef e ON e.adrelid = o.attrelid AND e.adnum = o.attnum
     WHERE a.attrelid = %(oid)s AND a.attname = ANY (%(columns)s::name[])
       AND pg_catalog.pg_get_expr(e.adbin, e.adrelid) IS DISTINCT FROM pg_catalog.pg_get_expr(d.adbin, d.adrelid))
"""

# A domain is what it is over. citext and its like go by the locale of the database; what composites, ranges and arrays
# are made of is not looked into. A collation that tells fewer texts apart than bytes do is of ICU, whose locale has
# another column in 14, in 15 and 16, and since 17; before 15 databases have a locale of libc only.
_EQUALITIES = """
SELECT a.attnum::int,
       CASE WHEN o.oid IS NOT NULL
            THEN (SELECT pg_catalog.jsonb_build_array(
                             o.collprovider,
                             coalesce(c.facts ->> 'colllocale', c.facts ->> 'colliculocale', o.collcollate::text),
                             c.facts ->> 'collicurules', o.collversion,
                             pg_catalog.pg_collation_actual_version(o.oid))::text
                    FROM pg_catalog.to_jsonb(o) AS c (facts))
            WHEN b.oid < 16384 OR b.typtype = 'e' THEN ''
            WHEN b.typtype <> 'b' OR b.typcategory = 'A' THEN NULL
            WHEN b.typcollation = 0 THEN ''
            ELSE (SELECT pg_catalog.concat_ws(' ', d.encoding, d.datctype, coalesce(l.locale ->> 'datlocprovider', 'c'),
                                              coalesce(l.locale ->> 'datlocale', l.locale ->> 'daticulocale'))
                    FROM pg_catalog.pg_database d, pg_catalog.to_jsonb(d) AS l (locale)
                   WHERE d.datname = pg_catalog.current_database()) END
  FROM pg_catalog.pg_attribute a
  LEFT JOIN pg_catalog.pg_collation o ON o.oid = a.attcollation AND NOT o.collisdeterministic
 CROSS JOIN LATERAL (
       WITH RECURSIVE base AS (
           SELECT t.oid, t.typtype, t.typbasetype, t.typcollation, t.typcategory
             FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid
            UNION ALL
           SELECT t.oid, t.typtype, t.typbasetype, t.typcollation, t.typcategory
             FROM base JOIN pg_catalog.pg_type t ON base.typtype = 'd' AND t.oid = base.typbasetype
       )
       SELECT * FROM base WHERE typtype <> 'd') b
 WHERE a.attrelid = %(oid)s AND a.attnum = ANY(%(columns)s)
"""

# The primary key first, else the smallest unique index that guarantees one row a value. A deferrable one does: what it
# defers is over before its transaction commits, and a snapshot shows what is committed.
_KEYS = """
SELECT i.indexrelid::int8, i.indisprimary, k.columns
  FROM pg_catalog.pg_index i
 CROSS JOIN LATERAL (
       SELECT pg_catalog.array_agg(a.attname::text ORDER BY x.position) AS columns, bool_and(a.attnotnull) AS not_null
         FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS x (attnum, position)
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = x.attnum
        WHERE x.position <= i.indnkeyatts) k
 WHERE i.indrelid = %(oid)s AND i.indisunique AND i.indisvalid
   AND i.indpred IS NULL AND i.indexprs IS NULL AND k.not_null
 ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid
"""

# A unique index does not guarantee it where NOT NULL is NOT VALID, as it may be since PostgreSQL 18, or by a collation
# that tells more texts apart than its column's does, or by an operator class whose equality (strategy 3 of a B-tree) is
# not the type's own, as text_ops of a citext and record_image_ops of a composite are. No primary key may be so
# (transformIndexConstraint() in parse_utilcmd.c, verifyNotNullPKCompatible() in tablecmds.c).
_LOOSE = """
SELECT i.indexrelid::int8
  FROM pg_catalog.pg_index i
 CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indcollation::oid[], i.indclass::oid[]) AS x (attnum, by, class)
  JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = x.attnum
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_catalog.pg_collation o ON o.oid = a.attcollation AND NOT o.collisdeterministic
 WHERE i.indrelid = %(oid)s AND x.by IS NOT NULL
   AND (o.oid IS NOT NULL AND x.by <> o.oid
        OR EXISTS (SELECT FROM pg_catalog.pg_opclass u
                     JOIN pg_catalog.pg_opclass d
                       ON d.opcmethod = u.opcmethod AND d.opcdefault AND d.opcfamily <> u.opcfamily
                          AND d.opcintype = CASE t.typtype WHEN 'c' THEN 'record'::regtype
                                                           WHEN 'd' THEN t.typbasetype ELSE t.oid END
                     JOIN pg_catalog.pg_amop v
                       ON v.amopfamily = u.opcfamily AND v.amopstrategy = 3
                          AND (v.amoplefttype, v.amoprighttype) = (u.opcintype, u.opcintype)
                     JOIN pg_catalog.pg_amop w
                       ON w.amopfamily = d.opcfamily AND w.amopstrategy = 3
                          AND (w.amoplefttype, w.amoprighttype) = (d.opcintype, d.opcintype)
                    WHERE u.oid = x.class AND v.amopopr <> w.amopopr)
        OR EXISTS (SELECT FROM pg_catalog.pg_constraint n
                    WHERE n.conrelid = a.attrelid AND n.contype = 'n' AND NOT n.convalidated
                      AND n.conkey = ARRAY[a.attnum]))
"""

_RENAMED = """
SELECT coalesce(
           pg_catalog.bool_or(
               pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', schema, name))::oid IS DISTINCT FROM oid),
           false) AS renamed
  FROM unnest(%(oids)s::oid[], %(schemas)s::text[], %(names)s::text[]) AS t (oid, schema, name)
"""

_OF_LABELS = """
SELECT CASE WHEN t.typtype = 'e' THEN 'pg_catalog.text' ELSE 'pg_catalog.text[]' END AS text
  FROM pg_catalog.pg_type t
  LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
 WHERE t.oid = pg_catalog.to_regtype(%(type)s) AND 'e' IN (t.typtype, e.typtype)
"""

_NAMES = """
SELECT n.nspname::text || '.' || c.relname::text
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'm', 'v') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 ORDER BY 1
 LIMIT 5000
"""

_MODIFIER = re.compile(r"\([^()]*\)")
_TYPE_NAME = re.compile(r"""[\w\s".,()\[\]]+""")
"""What a type's name can be made of; not the dashes and slashes of a comment."""


@dataclass(frozen=True)
class Relation:
    """A table or the like, found by name."""

    oid: int
    name: QualifiedName
    kind: str
    """pg_class.relkind: r, p, v, m, f, S."""
    persistence: str
    """pg_class.relpersistence: p, u, t."""
    last_attnum: int
    """The highest number that a column of it has or had."""
    has_triggers: bool
    """Whether it has triggers or rules, those of foreign keys included."""
    definition: str | None = None
    """The query of a view or materialized view, with those of the views that it reads."""
    extension: str | None = None
    """The extension that it belongs to."""
    comments: Mapping[str, str] | None = None
    """What COMMENT ON says, by the numbers of its columns; 0 is the relation itself."""


@dataclass(frozen=True)
class Attribute:
    """A column as the catalog has it."""

    attnum: int
    name: str
    type: str
    not_null: bool
    virtual: str | None = None
    """The expression of a virtual generated column: it may change without a new xmin in any row."""
    collation: str | None = None
    """Quoted and qualified, if it is not the type's own."""
    type_oid: int = 0
    category: str = ""
    """pg_type.typcategory: N is a number, D a date or time."""
    has_default: bool = False
    """Whether it has a default, or is generated."""
    identity: str = ""
    """pg_attribute.attidentity: a is GENERATED ALWAYS AS IDENTITY, d BY DEFAULT; empty for other columns."""
    generated: str = ""
    """pg_attribute.attgenerated: s is stored, v virtual; empty for other columns."""
    equality: str | None = ""
    """What tells its values apart besides the type: the definition of a collation by which different texts are equal,
    or the database's locale where an extension's type goes by it; empty for nothing, None where it is not known."""


@dataclass(frozen=True)
class Storage:
    """A relation that has rows of its own: a table, or a leaf partition."""

    oid: int
    relfilenode: int
    name: QualifiedName
    kind: str
    main_bytes: int
    """Size of the heap, without TOAST."""
    all_bytes: int
    """Size with TOAST, free space map and visibility map."""
    rows_estimate: int
    rewritten: bool
    """Whether the relation got other storage (TRUNCATE, a rewriting ALTER TABLE) after the snapshot was taken."""
    readable: bool = True
    """Whether the role may read it under its own name; SELECT on a parent is no right to its children."""
    unlogged: bool = False
    """Whether a crash of the server empties it, without a transaction."""
    filled: tuple[str, ...] = ()
    """Columns that were added with a default which rows have that nobody has written since (pg_attribute.atthasmissing,
    https://www.postgresql.org/docs/current/catalog-pg-attribute.html)."""
    attnums: tuple[tuple[int, int], ...] = ()
    """Columns of the table that have another number in this relation: their number in the table, and in this one."""
    alike: bool = True
    """Whether the rows, read under its own name, are what they are under the table's."""


def find_relation(cursor: ext.cursor, name: QualifiedName) -> Relation | None:
    """Return the relation of this name, or None."""
    cursor.execute(_FIND, {"schema": name.schema, "name": name.name})
    row = cursor.fetchone()
    return Relation(row[0], QualifiedName(row[1], row[2]), *row[3:]) if row else None


def storage_of(cursor: ext.cursor, oid: int) -> tuple[Storage, ...]:
    """Return the relations that hold the rows of a relation: itself, its leaf partitions, the tables that inherit."""
    cursor.execute(_STORAGE, {"oid": oid})
    return tuple(
        replace(
            Storage(row[0], row[1], QualifiedName(row[2], row[3]), *row[4:-2]),
            filled=tuple(row[-2]),
            attnums=tuple((in_table, in_leaf) for in_table, in_leaf in row[-1] or ()),
        )
        for row in cursor.fetchall()
    )


def renamed(cursor: ext.cursor, relations: Mapping[int, QualifiedName]) -> bool:
    """Return whether a name leads to another relation now, or to none, whatever the cursor's snapshot shows.

    ALTER SCHEMA ... RENAME takes no lock on the tables in it, and every statement looks names up as of now.
    """
    cursor.execute(
        _RENAMED,
        {
            "oids": [*relations],
            "schemas": [name.schema for name in relations.values()],
            "names": [name.name for name in relations.values()],
        },
    )
    return fetch_value(cursor, bool)


def columns_of(cursor: ext.cursor, oid: int) -> tuple[Attribute, ...]:
    """Return the columns, in the table's order. An empty search_path qualifies types of other schemas."""
    cursor.execute(_COLUMNS, {"oid": oid})
    found, own = [], []
    for *facts, kind, collation in cursor.fetchall():
        found.append(Attribute(*facts))
        # All that comes with a server goes by its type alone: its collations tell all texts apart.
        if collation >= FIRST_OWN_OID or (found[-1].type_oid >= FIRST_OWN_OID and kind != "e"):
            own.append(found[-1].attnum)
    if not own:
        return tuple(found)
    cursor.execute(_EQUALITIES, {"oid": oid, "columns": own})
    equalities: dict[int, str | None] = dict(cursor.fetchall())
    return tuple(replace(column, equality=equalities.get(column.attnum, "")) for column in found)


def virtual_columns_differ(cursor: ext.cursor, oid: int, leaves: list[int], columns: list[str]) -> bool:
    """Return whether a partition, or a table that inherits, computes one of these columns in another way."""
    cursor.execute(_OTHER_EXPRESSIONS, {"oid": oid, "leaves": leaves, "columns": columns})
    return fetch_value(cursor, bool)


def keys_of(cursor: ext.cursor, oid: int) -> tuple[tuple[str, ...], ...]:
    """Return the column lists that identify a row: the primary key first, then unique indexes over NOT NULL columns."""
    cursor.execute(_KEYS, {"oid": oid})
    found = cursor.fetchall()
    loose = set()
    if not all(primary for _, primary, _ in found):
        cursor.execute(_LOOSE, {"oid": oid})
        loose = {index for (index,) in cursor.fetchall()}
    return tuple(tuple(columns) for index, _, columns in found if index not in loose)


def type_text(cursor: ext.cursor, name: str) -> str | None:
    """Return a type's name as format_type() prints it; None if there is no such type, or the text names none."""
    if not _TYPE_NAME.fullmatch(name):
        return None
    try:
        cursor.execute("SELECT pg_catalog.format_type(pg_catalog.to_regtype(%s)::oid, NULL)", (name,))
    except psycopg2.errors.SyntaxError:
        return None
    text = fetch_value_or_none(cursor, str)
    modifier = _MODIFIER.search(name)
    if text is None or modifier is None:
        return text
    # It stands behind the name; in `timestamp(3) with time zone` behind its first word.
    head = re.match(r"time(?:stamp)?\b|[^\[]*", text)
    place = head.end() if head else len(text)
    return text[:place] + "".join(modifier[0].split()) + text[place:]


def as_text_of_labels(cursor: ext.cursor, type_: str) -> str | None:
    """Return the type that stands for an enum, or an array of one, where it may lack labels; None for other types."""
    cursor.execute(_OF_LABELS, {"type": type_})
    return fetch_value_if_any(cursor, str)


def relation_names(cursor: ext.cursor) -> list[str]:
    """Return names to suggest where one was not found."""
    cursor.execute(_NAMES)
    return [name for (name,) in cursor.fetchall()]
