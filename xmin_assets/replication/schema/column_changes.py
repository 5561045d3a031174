"""How the target's columns must change to hold what the source now has: from facts to operations. Pure.

Within one relation a column is its attnum: another name under a known attnum is a rename, another attnum under a known
name is another column. Across relations (the table was recreated) only names are left to go by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count

from xmin_assets.config import TableConfig
from xmin_assets.errors import SchemaChangeRefused
from xmin_assets.postgres.catalog import Attribute
from xmin_assets.postgres.identifiers import NAMEDATALEN
from xmin_assets.postgres.narrower_types import interim_type
from xmin_assets.replication.manifests.operations import (
    AddColumn,
    AlterColumnType,
    ColumnOperation,
    DropColumn,
    DropDefault,
    DropExpression,
    DropNotNull,
    RenameColumn,
    SetGeneratedByDefault,
    SetNotNull,
    describe,
)
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.manifests.table import Column, Identity, Selection
from xmin_assets.replication.schema.metadata_columns import metadata_columns
from xmin_assets.replication.schema.rename_order import in_order
from xmin_assets.replication.schema.type_meaning import labels_renamed


def changed_columns(
    table: TableConfig,
    source: Identity,
    selection: Selection,
    target: tuple[Attribute, ...],
    state: State | None,
    refilled: frozenset[str] = frozenset(),
) -> tuple[ColumnOperation, ...]:
    """Decide what must be done to the columns of a target table that exists, in the order in which it must be done.

    Args:
        table: the table's configuration.
        source: the source table.
        selection: what is to be copied, as the target has it.
        target: the target's columns.
        state: of this target table; None if it was not made by this project.
        refilled: columns whose values PostgreSQL does not convert to their new type, and that are read again.

    Raises:
        SchemaChangeRefused: a change is not allowed, or a column of a table that was not made by this project has
            another type than the source's, or a metadata column's name is taken.
    """
    if state is None:
        return _Columns(table, None, selection, target, same_relation=False).operations()
    before, same_relation = state.selection, state.identity.is_same_relation_as(source)
    if table.schema_changes == "fail":
        # A column that is kept needs no statement, but it was dropped all the same; unless it is only left out now.
        wanted = {column.name for column in before.columns} - {*table.exclude_columns}
        wanted &= {*(table.columns or wanted)}
        if lost := [drop for drop in dropped(before, selection, same_relation) if drop.name in wanted]:
            raise _refused(table, lost)
        # The target's column may have the type already, or never get it.
        if others := redefined(before, selection, same_relation):
            raise _refused(table, others)
    return _Columns(table, before, selection, target, same_relation, refilled).operations()


@dataclass
class _Columns:
    """The columns of the source then and now, and those of the target."""

    table: TableConfig
    before: Selection | None
    """What the last merged sync copied; None if the target was not made by this project."""
    now: Selection
    target: tuple[Attribute, ...]
    same_relation: bool
    """Whether `before` is of the same source relation, so that attnums mean the same columns."""
    refilled: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.present = {attribute.name: attribute for attribute in self.target}
        self.former = {self._identity(column): column for column in self.before.columns} if self.before else {}
        # The source's columns that the target has, by the names that they have there.
        self.held = {
            former.name: column
            for column in self.now.columns
            if (former := self.former.get(self._identity(column))) and former.name in self.present
        }

    def operations(self) -> tuple[ColumnOperation, ...]:
        """Return the operations in order: what is dropped makes room for names, and names for new columns."""
        drops = self._drops()
        metadata_renames = self._metadata_renames()
        renames, others = self._copied(drops, leaving={rename.name for rename in metadata_renames})
        moving = {*self.held, *(rename.name for rename in metadata_renames), *(drop.name for drop in drops)}
        metadata_renames += self._names_for_metadata(metadata_renames, moving)
        remaining = self._remaining(drops, [*renames, *metadata_renames])
        others += self._not_nulls(remaining)
        plain = self._made_plain(remaining)
        of_the_source = (*drops, *in_order(renames), *others)
        if self.before and of_the_source and self.table.schema_changes != "apply":
            raise _refused(self.table, of_the_source)
        added = self._added_metadata(remaining)
        return (*drops, *in_order([*renames, *metadata_renames]), *others, *plain, *added)

    def _drops(self) -> list[DropColumn]:
        """Find the columns that are no longer copied, where they are to be dropped."""
        if self.before is None or self.table.dropped_columns != "drop":
            return []
        return [
            DropColumn(column.name)
            for column in self.before.columns
            if column.name in self.present and column.name not in self.held
        ]

    def _copied(self, drops: list[DropColumn], leaving: set[str]) -> tuple[list[RenameColumn], list[ColumnOperation]]:
        """Find what must be done for the columns that are copied.

        Args:
            drops: the columns that are dropped before.
            leaving: metadata columns that get another name.
        """
        renames = [RenameColumn(name, column.name) for name, column in self.held.items() if name != column.name]
        others: list[ColumnOperation] = []
        for column in self.now.columns:
            former = self.former.get(self._identity(column))
            # A column of the target that has the name, and holds something else.
            other = self.present.get(column.name) if column.name not in {*self.held, *leaving} else None
            if former and former.name in self.held:
                held = self.present[former.name]
                if other and DropColumn(column.name) not in drops:
                    renames.append(RenameColumn(column.name, self._free_name(column.name)))
                if _has_another_type(former, column, held):
                    others += self._retyped(former, column, held)
            elif other is None or DropColumn(column.name) in drops:
                others.append(AddColumn(column.name, column.type, collation=column.collation))
            elif other.type == column.type and not (self.before and (other.identity or other.generated)):
                if self.before:
                    others.append(DropDefault(column.name))
            elif self.before:
                renames.append(RenameColumn(column.name, self._free_name(column.name)))
                others.append(AddColumn(column.name, column.type, collation=column.collation))
            else:
                raise SchemaChangeRefused(
                    f"{self.table.label}: column {column.name} is {column.type} at the source and {other.type} in the "
                    "target table, which was not made from it. Alter, rename or drop that column of the target, or "
                    "leave it out with exclude_columns."
                )
        return renames, others

    def _retyped(self, former: Column, column: Column, held: Attribute) -> list[ColumnOperation]:
        labels = None
        if self.before and self.same_relation and held.type == former.type:
            labels = labels_renamed(former, self.before.types, column, self.now.types)
        is_refilled = column.name in self.refilled
        retyped = AlterColumnType(
            column.name,
            column.type,
            held.type,
            column.collation,
            override_ended=former.override is not None and column.override is None,
            is_renamed=labels is not None,
            relabelled=labels or (),
            is_refilled=is_refilled,
            was_not_null=held.not_null,
        )
        base = next((made.base for made in self.now.types if made.kind == "domain" and made.text == column.type), None)
        if base == held.type and not is_refilled:
            # What the target's domain demands, rows that are replaced by this sync need not have.
            return [replace(retyped, stage="last")]
        interim = interim_type(column.type, held.type)
        if interim and not (is_refilled or retyped.is_renamed or retyped.follows_rows):
            return [
                replace(retyped, type=interim, collation=None, stage="first"),
                replace(retyped, was=interim, stage="last"),
            ]
        # Rows that are kept though the source has deleted them are not filled again.
        if is_refilled and held.not_null and self.now.deletes.removes:
            return [retyped, SetNotNull(column.name)]
        return [retyped]

    def _metadata_renames(self) -> list[RenameColumn]:
        """Find the metadata columns that get another name; a column of the source may have had such a name."""
        if self.before is None:
            return []
        copied = {column.name for column in self.before.columns}
        names = [
            (self.before.xmin_column, self.now.xmin_column),
            (self.before.deleted_at_column, self.now.deleted_at_column),
        ]
        if self.before.block_column and self.now.block_column:
            names.append((self.before.block_column, self.now.block_column))
        return [
            RenameColumn(name, to) for name, to in names if name != to and name in self.present and name not in copied
        ]

    def _names_for_metadata(self, metadata_renames: list[RenameColumn], moving: set[str]) -> list[RenameColumn]:
        """Give another name to columns that are only kept and have a name that a metadata column gets."""
        if self.before is None:
            return []
        wanted = {rename.to for rename in metadata_renames}
        return [
            RenameColumn(name, self._free_name(name))
            for name, type_ in metadata_columns(self.now)
            if name in self.present and name not in moving and (name in wanted or self.present[name].type != type_)
        ]

    def _remaining(self, drops: list[DropColumn], renames: list[RenameColumn]) -> dict[str, Attribute]:
        """Return the columns that the target has then, by the names that they have then."""
        dropped_names = {drop.name for drop in drops}
        names = {rename.name: rename.to for rename in renames}
        return {
            names.get(name, name): attribute for name, attribute in self.present.items() if name not in dropped_names
        }

    def _not_nulls(self, remaining: Mapping[str, Attribute]) -> list[DropNotNull]:
        """Find the columns that demand a value and get none, not even by a default."""
        copied = {column.name for column in self.now.columns}
        former = {column.name for column in self.before.columns} if self.before else set()
        return [
            *self._relaxed(remaining),
            *(
                DropNotNull(name, was_copied=attribute.name in former)
                for name, attribute in remaining.items()
                if attribute.not_null and name not in copied and not (attribute.has_default or attribute.identity)
            ),
        ]

    def _relaxed(self, remaining: Mapping[str, Attribute]) -> list[DropNotNull]:
        """Find the copied columns that may be NULL at the source now, and in which the target still demands a value.

        One that demanded none at the source before is as somebody wanted it in the target. An identity must demand one.
        """
        return [
            DropNotNull(column.name, is_copied=True)
            for column in self.now.columns
            if column.not_null is False
            and (former := self.former.get(self._identity(column)))
            and former.not_null
            and column.name not in self.now.key
            and self.table.schema_changes == "apply"
            and (attribute := remaining.get(column.name))
            and attribute.not_null
            and not attribute.identity
        ]

    def _made_plain(self, remaining: Mapping[str, Attribute]) -> list[ColumnOperation]:
        """Find the copied columns to which the target would give values of its own.

        Raises:
            SchemaChangeRefused: PostgreSQL cannot make one plain.
        """
        plain: list[ColumnOperation] = []
        for column in self.now.columns:
            attribute = remaining.get(column.name)
            if attribute and attribute.generated == "v":
                raise SchemaChangeRefused(
                    f"{self.table.label}: the target's column {attribute.name} is a virtual generated column, to which "
                    "no value can be written. Drop it there, and the sync adds a plain one, or leave it out with "
                    f"exclude_columns: [{column.name}]."
                )
            if attribute and attribute.generated:
                plain.append(DropExpression(column.name))
            if attribute and attribute.identity == "a":
                plain.append(SetGeneratedByDefault(column.name))
        return plain

    def _added_metadata(self, remaining: Mapping[str, Attribute]) -> list[AddColumn]:
        """Find the metadata columns that the target lacks.

        Raises:
            SchemaChangeRefused: a column of another type has the name.
        """
        for name, type_ in metadata_columns(self.now):
            if name in remaining and remaining[name].type != type_:
                raise SchemaChangeRefused(
                    f"{self.table.label}: the target has a column {name} that is {remaining[name].type}; the one that "
                    f"xmin_assets adds is {type_}. Rename or drop the target's, or give ours another name with "
                    "xmin_column, deleted_at_column or block_column."
                )
        return [
            AddColumn(name, type_, is_metadata=True)
            for name, type_ in metadata_columns(self.now)
            if name not in remaining
        ]

    def _identity(self, column: Column) -> int | str:
        return _identity(column, self.same_relation)

    def _free_name(self, name: str) -> str:
        """Return a free name for a column whose values the source no longer has, and whose name another one gets."""
        stem = name.encode()[: NAMEDATALEN - 16].decode(errors="ignore") + "_dropped"
        return next(free for n in count(1) if (free := stem if n == 1 else f"{stem}_{n}") not in self.present)


def dropped(before: Selection, now: Selection, same_relation: bool) -> tuple[DropColumn, ...]:
    """Find the columns that were copied and are no longer, whatever becomes of the target's."""
    left = {_identity(column, same_relation) for column in now.columns}
    return tuple(DropColumn(column.name) for column in before.columns if _identity(column, same_relation) not in left)


