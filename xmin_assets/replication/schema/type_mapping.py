"""How columns land in the target: what the target has of what they need, and which types and collations they get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import psycopg2.extensions as ext

from xmin_assets.postgres.identifiers import QualifiedName
from xmin_assets.postgres.types import UserType, types_named
from xmin_assets.replication.manifests.table import Column, Identity, Selection, TypeMap
from xmin_assets.replication.schema.borrowed_types import borrowed_by_tables
from xmin_assets.replication.schema.type_memory import read_type_memory

_COLLATIONS = """
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.collname)
  FROM pg_catalog.pg_collation c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
 WHERE c.collencoding IN (-1, (SELECT d.encoding FROM pg_catalog.pg_database d
                                WHERE d.datname = pg_catalog.current_database()))
   AND pg_catalog.format('%%I.%%I', n.nspname, c.collname) = ANY(%s)
"""

# A superuser may create an extension; with CREATE on the database any role may create a trusted one.
_EXTENSIONS = """
SELECT a.name::text, n.nspname::text,
       r.rolsuper OR v.trusted AND pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
  FROM pg_catalog.pg_available_extensions a
  JOIN pg_catalog.pg_available_extension_versions v ON v.name = a.name AND v.version = a.default_version
  JOIN pg_catalog.pg_roles r ON r.rolname = current_user
  LEFT JOIN pg_catalog.pg_extension e ON e.extname = a.name
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
 WHERE a.name = ANY(%s)
"""

_SCHEMAS = "SELECT nspname::text FROM pg_catalog.pg_namespace WHERE nspname = ANY(%s)"


@dataclass(frozen=True)
class Extension:
    """An extension that the target's server has."""

    schema: str | None
    """Where it is installed in the database; None if it is not."""
    may_create: bool


@dataclass(frozen=True)
class TargetTypes:
    """What the target database has of what the columns need."""

    types: Mapping[QualifiedName, UserType] = field(default_factory=dict)
    collations: frozenset[str] = frozenset()
    extensions: Mapping[str, Extension] = field(default_factory=dict)
    schemas: frozenset[str] = frozenset()
    memory: Mapping[QualifiedName, TypeMap] = field(default_factory=dict)
    """What was remembered of the same types of the same source."""
    shared: frozenset[QualifiedName] = frozenset()
    """Types that rows of another source have, or of another type of this one (see `TypeMemory`), and those that columns
    have by themselves (see `borrowed_types`)."""

    def of(self, wanted: UserType) -> UserType | None:
        """Return the target's type that stands for the source's; an extension's is wherever the extension is."""
        found = self.types.get(QualifiedName(self._schema_of(wanted), wanted.name))
        return found if found is None or found.extension == wanted.extension else None

    def with_parts(self, source_selection: Selection) -> tuple[UserType, ...]:
        """Return those of the target's types that stand for the source's enums and composites."""
        found = (self.of(wanted) for wanted in source_selection.types if wanted.has_parts)
        return tuple(made for made in found if made)

    def _schema_of(self, wanted: UserType) -> str:
        installed = self.extensions.get(wanted.extension or "")
        if installed and installed.schema and wanted.schema == wanted.extension_schema:
            return installed.schema
        return wanted.schema


def needs_target_types(source_selection: Selection) -> bool:
    """Return whether the columns need more than PostgreSQL itself brings."""
    return bool(source_selection.types) or any(column.collation for column in source_selection.columns)


def read_target_types(
    cursor: ext.cursor, source_selection: Selection, source: Identity, table: QualifiedName
) -> TargetTypes:
    """Return what the database has of what the columns need.

    Args:
        cursor: in a transaction at the target.
        source_selection: the columns and their types, as the source has them.
        source: where they are.
        table: the target table that they are for.
    """
    collations = [column.collation for column in source_selection.columns if column.collation]
    for made in source_selection.types:
        collations += [text for text in (made.collation, *(part.collation for part in made.fields)) if text]
    cursor.execute(_COLLATIONS, (collations,))
    known = frozenset(name for (name,) in cursor.fetchall())
    extensions = {}
    if wanted := sorted({made.extension for made in source_selection.types if made.extension}):
        cursor.execute(_EXTENSIONS, (wanted,))
        extensions = {name: Extension(schema, may_create) for name, schema, may_create in cursor.fetchall()}
    names = {made.qualified for made in source_selection.types}
    for made in source_selection.types:
        installed = extensions.get(made.extension or "")
        if installed and installed.schema:
            names.add(QualifiedName(installed.schema, made.name))
    schemas_used = {name.schema for name in names} | {made.extension_schema for made in source_selection.types}
    cursor.execute(_SCHEMAS, (sorted(filter(None, schemas_used)),))
    schemas = frozenset(schema for (schema,) in cursor.fetchall())
    memory = read_type_memory(cursor, source_selection.types, source, table)
    shared = memory.shared | borrowed_by_tables(cursor, source_selection)
    return TargetTypes(types_named(cursor, names), known, extensions, schemas, memory.own, shared)


def map_to_target(source_selection: Selection, target_types: TargetTypes) -> Selection:
    """Map the columns of the source to the types and collations that they get in the target.

    A column has the type that the configuration asks for, else the source's; a type of an extension is named by the
    schema that has the extension in the target. A collation that the target does not know is left out.
    """
    names = renamed_types(source_selection.types, target_types)
    return replace(
        source_selection,
        columns=tuple(_landed_column(column, names, target_types) for column in source_selection.columns),
    )


def renamed_types(types: Sequence[UserType], target_types: TargetTypes) -> dict[str, str]:
    """Find the types that have another name in the target, because their extension is in another schema there."""
    found = {made.text: existing.text for made in types if made.extension and (existing := target_types.of(made))}
    return {text: there for text, there in found.items() if text != there}


def renamed_type(text: str, names: Mapping[str, str]) -> str:
    """Return a type's text with its name replaced; a modifier and brackets may follow the name."""
    for name, there in names.items():
        if text == name or text.startswith((name + "(", name + "[")):
            return there + text[len(name) :]
    return text


def _landed_column(column: Column, names: Mapping[str, str], target_types: TargetTypes) -> Column:
    kind = column.override or renamed_type(column.type, names)
    known = column.collation in target_types.collations and not column.override
    return replace(
        column,
        type=kind,
        origin=column.type if kind != column.type else None,
        collation=column.collation if known else None,
    )
