"""What must be made and changed in the target, so that it has the types of the columns. Pure: from facts to statements.

A label or an attribute is known by its number in the catalog, on either side: a name may have been given to another
one. Which number of the target stands for which of the source's is remembered per type of the source
(`type_memory.py`); where it is not, labels and attributes go by their names, and none is renamed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from psycopg2 import sql

from xmin_assets.errors import SchemaChangeRefused, UnsupportedTable
from xmin_assets.postgres.identifiers import as_text
from xmin_assets.postgres.types import Field, UserType
from xmin_assets.replication.manifests.operations import RenameColumn
from xmin_assets.replication.manifests.table import Selection, TypeMap
from xmin_assets.replication.schema.rename_order import in_order
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
        made = _landed(wanted, names, target_types)
        here = target_types.of(wanted)
        parts: dict[int, int] = {}
        if made.extension:
            if here is None and made.extension not in extensions:
                statements += _create_extension(table, made, target_types, schemas)
                extensions.add(made.extension)
        elif here is None:
            if made.schema not in schemas:
                statements.append(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(made.schema)))
                schemas.add(made.schema)
            statements.append(_create(table, made))
        else:
            memory = target_types.memory.get(wanted.qualified)
            changes, parts = _alter(table, made, here, memory, wanted.qualified in target_types.shared)
            if changes and (copied or memory) and not allowed:
                raise SchemaChangeRefused(
                    f"{table}: the source's type {made.text} changed ({as_text(changes[0])}) and schema_changes is "
                    "'fail'. Set schema_changes: apply, or leave its columns out with exclude_columns."
                )
            statements += changes
        if wanted.has_parts:
            numbers = [label.oid for label in wanted.labels] or [part.attnum for part in wanted.fields]
            maps.append(
                TypeMap(
                    wanted.schema,
                    wanted.name,
                    wanted.oid,
                    here.oid if here else 0,
                    tuple((number, parts.get(number, 0)) for number in numbers),
                )
            )
    return TypePlan(tuple(statements), tuple(maps))


def misplaced(before: Sequence[TypeMap] | None, now: Sequence[TypeMap]) -> str | None:
    """Find the type of which a target's rows may hold other values than the source's; None if they hold the same.

    Rows hold the numbers of labels, and a composite's values in the places of its attributes. So they hold what the
    source has if each number that a sync has put there still stands for the same label or attribute of the source.

    Args:
        before: as of the table's last sync; None if that is not known.
        now: as they will be when this sync has changed the types.
    """
    known = {(was.schema, was.name): was for was in before or ()}
    for made in now:
        was = known.get((made.schema, made.name))
        name = f"{made.schema}.{made.name}"
        if was is None:
            # No row has a value of it, if all types were noted.
            if before is None:
                return name
            continue
        if (was.oid, was.target_oid) != (made.oid, made.target_oid):
            return name
        parts = dict(made.parts)
        for number, place in was.parts:
            if parts.get(number, place) != place or (number not in parts and place in parts.values()):
                return name
    return None


def reworded(before: Sequence[UserType], now: Sequence[UserType]) -> list[str]:
    """Find the types of the source whose values print otherwise than they did, without a row that changed.

    Labels that were added are no such change. Along with a type come those that are made of it.

    Args:
        before: as of the table's last sync.
        now: each after those that it is made of.
    """
    known = {was.oid: was for was in before}
    found: list[str] = []
    for made in now:
        was = known.get(made.oid)
        if was is None:
            continue
        texts = {label.oid: label.text for label in made.labels}
        parts = [made.base or "", *(part.type for part in made.fields)]
        if (
            any(texts.get(label.oid) != label.text for label in was.labels)
            or made.fields != was.fields
            or any(part.removesuffix("[]") in found for part in parts)
        ):
            found.append(made.text)
    return found


def _landed(made: UserType, names: Mapping[str, str], target_types: TargetTypes) -> UserType:
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


_Altered = tuple[list[sql.Composed], dict[int, int]]
"""Statements, and which label or attribute of the target will stand for which of the source's; 0 for a new one."""


def _alter(table: str, wanted: UserType, here: UserType, memory: TypeMap | None, shared: bool) -> _Altered:
    if wanted.kind != here.kind:
        _refuse(table, wanted, f"a {wanted.kind} at the source and a {here.kind} in the target")
    if wanted.kind == "enum":
        return _alter_enum(wanted, here, memory, shared)
    if wanted.kind in ("composite", "row type"):
        return _alter_composite(table, wanted, here, memory, shared)
    if wanted.kind in ("domain", "range") and wanted.base != here.base:
        _refuse(table, wanted, f"a {wanted.kind} of {wanted.base} at the source and of {here.base} in the target")
    return [], {}


