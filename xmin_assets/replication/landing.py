"""How columns land in the target: which types and collations they get there, and what must be made for that first.

Types and extensions are made before rows are staged, in a transaction of their own: a value that is added to an enum
cannot be used before it is committed (https://www.postgresql.org/docs/current/sql-altertype.html). They only ever
grow, so a sync that fails afterwards leaves nothing that harms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.errors import SchemaChangeRefused, UnsupportedTable
from xmin_assets.postgres.connection import Database
from xmin_assets.postgres.failure import one_line
from xmin_assets.postgres.identifiers import QualifiedName, as_text
from xmin_assets.postgres.transaction import Isolation, transact
from xmin_assets.postgres.types import Field, UserType, types_named
from xmin_assets.replication.manifest import Column, Identity, Selection, SourceSnapshot, State
from xmin_assets.replication.state import lock_schemas

_COLLATIONS = """
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.collname)
  FROM pg_catalog.pg_collation c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
 WHERE c.collencoding IN (-1, (SELECT d.encoding FROM pg_catalog.pg_database d
                                WHERE d.datname = pg_catalog.current_database()))
   AND pg_catalog.format('%%I.%%I', n.nspname, c.collname) = ANY(%s)
"""

# Who may create an extension: a superuser; with CREATE on the database whoever it is trusted for.
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
class Ground:
    """What the target database has of what the columns need."""

    types: Mapping[QualifiedName, UserType] = field(default_factory=dict)
    collations: frozenset[str] = frozenset()
    extensions: Mapping[str, Extension] = field(default_factory=dict)
    schemas: frozenset[str] = frozenset()

    def of(self, wanted: UserType) -> UserType | None:
        """The target's type that stands for the source's; an extension's is wherever the extension is."""
        found = self.types.get(QualifiedName(self._schema_of(wanted), wanted.name))
        return found if found is None or found.extension == wanted.extension else None

    def _schema_of(self, wanted: UserType) -> str:
        installed = self.extensions.get(wanted.extension or "")
        if installed and installed.schema and wanted.schema == wanted.extension_schema:
            return installed.schema
        return wanted.schema


def needs_ground(read: Selection) -> bool:
    """Whether the columns need more than PostgreSQL itself brings."""
    return bool(read.types) or any(column.collation for column in read.columns)


def observe(cursor: ext.cursor, read: Selection) -> Ground:
    """What the database has of what the columns need."""
    collations = [column.collation for column in read.columns if column.collation]
    for made in read.types:
        collations += [text for text in (made.collation, *(part.collation for part in made.fields)) if text]
    cursor.execute(_COLLATIONS, (collations,))
    known = frozenset(name for (name,) in cursor.fetchall())
    extensions = {}
    if wanted := sorted({made.extension for made in read.types if made.extension}):
        cursor.execute(_EXTENSIONS, (wanted,))
        extensions = {name: Extension(schema, may_create) for name, schema, may_create in cursor.fetchall()}
    names = {made.qualified for made in read.types}
    for made in read.types:
        installed = extensions.get(made.extension or "")
        if installed and installed.schema:
            names.add(QualifiedName(installed.schema, made.name))
    schemas_used = {name.schema for name in names} | {made.extension_schema for made in read.types}
    cursor.execute(_SCHEMAS, (sorted(filter(None, schemas_used)),))
    schemas = frozenset(schema for (schema,) in cursor.fetchall())
    return Ground(types_named(cursor, names), known, extensions, schemas)


def land(read: Selection, ground: Ground) -> Selection:
    """The selection as it lands in the target.

    A column has the type that the configuration asks for, else the source's; a type of an extension is named by the
    schema that has the extension in the target. A collation that the target does not know is left out.
    """
    names = _moved(read.types, ground)
    return replace(read, columns=tuple(_landed_column(column, names, ground) for column in read.columns))


def type_changes(
    table: str, read: Selection, ground: Ground, known: Sequence[UserType], allowed: bool
) -> list[sql.Composed]:
    """What must be made in the target, so that it has the types of the columns; in order.

    Args:
        table: the table's name for people.
        read: the columns and their types, as the source has them.
        ground: what the target has.
        known: the types as the last sync read them from the same database; their labels' oids and their fields'
            attnums tell what was renamed. Empty after a change of source.
        allowed: whether changes of a type that was copied before are applied.

    Raises:
        SchemaChangeRefused: a type of the target is another one and cannot be made equal, or may not be changed.
        UnsupportedTable: a type cannot be made by a sync.
    """
    names = _moved(read.types, ground)
    before = {made.qualified: made for made in known}
    schemas: set[str] = set(ground.schemas)
    extensions: set[str] = set()
    statements: list[sql.Composed] = []
    for wanted in read.types:
        made = _landed(wanted, names, ground)
        here = ground.of(wanted)
        if made.extension:
            if here is None and made.extension not in extensions:
                statements += _create_extension(table, made, ground, schemas)
                extensions.add(made.extension)
        elif here is None:
            if made.schema not in schemas:
                statements.append(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(made.schema)))
                schemas.add(made.schema)
            statements.append(_create(table, made))
        else:
            changes = _alter(table, made, here, before.get(wanted.qualified))
            if changes and before and not allowed:
                raise SchemaChangeRefused(
                    f"{table}: the source's type {made.text} changed ({as_text(changes[0])}) and schema_changes is "
                    "'fail'. Set schema_changes: apply, or leave its columns out with exclude_columns."
                )
            statements += changes
    return statements


