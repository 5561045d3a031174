"""What must be made and changed in the target, so that it has the types of the columns.

Pure: from facts to statements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from psycopg2 import sql

from xmin_assets.errors import SchemaChangeRefused, UnsupportedTable
from xmin_assets.postgres.identifiers import as_text, collate_clause
from xmin_assets.postgres.types import UserType
from xmin_assets.replication.manifests.table import Selection, TypeMap
from xmin_assets.replication.schema.type_alteration import TypeAlteration, alter_type
from xmin_assets.replication.schema.type_mapping import TargetTypes, renamed_type, renamed_types

_WAYS_OUT = "Create it there, store its columns as text with type_overrides: {column: text}, or leave them out."


@dataclass(frozen=True)
class TypePlan:
    """What is done about the types of a table's columns."""

    statements: tuple[sql.Composed, ...] = ()
    """In order."""
    maps: tuple[TypeMap, ...] = ()
    """Of enums and composites, as they will be."""


def plan_types(
    table: str, source_selection: Selection, target_types: TargetTypes, *, allowed: bool, copied: bool
) -> TypePlan:
    """Decide what must be made and changed in the target.

    Args:
        table: the table's name for people.
        source_selection: the columns and their types, as the source has them.
        target_types: what the target has, and remembers.
        allowed: whether changes of a type that was copied before are applied.
        copied: whether this table was copied before, from the same database.

    Raises:
        SchemaChangeRefused: a type of the target is another one and cannot be made equal, or may not be changed.
        UnsupportedTable: a type cannot be made by a sync.
    """
    names = renamed_types(source_selection.types, target_types)
    schemas: set[str] = set(target_types.schemas)
    extensions: set[str] = set()
    statements: list[sql.Composed] = []
    maps: list[TypeMap] = []
    for wanted in source_selection.types:
        made = _as_in_target(wanted, names, target_types)
        existing = target_types.of(wanted)
        alteration = TypeAlteration()
        if made.extension:
            if existing is None and made.extension not in extensions:
                statements += _create_extension(table, made, target_types, schemas)
                extensions.add(made.extension)
        elif existing is None:
            if made.schema not in schemas:
                statements.append(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(made.schema)))
                schemas.add(made.schema)
            statements.append(_create(table, made))
        else:
            memory = target_types.memory.get(wanted.qualified)
            shared = wanted.qualified in target_types.shared
            alteration = alter_type(table, made, existing, memory, shared=shared)
            if alteration.statements and (copied or memory) and not allowed:
                raise SchemaChangeRefused(
                    f"{table}: the source's type {made.text} changed ({as_text(alteration.statements[0])}) and "
                    "schema_changes is 'fail'. Set schema_changes: apply, or leave its columns out with "
                    "exclude_columns."
                )
            statements += alteration.statements
        if wanted.has_parts:
            numbers = [label.oid for label in wanted.labels] or [part.attnum for part in wanted.fields]
            maps.append(
                TypeMap(
                    wanted.schema,
                    wanted.name,
                    wanted.oid,
                    existing.oid if existing else 0,
                    tuple((number, alteration.parts.get(number, 0)) for number in numbers),
                )
            )
    return TypePlan(tuple(statements), tuple(maps))


def _as_in_target(made: UserType, names: Mapping[str, str], target_types: TargetTypes) -> UserType:
    return replace(
        made,
        base=renamed_type(made.base, names) if made.base else None,
        collation=made.collation if made.collation in target_types.collations else None,
        fields=tuple(
            replace(
                part,
                type=renamed_type(part.type, names),
                collation=part.collation if part.collation in target_types.collations else None,
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
        return sql.SQL("CREATE DOMAIN {} AS {}{}").format(
            made.sql, sql.SQL(made.base or ""), collate_clause(made.collation)
        )
    if made.kind == "composite":
        fields = sql.SQL(", ").join(part.sql for part in made.fields)
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


def _create_extension(table: str, made: UserType, target_types: TargetTypes, schemas: set[str]) -> list[sql.Composed]:
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
    offered = target_types.extensions.get(made.extension)
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
