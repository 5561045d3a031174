"""Types that are not PostgreSQL's own: what a database's users and extensions have added.

A type is known by its schema and name, because oids mean something only within one database. What it is made of is
read along, down to PostgreSQL's own types, in an order in which the types could be created.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.postgres.identifiers import QualifiedName, collate_clause

FIRST_OWN_OID = 16384
"""Objects below it were made by initdb (FirstNormalObjectId in src/include/access/transam.h)."""

# What an extension's type is made of is the extension's business. An array has its element's name, a multirange is
# made with its range.
_TYPES = """
WITH RECURSIVE used AS (
    SELECT pg_catalog.unnest(%(oids)s::oid[]) AS oid, 0::oid AS by
     UNION
    SELECT part.oid, t.oid
      FROM used u
      JOIN pg_catalog.pg_type t ON t.oid = u.oid
     CROSS JOIN LATERAL (
           SELECT t.typelem AS oid WHERE t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc
            UNION ALL
           SELECT t.typbasetype WHERE t.typtype = 'd'
            UNION ALL
           SELECT a.atttypid FROM pg_catalog.pg_attribute a
            WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
            UNION ALL
           SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid
            UNION ALL
           SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngmultitypid = t.oid
           ) part
     WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                        WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
)
SELECT t.oid::int8,
       (SELECT pg_catalog.array_agg(u.by::int8) FROM used u WHERE u.oid = t.oid),
       n.nspname::text, t.typname::text, pg_catalog.format_type(t.oid, NULL), t.typtype::text,
       t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc,
       c.relkind::text,
       e.extname::text, en.nspname::text,
       pg_catalog.format_type(coalesce(nullif(t.typbasetype, 0), r.rngsubtype), t.typtypmod),
       coalesce(
           (SELECT pg_catalog.format('%%I.%%I', cn.nspname, co.collname)
              FROM pg_catalog.pg_collation co
              JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
             WHERE co.oid = coalesce(r.rngcollation, t.typcollation)
               AND co.oid IS DISTINCT FROM (SELECT b.typcollation FROM pg_catalog.pg_type b
                                             WHERE b.oid = coalesce(r.rngsubtype, t.typbasetype)))),
       (SELECT pg_catalog.format('%%I.%%I', pn.nspname, oc.opcname)
          FROM pg_catalog.pg_opclass oc JOIN pg_catalog.pg_namespace pn ON pn.oid = oc.opcnamespace
         WHERE oc.oid = r.rngsubopc AND NOT oc.opcdefault),
       nullif(r.rngcanonical::oid, 0) IS NOT NULL,
       (SELECT ARRAY[mn.nspname::text, m.typname::text]
          FROM pg_catalog.pg_type m JOIN pg_catalog.pg_namespace mn ON mn.oid = m.typnamespace
         WHERE m.oid = r.rngmultitypid),
       (SELECT pg_catalog.array_agg(ARRAY[l.oid::text, l.enumlabel::text, l.xmin::text] ORDER BY l.enumsortorder)
          FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid),
       (SELECT pg_catalog.array_agg(
                   ARRAY[a.attnum::text, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), (
                       SELECT pg_catalog.format('%%I.%%I', cn.nspname, co.collname)
                         FROM pg_catalog.pg_collation co
                         JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
                         JOIN pg_catalog.pg_type b ON b.oid = a.atttypid
                        WHERE co.oid = a.attcollation AND co.oid <> b.typcollation)]
                   ORDER BY a.attnum)
          FROM pg_catalog.pg_attribute a
         WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)
  FROM pg_catalog.pg_type t
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
  LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid
  LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
       AND d.refclassid = 'pg_catalog.pg_extension'::regclass
  LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
  LEFT JOIN pg_catalog.pg_namespace en ON en.oid = e.extnamespace
 WHERE t.oid IN (SELECT u.oid FROM used u) AND t.oid >= %(first)s
"""

_OIDS = """
SELECT t.oid::int8
  FROM pg_catalog.pg_type t
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
  JOIN unnest(%s::text[], %s::text[]) AS wanted (schema, name) ON wanted.schema = n.nspname AND wanted.name = t.typname
"""

# A quote in a quoted name is written twice. Every table has a type, too, which nobody converts a value to.
_IN_TEXT = """
SELECT t.oid::int8, n.nspname::text, t.typname::text
  FROM pg_catalog.pg_type t
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
 WHERE t.oid >= %(first)s AND t.typtype IN ('c', 'd', 'e', 'r') AND coalesce(c.relkind, 'c') = 'c'
   AND pg_catalog.strpos(pg_catalog.lower(%(text)s), pg_catalog.lower(pg_catalog.replace(t.typname, '"', '""'))) > 0