def ensure_types(target: Database, snapshot: SourceSnapshot) -> None:
    """Make the types that the snapshot's columns need in the target, as far as they are not there.

    Raises:
        XminAssetsError: see `type_changes`; or the role may not create them.
    """
    if not snapshot.read.types:
        return
    with transact(target, Isolation.WRITE, f"{snapshot.table}: creating types") as cursor:
        lock_schemas(cursor)
        ground = observe(cursor, snapshot.read)
        known = known_types(snapshot.state, snapshot.identity)
        allowed = snapshot.config.schema_changes == "apply"
        for statement in type_changes(snapshot.table, snapshot.read, ground, known, allowed):
            _make(cursor, snapshot.table, statement)


def _make(cursor: ext.cursor, table: str, statement: sql.Composed) -> None:
    try:
        cursor.execute(statement)
    except psycopg2.errors.InsufficientPrivilege as error:
        raise UnsupportedTable(
            f"{table}: the role may not make a type that the target needs: {one_line(error)} Run, as a role that may: "
            f"{as_text(statement)}"
        ) from None


def known_types(state: State | None, now: Identity) -> tuple[UserType, ...]:
    """The types as the last sync read them, if it was from the same database: else oids and attnums mean nothing."""
    if state is None:
        return ()
    before = state.identity
    same = (before.system_identifier, before.database_oid) == (now.system_identifier, now.database_oid)
    return state.selection.types if same else ()


def _moved(types: Sequence[UserType], ground: Ground) -> dict[str, str]:
    """Names of types that have another name in the target, because their extension is in another schema there."""
    found = {made.text: here.text for made in types if made.extension and (here := ground.of(made))}
    return {text: there for text, there in found.items() if text != there}


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """A type's text, of which the name may be followed by a modifier and by brackets."""
    for name, there in names.items():
        if text == name or text.startswith((name + "(", name + "[")):
            return there + text[len(name) :]
    return text


def _landed_column(column: Column, names: Mapping[str, str], ground: Ground) -> Column:
    kind = column.override or _renamed(column.type, names)
    known = column.collation in ground.collations and not column.override
    return replace(
        column,
        type=kind,
        origin=column.type if kind != column.type else None,
        collation=column.collation if known else None,
    )


def _landed(made: UserType, names: Mapping[str, str], ground: Ground) -> UserType:
    return replace(
        made,
        base=_renamed(made.base, names) if made.base else None,
        collation=made.collation if made.collation in ground.collations else None,
        fields=tuple(
            replace(
                part,
                type=_renamed(part.type, names),
                collation=part.collation if part.collation in ground.collations else None,
            )
            for part in made.fields
        ),
    )


def _create(table: str, made: UserType) -> sql.Composed:
    if made.kind == "enum":
        labels = sql.SQL(", ").join(sql.Literal(label.text) for label in made.labels)
        return sql.SQL("CREATE TYPE {} AS ENUM ({})").format(made.sql, labels)
    if made.kind == "domain":
        # Its constraints stay at the source, as a table's do: what is in the source's table has passed them.
        return sql.SQL("CREATE DOMAIN {} AS {}{}").format(made.sql, sql.SQL(made.base or ""), _collate(made.collation))
    if made.kind == "composite":
        fields = sql.SQL(", ").join(map(_field, made.fields))
        return sql.SQL("CREATE TYPE {} AS ({})").format(made.sql, fields)
    if made.kind == "range" and not made.canonical:
        parts = [sql.SQL("SUBTYPE = {}").format(sql.SQL(made.base or ""))]
        if made.opclass:
            parts.append(sql.SQL("SUBTYPE_OPCLASS = {}").format(sql.SQL(made.opclass)))
        if made.collation:
            parts.append(sql.SQL("COLLATION = {}").format(sql.SQL(made.collation)))
        if made.multirange:
            parts.append(sql.SQL("MULTIRANGE_TYPE_NAME = {}").format(sql.Identifier(*made.multirange)))
        return sql.SQL("CREATE TYPE {} AS RANGE ({})").format(made.sql, sql.SQL(", ").join(parts))
    why = {
        "row type": "it is the row type of a table",
        "range": "it is a range with a canonical function",
        "base type": "it is made of functions of the server",
    }.get(made.kind, f"it is a {made.kind}")
    raise UnsupportedTable(
        f"{table}: the target lacks the type {made.text}, and a sync cannot make it, because {why}. {_WAYS_OUT}"
    )


_WAYS_OUT = "Create it there, store its columns as text with type_overrides: {column: text}, or leave them out."


