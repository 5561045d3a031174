"""How a type that the target has becomes equal to the source's, under the rows that have it. Pure.

A label or an attribute is known by its number in the catalog, on either side: a name may have been given to another
one. Which number of the target stands for which of the source's is remembered per type of the source
(`type_memory.py`); where it is not, labels and attributes go by their names, and none is renamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from psycopg2 import sql

from xmin_assets.errors import SchemaChangeRefused
from xmin_assets.postgres.identifiers import as_text
from xmin_assets.postgres.types import UserType
from xmin_assets.replication.manifests.operations import RenameColumn
from xmin_assets.replication.manifests.table import TypeMap
from xmin_assets.replication.schema.rename_order import in_order


@dataclass(frozen=True)
class TypeAlteration:
    """What is done to a type of the target."""

    statements: tuple[sql.Composed, ...] = ()
    """In order."""
    parts: Mapping[int, int] = field(default_factory=dict)
    """Which label or attribute of the target will stand for which of the source's; 0 for a new one."""


def alter_type(
    table: str, wanted: UserType, existing: UserType, memory: TypeMap | None, *, shared: bool
) -> TypeAlteration:
    """Decide how a type of the target becomes what the source's is.

    Args:
        table: the table's name for people.
        wanted: the source's type, as it is called in the target.
        existing: the target's type.
        memory: what the target remembers of it; None if no sync has used it.
        shared: whether rows of another source have it, or columns that are of another type at the source.

    Raises:
        SchemaChangeRefused: PostgreSQL cannot make them equal, or not without harm to others.
    """
    if wanted.kind != existing.kind:
        _refuse(table, wanted, f"a {wanted.kind} at the source and a {existing.kind} in the target")
    if wanted.kind == "enum":
        return _alter_enum(wanted, existing, memory, shared)
    if wanted.kind in ("composite", "row type"):
        return _alter_composite(table, wanted, existing, memory, shared)
    if wanted.kind in ("domain", "range") and wanted.base != existing.base:
        _refuse(table, wanted, f"a {wanted.kind} of {wanted.base} at the source and of {existing.base} in the target")
    return TypeAlteration()


def _alter_enum(wanted: UserType, existing: UserType, memory: TypeMap | None, shared: bool) -> TypeAlteration:
    """Rename the labels that were renamed, and add those that are missing.

    A label that another source's rows have, too, is not renamed, and no name is taken from a label that keeps it: the
    source's label then stands for another one of the target from now on, and tables that have the old one are copied as
    a whole (`misplaced`).
    """
    names = {label.oid: label.text for label in existing.labels}
    known = dict(memory.parts) if memory and not shared else {}
    renames = {
        place: label.text
        for label in wanted.labels
        if (place := known.get(label.oid)) in names and names[place] != label.text
    }
    while True:
        kept = {text for place, text in names.items() if place not in renames}
        if not (colliding := [place for place, text in renames.items() if text in kept]):
            break
        renames = {place: text for place, text in renames.items() if place not in colliding}
    statements = [
        sql.SQL("ALTER TYPE {} RENAME VALUE {} TO {}").format(
            wanted.sql, sql.Literal(rename.name), sql.Literal(rename.to)
        )
        for rename in in_order([RenameColumn(names[place], text) for place, text in renames.items()])
    ]
    places = {text: place for place, text in (names | renames).items()}
    first = next(iter(names | renames), None)
    before: str | None = None
    for label in wanted.labels:
        if label.text not in places:
            where: sql.Composable = sql.SQL("")
            if before is not None:
                where = sql.SQL(" AFTER {}").format(sql.Literal(before))
            elif first is not None:
                where = sql.SQL(" BEFORE {}").format(sql.Literal((names | renames)[first]))
            statements.append(
                sql.SQL("ALTER TYPE {} ADD VALUE {}{}").format(wanted.sql, sql.Literal(label.text), where)
            )
            places[label.text] = 0
        before = label.text
    return TypeAlteration(tuple(statements), {label.oid: places[label.text] for label in wanted.labels})


def _alter_composite(
    table: str, wanted: UserType, existing: UserType, memory: TypeMap | None, shared: bool
) -> TypeAlteration:
    """Drop, rename and add attributes as the source has done since they were last the same."""
    names = {part.attnum: part.name for part in existing.fields}
    known = dict(memory.parts) if memory and memory.target_oid == existing.oid else {}
    numbers = {part.attnum for part in wanted.fields}
    gone = [place for number, place in known.items() if number not in numbers and place in names]
    statements = [
        sql.SQL("ALTER TYPE {} DROP ATTRIBUTE {}").format(wanted.sql, sql.Identifier(names[place])) for place in gone
    ]
    renames = {
        place: part.name
        for part in wanted.fields
        if (place := known.get(part.attnum)) in names and names[place] != part.name
    }
    statements += [
        sql.SQL("ALTER TYPE {} RENAME ATTRIBUTE {} TO {}").format(
            wanted.sql, sql.Identifier(rename.name), sql.Identifier(rename.to)
        )
        for rename in in_order([RenameColumn(names[place], name) for place, name in renames.items()])
    ]
    names |= renames
    result = [(part.attnum, names[part.attnum], part.type) for part in existing.fields if part.attnum not in gone]
    for part in wanted.fields:
        if part.name not in {name for _, name, _ in result}:
            statements.append(sql.SQL("ALTER TYPE {} ADD ATTRIBUTE {}").format(wanted.sql, part.sql))
            result.append((0, part.name, part.type))
    at_source, in_target = (
        ", ".join(f"{part.name} {part.type}" for part in made.fields) for made in (wanted, existing)
    )
    differ = f"({at_source}) at the source and ({in_target}) in the target"
    if [(name, kind) for _, name, kind in result] != [(part.name, part.type) for part in wanted.fields]:
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
    parts = {part.attnum: place for part, (place, _, _) in zip(wanted.fields, result, strict=True)}
    return TypeAlteration(tuple(statements), parts)


def _refuse(table: str, wanted: UserType, differ: str, way_out: str = "Alter the type") -> None:
    raise SchemaChangeRefused(
        f"{table}: the type {wanted.text} is {differ}. {way_out} in the target, store the columns as text with "
        "type_overrides: {column: text}, or leave them out."
    )