def redefined(before: Selection, now: Selection, same_relation: bool) -> tuple[AlterColumnType, ...]:
    """Find the columns that have another type or collation at the source, or are stored otherwise.

    Whatever the target's columns are: where no row is written for such a change, a value may print otherwise all the
    same, and no xmin shows it. Examples are a timestamp that becomes a timestamptz, and an int that becomes an oid.
    """
    former = {_identity(column, same_relation): column for column in before.columns}
    found = []
    for column in now.columns:
        was = former.get(_identity(column, same_relation))
        if was and _definition_of(was) != _definition_of(column):
            type_ = column.source_type if column.source_type != was.source_type else column.type
            found.append(AlterColumnType(column.name, type_, was.source_type, column.collation))
    return tuple(found)


def altered_by_hand(
    before: Selection, now: Selection, target: tuple[Attribute, ...]
) -> tuple[tuple[Column, Attribute], ...]:
    """Find the columns to which somebody has given another type in the target, which no sync takes back.

    Args:
        before: what the last merged sync copied, of the same relation.
        now: what is to be copied, as the target has it.
        target: the target's columns.
    """
    former = {column.attnum: column for column in before.columns}
    present = {attribute.name: attribute for attribute in target}
    found = []
    for column in now.columns:
        was = former.get(column.attnum)
        if was and (attribute := present.get(was.name)) and was.type == column.type != attribute.type:
            found.append((column, attribute))
    return tuple(found)


def _refused(table: TableConfig, operations: Iterable[ColumnOperation]) -> SchemaChangeRefused:
    return SchemaChangeRefused(
        f"{table.label}: the source's columns changed ({describe([*operations])}) and schema_changes is 'fail'. "
        "Set schema_changes: apply, or leave the columns out with exclude_columns."
    )


def _has_another_type(before: Column, now: Column, held: Attribute) -> bool:
    # What somebody has altered in the target by hand is left as it is, as long as the source's stays.
    another_type = before.type != now.type and held.type != now.type
    return another_type or (before.collation != now.collation and held.collation != now.collation)


def _definition_of(column: Column) -> tuple[str | None, ...]:
    return column.source_type, column.override, column.collation


def _identity(column: Column, same_relation: bool) -> int | str:
    return column.attnum if same_relation else column.name