def _create_extension(table: str, made: UserType, ground: Ground, schemas: set[str]) -> list[sql.Composed]:
    assert made.extension is not None
    assert made.extension_schema is not None
    statements = []
    if made.extension_schema not in schemas:
        statements.append(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(made.extension_schema)))
        schemas.add(made.extension_schema)
    statements.append(
        sql.SQL("CREATE EXTENSION {} SCHEMA {} CASCADE").format(
            sql.Identifier(made.extension), sql.Identifier(made.extension_schema)
        )
    )
    offered = ground.extensions.get(made.extension)
    if offered is None:
        raise UnsupportedTable(
            f"{table}: the target needs the extension {made.extension}, which is not installed on its server. Install "
            f"it there, or store its columns as text with type_overrides: {{column: text}}."
        )
    if offered.schema:
        raise UnsupportedTable(
            f"{table}: the extension {made.extension} of the target has no type {made.name}; it is of another version "
            f"than the source's. Run ALTER EXTENSION {as_text(sql.Identifier(made.extension))} UPDATE there."
        )
    if not offered.may_create:
        raise UnsupportedTable(
            f"{table}: the target needs the extension {made.extension}, and the role may not create it. Run in the "
            f"target database, as a superuser: {'; '.join(map(as_text, statements))}"
        )
    return statements


def _alter(table: str, wanted: UserType, here: UserType, known: UserType | None) -> list[sql.Composed]:
    if wanted.kind != here.kind:
        _refuse(table, wanted, f"a {wanted.kind} at the source and a {here.kind} in the target")
    if wanted.kind == "enum":
        return _alter_enum(wanted, here, known)
    if wanted.kind == "composite":
        return _alter_composite(table, wanted, here, known)
    if wanted.kind in ("domain", "range") and wanted.base != here.base:
        _refuse(table, wanted, f"a {wanted.kind} of {wanted.base} at the source and of {here.base} in the target")
    return []


def _alter_enum(wanted: UserType, here: UserType, known: UserType | None) -> list[sql.Composed]:
    have = [label.text for label in here.labels]
    old = {label.oid: label.text for label in known.labels} if known else {}
    now = {label.text for label in wanted.labels}
    statements = []
    for label in wanted.labels:
        was = old.get(label.oid)
        if label.text not in have and was in have and was not in now:
            statements.append(
                sql.SQL("ALTER TYPE {} RENAME VALUE {} TO {}").format(
                    wanted.sql, sql.Literal(was), sql.Literal(label.text)
                )
            )
            have[have.index(was)] = label.text
    before: str | None = None
    for label in wanted.labels:
        if label.text not in have:
            place: sql.Composable = sql.SQL("")
            if before is not None:
                place = sql.SQL(" AFTER {}").format(sql.Literal(before))
            elif have:
                place = sql.SQL(" BEFORE {}").format(sql.Literal(have[0]))
            statements.append(
                sql.SQL("ALTER TYPE {} ADD VALUE {}{}").format(wanted.sql, sql.Literal(label.text), place)
            )
            have.insert(have.index(before) + 1 if before is not None else 0, label.text)
        before = label.text
    return statements


def _alter_composite(table: str, wanted: UserType, here: UserType, known: UserType | None) -> list[sql.Composed]:
    have = [(part.name, part.type) for part in here.fields]
    old = {part.attnum: part.name for part in known.fields} if known else {}
    renames = {
        old[part.attnum]: part.name
        for part in wanted.fields
        if old.get(part.attnum, part.name) != part.name and old[part.attnum] in dict(have)
    }
    now = {part.name for part in wanted.fields}
    statements = []
    for name, _ in [*have] if known else []:
        if name not in now and name not in renames and name in old.values():
            statements.append(sql.SQL("ALTER TYPE {} DROP ATTRIBUTE {}").format(wanted.sql, sql.Identifier(name)))
            have = [part for part in have if part[0] != name]
    for name, to in renames.items():
        statements.append(
            sql.SQL("ALTER TYPE {} RENAME ATTRIBUTE {} TO {}").format(
                wanted.sql, sql.Identifier(name), sql.Identifier(to)
            )
        )
    have = [(renames.get(name, name), kind) for name, kind in have]
    for part in wanted.fields:
        if part.name not in dict(have):
            statements.append(sql.SQL("ALTER TYPE {} ADD ATTRIBUTE {}").format(wanted.sql, _field(part)))
            have.append((part.name, part.type))
    if have != [(part.name, part.type) for part in wanted.fields]:
        there, in_target = (", ".join(f"{part.name} {part.type}" for part in made.fields) for made in (wanted, here))
        _refuse(table, wanted, f"({there}) at the source and ({in_target}) in the target")
    return statements


def _refuse(table: str, wanted: UserType, differ: str) -> None:
    raise SchemaChangeRefused(
        f"{table}: the type {wanted.text} is {differ}. Alter the target's type, store the columns as text with "
        "type_overrides: {column: text}, or leave them out."
    )


def _field(part: Field) -> sql.Composed:
    return sql.SQL("{} {}{}").format(sql.Identifier(part.name), sql.SQL(part.type), _collate(part.collation))


def _collate(collation: str | None) -> sql.Composable:
    return sql.SQL(" COLLATE {}").format(sql.SQL(collation)) if collation else sql.SQL("")