def _alter_enum(wanted: UserType, here: UserType, memory: TypeMap | None, shared: bool) -> _Altered:
    """Rename the labels that were renamed, and add those that are missing.

    A label that another source's rows have, too, is not renamed, and no name is taken from a label that keeps it: the
    source's label then stands for another one of the target from now on, and tables that have the old one are copied as
    a whole (`misplaced`).
    """
    names = {label.oid: label.text for label in here.labels}
    known = dict(memory.parts) if memory and not shared else {}
    wishes = {
        place: label.text
        for label in wanted.labels
        if (place := known.get(label.oid)) in names and names[place] != label.text
    }
    while True:
        kept = {text for place, text in names.items() if place not in wishes}
        if not (hopeless := [place for place, text in wishes.items() if text in kept]):
            break
        wishes = {place: text for place, text in wishes.items() if place not in hopeless}
    statements = [
        sql.SQL("ALTER TYPE {} RENAME VALUE {} TO {}").format(
            wanted.sql, sql.Literal(rename.name), sql.Literal(rename.to)
        )
        for rename in in_order([RenameColumn(names[place], text) for place, text in wishes.items()])
    ]
    places = {text: place for place, text in (names | wishes).items()}
    first = next(iter(names | wishes), None)
    before: str | None = None
    for label in wanted.labels:
        if label.text not in places:
            where: sql.Composable = sql.SQL("")
            if before is not None:
                where = sql.SQL(" AFTER {}").format(sql.Literal(before))
            elif first is not None:
                where = sql.SQL(" BEFORE {}").format(sql.Literal((names | wishes)[first]))
            statements.append(
                sql.SQL("ALTER TYPE {} ADD VALUE {}{}").format(wanted.sql, sql.Literal(label.text), where)
            )
            places[label.text] = 0
        before = label.text
    return statements, {label.oid: places[label.text] for label in wanted.labels}


def _alter_composite(table: str, wanted: UserType, here: UserType, memory: TypeMap | None, shared: bool) -> _Altered:
    """Drop, rename and add attributes as the source has done since they were last the same."""
    names = {part.attnum: part.name for part in here.fields}
    known = dict(memory.parts) if memory and memory.target_oid == here.oid else {}
    numbers = {part.attnum for part in wanted.fields}
    gone = [place for number, place in known.items() if number not in numbers and place in names]
    statements = [
        sql.SQL("ALTER TYPE {} DROP ATTRIBUTE {}").format(wanted.sql, sql.Identifier(names[place])) for place in gone
    ]
    wishes = {
        place: part.name
        for part in wanted.fields
        if (place := known.get(part.attnum)) in names and names[place] != part.name
    }
    statements += [
        sql.SQL("ALTER TYPE {} RENAME ATTRIBUTE {} TO {}").format(
            wanted.sql, sql.Identifier(rename.name), sql.Identifier(rename.to)
        )
        for rename in in_order([RenameColumn(names[place], name) for place, name in wishes.items()])
    ]
    names |= wishes
    have = [(part.attnum, names[part.attnum], part.type) for part in here.fields if part.attnum not in gone]
    for part in wanted.fields:
        if part.name not in {name for _, name, _ in have}:
            statements.append(sql.SQL("ALTER TYPE {} ADD ATTRIBUTE {}").format(wanted.sql, _field(part)))
            have.append((0, part.name, part.type))
    there, in_target = (", ".join(f"{part.name} {part.type}" for part in made.fields) for made in (wanted, here))
    differ = f"({there}) at the source and ({in_target}) in the target"
    if [(name, kind) for _, name, kind in have] != [(part.name, part.type) for part in wanted.fields]:
        _refuse(table, wanted, differ)
    if statements and wanted.kind == "row type":
        _refuse(table, wanted, f"{differ}, and it is the row type of a table, which no sync changes")
    if statements and shared:
        run = "; ".join(map(as_text, statements))
        users = "rows of another source have it, or columns that are of another type at the source"
        why = f"{differ}, where {users}: it is not changed under them"
        _refuse(
            table, wanted, why, f"If the source's address is wrong, mend it. If they are to follow this one, run {run}"
        )
    return statements, {part.attnum: place for part, (place, _, _) in zip(wanted.fields, have, strict=True)}


def _refuse(table: str, wanted: UserType, differ: str, way_out: str = "Alter the type") -> None:
    raise SchemaChangeRefused(
        f"{table}: the type {wanted.text} is {differ}. {way_out} in the target, store the columns as text with "
        "type_overrides: {column: text}, or leave them out."
    )


def _field(part: Field) -> sql.Composed:
    return sql.SQL("{} {}{}").format(sql.Identifier(part.name), sql.SQL(part.type), _collate(part.collation))


def _collate(collation: str | None) -> sql.Composable:
    return sql.SQL(" COLLATE {}").format(sql.SQL(collation)) if collation else sql.SQL("")
