"""How the target's columns must change to hold what the source now has: from facts to statements, no connection.

Within one relation a column is its attnum: another name under a known attnum is a rename, another attnum under a
known name is another column. Across relations (the table was made anew) only names are left to go by.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

from xmin_assets.config import TableConfig
from xmin_assets.errors import SchemaChangeRefused
from xmin_assets.postgres.catalog import Attribute
from xmin_assets.postgres.identifiers import NAMEDATALEN
from xmin_assets.replication.manifests.facts import SourceFacts, TargetFacts
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.manifests.table import Column, Identity, Selection
from xmin_assets.replication.schema.column_operations import (
    AddColumn,
    AlterColumnType,
    ColumnOperation,
    DropColumn,
    DropDefault,
    DropNotNull,
    RenameColumn,
    describe,
    in_order,
)
from xmin_assets.replication.schema.metadata_columns import metadata_columns


def column_operations_for(
    table: str,
    before: Selection | None,
    now: Selection,
    same_relation: bool,
    target: tuple[Attribute, ...],
    allowed: bool,
    drop: bool = False,
) -> tuple[ColumnOperation, ...]:
    """What must be done to a target table that exists, in the order in which it must be done.

    Args:
        table: the table's name for people.
        before: what was copied by the last merged sync; None if the target was not made by this project.
        now: what is to be copied.
        same_relation: whether `before` is of the same source relation, so that attnums mean the same columns.
        target: the target's columns.
        allowed: whether changes of the source's columns are applied (``schema_changes: apply``).
        drop: whether columns that are no longer copied are dropped (``dropped_columns: drop``).

    Raises:
        SchemaChangeRefused: a change is not allowed, or a column of a table that was not made by this project has
            another type than the source's.
    """
    old = {_identity(column, same_relation): column for column in before.columns} if before else {}
    here = {attribute.name: attribute for attribute in target}
    # Which of the target's columns holds what of the source's, by the name that it has in the target now.
    holds = {
        known.name: column
        for column in now.columns
        if (known := old.get(_identity(column, same_relation))) and known.name in here
    }
    renames = [RenameColumn(name, column.name) for name, column in holds.items() if name != column.name]
    own_renames = _own_renames(before, now, here) if before else []
    leaving = {rename.name for rename in own_renames}
    copied_before = before.columns if before else ()
    gone = [column.name for column in copied_before if column.name in here and column.name not in holds]
    drops = [DropColumn(name) for name in gone if drop]
    rest: list[ColumnOperation] = []
    for column in now.columns:
        known = old.get(_identity(column, same_relation))
        stale = here.get(column.name) if column.name not in holds and column.name not in leaving else None
        if known and known.name in holds:
            if stale and DropColumn(column.name) not in drops:
                renames.append(RenameColumn(column.name, _put_by(column.name, here)))
            if _retyped(known, column, here[known.name]):
                rest.append(AlterColumnType(column.name, column.type, here[known.name].type, column.collation))
        elif stale is None or DropColumn(column.name) in drops:
            rest.append(AddColumn(column.name, column.type, collation=column.collation))
        elif stale.type == column.type:
            if before:
                rest.append(DropDefault(column.name))
        elif before:
            renames.append(RenameColumn(column.name, _put_by(column.name, here)))
            rest.append(AddColumn(column.name, column.type, collation=column.collation))
        else:
            raise SchemaChangeRefused(
                f"{table}: column {column.name} is {column.type} at the source and {stale.type} in the target "
                "table, which was not made from it. Alter, rename or drop that column of the target, or leave it out "
                "with exclude_columns."
            )
    if before:
        own_renames += _out_of_our_way(now, here, own_renames, {*holds, *leaving, *(change.name for change in drops)})
    renamed = {rename.name: rename.to for rename in (*renames, *own_renames)}
    dropped = {change.name for change in drops}
    have = {renamed.get(name, name): attribute for name, attribute in here.items() if name not in dropped}
    copied = {column.name for column in now.columns}
    rest += [DropNotNull(name) for name, attribute in have.items() if attribute.not_null and name not in copied]
    changes = (*drops, *in_order(renames), *rest)
    if before and changes and not allowed:
        raise refused(table, changes)
    own = [AddColumn(name, kind, is_metadata=True) for name, kind in metadata_columns(now) if name not in have]
    for name, kind in metadata_columns(now):
        if name in have and have[name].type != kind:
            raise SchemaChangeRefused(
                f"{table}: the target has a column {name} that is {have[name].type}; ours of that name is {kind}. "
                "Rename or drop it there, or give ours another name with xmin_column, "
                "deleted_at_column or block_column."
            )
    return (*drops, *in_order([*renames, *own_renames]), *rest, *own)


def refused(table: str, changes: tuple[ColumnOperation, ...]) -> SchemaChangeRefused:
    """The error for changes where none is allowed."""
    return SchemaChangeRefused(
        f"{table}: the source's columns changed ({describe(changes)}) and schema_changes is 'fail'. "
        "Set schema_changes: apply, or leave the columns out with exclude_columns."
    )


def dropped(before: Selection, now: Selection, same_relation: bool) -> tuple[DropColumn, ...]:
    """The columns that were copied and are no longer, whatever becomes of the target's."""
    left = {_identity(column, same_relation) for column in now.columns}
    return tuple(DropColumn(column.name) for column in before.columns if _identity(column, same_relation) not in left)