"""

_KINDS = {"e": "enum", "d": "domain", "c": "composite", "r": "range", "b": "base type", "p": "shell type"}


@dataclass(frozen=True)
class Label:
    """A value of an enum. Its oid stays when it is renamed."""

    oid: int
    text: str
    version: int = 0
    """The 32-bit id of the transaction that wrote it so: it shows that a label was renamed and renamed back."""


@dataclass(frozen=True)
class Field:
    """An attribute of a composite type. Its attnum stays when it is renamed."""

    attnum: int
    name: str
    type: str
    collation: str | None = None

    @property
    def sql(self) -> sql.Composed:
        """The attribute as CREATE TYPE and ADD ATTRIBUTE define it."""
        # format_type() prints a type as SQL, quoted where that is needed.
        return sql.SQL("{name} {type}{collate}").format(
            name=sql.Identifier(self.name), type=sql.SQL(self.type), collate=collate_clause(self.collation)
        )


@dataclass(frozen=True)
class UserType:
    """A type that is not PostgreSQL's own."""

    schema: str
    name: str
    text: str
    """The name as format_type() prints it."""
    kind: str
    """enum, domain, composite, range, base type, shell type, or row type: a composite that a table has."""
    extension: str | None = None
    """The extension that it belongs to."""
    extension_schema: str | None = None
    base: str | None = None
    """A domain's base type or a range's subtype, as format_type() prints it."""
    collation: str | None = None
    """Of a domain or range, if it is not the base's own; quoted and qualified."""
    opclass: str | None = None
    """Of a range, if it is not the subtype's default; quoted and qualified."""
    canonical: bool = False
    """Whether a range has a function that makes equal ranges look alike."""
    multirange: tuple[str, str] | None = None
    labels: tuple[Label, ...] = ()
    fields: tuple[Field, ...] = ()
    oid: int = 0
    """Of the type in its own database."""

    @property
    def has_parts(self) -> bool:
        """Whether its values are stored by the numbers of labels or attributes, which a sync keeps in step."""
        return self.kind in ("enum", "composite", "row type") and self.extension is None

    @property
    def qualified(self) -> QualifiedName:
        """Schema and name."""
        return QualifiedName(self.schema, self.name)

    @property
    def sql(self) -> sql.Identifier:
        """The name for a composed statement."""
        return self.qualified.sql


def types_of(cursor: ext.cursor, oids: Iterable[int]) -> tuple[UserType, ...]:
    """Return the types behind these type oids that are not PostgreSQL's own, each after those that it is made of.

    Args:
        cursor: in a transaction with an empty search_path, so that names are qualified.
        oids: of types; PostgreSQL's own are no harm.
    """
    cursor.execute(_TYPES, {"oids": list(oids), "first": FIRST_OWN_OID})
    graph: dict[int, set[int]] = {}
    found: dict[int, UserType] = {}
    for oid, used_by, *facts in cursor.fetchall():
        graph.setdefault(oid, set())
        for user in used_by:
            if user:
                graph.setdefault(user, set()).add(oid)
        if (made := _user_type(oid, *facts)) is not None:
            found[oid] = made
    return tuple(found[oid] for oid in TopologicalSorter(graph).static_order() if oid in found)


def types_named(cursor: ext.cursor, names: Iterable[QualifiedName]) -> dict[QualifiedName, UserType]:
    """Return those of the named types that exist, as they are in this database."""
    wanted = list(names)
    cursor.execute(_OIDS, ([name.schema for name in wanted], [name.name for name in wanted]))
    return {made.qualified: made for made in types_of(cursor, [oid for (oid,) in cursor.fetchall()])}


def types_in(cursor: ext.cursor, text: str, path: Collection[str], may_have: Callable[[str], bool]) -> list[int]:
    """Return the oids of the types that an expression may name.

    Args:
        cursor: at any point of a transaction.
        text: the expression.
        path: the schemas in which it finds types by their bare names.
        may_have: whether it may have a name in it.
    """
    cursor.execute(_IN_TEXT, {"first": FIRST_OWN_OID, "text": text})
    return [oid for oid, schema, name in cursor.fetchall() if may_have(name) and (schema in path or may_have(schema))]


def still_means(before: UserType | None, now: UserType | None) -> bool:
    """Return whether all that was printed or read as `before` means the same as `now`; labels may have been added."""
    return (
        before is not None
        and now is not None
        and (now.oid, now.kind, now.fields) == (before.oid, before.kind, before.fields)
        and set(before.labels) <= set(now.labels)
    )


def _user_type(
    oid: int,
    schema: str,
    name: str,
    text: str,
    typtype: str,
    is_array: bool,
    relkind: str | None,
    extension: str | None,
    extension_schema: str | None,
    base: str | None,
    collation: str | None,
    opclass: str | None,
    canonical: bool,
    multirange: list[str] | None,
    labels: list[list[str]] | None,
    fields: list[list[str]] | None,
) -> UserType | None:
    if is_array or typtype == "m":
        return None
    return UserType(
        schema=schema,
        name=name,
        text=text,
        kind="row type" if typtype == "c" and relkind != "c" else _KINDS[typtype],
        extension=extension,
        extension_schema=extension_schema,
        base=base if typtype in ("d", "r") else None,
        collation=collation if typtype in ("d", "r") else None,
        opclass=opclass,
        canonical=bool(canonical),
        multirange=(multirange[0], multirange[1]) if multirange else None,
        labels=tuple(Label(int(number), label, int(version)) for number, label, version in labels or ()),
        fields=tuple(Field(int(attnum), *rest) for attnum, *rest in fields or ()),
        oid=oid,
    )