def redefined(before: Selection, now: Selection, same_relation: bool) -> tuple[AlterColumnType, ...]:
    """The columns that are of another type or collation at the source, or stored otherwise, whatever the target's are.

    Where no row is written anew for it, a value may print otherwise all the same, and no xmin tells: a timestamp that
    becomes a timestamptz, an int that becomes an oid.
    """
    old = {_identity(column, same_relation): column for column in before.columns}
    found = []
    for column in now.columns:
        was = old.get(_identity(column, same_relation))
        if was and _definition_of(was) != _definition_of(column):
            there = column.source_type if column.source_type != was.source_type else column.type
            found.append(AlterColumnType(column.name, there, was.source_type, column.collation))
    return tuple(found)


def altered_by_hand(
    before: Selection, now: Selection, target: tuple[Attribute, ...]
) -> tuple[tuple[Column, Attribute], ...]:
    """The columns to which somebody has given another type in the target, and no sync gives them theirs back.

    Args:
        before: what was copied by the last merged sync, of the same relation.
        now: what is to be copied, as it lands.
        target: the target's columns.
    """
    known = {column.attnum: column for column in before.columns}
    here = {attribute.name: attribute for attribute in target}
    found = []
    for column in now.columns:
        was = known.get(column.attnum)
        if was and (attribute := here.get(was.name)) and was.type == column.type != attribute.type:
            found.append((column, attribute))
    return tuple(found)


def _own_renames(before: Selection, now: Selection, here: Mapping[str, Attribute]) -> list[RenameColumn]:
    """Our columns that are called otherwise now; a column of the source may have had such a name."""
    copied = {column.name for column in before.columns}
    pairs = [(before.xmin_column, now.xmin_column), (before.deleted_at_column, now.deleted_at_column)]
    if before.block_column and now.block_column:
        pairs.append((before.block_column, now.block_column))
    return [RenameColumn(name, to) for name, to in pairs if name != to and name in here and name not in copied]


def _out_of_our_way(
    now: Selection, here: Mapping[str, Attribute], own_renames: list[RenameColumn], moving: set[str]
) -> list[RenameColumn]:
    """Columns that are only kept, and have a name that ours get."""
    to = {rename.to for rename in own_renames}
    return [
        RenameColumn(name, _put_by(name, here))
        for name, kind in metadata_columns(now)
        if name in here and name not in moving and (name in to or here[name].type != kind)
    ]


def _retyped(before: Column, now: Column, here: Attribute) -> bool:
    # What somebody has altered in the target by hand is left as it is, as long as the source's stays.
    another_type = before.type != now.type and here.type != now.type
    return another_type or (before.collation != now.collation and here.collation != now.collation)


def _definition_of(column: Column) -> tuple[str | None, ...]:
    return column.source_type, column.override, column.collation


def _identity(column: Column, same_relation: bool) -> int | str:
    return column.attnum if same_relation else column.name


def _put_by(name: str, taken: Mapping[str, Attribute]) -> str:
    """A free name for a column whose values the source no longer has, and whose name another column gets."""
    stem = name.encode()[: NAMEDATALEN - 16].decode(errors="ignore") + "_dropped"
    return next(free for n in count(1) if (free := stem if n == 1 else f"{stem}_{n}") not in taken)


def column_changes(
    table: TableConfig, source: SourceFacts, target: TargetFacts, state: State | None
) -> tuple[ColumnOperation, ...]:
    """What must be done to the target's columns, as `column_operations_for` says.

    Args:
        table: the table's configuration.
        source: with its columns as they land in the target.
        target: the target table.
        state: of this target table; None if it was not made by this project.

    Raises:
        SchemaChangeRefused: as there; or a column was dropped at the source and no change is allowed.
    """
    if target.oid is None:
        return ()
    same = state is not None and same_relation(state.identity, source.identity)
    if state and table.schema_changes == "fail":
        # A column that is kept needs no statement, but it was dropped all the same; unless it is only left out now.
        wanted = {column.name for column in state.selection.columns} - {*table.exclude_columns}
        wanted &= {*(table.columns or wanted)}
        gone = dropped(state.selection, source.selection, same)
        if lost := tuple(change for change in gone if change.name in wanted):
            raise refused(table.label, lost)
        # The target's column may have the type already, or never get it.
        if others := redefined(state.selection, source.selection, same):
            raise refused(table.label, others)
    return column_operations_for(
        table.label,
        state.selection if state else None,
        source.selection,
        same,
        target.columns,
        table.schema_changes == "apply",
        table.dropped_columns == "drop",
    )


def same_relation(before: Identity, now: Identity) -> bool:
    """Whether it is one relation: oids mean something only within one database of one cluster."""
    return (before.system_identifier, before.database_oid, before.relation_oid) == (
        now.system_identifier,
        now.database_oid,
        now.relation_oid,
    )
